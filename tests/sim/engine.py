"""corosync as the rooms above see it: rings, process groups, ordered multicast, quorum.

Within a ring all nodes see one order. Where a ring breaks, those who go on together have delivered
the same, up to the furthest of them, and beyond that what they themselves had sent: what others had
ordered in between is a hole. Group and quorum come by different ways, each in its own order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clufs.cluster.interface import (
    Delivered,
    EngineLost,
    GroupChanged,
    Peer,
    QuorumChanged,
    Report,
    RingId,
)
from tests.sim.clock import Clock
from tests.sim.network import Network

TOKEN_S = 0.4
"""From a broken link to a new ring, about."""

DEVICE_TIMEOUT_S = 10.0
"""After its process has ended, the disk's votes count for so long in the same ring."""

Pids = frozenset[tuple[int, int]]


@dataclass(eq=False)
class Ring:
    """log: (origin, kind, payload) in the one order."""

    id: RingId
    nodes: tuple[int, ...]
    log: list[tuple[int, str, Any]] = field(default_factory=list)


@dataclass(eq=False)
class Daemon:
    """One machine's corosync. group: the processes it knows of. pid: the local one, if any.
    cast: it counts the disk's votes in its ring."""

    id: int
    up: bool = True
    stopped: bool = False
    ring: Ring | None = None
    cursor: int = 0
    due: float = 0.0
    group: set[tuple[int, int]] = field(default_factory=set)
    pid: int | None = None
    joined: bool = False
    cast: bool = False
    quorum_due: float = 0.0


class Engine:
    """All daemons. report(member id, pid, report): what the process of that pid is told."""

    def __init__(
        self,
        clock: Clock,
        network: Network,
        peers: tuple[Peer, ...],
        report: Callable[[int, int, Report], None],
        disk_votes: int = 0,
    ) -> None:
        self.disk_votes = disk_votes
        self.clock, self.network, self.report = clock, network, report
        self.peers = {peer.id: peer for peer in peers}
        self.daemons = {peer.id: Daemon(peer.id) for peer in peers}
        self.total = sum(peer.votes for peer in peers) + disk_votes
        self.sequence = 0
        self.multicasts = self.bytes = 0
        self._noticing = False

    # ------------------------------------------------------------ processes

    def join(self, id: int, pid: int) -> None:
        """A process joins the group."""
        daemon = self.daemons[id]
        daemon.pid, daemon.joined = pid, False
        daemon.cast = False
        if daemon.ring is not None:
            self._order(daemon, "join", pid)
            self._tell_quorum(daemon)
        self.changed()

    def leave(self, id: int, pid: int) -> None:
        """A process is gone; its daemon says so, if it still runs."""
        daemon = self.daemons[id]
        if daemon.pid == pid:
            daemon.pid, daemon.joined = None, False
            if daemon.cast:
                self.clock.after(DEVICE_TIMEOUT_S, self._forget_votes, daemon)
        if daemon.up and daemon.ring is not None:
            self._order(daemon, "leave", pid)

    def _forget_votes(self, daemon: Daemon) -> None:
        """Nobody has polled for that long; who has joined meanwhile casts for himself."""
        if daemon.pid is None:
            daemon.cast = False

    def vote(self, id: int, pid: int, ring: RingId, cast: bool) -> None:
        """A process casts the disk's votes in a ring, or no longer."""
        daemon = self.daemons[id]
        if daemon.pid != pid or daemon.ring is None or daemon.ring.id != ring:
            return
        before, daemon.cast = self._is_quorate(daemon), cast
        if self._is_quorate(daemon) != before:
            self._tell_quorum(daemon)

    def _is_quorate(self, daemon: Daemon) -> bool:
        assert daemon.ring is not None
        votes = sum(self.peers[one].votes for one in daemon.ring.nodes)
        return 2 * (votes + daemon.cast * self.disk_votes) > self.total

    def multicast(self, id: int, data: bytes) -> None:
        daemon = self.daemons[id]
        self.multicasts += 1
        self.bytes += len(data)
        if daemon.up and daemon.ring is not None:
            self._order(daemon, "data", data)

    # ------------------------------------------------------------ machines

    def stop(self, id: int, why: str = "") -> None:
        """The daemon is gone; with it its process, if that still lives, loses the engine."""
        daemon = self.daemons[id]
        pid = daemon.pid
        daemon.up = False
        daemon.ring = None
        daemon.group.clear()
        daemon.pid, daemon.joined = None, False
        if pid is not None and why:
            self.report(id, pid, EngineLost(why))
        self.changed()

    def start(self, id: int) -> None:
        daemon = self.daemons[id]
        if not daemon.up:
            daemon.up = True
            self.changed()

    def freeze(self, id: int, stopped: bool) -> None:
        self.daemons[id].stopped = stopped
        if not stopped:
            self._catch_up(self.daemons[id])
        self.changed()

    # ------------------------------------------------------------ one ring's order

    def _order(self, daemon: Daemon, kind: str, payload: Any) -> None:
        ring = daemon.ring
        assert ring is not None
        ring.log.append((daemon.id, kind, payload))
        for id in ring.nodes:
            self._schedule(self.daemons[id], ring)

    def _schedule(self, daemon: Daemon, ring: Ring) -> None:
        if daemon.ring is not ring:
            return
        delay = self.network.latency + self.clock.random.random() * self.network.jitter
        daemon.due = max(daemon.due, self.clock.now + delay)
        self.clock.after(daemon.due - self.clock.now, self._deliver, daemon, ring, len(ring.log))

    def _deliver(self, daemon: Daemon, ring: Ring, upto: int) -> None:
        if daemon.ring is not ring or daemon.stopped or not self._all_hear(daemon, ring):
            return  # what is missing comes when it runs again, or with the next ring
        while daemon.cursor < upto and daemon.ring is ring:
            entry = ring.log[daemon.cursor]
            daemon.cursor += 1
            self._take(daemon, *entry)

    def _all_hear(self, daemon: Daemon, ring: Ring) -> bool:
        """The token goes round."""
        return all(self._hear(daemon, self.daemons[one]) for one in ring.nodes if one != daemon.id)

    def _catch_up(self, daemon: Daemon) -> None:
        if daemon.ring is not None:
            self._schedule(daemon, daemon.ring)

    def _take(self, daemon: Daemon, origin: int, kind: str, payload: Any) -> None:
        if kind == "data":
            if daemon.joined and daemon.pid is not None:
                self.report(daemon.id, daemon.pid, Delivered(origin, payload))
            return
        before = set(daemon.group)
        if kind == "join":
            daemon.group.add((origin, payload))
            if origin == daemon.id and payload == daemon.pid:
                daemon.joined = True
        elif kind == "leave":
            daemon.group.discard((origin, payload))
        else:
            daemon.group |= payload
        if daemon.group != before:
            self._tell_group(daemon)

    def _tell_group(self, daemon: Daemon, ring: RingId | None = None) -> None:
        if daemon.pid is None or not daemon.joined or daemon.ring is None:
            return
        changed = GroupChanged(ring or daemon.ring.id, tuple(sorted(daemon.group)))
        self.report(daemon.id, daemon.pid, changed)

    # ------------------------------------------------------------ rings

    def changed(self) -> None:
        """A link or a machine came or went: the token will be missed, or another ring heard."""
        self.clock.after(TOKEN_S * (0.5 + self.clock.random.random()), self._notice)

    def form_again(self) -> None:
        """The token was lost, though everybody is there."""
        for daemon in self.daemons.values():
            self._catch_up(daemon)
        self._notice(again=True)

    def _hear(self, one: Daemon, other: Daemon) -> bool:
        a, b = self.peers[one.id].name, self.peers[other.id].name
        running = other.up and not other.stopped
        return running and self.network.hears(a, b) and self.network.hears(b, a)

    def _notice(self, again: bool = False) -> None:
        daemons = [one for one in self.daemons.values() if one.up and not one.stopped]
        self.clock.random.shuffle(daemons)
        while daemons:
            found = [daemons.pop(0)]
            for daemon in list(daemons):
                if all(self._hear(daemon, other) for other in found):
                    found.append(daemon)
                    daemons.remove(daemon)
            found.sort(key=lambda one: one.id)
            self._form(found, again)

    def _form(self, daemons: list[Daemon], again: bool) -> None:
        nodes = tuple(daemon.id for daemon in daemons)
        if not again and all(one.ring is not None and one.ring.nodes == nodes for one in daemons):
            same = {id(one.ring) for one in daemons}
            if len(same) == 1:
                for daemon in daemons:
                    self._catch_up(daemon)
                return
        self._flush(daemons)
        self.sequence += 4
        ring = Ring((min(nodes), self.sequence), nodes)
        self.clock.note("ring", ring.id, *nodes)
        old = {daemon.id: daemon.ring for daemon in daemons}
        for daemon in daemons:
            mates = {one.id for one in daemons if old[one.id] is old[daemon.id] is not None}
            before = old[daemon.id]
            daemon.ring, daemon.cursor, daemon.due, daemon.cast = ring, 0, self.clock.now, False
            gone = {one for one in daemon.group if one[0] == daemon.id and one[1] != daemon.pid}
            daemon.group = {one for one in daemon.group - gone if one[0] in mates}
            if before is not None and self.clock.random.random() < 0.5:
                self._tell_group(daemon, before.id)  # between two callbacks of one change
            self._tell_group(daemon)
            self._tell_quorum(daemon)
        for daemon in daemons:
            mine = frozenset(one for one in daemon.group if one[0] == daemon.id)
            self._order(daemon, "list", mine)
            if daemon.pid is not None and not daemon.joined:
                self._order(daemon, "join", daemon.pid)

    def _flush(self, daemons: list[Daemon]) -> None:
        """Those who come from one ring deliver there what they can, all the same."""
        rings = {id(one.ring): one.ring for one in daemons if one.ring is not None}
        for ring in rings.values():
            mates = [one for one in daemons if one.ring is ring]
            ids = {one.id for one in mates}
            furthest = max(one.cursor for one in mates)
            if len(ids) == len(ring.nodes):
                furthest = len(ring.log)
            rest = [entry for entry in ring.log[furthest:] if entry[0] in ids]
            for daemon in mates:
                for entry in [*ring.log[daemon.cursor : furthest], *rest]:
                    self._take(daemon, *entry)
                daemon.cursor = len(ring.log)

    def blink(self) -> None:
        """Some lose quorum and get it back in one ring, as when expected votes change."""
        for daemon in self.daemons.values():
            if self.clock.random.random() < 0.5:
                self._tell_quorum(daemon, lost=True)
                self._tell_quorum(daemon)

    def _tell_quorum(self, daemon: Daemon, lost: bool = False) -> None:
        ring = daemon.ring
        if daemon.pid is None or ring is None:
            return
        report = QuorumChanged(ring.id, self._is_quorate(daemon) and not lost, ring.nodes)
        delay = self.network.latency + self.clock.random.random() * self.network.jitter * 4
        if not lost:
            delay += self.clock.random.choice((0.0, 0.0, 0.01, 0.5))
        daemon.quorum_due = max(daemon.quorum_due, self.clock.now + delay)
        when = daemon.quorum_due - self.clock.now
        self.clock.after(when, self._report_quorum, daemon, daemon.pid, report)

    def _report_quorum(self, daemon: Daemon, pid: int, report: QuorumChanged) -> None:
        if daemon.pid == pid:
            self.report(daemon.id, pid, report)
