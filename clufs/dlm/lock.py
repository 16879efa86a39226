"""A lock and the queue it stands in.

Both are built for a million of them: slots only, and queues whose links lie in
the locks, so that a lock joins, leaves and is found in constant time and a
resource block with one lock carries no empty container.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clufs.dlm.modes import Mode

if TYPE_CHECKING:
    from clufs.dlm.interface import Asked, Request
    from clufs.dlm.ranges import Ranges
    from clufs.dlm.rsb import ResourceBlock


class Lock:
    """One owner's lock on one resource block, granted or asked for.

    id: unique in this member. granted: the mode held, None while a new lock waits.
    wanted: the mode asked for while the lock waits, else None.
    request, client, party: of the last request asked; a cancelled conversion puts back those
        of the grant (Tru64 manual, 9.5). waiter: who is stuck while it waits.
    parent, sublocks: the lock above, and how many are directly below.
    since: when it was granted last or, while it waits, asked.
    number: the sequencer; grows with every change of the granted mode, and only then.
    place: the ticket of its place in the queue, kept after it has left.
    notified: its blocking notification is out for this grant (9.6.3).

    The rest belongs to the lock manager: `kept` is what a cancelled conversion puts back,
    the links chain the locks of a queue and of a party.
    """

    granted: Mode | None
    wanted: Mode | None
    waiter: Any
    kept: tuple[Request, Any, Any, float] | None
    before: Lock | None
    after: Lock | None
    party_before: Lock | None
    party_after: Lock | None

    __slots__ = (
        "after",
        "before",
        "client",
        "granted",
        "id",
        "kept",
        "notified",
        "number",
        "owner",
        "parent",
        "party",
        "party_after",
        "party_before",
        "place",
        "request",
        "rsb",
        "since",
        "sublocks",
        "waiter",
        "wanted",
    )

    def __init__(
        self,
        number: int,
        rsb: ResourceBlock,
        asked: Asked,
        granted: Mode | None,
        now: float,
    ) -> None:
        self.id = self.number = number
        self.rsb = rsb
        self.owner = asked.owner
        self.granted = granted
        self.request = asked.request
        self.party = asked.party
        self.client = asked.client
        self.parent = asked.parent
        self.since = now
        self.sublocks = self.place = 0
        self.notified = False
        self.wanted = self.waiter = self.kept = None
        self.before = self.after = self.party_before = self.party_after = None

    @property
    def ranges(self) -> Ranges | None:
        """The bytes that it is granted on or, while it is new, wanted on; None: on all."""
        return (self.request if self.kept is None else self.kept[0]).ranges

    @property
    def queue(self) -> str:
        """GRANTED, CONVERTING or WAITING (9.3.3); GONE once it is released."""
        if self.wanted is None:
            return "GONE" if self.granted is None else "GRANTED"
        return "WAITING" if self.granted is None else "CONVERTING"

    def __repr__(self) -> str:
        name = self.rsb.name.decode("utf-8", "replace")
        held = "-" if self.granted is None else self.granted.name
        wanted = "" if self.wanted is None else f"->{self.wanted.name}"
        return f"<Lock {self.id} {name} {self.queue} {held}{wanted}>"


class Chain:
    """Locks chained in order; a lock is in one chain at a time."""

    __slots__ = ("first", "last", "size")

    def __init__(self) -> None:
        self.first: Lock | None = None
        self.last: Lock | None = None
        self.size = 0

    def append(self, lock: Lock) -> None:
        last = self.last
        lock.before = last
        lock.after = None
        if last is None:
            self.first = lock
        else:
            last.after = lock
        self.last = lock
        self.size += 1

    def insert(self, lock: Lock) -> None:
        """Put the lock behind the last one whose ticket is not younger."""
        ahead = self.last
        while ahead is not None and ahead.place > lock.place:
            ahead = ahead.before
        if ahead is self.last:
            self.append(lock)
            return
        behind = self.first if ahead is None else ahead.after
        assert behind is not None
        lock.before, lock.after = ahead, behind
        behind.before = lock
        if ahead is None:
            self.first = lock
        else:
            ahead.after = lock
        self.size += 1

    def remove(self, lock: Lock) -> None:
        before, after = lock.before, lock.after
        if before is None:
            self.first = after
        else:
            before.after = after
        if after is None:
            self.last = before
        else:
            after.before = before
        lock.before = lock.after = None
        self.size -= 1

    def each(self) -> Iterator[Lock]:
        """The locks in order; the one just given may be removed meanwhile."""
        lock = self.first
        while lock is not None:
            following = lock.after
            yield lock
            lock = following


class LockQueue(Chain):
    """The CONVERTING or the WAITING queue of a resource block, first come first."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Lock]:
        return self.each()

    def __len__(self) -> int:
        return self.size
