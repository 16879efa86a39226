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
    from clufs.dlm.interface import Owner, Request
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
        owner: Owner,
        request: Request,
        party: Any,
        client: Any,
        parent: Lock | None,
        now: float,
    ) -> None:
        self.id = self.number = number
        self.rsb = rsb
        self.owner = owner
        self.granted: Mode | None = None
        self.wanted: Mode | None = None
        self.request = request
        self.party = party
        self.waiter: Any = None
        self.client = client
        self.parent = parent
        self.sublocks = 0
        self.since = now
        self.place = 0
        self.notified = False
        self.kept: tuple[Request, Any, Any, float] | None = None
        self.before: Lock | None = None
        self.after: Lock | None = None
        self.party_before: Lock | None = None
        self.party_after: Lock | None = None

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


class LockQueue:
    """One of a resource block's queues, first come first; a lock stands in one queue at a time."""

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

    def __iter__(self) -> Iterator[Lock]:
        lock = self.first
        while lock is not None:
            following = lock.after
            yield lock
            lock = following

    def __len__(self) -> int:
        return self.size
