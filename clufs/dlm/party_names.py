"""How other members name the parties of this one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from clufs.dlm.messages import Id
from clufs.dlm.parties import Parties

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock

_SPARE = 1000
"""So many names of parties that are gone may be kept beside those of the living."""


class PartyNames:
    """A party has the same name as long as it has a lock or is stuck.

    named: the parties of this member by name. stuck_elsewhere: tells who is stuck in requests
    at other members.
    """

    __slots__ = (
        "_incarnation",
        "_member",
        "_names",
        "_parties",
        "_room",
        "_serial",
        "_stuck_elsewhere",
        "named",
    )

    def __init__(
        self,
        member: str,
        incarnation: int,
        parties: Parties,
        stuck_elsewhere: Callable[[], Collection[Any]],
    ) -> None:
        self._member = member
        self._incarnation = incarnation
        self._parties = parties
        self._stuck_elsewhere = stuck_elsewhere
        self._names: dict[Any, Id] = {}
        self._serial = 0
        self._room = _SPARE
        self.named: dict[Id, Any] = {}

    def of(self, party: Any) -> Id:
        """The name of this party: for those of other members the one they gave it."""
        if type(party) is Id:
            return party
        found = self._names.get(party)
        if found is None:
            if len(self._names) >= self._room:
                self._forget_the_gone()
            self._serial -= 1
            found = Id(self._member, self._incarnation, self._serial)
            self._names[party] = found
            self.named[found] = party
        return found

    def of_lock(self, lock: Lock) -> tuple[Id, Id | None]:
        """The names of the lock's party and of its waiter, None if that is the party itself."""
        party = self.of(lock.party)
        if lock.party in self._parties.members and lock.waiter == lock.party:
            # A group as such is stuck in nothing, which only its home knows.
            return party, Id(self._member, self._incarnation, lock.id)
        if lock.waiter is None or lock.waiter == lock.party:
            return party, None
        return party, self.of(lock.waiter)

    def _forget_the_gone(self) -> None:
        parties, stuck = self._parties, self._stuck_elsewhere()
        self._names = {
            party: name
            for party, name in self._names.items()
            if parties.has_locks(party)
            or party in parties.groups_of
            or party in parties.waits
            or party in stuck
        }
        self.named = {name: party for party, name in self._names.items()}
        self._room = 2 * len(self._names) + _SPARE
