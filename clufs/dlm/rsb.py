"""A resource block: its name, its queues and its value block (Tru64 manual, 9.2 and 9.3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from clufs.dlm.lock import Chain, Lock, LockQueue
from clufs.dlm.modes import COMPATIBLE, INCOMPATIBLE_MASK, Mode
from clufs.dlm.ranges import exclude

if TYPE_CHECKING:
    from clufs.dlm.interface import Request

_FIELD_BITS = 32
"""How many bits count the locks granted in one mode: no block ever has 2**32 locks."""

UNIT: tuple[int, ...] = tuple(1 << (_FIELD_BITS * mode) for mode in Mode)
"""One granted lock of a mode in `ResourceBlock.counts`."""

BLOCKING: tuple[int, ...] = tuple(
    sum(
        ((1 << _FIELD_BITS) - 1) << (_FIELD_BITS * granted)
        for granted in Mode
        if not COMPATIBLE[asked][granted]
    )
    for asked in Mode
)
"""For each mode asked, the fields of `counts` that must be empty."""

_MODES = tuple(Mode)

NO_QUEUE = LockQueue()
"""The CONVERTING and WAITING queue of blocks where nobody has waited yet; nothing is put in."""


class ResourceBlock(Chain):
    """One resource as the lock manager sees it; it exists while a lock on it does.

    The block itself is the chain of its granted locks (those not converting), so that one with
    a single lock carries no other object.

    converting, waiting: requests in their order.
    counts: how many locks, converting ones included, are granted in each mode (see UNIT).
    wants: the same for the modes that queued requests ask for.
    value, valid, valseq: the value block; valseq grows whenever it is written or invalidated.
    value_at: when a value was last written, or None.
    listening: a granted lock may be waiting for its blocking notification.
    """

    __slots__ = (
        "converting",
        "counts",
        "created_at",
        "listening",
        "name",
        "valid",
        "valseq",
        "value",
        "value_at",
        "waiting",
        "wants",
    )

    def __init__(self, name: bytes, now: float, valseq: int) -> None:
        self.name = name
        self.first = self.last = None
        self.size = 0
        self.converting = NO_QUEUE
        self.waiting = NO_QUEUE
        self.counts = 0
        self.wants = 0
        self.value = b""
        self.valid = True
        self.valseq = valseq
        self.value_at: float | None = None
        self.created_at = now
        self.listening = False

    @property
    def granted(self) -> tuple[Lock, ...]:
        """The GRANTED queue as it is now (`size` is its length)."""
        return tuple(self.each())

    def group_mode(self) -> Mode | None:
        """The highest granted mode (9.3.2), None without grants; CW and PR are of equal level."""
        return _MODES[(self.counts.bit_length() - 1) // _FIELD_BITS] if self.counts else None

    def holders(self) -> Iterator[Lock]:
        """Every lock that is granted in some mode: the granted ones, then the converting ones."""
        yield from self.each()
        yield from self.converting

    def queued(self) -> Iterator[Lock]:
        """Every lock that waits, in the order in which they are looked at."""
        yield from self.converting
        yield from self.waiting

    def blocks(self, lock: Lock) -> Lock | None:
        """The first queued lock that this lock's granted mode stands in the way of (9.6.3)."""
        if lock.granted is None or not self.wants & BLOCKING[lock.granted]:
            return None
        for other in self.queued():
            assert other.wanted is not None
            if other is not lock and not COMPATIBLE[other.wanted][lock.granted]:
                return other
        return None

    def blocks_others(self, lock: Lock) -> bool:
        """Whether this lock's granted mode stands in the way of others, as far as this member knows."""
        return self.blocks(lock) is not None

    def in_the_way(self, request: Request, asking: Lock | None = None) -> Iterator[Lock]:
        """The granted locks that exclude what this request, of the lock that asks, wants."""
        mask, ranges = INCOMPATIBLE_MASK[request.mode], request.ranges
        for holder in self.holders():
            assert holder.granted is not None
            if not mask >> holder.granted & 1 or holder is asking:
                continue
            if ranges is None or exclude(ranges, holder.ranges):
                yield holder

    def is_free(self, request: Request) -> bool:
        """Whether nothing is granted that excludes what this request for a range wants."""
        return next(self.in_the_way(request), None) is None

    def why(self, lock: Lock) -> list[Lock]:
        """What stands in the way of a waiting lock: the granted locks that are incompatible
        with it or, where there are none, those ahead of it in the queues."""
        if lock.wanted is None:
            return []
        found = list(self.in_the_way(lock.request, lock))
        if found or lock.request.ranges is not None:
            return found
        return list(self.ahead(lock))

    def ahead(self, lock: Lock) -> Iterator[Lock]:
        """The queued locks that are looked at before this waiting one, nearest first."""
        other = lock.before
        while other is not None:
            yield other
            other = other.before
        if lock.granted is None:
            other = self.converting.last
            while other is not None:
                yield other
                other = other.before

    def holder_of(self, number: int) -> Lock | None:
        """The granted lock with this sequencer number: the sequencer still holds, or None."""
        for lock in self.holders():
            if lock.number == number:
                return lock
        return None

    def queue_of(self, lock: Lock) -> Chain:
        """The queue in which this lock stands, made if nobody stood there yet."""
        if lock.wanted is None:
            return self
        if lock.granted is None:
            if self.waiting is NO_QUEUE:
                self.waiting = LockQueue()
            return self.waiting
        if self.converting is NO_QUEUE:
            self.converting = LockQueue()
        return self.converting
