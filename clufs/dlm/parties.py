"""Who could be stuck and who could help: the locks and the waits of each party.

A party is a thread of control: while one of its requests waits it can release
nothing. A party with members (a process lock group) can release as long as one
of its members can.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clufs.dlm.lock import Lock

if TYPE_CHECKING:
    from clufs.dlm.rsb import ResourceBlock


class Parties:
    """The index that the deadlock search asks; every change takes constant time.

    waits: the waiting requests by who is stuck in them. members: the parties with members.
    groups_of: for each member, the parties it is one of. crowded: parties with several waits.
    odd: how many requests wait in which not simply their party is stuck, or that do not count.
    formed: for each party with members how many such changes there had been; never the same twice.
    contended: the blocks where these requests wait, and how many in each.
    fresh: where the survey wants to know of them, the requests that have begun to wait, and when.
    """

    __slots__ = (
        "_formations",
        "_heads",
        "contended",
        "crowded",
        "formed",
        "fresh",
        "groups_of",
        "members",
        "odd",
        "waits",
    )

    def __init__(self) -> None:
        self._heads: dict[Any, Lock] = {}
        self.waits: dict[Any, dict[Lock, None]] = {}
        self.members: dict[Any, frozenset[Any]] = {}
        self.groups_of: dict[Any, set[Any]] = {}
        self.crowded: set[Any] = set()
        self.odd = 0
        self.formed: dict[Any, int] = {}
        self._formations = 0
        self.contended: dict[ResourceBlock, int] = {}
        self.fresh: deque[tuple[Lock, float]] | None = None

    def link(self, lock: Lock) -> None:
        """The lock belongs to `lock.party` now."""
        head = self._heads.setdefault(lock.party, lock)
        if head is not lock:
            lock.party_after = head
            head.party_before = lock
            self._heads[lock.party] = lock

    def unlink(self, lock: Lock) -> None:
        before, after = lock.party_before, lock.party_after
        if before is None:
            if after is None:
                del self._heads[lock.party]
                return
            self._heads[lock.party] = after
        else:
            before.party_after = after
            lock.party_before = None
        if after is not None:
            after.party_before = before
            lock.party_after = None

    def move(self, lock: Lock, party: Any) -> None:
        """The lock belongs to another party from now on."""
        if party is lock.party or party == lock.party:
            return
        self.unlink(lock)
        lock.party = party
        self.link(lock)

    def has_locks(self, party: Any) -> bool:
        return party in self._heads

    def locks(self, party: Any) -> Iterator[Lock]:
        """All locks of a party, granted and waiting."""
        lock = self._heads.get(party)
        while lock is not None:
            yield lock
            lock = lock.party_after

    def wait(self, lock: Lock) -> None:
        """`lock.waiter` is stuck in this lock's request."""
        waits = self.waits.setdefault(lock.waiter, {})
        waits[lock] = None
        if len(waits) > 1:
            self.crowded.add(lock.waiter)
        self.odd += _is_odd(lock)
        self.contended[lock.rsb] = self.contended.get(lock.rsb, 0) + 1
        if self.fresh is not None:
            self.fresh.append((lock, lock.since))

    def unwait(self, lock: Lock) -> None:
        """The request on this lock waits no more."""
        waiter = lock.waiter
        waits = self.waits[waiter]
        del waits[lock]
        self.odd -= _is_odd(lock)
        lock.waiter = None
        others = self.contended.pop(lock.rsb) - 1
        if others:
            self.contended[lock.rsb] = others
        if len(waits) == 1:
            self.crowded.discard(waiter)
        elif not waits:
            del self.waits[waiter]

    @property
    def plain(self) -> bool:
        """Every wait counts, and whoever is stuck in one is a party of its own, stuck in no other:
        then a queue leads nowhere but to those who hold."""
        return not (self.crowded or self.members or self.odd)

    def is_special(self, lock: Lock) -> bool:
        """Who must release this waiting lock once it is granted may be stuck elsewhere than in it."""
        return _is_odd(lock) or lock.party in self.crowded or lock.party in self.members

    def set_members(self, party: Any, members: frozenset[Any]) -> None:
        """From now on these stand behind the party; none: it is an ordinary one."""
        for member in self.members.pop(party, frozenset()):
            groups = self.groups_of[member]
            groups.discard(party)
            if not groups:
                del self.groups_of[member]
        self.formed.pop(party, None)
        if members:
            self.members[party] = members
            self._formations += 1
            self.formed[party] = self._formations
        for member in members:
            self.groups_of.setdefault(member, set()).add(party)


def _is_odd(lock: Lock) -> bool:
    return lock.request.nodeadlock or lock.waiter != lock.party
