"""What lost members hold: it stays held until they are surely finished.

A life that is gone and not fenced may still act upon its locks. Those that this member knows
stay granted. Where nobody knows, the life might hold anything that the others' locks allow: a
phantom, a lock of it in the highest such mode, stands for that.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

from clufs.dlm.grants import Effects
from clufs.dlm.guests import Guest, lock_of
from clufs.dlm.interface import Asked, Life, Request, Verb
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Id
from clufs.dlm.modes import Mode
from clufs.dlm.ranges import exclude
from clufs.dlm.rsb import BLOCKING, UNIT, ResourceBlock
from clufs.dlm.turns import Turns
from clufs.errors import AwaitsFencing, NoQuorum, NotQueued, RequestError
from clufs.limits import RECOVERY_STEP_LOCKS

_GUESTS_FOR_A_LOCK = 16
"""To look whether so many guests are of a finished life costs as much as to release a lock."""


class Lost(Turns, abc.ABC):
    """Keeps the locks of lost lives.

    lost: the lives that are gone and not fenced. phantoms: for each, the owner of what it
    might hold, taken away again bit by bit when the life is finished. fenced: the lives known to be
    finished.
    """

    __slots__ = ("fenced", "lost", "phantoms")

    def __init__(self, view: int) -> None:
        super().__init__(view)
        self.lost: set[Life] = set()
        self.phantoms: dict[Life, Guest] = {}
        self.fenced: set[Life] = set()

    def _not_at_once(self, block: ResourceBlock, request: Request, why: str) -> RequestError:
        if self.suspended:
            return NoQuorum(f"{why}: this member has no quorum")
        if self.lost:
            for holder in block.holders():
                owner = holder.owner
                assert holder.granted is not None
                blocked = UNIT[request.mode] + block.wants
                if (
                    isinstance(owner, Guest)
                    and owner.life in self.lost
                    and blocked & BLOCKING[holder.granted]
                    and exclude(request.ranges, holder.ranges)
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
        return [
            life
            for life, owner in self.phantoms.items()
            if root in owner.locks and life in self.lost
        ]

    # --------------------------------------------------------- lives that are gone

    def _is_alive(self, id: Id) -> bool:
        return self.lives.get(id.member) == id.incarnation

    def _part_with(self, now: float) -> Effects:
        """After a change of the lives: what those that are gone await goes at once; what finished
        ones held is work to do."""
        lives = self.lives
        effects: Effects = []
        waiting = [lock for waits in self.parties.waits.values() for lock in waits]
        for lock in waiting:
            owner = lock.owner
            if (
                type(owner) is Guest
                and lives.get(owner.id[0]) != owner.id[1]
                and lock.wanted is not None
            ):
                self._withdraw(now, lock, effects)
        self._bury_later()
        return self._told(effects)

    def _bury_later(self) -> None:
        """What finished lives held is to be released; phantoms of lives that are not lost any more, too.

        It comes before all other work: others wait for nothing else."""
        if any(life not in self.lost for life in self.phantoms):
            self._work.appendleft(self._lay_phantoms)
        if self.guests:
            self._work.appendleft(partial(self._bury, iter(list(self.guests.values()))))

    def _bury(self, guests: Iterator[Guest], now: float) -> Effects:
        """Those of these that are finished; who has gone meanwhile, with a lock above, has no lock."""
        lives, lost = self.lives, self.lost
        locks: list[Lock] = []
        seen = 0
        for guest in guests:
            seen += 1
            id = guest.id
            if lives.get(id[0]) != id[1] and guest.locks and guest.life not in lost:
                lock = lock_of(guest)
                if lock.parent is None:
                    locks += self._below(lock)
                seen += _GUESTS_FOR_A_LOCK
            if seen >= RECOVERY_STEP_LOCKS * _GUESTS_FOR_A_LOCK:
                self._work.appendleft(partial(self._bury, guests))
                break
        self._spent += seen // _GUESTS_FOR_A_LOCK
        effects: Effects = []
        self._remove_all(now, locks, None, True, effects)
        return self._told(effects)

    def _lay_phantoms(self, now: float) -> Effects:
        life = next((life for life in self.phantoms if life not in self.lost), None)
        if life is None:
            return []
        owner = self.phantoms[life]
        effects: Effects = []
        self._work.appendleft(self._lay_phantoms)
        phantoms = list(islice(owner.locks.values(), RECOVERY_STEP_LOCKS))
        self._spent += len(phantoms)
        self._remove_all(now, phantoms, None, False, effects)
        effects = self._told(effects)
        if not owner.locks:
            del self.phantoms[life]
        return effects
