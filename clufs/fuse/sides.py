"""Who holds byte ranges of a file: for fcntl(2) a process or, with F_OFD_SETLK, an open descriptor.

A side holds its ranges by one or several locks, each in one mode. It never loses a byte that it keeps:
what replaces a lock is granted beside it before the old one gives up what both have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING

from clufs.dlm.interface import Request, Verb
from clufs.dlm.modes import Mode
from clufs.dlm.ranges import Ranges, Spans, union
from clufs.fuse.internal import InternalLock
from clufs.fuse.owners import LockOwner
from clufs.tree.lock_reports import PRESENCE

if TYPE_CHECKING:
    from clufs.fuse.lowlevel import Request as SystemCall
    from clufs.fuse.owner_record import OwnerRecord
    from clufs.fuse.owners import ProcessOwner
    from clufs.tree.items import Item

_numbers = count(1)


class RangedFile:
    """A file of which ranges are locked here (asks.Through).

    key: the resource block of its ranges. own_key: that of the file itself, if it has one: a NL lock
        there lists the file while ranges of it are locked.
    sides: by the kernel's name of the lock owner; active: how many of them are.
    """

    __slots__ = (
        "active",
        "file",
        "fresh",
        "key",
        "locker",
        "lost",
        "own_key",
        "parent_key",
        "presence",
        "sides",
    )

    def __init__(self, file: Item, key: bytes, own_key: bytes | None) -> None:
        self.file = file
        self.key = key
        self.own_key = own_key
        self.parent_key: bytes | None = None
        self.presence: InternalLock | None = None
        self.sides: dict[int, Side] = {}
        self.active = 0
        self.fresh = self.lost = False
        self.locker: LockOwner | None = None


class Presence(InternalLock):
    """The lock that lists a file."""

    __slots__ = ()

    @property
    def command(self) -> str:
        return PRESENCE


class Side:
    """What one process, or one descriptor, has of one file.

    name: unlike that of any other side of any member. locks: those granted. waiting: requests not decided.
    process: who asked first; None where it cannot be seen. of_descriptor: it outlives the process.
    nodes: of the opens that it asked through, and handles theirs. unlocking: calls that give bytes up, each
        with the locks of which that is not confirmed. folding: what its locks are being put together to.
    release: gives up all that is granted. is_active: it has not been idle since it asked for something.
    is_recorded: it is on record as a descriptor that holds locks.
    """

    __slots__ = (
        "file",
        "folding",
        "handles",
        "is_active",
        "is_recorded",
        "lock_owner",
        "locks",
        "name",
        "nodes",
        "of_descriptor",
        "process",
        "release",
        "unlocking",
        "waiting",
    )

    def __init__(
        self,
        life: str,
        file: RangedFile,
        lock_owner: int,
        process: ProcessOwner | None,
        of_descriptor: bool,
        release: Callable[[Side], None],
    ) -> None:
        self.name = f"{life}.{next(_numbers)}"
        self.file = file
        self.lock_owner = lock_owner
        self.process = process
        self.of_descriptor = of_descriptor
        self.release: Callable[[], None] = lambda: release(self)
        self.nodes: set[int] = set()
        self.handles: set[int] = set()
        self.locks: list[RangeOwner] = []
        self.waiting: set[RangeOwner] = set()
        self.unlocking: dict[SystemCall, set[RangeOwner]] = {}
        self.folding: RangeOwner | None = None
        self.is_recorded = self.is_active = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, awaited or on its way."""
        return not (self.locks or self.waiting or self.unlocking or self.folding is not None)

    @property
    def is_by_descriptor(self) -> bool:
        """Whether whoever has the descriptor holds what it has."""
        return self.of_descriptor or self.process is None

    def held(self, mode: Mode) -> Spans:
        """The bytes that it has in this mode."""
        return union(*(lock.keeps for lock in self.locks if lock.mode is mode))

    def forget(self, lock: RangeOwner) -> None:
        """The lock is gone."""
        if lock in self.locks:
            self.locks.remove(lock)

    def count(self) -> int:
        """How many ranges it has."""
        return sum(len(lock.keeps) for lock in self.locks)

    def request(self, mode: Mode, spans: Spans, nowait: bool = False) -> Request:
        """As the lock manager hears it: with descriptors fcntl(2) looks for no deadlocks."""
        ranges = Ranges(self.name, spans)
        return Request(Verb.LOCK, mode, nowait=nowait, nodeadlock=self.of_descriptor, ranges=ranges)

    def process_ended(self) -> None:
        """The process is gone, though somebody may still have its descriptor."""
        if self.of_descriptor:
            self.process = None
        else:
            self.release()


class RangeOwner(LockOwner):
    """One lock of a side.

    keeps: the bytes that it is to have. told: those that the lock manager knows of, or is being told of;
    is_busy: its answer is on its way.
    """

    __slots__ = ("is_busy", "keeps", "mode", "on_lost", "side", "told")
    kind = "range"

    def __init__(
        self, side: Side, mode: Mode, spans: Spans, on_lost: Callable[[RangeOwner], None]
    ) -> None:
        super().__init__()
        self.side = side
        self.mode = mode
        self.keeps = self.told = spans
        self.is_busy = False
        self.on_lost = on_lost

    @property
    def party(self) -> object:
        side = self.side
        return side if side.is_by_descriptor else side.process

    @property
    def pid(self) -> int:
        return self.side.process.pid if self.side.process is not None else 0

    @property
    def command(self) -> str:
        return self.side.process.command if self.side.process is not None else "-"

    def put_on(self, record: OwnerRecord) -> None:
        side = self.side
        if side.process is not None:
            side.process.put_on(record)
        if not side.is_recorded and side.is_by_descriptor:
            side.is_recorded = True
            record.count_descriptors(1)

    def all_lost(self) -> None:
        self.on_lost(self)


def release_ranges(processes: Iterable[ProcessOwner], file: Item) -> bool:
    """What the first of these processes that has any of the file holds by fcntl(2); whether one has."""
    for process in processes:
        sides = [side for side in process.sides if side.file.file is file]
        if sides:
            for side in sides:
                side.release()
            return True
    return False
