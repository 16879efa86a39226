"""Many members' answers put together: what is at rest in two of them cannot have been a phantom.

A picture is a graph of locks as one member would see it that mastered everything, so that
the same search finds the same deadlocks in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from clufs.dlm.deadlock import Search, kind_of
from clufs.dlm.interface import Asked, Owner, Request, Verb
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Id
from clufs.dlm.modes import Mode
from clufs.dlm.parties import Parties
from clufs.dlm.rsb import UNIT, ResourceBlock
from clufs.dlm.survey_messages import Break, Check, Group, InCycle, Part, Waits


class Seen(NamedTuple):
    """A lock as its master told it. age: how long ago it was granted or asked."""

    master: str
    name: bytes
    part: Part
    age: float


class Told:
    """What the members told in one round."""

    __slots__ = ("groups", "locks")

    def __init__(self, answers: Mapping[str, Waits]) -> None:
        self.groups: dict[Id, Group] = {}
        self.locks: dict[Id, Seen] = {}
        for member, answer in answers.items():
            for group in answer.groups:
                self.groups[group.party] = group
            for name, parts in answer.blocks:
                for part in parts:
                    self.locks[part.lock] = Seen(member, name, part, answer.now - part.since)

    def at_rest(self, later: Told, moving: Iterable[Id]) -> Told:
        """What is the same here and `later`, but for the locks that are moving: all of it was true
        at any one moment in between."""
        same = Told({})
        moving = frozenset(moving)
        for id, seen in self.locks.items():
            again = later.locks.get(id)
            if again is not None and again.part == seen.part and id not in moving:
                same.locks[id] = again
        for party, group in self.groups.items():
            if later.groups.get(party) == group:
                same.groups[party] = group
        return same


class Picture:
    """The graph that is drawn from what was told."""

    def __init__(self, told: Told) -> None:
        self._parties = Parties()
        self._search = Search(self._parties)
        self._seen: dict[Lock, Seen] = {}
        blocks: dict[bytes, ResourceBlock] = {}
        for seen in sorted(told.locks.values(), key=lambda seen: seen.part.place):
            block = blocks.get(seen.name)
            if block is None:
                block = blocks[seen.name] = ResourceBlock(seen.name, 0.0, 0)
            self._seen[_draw(block, seen.part, self._parties)] = seen
        for group in told.groups.values():
            self._parties.set_members(group.party, frozenset(group.members))

    def suspects(self) -> tuple[tuple[Id, ...], dict[str, list[Check]]]:
        """The parties of which something cannot move, and for each member its locks among those
        that keep it from moving and are mastered elsewhere."""
        stuck = self._search.stuck()
        parties: dict[Id, None] = {}
        checks: dict[str, list[Check]] = {}
        for node in stuck:
            if type(node) is tuple and len(node) == 1:
                parties[node[0]] = None
        for lock, seen in self._seen.items():
            part = seen.part
            if lock not in stuck and (part.party,) not in stuck:
                continue
            if part.wanted is not None:  # also one that does not count, for whom others wait
                parties[part.party] = parties[part.waiter or part.party] = None
            if part.lock.member != seen.master:
                check = Check(part.lock, part.number, part.asked)
                checks.setdefault(part.lock.member, []).append(check)
        return tuple(parties), checks

    def breaks(self, view: int) -> list[tuple[str, Break]]:
        """For each deadlock: the master of its victim, the youngest request that can end it, and
        what that master is told."""
        found = []
        youngest = self._youngest_first()
        while (cycle := self._search.anywhere(youngest)) is not None:
            victim = cycle[0]
            seen = self._seen[victim]
            locks = tuple(self._in_cycle(lock) for lock in cycle)
            order = Break(view, kind_of(cycle), locks, seen.part.place, seen.part.since)
            found.append((seen.master, order))
            youngest.remove(victim)
            self._rub_out(victim)
        return found

    def _rub_out(self, lock: Lock) -> None:
        """What the refusal leads to is not drawn: the next search sees it."""
        block = lock.rsb
        assert lock.wanted is not None
        block.queue_of(lock).remove(lock)
        block.wants -= UNIT[lock.wanted]
        if lock.granted is not None:
            block.counts -= UNIT[lock.granted]
        self._parties.unwait(lock)
        self._parties.unlink(lock)

    def _in_cycle(self, lock: Lock) -> InCycle:
        seen = self._seen[lock]
        return InCycle(seen.part.lock, seen.name, seen.part.granted, seen.part.wanted)

    def _youngest_first(self) -> list[Lock]:
        """Clocks of different members cannot be compared, but ages can; among the requests of one
        master the place decides: one that was taken again is at least as old as all behind it."""
        waiting = [
            lock for lock in self._seen if lock.wanted is not None and not lock.request.nodeadlock
        ]
        waiting.sort(key=lambda lock: lock.place, reverse=True)
        oldest: dict[str, float] = {}
        ages: dict[Lock, tuple[float, int, Id]] = {}
        for lock in waiting:
            seen = self._seen[lock]
            age = oldest[seen.master] = max(seen.age, oldest.get(seen.master, seen.age))
            ages[lock] = age, -lock.place, seen.part.lock
        return sorted(waiting, key=ages.__getitem__)


def _draw(block: ResourceBlock, part: Part, parties: Parties) -> Lock:
    mode = part.wanted or Mode.NL
    request = Request(Verb.LOCK, mode, nodeadlock=part.nodeadlock, ranges=part.ranges)
    asked = Asked(Owner(), block.name, request, part.party)
    lock = Lock(part.number, block, asked, part.granted, 0.0)
    lock.place = part.place
    lock.wanted = part.wanted
    parties.link(lock)
    block.queue_of(lock).append(lock)
    if part.granted is not None:
        block.counts += UNIT[part.granted]
    if part.wanted is not None:
        block.wants += UNIT[part.wanted]
        lock.waiter = part.waiter or part.party
        parties.wait(lock)
    return lock
