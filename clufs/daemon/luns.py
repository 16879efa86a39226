"""The LUNs of this member: from the configuration and from udev, as /clu/luns shows them, by its paths and others'."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from clufs.config import Config
from clufs.daemon.disk_lease import DiskLease
from clufs.daemon.lun_fencing import LunFencing
from clufs.daemon.membership import Membership
from clufs.dlm.interface import Life
from clufs.registry.commands import MemberServed
from clufs.storage.certificate import MemberKey
from clufs.storage.disk_header import cluster_number
from clufs.storage.inventory import Change, SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.paths import initiator_name
from clufs.storage.served import Served
from clufs.storage.served_wire import Message, encode
from clufs.storage.serving import Cluster
from clufs.tree.cluster import Cluster as ClusterReport
from clufs.tree.journals import Events
from clufs.tree.luns import LunFacts, LunsDirectory


class SharedLuns:
    """fencing: by their reservations. served: what members do for each other."""

    def __init__(self, config: Config, membership: Membership, events: Events) -> None:
        self._luns = luns_of(config, membership.name, events)
        self.fencing = LunFencing(config, self._luns, membership, events)
        self.served = Served(self._luns, _cluster_of(membership))
        self.served.say = lambda: membership.runtime.say()

    async def serve(self) -> None:
        """Keep them, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._luns.serve)
            nursery.start_soon(self.fencing.serve)
            nursery.start_soon(self.served.serve)

    async def drained(self) -> None:
        """No write of this member is under way."""
        await self._luns.drained()

    def directory(self, cluster: ClusterReport, lease: DiskLease) -> LunsDirectory:
        """/clu/luns."""
        number = cluster_number(cluster.name)

        def who_is(key: MemberKey) -> str | None:
            if key.cluster != number:
                return None
            return next((one.name for one in cluster.members() if one.id == key.member), None)

        def slots(lun: SharedLun) -> str:
            return lease.slots(path.url for path in lun.paths.values())

        through, method = self.served.through, self.fencing.method
        return LunsDirectory(LunFacts(self._luns, through, cluster.me, who_is, method, slots))


def luns_of(config: Config, member: str, events: Events) -> Luns:
    """All that clufs.toml names, and what the kernel has; `events` hears of what comes and goes."""

    def tell(change: Change) -> None:
        facts = {"lun": change.lun, "path": change.path, "why": change.why}
        events.add(change.what, **{key: value for key, value in facts.items() if value})

    luns = Luns(config.storage.initiator or initiator_name(member), tell)
    for lun in config.luns:
        luns.expect(lun.role, lun.urls)
    return luns


def _cluster_of(membership: Membership) -> Cluster:
    """What serving asks of the present life."""

    def view() -> tuple[int, Mapping[str, int]] | None:
        runtime, core = membership.runtime, membership.runtime.core
        if runtime.ended is not None or core.view is None or not core.standing:
            return None
        return core.view.number, dict(core.members)

    def me() -> Life:
        runtime = membership.runtime
        return runtime.core.life if runtime.ended is None else Life(membership.name, 0)

    def may_serve(author: Life, server: Life) -> bool:
        life = membership.runtime.core.replica.state.lives.get(author)
        return life is not None and not life.out and server in life.servers

    async def note(author: Life, server: Life) -> None:
        await membership.runtime.propose(MemberServed(*author, *server))

    def send(member: str, message: Message) -> None:
        membership.runtime.send_blocks(member, encode(message))

    return Cluster(
        me=me,
        view=view,
        is_in=lambda life: membership.runtime.core.replica.state.is_in(*life),
        may_serve=may_serve,
        note=note,
        send=send,
    )
