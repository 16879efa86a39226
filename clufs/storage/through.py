"""A LUN's blocks by this member's own paths or, where none of them works, through another member that has one.

A write that was sent to another member has ended only when that one has answered, or its life is out: until then it
may still be done, so nothing else is tried, and its caller does not hear that it has ended (`serving`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import trio

from clufs.dlm.interface import Life
from clufs.errors import (
    ClufsError,
    LunBusy,
    LunError,
    LunTimedOut,
    PathLost,
    ReservationConflict,
)
from clufs.limits import SERVED_IN_FLIGHT_MAX, SERVED_PIECE_BYTES
from clufs.storage.inventory import SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.paths import LunPath
from clufs.storage.served_wire import DONE, Answer, Ask, Offer, Reach, error_of
from clufs.storage.serving import Cluster
from clufs.timeouts.served import SERVED_AGAIN_S, SERVED_READ_S, SERVED_S

_NO_PATH = (PathLost, LunTimedOut, LunBusy)
"""Errors of this member's paths. A conflict is none: who is fenced has nobody else write for it."""
_ELSEWHERE = (*_NO_PATH, ReservationConflict)
"""Errors of who was asked: another member may do."""


@dataclass(frozen=True, slots=True)
class ServedPath:
    """A LUN through another member, as that one says. writes: for others, too."""

    member: str
    reads: bool
    writes: bool


@dataclass(eq=False, slots=True)
class _Open:
    """A request that awaits its answer; ended without one, it was never done, or its server is out."""

    server: Life
    author: Life
    writes: bool
    ended: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None


class Through:
    """Reads and writes for this member's callers. `look` is to be called when views or lives have changed."""

    def __init__(self, luns: Luns, cluster: Cluster) -> None:
        self._luns = luns
        self._cluster = cluster
        self._offers: dict[Life, dict[str, Offer]] = {}
        self._serial = 0
        self._open: dict[int, _Open] = {}
        self._limiter = trio.CapacityLimiter(SERVED_IN_FLIGHT_MAX)
        self._moved = trio.Event()
        self._closed = False
        self._best: dict[str, str] = {}

    # ---------------------------------------------------------------- what is known

    def paths(self, wwid: str) -> list[ServedPath]:
        """Through which members of the view this LUN may be reached, by name."""
        return [
            ServedPath(life.member, *offer)
            for life, offer in sorted(self._offered(wwid), key=lambda one: one[0])
        ]

    def _offered(self, wwid: str) -> Iterator[tuple[Life, Offer]]:
        """By those of the view; who served last comes first: its sessions are warm, and it is known to be well."""
        view = self._cluster.view()
        lives = view[1] if view is not None else {}
        best = self._best.get(wwid)
        for life in sorted(self._offers, key=lambda life: (life.member != best, life)):
            offer = self._offers[life].get(wwid)
            if offer is not None and lives.get(life.member) == life.incarnation:
                yield life, offer

    def reached(self, member: str, reach: Reach) -> None:
        """Another member says which LUNs it reaches; its view may stand before the one here does."""
        for life in [one for one in self._offers if one.member == member]:
            del self._offers[life]
        self._offers[Life(member, reach.incarnation)] = reach.luns
        self._tell()

    def look(self) -> None:
        """Views or lives may have changed: who waits for a server that is gone need not."""
        view = self._cluster.view()
        lives = view[1] if view is not None else {}
        for life in [one for one in self._offers if lives.get(one.member, 0) != one.incarnation]:
            if view is not None:
                del self._offers[life]
        me = self._cluster.me()
        for one in self._open.values():
            here = lives.get(one.server.member) == one.server.incarnation
            waits = self._cluster.is_in(one.server) if one.writes else here
            if one.author != me or not waits:
                one.ended.set()
        self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    def answered(self, member: str, answer: Answer) -> None:
        """Another member answers."""
        one = self._open.get(answer.serial)
        if one is not None and one.server.member == member:
            one.answer = answer
            one.ended.set()

    async def settled(self) -> None:
        """Ask nobody any more, and wait until no write of this member is under way elsewhere: it may say goodbye."""
        self._closed = True
        while any(one.writes for one in self._open.values()):
            moved = self._moved
            await moved.wait()

    # ---------------------------------------------------------------- reading, writing

    async def read(self, lun: SharedLun, lba: int, count: int) -> bytes:
        """As BlockDevice.read. Raises LunError."""
        step, parts = self._step(lun), []
        for begin in range(lba, lba + count, step):
            blocks = min(step, lba + count - begin)
            ask = Ask(0, 0, lun.wwid, begin, blocks)
            parts.append(await self._do(lun, ask, _reading(begin, blocks)))
        return b"".join(parts)

    async def write(self, lun: SharedLun, lba: int, data: bytes) -> None:
        """As BlockDevice.write. Raises LunError."""
        block = lun.identity.block_bytes if lun.identity else 1
        step = self._step(lun) * block
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            ask = Ask(0, 0, lun.wwid, lba + at // block, len(piece) // block, piece)
            await self._do(lun, ask, _writing(ask))

    def _step(self, lun: SharedLun) -> int:
        """Blocks in a piece."""
        return max(1, SERVED_PIECE_BYTES // (lun.identity.block_bytes if lun.identity else 1))

    async def _do(
        self, lun: SharedLun, ask: Ask, directly: Callable[[LunPath], Awaitable[bytes]]
    ) -> bytes:
        """By the own paths, then through each of the others in turn, again until one can or the time is up."""
        author = self._cluster.me()
        left_s = SERVED_S
        while True:
            moved, began_s = self._moved, trio.current_time()
            self._must_live(author)  # nothing else comes between this and the command
            try:
                return await self._luns.run(lun, directly, writes=bool(ask.data))
            except _NO_PATH as error:
                failure: LunError = error
            for server in self._servers(lun, bool(ask.data)):
                asked_s = trio.current_time()
                try:
                    return await self._ask(author, server, ask)
                except _ELSEWHERE as error:
                    failure = error
                began_s += trio.current_time() - asked_s
            self._must_live(author)
            left_s -= SERVED_AGAIN_S + max(0.0, trio.current_time() - began_s)
            if left_s <= 0 or not author.incarnation or not self._may_come(lun.wwid):
                raise failure
            with trio.move_on_after(SERVED_AGAIN_S):
                await moved.wait()

    def _must_live(self, author: Life) -> None:
        """What a life began, the next one does not go on with: it may have been fenced for it. Raises PathLost."""
        if author != self._cluster.me():
            raise PathLost("the life of this member that asked is over")

    def _servers(self, lun: SharedLun, writes: bool) -> list[Life]:
        found = self._offered(lun.wwid)
        return [life for life, offer in found if (offer.writes if writes else offer.reads)]

    def _may_come(self, wwid: str) -> bool:
        """Might another member reach it in a moment? Also one that a view to come will have."""
        return any(wwid in offers for offers in self._offers.values())

    async def _ask(self, author: Life, server: Life, ask: Ask) -> bytes:
        """Have one member do it. Raises LunError."""
        if ask.data and not self._cluster.may_serve(author, server):
            try:
                await self._cluster.note(author, server)
            except ClufsError as error:
                raise PathLost(f"through {server.member}: {error}") from error
        async with self._limiter:
            answer = await self._answer_of(author, server, ask)
        if answer.outcome != DONE:
            raise error_of(answer, server.member)
        self._best[ask.wwid] = server.member
        return answer.data

    async def _answer_of(self, author: Life, server: Life, ask: Ask) -> Answer:
        view = self._cluster.view()
        if self._closed or view is None or view[1].get(server.member) != server.incarnation:
            raise PathLost(f"{server.member} is not in the view")
        self._must_live(author)
        self._serial = serial = self._serial + 1
        one = self._open[serial] = _Open(server, author, bool(ask.data))
        try:
            self._cluster.send(
                server.member,
                msgspec.structs.replace(ask, serial=serial, incarnation=author.incarnation),
            )
            with trio.move_on_after(float("inf") if one.writes else SERVED_READ_S):
                await one.ended.wait()
        finally:
            del self._open[serial]
            self._tell()
        if one.answer is not None:
            return one.answer
        if one.ended.is_set():
            raise PathLost(f"{server.member} has left")
        raise LunTimedOut(f"{server.member} does not answer")


def _reading(lba: int, count: int) -> Callable[[LunPath], Awaitable[bytes]]:
    return lambda path: path.device.read(lba, count)


def _writing(ask: Ask) -> Callable[[LunPath], Awaitable[bytes]]:
    async def write(path: LunPath) -> bytes:
        await path.device.write(ask.lba, ask.data)
        return b""

    return write
