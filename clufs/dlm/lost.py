"""What lost members hold: it stays held until they are surely finished.

A life that is gone and not fenced may still act upon its locks. Those that this member knows
stay granted. Where nobody knows, the life might hold anything that the others' locks allow: a
phantom, a lock of it in the highest such mode, stands for that.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable

from clufs.dlm.grants import Effects
from clufs.dlm.guests import Guest, Guests, lock_of
from clufs.dlm.interface import Asked, Life, Request, Verb
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Id
from clufs.dlm.modes import Mode
from clufs.dlm.rsb import BLOCKING, UNIT, ResourceBlock
from clufs.errors import AwaitsFencing, NoQuorum, NotQueued, RequestError


class Lost(Guests, abc.ABC):
    """Keeps the locks of lost lives.

    lost: the lives that are gone and not fenced. phantoms: for each, the owner of what it
    might hold. fenced: the lives known to be finished. suspended: there is no view with quorum.
    """

    __slots__ = ("fenced", "lost", "phantoms", "suspended")

    def __init__(self, view: int) -> None:
        super().__init__(view)
        self.suspended = False
        self.lost: set[Life] = set()
        self.phantoms: dict[Life, Guest] = {}
        self.fenced: set[Life] = set()

    def _not_at_once(self, block: ResourceBlock, mode: Mode, why: str) -> RequestError:
        if self.suspended:
            return NoQuorum(f"{why}: this member has no quorum")
        if self.lost:
            for holder in block.holders():
                owner = holder.owner
                assert holder.granted is not None
                blocked = UNIT[mode] + block.wants
                if (
                    isinstance(owner, Guest)
                    and owner.life in self.lost
                    and blocked & BLOCKING[holder.granted]
                ):
                    return AwaitsFencing(f"{why}: {owner.member} is lost and not fenced yet")
        return NotQueued(why)

    def _told(self, effects: Effects) -> Effects:
        return self._tell_all(effects) if self.guests or self.phantoms else effects

    # --------------------------------------------------------------- phantoms

    def _haunt(self, now: float, block: ResourceBlock, mode: Mode, lives: Iterable[Life]) -> None:
        """Each of these lives might hold the block in this mode."""
        for life in sorted(lives):
            owner = self.phantoms.get(life)
            if owner is None:
                owner = self.phantoms[life] = Guest(Id(life.member, life.incarnation, 0))
            if block.name in owner.locks:
                continue
            self._sequence += 1
            asked = Asked(owner, block.name, Request(Verb.LOCK, mode), party=owner.id)
            lock = Lock(self._sequence, block, asked, mode, now)
            owner.locks[block.name] = lock
            block.append(lock)
            block.counts += UNIT[mode]
            self.parties.link(lock)

    def _haunting(self, root: bytes) -> list[Life]:
        """The lives that might hold anything in this tree."""
        return [life for life, owner in self.phantoms.items() if root in owner.locks]

    # --------------------------------------------------------- lives that are gone

    def _is_alive(self, id: Id) -> bool:
        return self.lives.get(id.member) == id.incarnation

    def _part_with(self, now: float) -> Effects:
        """After a change of the lives: what lost ones await goes, and what finished ones held."""
        gone = [guest for guest in self.guests.values() if not self._is_alive(guest.id)]
        effects: Effects = []
        for guest in gone:
            if guest.life in self.lost and guest.locks:
                lock = lock_of(guest)
                if lock.wanted is not None:
                    self._withdraw(now, lock, effects)
        finished = [guest for guest in gone if guest.life not in self.lost]
        return [*self._told(effects), *self._bury(now, finished)]

    def _bury(self, now: float, finished: list[Guest]) -> Effects:
        """What these held is released; phantoms of lives that are not lost any more, too."""
        effects: Effects = []
        locks: list[Lock] = []
        for guest in finished:
            lock = lock_of(guest)
            if lock.parent is None:
                locks += self._below(lock)
        self._remove_all(now, locks, None, True, effects)
        for life in [life for life in self.phantoms if life not in self.lost]:
            phantoms = list(self.phantoms[life].locks.values())
            self._remove_all(now, phantoms, None, False, effects)
            effects = self._told(effects)
            del self.phantoms[life]
        return self._told(effects)
