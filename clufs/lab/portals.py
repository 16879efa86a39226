"""The way from a lab's members to its array: portals that can be slow, shut, or cut for one member.

Each LUN has a TCP port of its own on each of the two addresses, so that a fault can be of one LUN, one path,
one member, and the array behind need not know how to fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from clufs.errors import UsageError
from clufs.lab.plan import PATHS, PORTALS, Lab, portal_port

_CHUNK_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Fault:
    """Of a LUN, as seen by a member or by all (""), by a path or by all (0). seconds: of delay; None: shut."""

    lun: int
    member: str = ""
    path: int = 0
    seconds: float | None = None

    def concerns(self, lun: int, member: str, path: int) -> bool:
        """Is it one of this way?"""
        return self.lun == lun and self.member in ("", member) and self.path in (0, path)

    def words(self) -> str:
        """For a person."""
        where = f" for {self.member}" if self.member else ""
        by = f" by path {self.path}" if self.path else ""
        what = "offline" if self.seconds is None else f"slow by {self.seconds:g} s"
        return f"{what}{where}{by}"


class Faults:
    """Those that hold now."""

    def __init__(self) -> None:
        self._all: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """From now on; instead of one of the same LUN, member and path."""
        self.mend(fault, exactly=True)
        self._all.append(fault)

    def mend(self, like: Fault, exactly: bool = False) -> None:
        """End those of a LUN; with a member or a path, only of these."""
        self._all = [
            one
            for one in self._all
            if one.lun != like.lun
            or (one.member != like.member and (like.member or exactly))
            or (one.path != like.path and (like.path or exactly))
        ]

    def is_shut(self, lun: int, member: str, path: int) -> bool:
        """Does nothing go this way?"""
        return any(one.seconds is None for one in self._all if one.concerns(lun, member, path))

    def delay_s(self, lun: int, member: str, path: int) -> float:
        """How late everything is on this way."""
        found = (one.seconds or 0.0 for one in self._all if one.concerns(lun, member, path))
        return max(found, default=0.0)

    def of(self, lun: int) -> list[str]:
        """Those of a LUN in words."""
        return [one.words() for one in self._all if one.lun == lun]


@dataclass(eq=False)
class _Line:
    """A connection: which way it goes, and how to end it."""

    lun: int
    member: str
    path: int
    scope: trio.CancelScope


class Portals:
    """All of them. behind: the array's own TCP port on loopback for each path."""

    def __init__(self, lab: Lab, luns: int, behind: Sequence[int]) -> None:
        self._members = {member.storage: member.name for member in lab.members()}
        self._luns = luns
        self._behind = behind
        self.faults = Faults()
        self._lines: set[_Line] = set()

    async def serve(self, nursery: trio.Nursery) -> None:
        """Listen, in `nursery`, on every portal; all do when this returns."""
        for lun in range(1, self._luns + 1):
            for path in PATHS:
                address = PORTALS[path - 1]
                found = await trio.open_tcp_listeners(portal_port(lun), host=address)

                async def handle(
                    stream: trio.SocketStream, lun: int = lun, path: int = path
                ) -> None:
                    await self._connected(stream, lun, path)

                nursery.start_soon(trio.serve_listeners, handle, found)

    def obey(self, words: Sequence[str]) -> list[str]:
        """`online|offline|slow LUN MEMBER PATH SECONDS`, `break` or `show`. Raises UsageError."""
        match words:
            case ["show"]:
                return ["; ".join(self.faults.of(lun)) or "online" for lun in self._all_luns()]
            case ["break"]:
                self._end(lambda line: True)
            case [what, lun, member, path, seconds]:
                self._obey(what, self._fault(lun, member, path), float(seconds))
            case _:
                raise UsageError(f"no such fault: {' '.join(words)}")
        return []

    def _all_luns(self) -> range:
        return range(1, self._luns + 1)

    def _fault(self, lun: str, member: str, path: str) -> Fault:
        if not lun.isdigit() or int(lun) not in self._all_luns():
            raise UsageError(f"no LUN {lun}: 1 to {self._luns}")
        name = "" if member == "-" else member
        if name and name not in self._members.values():
            raise UsageError(f"no member {name!r}: {' '.join(self._members.values())}")
        return Fault(int(lun), name, int(path))

    def _obey(self, what: str, fault: Fault, seconds: float) -> None:
        if what == "online":
            self.faults.mend(fault)
        elif what == "slow":
            self.faults.add(Fault(fault.lun, fault.member, fault.path, seconds))
        else:
            self.faults.add(fault)
            self._end(lambda line: fault.concerns(line.lun, line.member, line.path))

    def _end(self, which: Callable[[_Line], bool]) -> None:
        for line in list(self._lines):
            if which(line):
                line.scope.cancel()

    async def _connected(self, stream: trio.SocketStream, lun: int, path: int) -> None:
        member = self._members.get(stream.socket.getpeername()[0], "")
        line = _Line(lun, member, path, trio.CancelScope())
        self._lines.add(line)
        try:
            with line.scope:
                if not self.faults.is_shut(lun, member, path):
                    await self._pass_on(stream, line)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # either side may go at any moment
        finally:
            self._lines.discard(line)
            await trio.aclose_forcefully(stream)

    async def _pass_on(self, stream: trio.SocketStream, line: _Line) -> None:
        behind = await trio.open_tcp_stream("127.0.0.1", self._behind[line.path - 1])
        async with behind, trio.open_nursery() as nursery:

            async def copy(source: trio.SocketStream, target: trio.SocketStream) -> None:
                try:
                    while data := await source.receive_some(_CHUNK_BYTES):
                        delay_s = self.faults.delay_s(line.lun, line.member, line.path)
                        if delay_s:
                            await trio.sleep(delay_s)
                        await target.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(copy, stream, behind)
            await copy(behind, stream)
