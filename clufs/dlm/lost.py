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
from clufs.dlm.rsb import BLOCKING, UNIT, ResourceBlock
from clufs.dlm.turns import Turns
from clufs.errors import AwaitsFencing, NoQuorum, NotQueued, RequestError
from clufs.limits import RECOVERY_STEP_LOCKS


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
        gone = [guest for guest in self.guests.values() if lives.get(guest.id[0]) != guest.id[1]]
        effects: Effects = []
        for guest in gone:
            if guest.locks:
                lock = lock_of(guest)
                if lock.wanted is not None:
                    self._withdraw(now, lock, effects)
        self._bury_later([guest for guest in gone if guest.life not in self.lost])
        return self._told(effects)

    def _bury_later(self, finished: list[Guest]) -> None:
        """What these held is to be released; phantoms of lives that are not lost any more, too.

        It comes before all other work: others wait for nothing else."""
        if any(life not in self.lost for life in self.phantoms):
            self._work.appendleft(self._lay_phantoms)
        if finished:
            self._work.appendleft(partial(self._bury, iter(finished)))

    def _bury(self, finished: Iterator[Guest], now: float) -> Effects:
        effects: Effects = []
        locks: list[Lock] = []
        for guest in finished:
            if self.guests.get(guest.id) is not guest or not guest.locks:
                continue  # it went with the lock above it, or had only waited
            lock = lock_of(guest)
            if lock.parent is None:
                locks += self._below(lock)
            self._spent += 1
            if not self._has_time():
                self._work.appendleft(partial(self._bury, finished))
                break
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
