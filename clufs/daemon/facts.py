"""The cluster as /clu shows it, from what the present life of this member knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Protocol

from clufs.cluster.interface import Peer
from clufs.daemon.disk_lease import DiskLease
from clufs.dlm.interface import Life
from clufs.fuse.lock_service import LockService
from clufs.fuse.operations import Operations
from clufs.member.runtime import Runtime
from clufs.tree.cluster import CONFIRMED, FenceWord, MemberFacts, State, Votes
from clufs.tree.lock_tree import LockTree
from clufs.tree.metrics import Metrics


class Lives(Protocol):
    """Whose present life is looked at."""

    name: str
    cluster_name: str
    runtime: Runtime

    @property
    def disk_lease(self) -> DiskLease:
        """Of the present life."""

    def recovery_waits_for(self) -> str:
        """What the lock manager waits for."""


class ClusterFacts:
    """Implements the tree's `Cluster`. confirm_kept: a person's word on a member that reservations of this one keep
    from LUNs; False if none do."""

    def __init__(self, lives: Lives, engine: str, port: int) -> None:
        self.name = lives.cluster_name
        self.engine = engine
        self.me = lives.name
        self._lives = lives
        self._port = port
        self.confirm_kept: Callable[[str], bool] = lambda member: False

    @property
    def view(self) -> int:
        """The number of the installed view, 0 without one."""
        view = self._lives.runtime.core.view
        return view.number if view is not None else 0

    def members(self) -> Sequence[MemberFacts]:
        """All that are configured, by id."""
        runtime = self._lives.runtime
        in_view = {life.member: life for life in runtime.core.members}
        lost = {life.member: life for life in sorted(runtime.core.gate.lost)}
        peers = sorted(runtime.engine.peers, key=lambda peer: peer.id)
        return [self._facts(peer, in_view.get(peer.name), lost.get(peer.name)) for peer in peers]

    def _facts(self, peer: Peer, here: Life | None, lost: Life | None) -> MemberFacts:
        core = self._lives.runtime.core
        state: State = "down"
        if lost is not None:
            state = "fencing" if core.gate.is_fencing(lost) else "lost"
        elif here is not None:
            state = "member" if core.standing else "joining"
        elif peer.name == self.me:
            here, state = core.life, "joining"
        life = lost or here
        record = core.replica.state.lives.get(life) if life is not None else None
        return MemberFacts(
            peer.id,
            peer.name,
            peer.votes,
            state,
            address=peer.address,
            port=self._port if peer.address else 0,
            version=record.version if record is not None else "",
            incarnation=life.incarnation if life is not None else 0,
        )

    def votes(self) -> Votes:
        """Votes of the members that corosync sees, and of the quorum disk; quorate only while the locks
        have a view."""
        runtime = self._lives.runtime
        engine, core = runtime.engine, runtime.core
        expected = sum(peer.votes for peer in engine.peers) + engine.disk_votes
        present = sum(peer.votes for peer in engine.peers if peer.id in runtime.seen)
        present += engine.disk_votes * core.keeper.votes_here
        disk = core.keeper.shown(core.name) if engine.disk_votes else ""
        return Votes(core.standing, present, expected, expected // 2 + 1, disk)

    def waits_for(self) -> str:
        """What stands between this member and grants."""
        lives = self._lives
        waits_for = lives.disk_lease.waits_for() or lives.runtime.core.waits_for()
        return waits_for or lives.recovery_waits_for()

    def disk_error(self) -> str:
        """Why this member's disk takes nothing more; empty while it has room."""
        return self._lives.runtime.core.disk_error

    def fence(self, member: str, word: FenceWord, by: str) -> Awaitable[None]:
        """A person's order or word about a member. Raises InvalidRequest, NoQuorum."""
        runtime = self._lives.runtime
        lost = any(life.member == member for life in runtime.core.gate.lost)
        if word == CONFIRMED and self.confirm_kept(member) and not lost:
            return _nothing()
        return runtime.confirm(member, by) if word == CONFIRMED else runtime.fence(member, by)


async def _nothing() -> None:
    """It is done already."""


def add_metrics(metrics: Metrics, lives: Lives, cluster: ClusterFacts) -> None:
    """What /clu/status/metrics says of the cluster."""

    def streams() -> dict[str, int]:
        mesh = lives.runtime.mesh
        return {} if mesh is None else asdict(mesh.counters)

    metrics.streams = streams
    metrics.gauges["view"] = ("Number of the installed view, 0 without one", lambda: cluster.view)
    metrics.gauges["quorate"] = (
        "Whether requests are granted here",
        lambda: float(cluster.votes().quorate),
    )
    metrics.gauges["members"] = (
        "Members in the view",
        lambda: len(lives.runtime.core.members),
    )
    metrics.gauges["members_lost"] = (
        "Lives that are lost and not fenced",
        lambda: len(lives.runtime.core.gate.lost),
    )


def add_gauges(
    metrics: Metrics, locks: LockTree, service: LockService, operations: Operations
) -> None:
    """What it says of the locks and files of this member."""

    def longest_queue() -> float:
        blocks = locks.node.blocks.values()
        return max((len(b.converting) + len(b.waiting) for b in blocks), default=0)

    metrics.gauges["resource_blocks"] = (
        "Resource blocks there are",
        lambda: len(locks.node.blocks),
    )
    metrics.gauges["waiting"] = (
        "System calls that wait for a grant",
        lambda: len(service.parked),
    )
    metrics.gauges["open_files"] = ("Files open", lambda: len(operations.handles))
    metrics.gauges["queue_length_max"] = ("Requests queued on the most wanted block", longest_queue)
