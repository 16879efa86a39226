"""The heartbeat of one LUN: our record is written, all slots are read, and what they say is told."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeVar

import trio

from clufs.errors import LunError, LunTimedOut
from clufs.storage.disk_header import PAIR_BLOCKS
from clufs.storage.lease import DiskWatch, Lease, Standing
from clufs.storage.lease_wire import Looked, Poison, Settings, boottime, seen_of
from clufs.storage.own_lun import OwnLun, open_own
from clufs.storage.paths import open_path, shown
from clufs.storage.records import LunMessage, MemberRecord, Word
from clufs.storage.sealing import Flaw
from clufs.storage.slots import Slot
from clufs.timeouts import LUN_CONNECT_S
from clufs.timeouts.lease import LUN_AGAIN_S, LeaseTimeline

T = TypeVar("T")


class Life(Protocol):
    """The life of a member, as its beats see it.

    lease: None until a LUN was opened. boot_id: the kernel's, as a number. stopped: why nothing is renewed any
    more, or empty.
    """

    settings: Settings
    lease: Lease | None
    boot_id: int
    stopped: str

    def begin_lease(self, line: LeaseTimeline) -> None:
        """A LUN with these times was opened. Raises LunError if another one has other times."""

    def renewed(self, number: int, began_s: float) -> None:
        """Our record stands on this LUN, since then."""

    def record(self, cluster: int, began_s: float) -> MemberRecord:
        """What stands in our slot if it is written now."""

    def stop(self, why: str) -> None:
        """Renew nothing any more."""

    def tell(self, looked: Looked) -> None:
        """Let the daemon know."""


class Beat:
    """Of one LUN, through one of its paths at a time.

    hurry: set it, and the next beat is due at once. trouble: what went wrong in the latest one, or empty.
    """

    def __init__(self, life: Life, number: int) -> None:
        self.hurry = trio.Event()
        self.trouble = ""
        self._life = life
        self._number = number
        self._member = life.settings.member
        self._watch = DiskWatch()
        self._own: OwnLun | None = None
        self._poisons: dict[int, int] = {}
        self._name = (life.boot_id, life.settings.incarnation)
        self._sequence = 0
        self._written: set[int] = set()
        self._is_double = False
        self._beat_s = -1.0

    async def run(self) -> None:
        """Until cancelled: whatever fails is tried again, by the next path."""
        while True:
            for url in self._life.settings.luns[self._number]:
                await self._through(url)
            await trio.sleep(LUN_AGAIN_S)

    async def _through(self, url: str) -> None:
        """Beat through this path for as long as it works."""
        where = shown(url)
        with trio.CancelScope(deadline=trio.current_time() + LUN_CONNECT_S) as opening:
            try:
                async with open_path(url, self._life.settings.initiator, "clufs-lease") as path:
                    own = await open_own(path.device, self._life.settings.cluster_name)
                    self._life.begin_lease(own.line)
                    slots = await self._read(own)
                    self._sequence = max(self._sequence, slots[self._member].record.sequence)
                    opening.deadline = float("inf")
                    self._own = own
                    await self._keep(own)
            except LunError as error:
                words = str(error).strip()
                self.tell(words if words.startswith(where) else f"{where}: {words}")
            finally:
                self._own = None
        if opening.cancelled_caught:
            self.tell(f"{where}: not opened within {LUN_CONNECT_S:g} s")

    async def _keep(self, own: OwnLun) -> None:
        next_s = trio.current_time()
        while True:
            self.hurry = trio.Event()
            await self._once(own)
            gc.collect()
            # Counted from when it was due, so that what a beat takes does not make the next one late.
            next_s = max(next_s + own.line.renew_s, trio.current_time())
            with trio.move_on_at(next_s):
                await self.hurry.wait()
                next_s = trio.current_time()

    async def _once(self, own: OwnLun) -> None:
        """Write our record, read all, see ours among them: then, and only then, the lease is renewed.

        The clock is read before the write: the others see no sign of life that is older than we think.
        """
        life = self._life
        began_s = boottime()
        if not life.stopped:
            await self._write(own, began_s)
        look_s = boottime()
        slots = await self._read(own)
        self._watch.looked(look_s, boottime(), slots.items())
        trouble = self._judge(slots[self._member])
        if not trouble:
            life.renewed(self._number, began_s)
        self.tell(trouble)
        if self._poisons and not life.stopped:
            await _within(own.line.io_timeout_s, lambda: self._send(own))

    def poison(self, poison: Poison) -> None:
        """Have a member told to stop, with the next beat, which is due now."""
        before = self._poisons.get(poison.member, -1)
        self._poisons[poison.member] = max(before, poison.incarnation)
        self.hurry.set()

    async def _send(self, own: OwnLun) -> None:
        """What has not reached the LUN in time stays to be sent with the next beat."""
        settings = self._life.settings
        for member, incarnation in list(self._poisons.items()):
            message = LunMessage(
                own.header.cluster,
                member,
                incarnation,
                Word.STOP,
                settings.member,
                settings.incarnation,
                time.time_ns(),
            )
            await own.tell(message)
            if self._poisons[member] == incarnation:
                del self._poisons[member]

    async def _write(self, own: OwnLun, began_s: float) -> None:
        self._beat_s = began_s
        before, self._sequence = self._sequence, self._sequence + 1
        record = self._life.record(own.header.cluster, began_s)
        await _within(own.line.io_timeout_s, lambda: own.write_record(record, before))
        self._written.add(self._sequence % PAIR_BLOCKS)

    async def _read(self, own: OwnLun) -> dict[int, Slot]:
        members = max(self._life.settings.members, self._member)
        return dict(await _within(own.line.io_timeout_s, lambda: own.read_slots(members)))

    def _judge(self, mine: Slot) -> str:
        """What is wrong with our own slot, or empty."""
        life, pair, said = self._life, mine.record, mine.message.record
        if said is not None and said.stops(life.settings.incarnation):
            life.stop(f"member {said.writer} told this incarnation to stop")
        if life.stopped:
            return life.stopped
        if pair.record is None or pair.sequence < self._sequence:
            return f"our record is not there: {'; '.join(pair.flaws) or Flaw.STALE}"
        # What another wrote may be covered at once by ours; then it still stands in the other block.
        both = len(self._written) == PAIR_BLOCKS
        if self._is_anothers(pair.record) or (both and self._is_anothers(pair.older)):
            self._is_double = True
            life.stop(f"another machine writes as the member with nodeid {self._member}")
        if pair.record.incarnation != life.settings.incarnation:
            return life.stopped or "our record is not there: a write of an earlier life came late"
        return life.stopped

    def _is_anothers(self, record: MemberRecord | None) -> bool:
        """No accident, as a late write of an earlier life of ours would be."""
        if record is None:
            return False
        boot_id, incarnation = self._name
        return record.boot_id != boot_id or record.incarnation > incarnation

    async def say_goodbye(self) -> None:
        """Our last record, if the LUN takes it; in a slot that another machine uses nothing more."""
        if self._own is not None and not self._is_double:
            with suppress(LunError):
                await self._write(self._own, boottime())

    def tell(self, trouble: str) -> None:
        """How it went, and what is known."""
        self.trouble = trouble
        lease = self._life.lease
        line = lease.line if lease is not None else LeaseTimeline()
        renewed_s = lease.renewed_s if lease is not None else None
        self._life.tell(
            Looked(
                self._number,
                lease.standing(boottime()) if lease is not None else Standing.NONE,
                bool(self._life.stopped),
                round(line.io_timeout_s * 1000),
                round(line.watchdog_s * 1000),
                -1.0 if renewed_s is None else renewed_s,
                self._beat_s,
                self._watch.looked_s,
                self._sequence,
                trouble,
                seen_of(self._watch.sights.items()),
            )
        )


async def _within(timeout_s: float, ask: Callable[[], Awaitable[T]]) -> T:
    """Raises LunTimedOut, and whatever `ask` raises."""
    with trio.move_on_after(timeout_s):
        return await ask()
    raise LunTimedOut(f"no answer within {timeout_s:g} s")
