"""The array: LUNs, portals, sessions, and what a test can do to them while initiators use it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from clufs.storage.inquiry import encode_luns
from clufs.storage.sense import Sense
from tests.array import negotiation
from tests.array.defects import Defect
from tests.array.faults import Fault, Faults
from tests.array.journal import Journal
from tests.array.medium import Medium
from tests.array.nexus import ACCESS_STATE_CHANGED, NEXUS_LOST, POWER_ON, Nexus
from tests.array.ports import Ports
from tests.array.session import Session
from tests.array.unit import Unit

TARGET = "iqn.2026-01.org.clufs:array"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Shape:
    """What the array is made of. blocks: of each LUN. cached: LUNs have a cache that loss of power empties.
    defects: what every LUN lacks or gets wrong."""

    blocks: Sequence[int] = (32768,)
    portals: int = 1
    seed: int = 0
    cached: bool = False
    logged: bool = True
    defects: frozenset[Defect] = frozenset()


class Array:
    """An iSCSI target. Portal n is target port n + 1, in a target port group of its own."""

    def __init__(self, shape: Shape = Shape()) -> None:
        self.target = TARGET
        self.ports = Ports(shape.portals)
        self.ports.changed = lambda: self._tell_all(ACCESS_STATE_CHANGED)
        self.units = {
            number: Unit(
                number,
                TARGET,
                f"{shape.seed:04d}{number:03d}",
                Medium(blocks, logged=shape.logged, cached=shape.cached),
                self.ports,
                tuple(range(len(shape.blocks))),
                Faults(shape.seed * 1000 + number),
                defects=shape.defects,
            )
            for number, blocks in enumerate(shape.blocks)
        }
        self.tcp_ports: list[int] = []
        self._sessions: dict[Nexus, Session] = {}
        self._all: set[Session] = set()
        self._down: set[int] = set()
        self._random = random.Random(shape.seed)

    # ---------------------------------------------------------------- serving

    @asynccontextmanager
    async def serving(self, tcp_ports: Sequence[int] = ()) -> AsyncIterator[Array]:
        """Listen on loopback while inside, on these ports or on free ones."""
        failure: Exception | None = None
        wanted = tcp_ports or [0] * len(self.ports.all)
        async with trio.open_nursery() as nursery:
            for portal, tcp_port in enumerate(wanted):
                (listener,) = await trio.open_tcp_listeners(tcp_port, host=HOST)
                self.tcp_ports.append(listener.socket.getsockname()[1])
                nursery.start_soon(trio.serve_listeners, self._server(portal), [listener])
            try:
                yield self
            except Exception as error:
                failure = error  # a nursery would hand it on in a group
            finally:
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _server(self, portal: int) -> Callable[[trio.SocketStream], Awaitable[None]]:
        async def serve(stream: trio.SocketStream) -> None:
            if portal in self._down:
                await trio.aclose_forcefully(stream)
                return
            session = Session(self, stream, portal + 1)
            self._all.add(session)
            await session.run()

        return serve

    def url(self, lun: int = 0, portal: int = 0) -> str:
        """Where libiscsi finds it."""
        return f"iscsi://{HOST}:{self.tcp_ports[portal]}/{self.target}/{lun}"

    # --------------------------------------------------------- for the sessions

    def entered(self, session: Session) -> None:
        """A session is logged in; one of the same nexus before it ends (RFC 7143, 6.3.5)."""
        assert session.nexus is not None
        old = self._sessions.get(session.nexus)
        if old is not None:
            self._gone(session.nexus)
            old.lose()
        self._sessions[session.nexus] = session
        for unit in self.units.values():
            unit.attend(session.nexus)

    def left(self, session: Session) -> None:
        """A session ended."""
        self._all.discard(session)
        if session.nexus is not None and self._sessions.get(session.nexus) is session:
            del self._sessions[session.nexus]
            self._gone(session.nexus)

    def _gone(self, nexus: Nexus) -> None:
        for unit in self.units.values():
            unit.leave(nexus)
            if NEXUS_LOST not in unit.attentions[nexus]:
                unit.attentions[nexus].append(NEXUS_LOST)

    def send_targets(self) -> bytes:
        """The answer to SendTargets=All."""
        lines = {"TargetName": self.target}
        found = negotiation.encode(lines)
        for portal, tcp_port in enumerate(self.tcp_ports):
            found += f"TargetAddress={HOST}:{tcp_port},{portal + 1}".encode() + b"\0"
        return found

    def lun_list(self) -> bytes:
        """REPORT LUNS data."""
        return encode_luns(tuple(self.units))

    def reset_unit(self, unit: Unit) -> None:
        """LOGICAL UNIT RESET, with what sessions still collect for it."""
        for session in self._all:
            session.forget_data(unit.number << 48)
        unit.reset()

    def reset(self) -> None:
        """TARGET WARM RESET."""
        for unit in self.units.values():
            self.reset_unit(unit)

    def _tell_all(self, sense: Sense) -> None:
        for unit in self.units.values():
            unit.tell_all(sense)

    # -------------------------------------------------------------- for a test

    @property
    def nexuses(self) -> tuple[Nexus, ...]:
        """Who is logged in."""
        return tuple(self._sessions)

    def lose_sessions(self, name: str | None = None, portal: int | None = None) -> int:
        """Break connections: of one initiator, of one portal, or all. Returns how many."""
        found = [
            one
            for one in self._all
            if (name is None or (one.nexus and one.nexus.name == name))
            and (portal is None or one.port == portal + 1)
        ]
        for one in found:
            one.lose()
        return len(found)

    def portal_down(self, portal: int, down: bool = True) -> None:
        """A path is cut: its connections break, and new ones are closed at once; or it comes back."""
        if down:
            self._down.add(portal)
            self.lose_sessions(portal=portal)
        else:
            self._down.discard(portal)

    def online(self, lun: int, online: bool) -> None:
        """Offline: NOT READY for everything but INQUIRY, REPORT LUNS and REQUEST SENSE."""
        self.units[lun].online = online

    def slow(self, lun: int, seconds: float) -> None:
        """Every command waits so long before it is done, 0: none; infinity: the LUN hangs."""
        self.units[lun].slow_s = seconds

    def journal(self, journal: Journal) -> None:
        """From now on every write is an entry there."""
        for number, unit in self.units.items():
            unit.medium.note = journal.of(number)

    def fail_next(self, lun: int, *faults: Fault) -> None:
        """The next commands that fit have these faults."""
        self.units[lun].faults.next.extend(faults)

    def rate(self, lun: int, fault: Fault, chance: float) -> None:
        """From now on each command that fits has this fault with this chance."""
        self.units[lun].faults.rates[fault] = chance

    def fail_power(self, lost: bool = False) -> None:
        """Power goes and comes back: sessions break, writes under way are gone, with `lost` also some that were
        not safe, and registrations without APTPL."""
        for unit in self.units.values():
            unit.reset(POWER_ON)
            unit.reservations.power_on()
            if unit.medium.logged:
                unit.medium.fail_power(len(unit.medium.log), self._random if lost else None)
        self.lose_sessions()
