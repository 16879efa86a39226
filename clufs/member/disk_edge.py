"""The quorum disk of one life: joins the pure keeper to the LUNs and to the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from time import monotonic

import trio

from clufs.errors import LunError, QuorumDiskLost, ShareFull
from clufs.member import disk_keeper as k
from clufs.member.disk_keeper import DiskKeeper
from clufs.storage.quorum import Held, QuorumDisk, Sight
from clufs.timeouts import QUORUM_DISK_LOOK_S, QUORUM_DISK_SURE_S


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class DiskEdge:
    """Looks, beats, and appends one record after the other.

    A holding is over, for the keeper, as soon as it is not sure on the clock: whatever stood still, the
    keeper hears of that before anything else of the disk.
    """

    def __init__(self, keeper: DiskKeeper, tell: Callable[[list[k.Effect]], None]) -> None:
        """tell: carries out what the keeper says."""
        self._keeper, self._tell = keeper, tell
        self._held: Held | None = None
        self._disk: QuorumDisk
        self._nursery: trio.Nursery
        self._to_write, self._writes = trio.open_memory_channel[k.DiskWrite](math.inf)

    async def run(self, opened: AbstractAsyncContextManager[QuorumDisk]) -> None:
        """Serve until cancelled; then let go of the disk, so that others need not wait."""
        served = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, opened, served)
            try:
                await trio.sleep_forever()
            finally:
                held, self._held = self._held, None
                if held is not None:
                    await self._let_go(held)
                served.cancel()

    async def _serve(
        self, opened: AbstractAsyncContextManager[QuorumDisk], scope: trio.CancelScope
    ) -> None:
        with scope:
            async with opened as self._disk, trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._write)
                self._nursery.start_soon(self._beat)
                while True:
                    await self._look()
                    await trio.sleep(QUORUM_DISK_LOOK_S)

    # ------------------------------------------------- time

    def end_unsure(self) -> None:
        """Tell the keeper if it is not sure any more; to be called also after this member stood still."""
        held = self._held
        if held is not None and _now() >= held.sure_until_s:
            self._lost(held, "no beat of this member's has reached it for too long")

    async def _look(self) -> None:
        sight = Sight(False, f"no answer within {QUORUM_DISK_SURE_S:g} s")
        began_s = monotonic()
        with trio.move_on_after(QUORUM_DISK_SURE_S):
            sight = await self._disk.look()
        self.end_unsure()
        self._tell(self._keeper.seen(began_s, sight))

    async def _beat(self) -> None:
        """A beat that fails may be followed by one that does not; in the end it is the clock that counts."""
        while True:
            held = self._held
            if held is not None:
                with trio.move_on_after(max(0.0, held.sure_until_s - _now())):
                    try:
                        await held.beat()
                    except QuorumDiskLost as error:
                        self._lost(held, str(error))
                    except LunError:
                        pass
                self.end_unsure()
            await trio.sleep(QUORUM_DISK_LOOK_S)

    # ------------------------------------------------- deeds

    def take(self, _effect: k.TakeDisk) -> None:
        """Take the disk."""
        self._nursery.start_soon(self._take)

    async def _take(self) -> None:
        try:
            held = await self._disk.take()
        except LunError:
            self._tell(self._keeper.refused())
            return
        self._held = held
        self._tell(self._keeper.taken(held.ballot, held.data))
        self.end_unsure()

    def drop(self, effect: k.DropDisk) -> None:
        """Let go of it."""
        held = self._held
        if held is not None and held.ballot == effect.ballot:
            self._held = None
            self._nursery.start_soon(self._let_go, held)

    async def _let_go(self, held: Held) -> None:
        with trio.move_on_after(QUORUM_DISK_LOOK_S, shield=True):
            with suppress(LunError):  # then the others see that its beats have ended
                await held.let_go()

    def write(self, effect: k.DiskWrite) -> None:
        """Append a record, after those before."""
        self._to_write.send_nowait(effect)

    def _lost(self, held: Held, why: str) -> None:
        if self._held is held:
            self._held = None
            self._tell(self._keeper.lost(held.ballot, why))

    async def _write(self) -> None:
        async for effect in self._writes:
            held = self._held
            if held is None or held.ballot != effect.ballot:
                continue
            try:
                await self._append(held, effect)
            except LunError as error:
                self._lost(held, str(error))
                with trio.move_on_after(QUORUM_DISK_LOOK_S):
                    await self._let_go(held)
            else:
                self.end_unsure()
                self._tell(self._keeper.written(effect.ballot, effect.ticket))

    async def _append(self, held: Held, effect: k.DiskWrite) -> None:
        try:
            await held.append(effect.record)
        except ShareFull:
            whole = self._keeper.whole(effect.ballot, effect.ticket)
            if whole is not None:
                await held.checkpoint(whole)
