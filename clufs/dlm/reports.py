"""Deadlocks are broken by the master of the victim, and every member is told of the whole cycle.

Whose a lock is only its home can say. It is asked before the victim is refused, so that on
the way to each home the question is ahead of what follows from the refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from clufs.dlm.copies import Copies
from clufs.dlm.grants import Effects
from clufs.dlm.guests import Guest
from clufs.dlm.interface import Cycle, CycleLock, Effect, FoundCycle, Send
from clufs.dlm.judge import names_of
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Id
from clufs.dlm.remote import Copy
from clufs.dlm.survey_messages import Break, Describe, Described, Found, InCycle
from clufs.errors import Deadlock

_UNKNOWN = (0, "-")


@dataclass(slots=True)
class _Report:
    """A deadlock of which not all owners are known yet. awaited: by member, its locks."""

    kind: str
    locks: Sequence[InCycle]
    victim: int
    owners: dict[Id, tuple[int, str]] = field(default_factory=dict)
    awaited: dict[int, list[Id]] = field(default_factory=dict)


class Reports:
    """The deadlocks that this member breaks or hears of."""

    def __init__(self, node: Copies) -> None:
        self._node = node
        self._open: dict[int, _Report] = {}
        self._number = 0
        self.handlers: dict[type, Callable[[float, Any], Effects]] = {
            Break: self.break_cycle,
            Describe: self._describe,
            Described: self._described,
        }

    def installed(self) -> Effects:
        """In a new view old questions are not answered: tell what is known."""
        reports = {id(report): report for report in self._open.values()}
        self._open.clear()
        return [effect for report in reports.values() for effect in self._tell(report)]

    def break_cycle(self, now: float, order: Break) -> Effects:
        """Refuse the victim if it still waits as it did when the deadlock was found."""
        wanted = order.locks[0]
        lock = self._lock(wanted.lock, wanted.name)
        if lock is None or lock.wanted is None or isinstance(lock, Copy):  # its master looks again
            return []
        if (lock.place, lock.since) != (order.place, order.since):
            return []
        said = ", ".join(names_of(lock.name, lock.granted, lock.wanted) for lock in order.locks)
        error = Deadlock(f"a deadlock, and this is the youngest request in it: {said}")
        effects = self._begin(_Report(order.kind, order.locks, 0))
        return effects + self._node.refuse_waiting(now, lock, error)

    def found_here(self, cycle: Cycle) -> Effects:
        """A cycle inside this member, where others are to be told of it, too."""
        locks = [
            InCycle(self._id(lock), lock.rsb.name, *modes)
            for lock, modes in zip(cycle.locks, cycle.modes, strict=True)
        ]
        report = _Report(cycle.kind, locks, cycle.locks.index(cycle.victim))
        for lock in cycle.locks:  # the victim may be gone already
            if type(lock.owner) is not Guest:
                report.owners[self._id(lock)] = (lock.owner.pid, lock.owner.command)
        return self._begin(report)

    def _id(self, lock: Lock) -> Id:
        return lock.owner.id if type(lock.owner) is Guest else self._node.lock_id(lock)

    def _lock(self, id: Id, name: bytes) -> Lock | None:
        """The lock of this name at this member: a guest's, a copy, or one that lives here."""
        node = self._node
        if id in node.guests:
            return node.guests[id].locks.get(name)
        copy = node.copy(id)
        block = node.blocks.get(name)
        if copy is not None or block is None:
            return copy
        for lock in chain(block.each(), block.queued()):
            if node.lock_id(lock) == id and type(lock.owner) is not Guest:
                return lock
        return None

    def _begin(self, report: _Report) -> Effects:
        node = self._node
        homes: dict[str, list[tuple[Id, bytes]]] = {}
        for lock in report.locks:
            if lock.lock in report.owners:
                continue
            homes.setdefault(lock.lock.member, []).append((lock.lock, lock.name))
        effects: Effects = []
        for home, locks in homes.items():
            ids = [id for id, _ in locks]
            if home == node.member:
                report.owners.update(zip(ids, self._owners(locks), strict=True))
            elif home in node.members:
                self._number += 1
                self._open[self._number] = report
                report.awaited[self._number] = ids
                question = Describe(node.view, node.member, self._number, tuple(locks))
                effects.append(Send(home, question))
        return effects if report.awaited else self._tell(report)

    def _owners(self, locks: Sequence[tuple[Id, bytes]]) -> list[tuple[int, str]]:
        found = []
        for id, name in locks:
            lock = self._lock(id, name)
            found.append(_UNKNOWN if lock is None else (lock.owner.pid, lock.owner.command))
        return found

    def _describe(self, now: float, message: Describe) -> Effects:
        owners = tuple(self._owners(message.locks))
        return [Send(message.asker, Described(self._node.view, message.number, owners))]

    def _described(self, now: float, message: Described) -> Effects:
        report = self._open.pop(message.number, None)
        if report is None:
            return []
        report.owners.update(zip(report.awaited.pop(message.number), message.owners, strict=False))
        return [] if report.awaited else self._tell(report)

    def _tell(self, report: _Report) -> Effects:
        """Everybody, this member first."""
        node = self._node
        locks = tuple(
            CycleLock(
                lock.name,
                lock.granted,
                lock.wanted,
                lock.lock.member,
                *report.owners.get(lock.lock, _UNKNOWN),
                number == report.victim,
            )
            for number, lock in enumerate(report.locks)
        )
        found: list[Effect] = [FoundCycle(report.kind, locks)]
        message = Found(node.view, report.kind, locks)
        found += [Send(other, message) for other in node.members if other != node.member]
        return found

    def found(self, now: float, message: Found) -> Effects:
        return [FoundCycle(message.kind, message.locks)]
