"""The quorum disk on real LUNs: each kept open by itself, and what `arbitration` says carried there.

A LUN that answers late holds up nobody: a round ends without it, and what was begun there goes on by
itself. None is left in the middle, for a write that nobody waits for could land later than the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, TypeVar
from uuid import UUID

import trio

from clufs.errors import BadBlock, LunError, QuorumDiskLost
from clufs.storage import quorum
from clufs.storage.arbitration import Candidate, Life, Round, Rounds, Tenure
from clufs.storage.disk_header import cluster_number
from clufs.storage.lease_wire import boottime
from clufs.storage.own_lun import OwnLun, open_own
from clufs.storage.paths import open_path, shown
from clufs.storage.quorum import Share, Sight
from clufs.storage.shelf import Io, Lane, Read, Shelf, Steps
from clufs.timeouts import LUN_CONNECT_S, LUN_LOGOUT_S
from clufs.timeouts.lease import LUN_AGAIN_S

T = TypeVar("T")
_USER = "clufs-quorum"


class _Queue:
    """What one LUN has to do in one lane, one after the other. idle: set while nobody is at it."""

    def __init__(self) -> None:
        self.idle = trio.Event()
        self.idle.set()
        self._waiting: deque[_UnderWay] = deque()

    def put(self, under_way: _UnderWay) -> None:
        """Of rounds that ended without this LUN none is kept."""
        self._waiting = deque(one for one in self._waiting if not one.over.is_set())
        self._waiting.append(under_way)

    def pop(self) -> _UnderWay | None:
        """The next one that is still of use."""
        while self._waiting:
            found = self._waiting.popleft()
            if not found.over.is_set():
                return found
        return None


class _Lun:
    """One LUN of the configuration. urls: its paths, of which one at a time is used."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.trouble = f"{shown(urls[0])}: not opened yet"
        self.own: OwnLun | None = None
        self.uuid: UUID | None = None
        self.broken = trio.Event()
        self.queues = {lane: _Queue() for lane in Lane}

    def fail(self, error: LunError) -> None:
        """What is open is no good any more."""
        self.trouble = self.named(error)
        self.broken.set()

    def named(self, error: LunError) -> str:
        """With the LUN's name, if it has not got it."""
        said, where = str(error).strip(), shown(self.urls[0])
        return said if said.startswith(where) else f"{where}: {said}"

    async def carry(self, steps: Steps[T]) -> T:
        """Raises what the steps raise, and whatever the LUN says of them, if they do not take it."""
        own = self.own
        try:
            step = next(steps)
            while True:
                try:
                    data = await self._io(own, step)
                except LunError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(data)
        except StopIteration as done:
            found: T = done.value
            return found

    async def _io(self, own: OwnLun | None, io: Io) -> bytes:
        """On what was open when the steps began: what it is that was opened since, they do not know."""
        if own is None or own is not self.own:
            raise LunError(self.trouble)
        try:
            if isinstance(io, Read):
                return await own.blocks.read(io.lba, io.count)
            await own.blocks.write(io.lba, io.data)
            return b""
        except LunError as error:
            if own is self.own:
                self.fail(error)
            raise


class _UnderWay:
    """A round that LUNs are at."""

    def __init__(self, round: Round, tasks: int) -> None:
        self.round = round
        self.found: dict[UUID, Any] = {}
        self.troubles: list[str] = []
        self.lost: QuorumDiskLost | None = None
        self.over = trio.Event()
        self._left = tasks
        if not tasks:
            self.over.set()

    def ended(self) -> None:
        """One LUN is done with it, or has failed."""
        self._left -= 1
        if self.lost or not self._left or self.round.enough(self.found):
            self.over.set()

    @property
    def answer(self) -> dict[UUID, Any]:
        """Raises LunError if it was not enough."""
        if self.lost is not None:
            raise self.lost
        if not self.round.enough(self.found):
            raise LunError("; ".join(self.troubles) or "too few of the LUNs answer")
        return dict(self.found)


class DiskOnLuns:
    """See `quorum.QuorumDisk`. Open one by `open_quorum_disk`."""

    def __init__(
        self, luns: Sequence[Sequence[str]], initiator: str, name: str, life: Life
    ) -> None:
        self._luns = [_Lun(urls) for urls in luns]
        self._initiator, self._cluster_name = initiator, name
        self._candidate = Candidate(life, boottime)
        self._shelves: dict[UUID, Shelf] = {}
        self._nursery: trio.Nursery | None = None
        self._closing = trio.Event()
        self.tried = trio.Event()

    def begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something beside all else, as long as this serves."""
        assert self._nursery is not None
        self._nursery.start_soon(work)

    async def serve(self) -> None:
        """Keep the LUNs open until `close`; `tried` is set when each has been tried once.

        No cancellation from outside ends it: a write that is under way has its time to end, for nobody knows
        any more when one lands that was left alone.
        """
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._try_all, nursery)
                await self._closing.wait()
                with trio.move_on_after(LUN_LOGOUT_S):
                    for lun in self._luns:
                        for queue in lun.queues.values():
                            await queue.idle.wait()
                nursery.cancel_scope.cancel()

    async def _try_all(self, nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as first:
            for lun in self._luns:
                first.start_soon(nursery.start, self._keep, lun)
        self.tried.set()

    def close(self) -> None:
        """Begin nothing any more, and let go of the LUNs."""
        self._closing.set()

    # ------------------------------------------------------------ keeping LUNs open

    async def _keep(self, lun: _Lun, task_status: trio.TaskStatus[None]) -> None:
        started: Callable[[], None] | None = task_status.started
        while True:
            for url in lun.urls:
                try:
                    with trio.CancelScope(deadline=trio.current_time() + LUN_CONNECT_S) as scope:
                        async with open_path(url, self._initiator, _USER) as path:
                            own = await open_own(path.device, self._cluster_name)
                            scope.deadline = float("inf")
                            self._opened(lun, own)
                            if started is not None:
                                started()
                                started = None
                            await lun.broken.wait()
                    if scope.cancelled_caught:
                        lun.trouble = f"{shown(url)}: not opened within {LUN_CONNECT_S:g} s"
                except LunError as error:
                    lun.trouble = lun.named(error)
                finally:
                    self._closed(lun)
            if started is not None:
                started()
                started = None
            await trio.sleep(LUN_AGAIN_S)

    def _opened(self, lun: _Lun, own: OwnLun) -> None:
        """What is known of a LUN stays known as long as it has its UUID. Raises LunError for one named twice."""
        uuid = own.header.uuid
        if any(one.uuid == uuid for one in self._luns if one is not lun):
            raise LunError("it is the same LUN as another one of the configuration")
        if uuid not in self._shelves:
            life = self._candidate.life
            shelf = Shelf(own.header, life.member, life.incarnation, boottime)
            self._shelves[uuid] = shelf
        lun.own, lun.uuid, lun.broken = own, uuid, trio.Event()
        self._candidate.shelves[uuid] = self._shelves[uuid]

    def _closed(self, lun: _Lun) -> None:
        if lun.uuid is not None:
            del self._candidate.shelves[lun.uuid]
        lun.own = lun.uuid = None

    # ------------------------------------------------------------ carrying rounds

    async def carry(self, rounds: Rounds[T]) -> T:
        """Raises what the rounds raise. Rounds that are left by a cancellation hear of it."""
        with closing(rounds):
            return await self._carry(rounds)

    async def _carry(self, rounds: Rounds[T]) -> T:
        try:
            round = next(rounds)
            while True:
                try:
                    answer = await self._round(round)
                except LunError as error:
                    round = rounds.throw(error)
                else:
                    round = rounds.send(answer)
        except StopIteration as done:
            found: T = done.value
            return found

    async def _round(self, round: Round) -> dict[UUID, Any]:
        assert self._nursery is not None
        if self._closing.is_set():
            raise LunError("the quorum disk is closed")
        open_luns = [lun for lun in self._luns if lun.uuid is not None]
        if round.luns is not None:
            open_luns = [lun for lun in open_luns if lun.uuid in round.luns]
        under_way = _UnderWay(round, len(open_luns))
        under_way.troubles = [lun.trouble for lun in self._luns if lun.uuid is None]
        for lun in open_luns:
            queue = lun.queues[round.lane]
            queue.put(under_way)
            if queue.idle.is_set():
                queue.idle = trio.Event()
                self._nursery.start_soon(self._work, lun, queue)
        try:
            await under_way.over.wait()
        finally:
            under_way.over.set()
        return under_way.answer

    async def _work(self, lun: _Lun, queue: _Queue) -> None:
        """Do what one LUN has to do in one lane."""
        while (under_way := queue.pop()) is not None:
            uuid = lun.uuid
            try:
                if uuid is None or self._closing.is_set():
                    raise LunError(lun.trouble or "the quorum disk is closed")
                shelf = self._shelves[uuid]
                found = await lun.carry(under_way.round.steps(shelf))
            except QuorumDiskLost as lost:
                under_way.lost = lost
            except LunError as error:
                if isinstance(error, BadBlock):
                    lun.fail(error)  # it may have been formatted anew
                under_way.troubles.append(lun.named(error))
            else:
                under_way.found[shelf.uuid] = found
            finally:
                under_way.ended()
        queue.idle.set()

    # ------------------------------------------------------------ the quorum disk

    async def look(self) -> Sight:
        """See `quorum.QuorumDisk`."""
        return await self.carry(self._candidate.look())

    async def take(self) -> HeldOnLuns:
        """See `quorum.QuorumDisk`."""
        return HeldOnLuns(self, await self.carry(self._candidate.take()))


class HeldOnLuns:
    """See `quorum.Held`."""

    def __init__(self, disk: DiskOnLuns, tenure: Tenure) -> None:
        self._disk, self._tenure = disk, tenure
        self._writing = trio.Lock()
        self._levelling = False

    @property
    def ballot(self) -> int:
        """See `quorum.Held`."""
        return self._tenure.ballot

    @property
    def data(self) -> Share:
        """See `quorum.Held`."""
        return self._tenure.data

    @property
    def sure_until_s(self) -> float:
        """See `quorum.Held`."""
        return self._tenure.sure_until_s

    @property
    def behind(self) -> int:
        """So many LUNs that answer lack something of the journal: it is written to them after the next beat."""
        return len(self._tenure.behind())

    async def append(self, record: bytes) -> None:
        """See `quorum.Held`."""
        async with self._writing:
            await self._disk.carry(self._tenure.append(record))

    async def checkpoint(self, data: bytes) -> None:
        """See `quorum.Held`."""
        async with self._writing:
            await self._disk.carry(self._tenure.checkpoint(data))

    async def beat(self) -> None:
        """See `quorum.Held`."""
        await self._disk.carry(self._tenure.beat())
        if self._tenure.behind() and not self._levelling:
            self._levelling = True
            self._disk.begin(self._level)

    async def _level(self) -> None:
        """Beside all else; a LUN that fails is tried again after the next beat."""
        try:
            with suppress(LunError):
                await self._disk.carry(self._tenure.level())
        finally:
            self._levelling = False

    async def let_go(self) -> None:
        """See `quorum.Held`."""
        await self._disk.carry(self._tenure.let_go())


@asynccontextmanager
async def open_quorum_disk(
    luns: Sequence[Sequence[str]], initiator: str, cluster_name: str, member: int, incarnation: int
) -> AsyncIterator[quorum.QuorumDisk]:
    """The quorum disk of a member's life, while inside.

    luns: of each LUN its paths, as in clufs.toml; all that the configuration names, 1, 3 or 5. initiator: an iSCSI
    name. Each LUN has been tried once when this begins; one that does not answer is tried again and again.
    """
    life = Life(cluster_number(cluster_name), member, incarnation, len(luns))
    disk = DiskOnLuns(luns, initiator, cluster_name, life)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk.serve)
        try:
            await disk.tried.wait()
            yield disk
        except Exception as error:
            failure = error  # a nursery would hand it on in a group
        finally:
            disk.close()
    if failure is not None:
        raise failure
