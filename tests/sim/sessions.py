"""Streams made of sessions over connections that break: below them frames are lost, sent again and
doubled, and come late. What a session promises, the lock managers above have to get from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from clufs.cluster.frames import Batch
from clufs.cluster.session import Session, Tally
from clufs.dlm import wire
from clufs.dlm.interface import Life
from clufs.errors import GarbageReceived
from clufs.timeouts import KEEPALIVE_S
from tests.sim.network import Network

Pair = tuple[Life, Life]


class Connection:
    """One connection between two lives: FIFO each way, until it is torn."""

    __slots__ = ("due", "ends", "pending", "torn", "waits")

    def __init__(self, dialler: Life, other: Life) -> None:
        self.ends = (dialler, other)
        self.torn = False
        self.pending: dict[Life, deque[tuple[float, Any]]] = {one: deque() for one in self.ends}
        self.due = dict.fromkeys(self.ends, 0.0)
        self.waits = dict.fromkeys(self.ends, False)

    def other(self, life: Life) -> Life:
        return self.ends[1] if life == self.ends[0] else self.ends[0]


class SessionStreams:
    """All sessions and connections. torn_s: how long a connection lasts, about."""

    def __init__(
        self,
        network: Network,
        torn_s: float,
        runs: Callable[[Life], bool],
        arrive: Callable[[Life, Life, Any], None],
    ) -> None:
        self.network, self.clock = network, network.clock
        self.torn_s = torn_s
        self.runs, self.arrive = runs, arrive
        self.tally = Tally()
        self.sessions: dict[tuple[Life, str], Session] = {}
        self.links: dict[tuple[Life, str], Connection] = {}
        self.now: dict[str, Life] = {}
        self.over: set[Life] = set()
        self.connections: list[Connection] = []
        self.sent = self.bytes = 0
        for one in (network, network.below):
            if one is not None:
                one.healed.append(self.pump_all)

    # ------------------------------------------------------------ lives and views

    def begun(self, life: Life) -> None:
        """A life listens, and is dialled by and dials all others."""
        others = [other for member, other in self.now.items() if member != life.member]
        self.now[life.member] = life
        for other in others:
            self._dial_soon(max(life, other), min(life, other))
        self.clock.after(self.clock.random.random() * KEEPALIVE_S, self._tick, life)

    def ended(self, life: Life) -> None:
        self.over.add(life)
        for connection in self.connections:
            if life in connection.ends:
                self._tear(connection)

    def installed(self, life: Life, lives: tuple[Life, ...], gone: list[Life]) -> None:
        inside = {one.member: one.incarnation for one in lives}
        for member in [*inside, *(one.member for one in gone)]:
            if member != life.member:
                self._session(life, member).install(inside.get(member))
                self._flush(life, member)

    def _session(self, life: Life, member: str) -> Session:
        found = self.sessions.get((life, member))
        if found is None:
            found = self.sessions[life, member] = Session(life.incarnation, self.tally)
        return found

    # ------------------------------------------------------------ messages

    def send(self, sender: Life, receiver: Life, message: Any) -> None:
        self.sent += 1
        data = wire.encode(message)
        self.bytes += len(data)
        self._session(sender, receiver.member).send(data)
        self._flush(sender, receiver.member)

    def _flush(self, life: Life, member: str) -> None:
        link = self.links.get((life, member))
        if link is None or link.torn:
            return
        session = self._session(life, member)
        while (batch := session.next_batch()) is not None:
            self._transmit(link, life, batch)

    def _tick(self, life: Life) -> None:
        if life in self.over:
            return
        if self.runs(life):
            for member in self.now:
                link = self.links.get((life, member))
                if link is not None and not link.torn:
                    self._transmit(link, life, self._session(life, member).acknowledgement())
        self.clock.after(KEEPALIVE_S, self._tick, life)

    # ------------------------------------------------------------ connections

    def _dial_soon(self, dialler: Life, other: Life) -> None:
        delay = self.network.latency * 4 + self.clock.random.random() * 0.2
        self.clock.after(delay, self._dial, dialler, other)

    def _dial(self, dialler: Life, other: Life) -> None:
        if self.over & {dialler, other}:
            return
        a, b = dialler.member, other.member
        reach = self.network.hears(a, b) and self.network.hears(b, a)
        if not (reach and self.runs(dialler) and self.runs(other)):
            self._dial_soon(dialler, other)
            return
        connection = Connection(dialler, other)
        self.connections = [one for one in self.connections if not one.torn]
        self.connections.append(connection)
        self._transmit(connection, dialler, self._session(dialler, b).hello_numbers())
        self._transmit(connection, other, self._session(other, a).hello_numbers())
        self.clock.after(self.clock.about(self.torn_s), self._tear, connection)

    def _tear(self, connection: Connection) -> None:
        """It is gone for both ends, with all that was under way; the next is dialled."""
        if connection.torn:
            return
        connection.torn = True
        for life in connection.ends:
            connection.pending[life].clear()
        self._dial_soon(*connection.ends)

    def _transmit(self, connection: Connection, sender: Life, frame: Any) -> None:
        receiver = connection.other(sender)
        delay = self.network.delay(sender.member, receiver.member)
        due = connection.due[receiver] = max(connection.due[receiver], self.clock.now + delay)
        connection.pending[receiver].append((due, frame))
        self._schedule(connection, receiver)

    def _schedule(self, connection: Connection, receiver: Life) -> None:
        pending = connection.pending[receiver]
        if pending and not connection.waits[receiver]:
            connection.waits[receiver] = True
            self.clock.after(
                max(0.0, pending[0][0] - self.clock.now), self._pump, connection, receiver
            )

    def _pump(self, connection: Connection, receiver: Life) -> None:
        connection.waits[receiver] = False
        pending = connection.pending[receiver]
        sender = connection.other(receiver)
        if connection.torn or not pending or not self.runs(receiver):
            return
        if not self.network.hears(sender.member, receiver.member):
            return
        _, frame = pending.popleft()
        try:
            self._take(connection, receiver, sender, frame)
        except GarbageReceived:
            self._tear(connection)
            return
        self._schedule(connection, receiver)

    def _take(self, connection: Connection, receiver: Life, sender: Life, frame: Any) -> None:
        session = self._session(receiver, sender.member)
        if not isinstance(frame, Batch):
            session.connected(sender.incarnation, *frame)
            old = self.links.get((receiver, sender.member))
            self.links[receiver, sender.member] = connection
            if old is not None and old is not connection:
                self._tear(old)
        elif self.links.get((receiver, sender.member)) is connection:
            session.receive(frame)
            while session.ready and receiver not in self.over:
                self.arrive(receiver, sender, wire.decode(session.ready.popleft()))
        if receiver not in self.over:
            self._flush(receiver, sender.member)

    def pump_all(self) -> None:
        for connection in list(self.connections):
            for life in connection.ends:
                self._schedule(connection, life)

    def quiet(self) -> bool:
        """Nothing is queued, under way or not acknowledged between lives that go on."""
        return not any(
            session._queued for (life, _), session in self.sessions.items() if life not in self.over
        ) and not any(
            isinstance(frame, Batch) and frame.messages
            for connection in self.connections
            if not connection.torn
            for pending in connection.pending.values()
            for _, frame in pending
        )
