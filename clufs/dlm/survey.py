"""The search for deadlocks over several members, led by the first member of the view that asks.

A member where a request has waited long says so to the first member; if that one asks nothing
for SURVEY_LEADER_S, to the next, and later on to whoever asked last. Who is told so leads and
asks everybody in three rounds: whose locks are in somebody's way, what are those parties waiting
for, and is that still so? Where two lead at once, both find the same victim. The times of the
second and the third round do not overlap. What is the same in both (the same request waiting,
the same grant) was so at every moment between them, and what its own home says is not at rest
does not count: a cycle of what is left was a deadlock at that moment, and a deadlock does not go
away by itself. Its youngest request is refused by the master of that request, if it still waits.

Nothing is missed: only a request that begins to wait, a party that changes, or a grant before
others that wait can close a cycle. Each is a change at one member, which remembers it until it
has answered a first round; if it is still there after SURVEY_AFTER_S, a search is asked for. So
there are no messages while nothing new waits for long, however many wait. Rounds go on without a
member that is silent: what it would tell is missing, which makes nothing look stuck that is not;
when it answers after all, the search is repeated. So it is, after a pause, as long as there is
more than the bounds allow to tell at once. A leader that falls silent in the midst of its search
leaves what others told it to the next search, of what waits then or of the next view.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

from clufs.dlm.census import Census
from clufs.dlm.copies import Copies
from clufs.dlm.grants import Effects
from clufs.dlm.interface import Effect, Send, Ticked
from clufs.dlm.messages import Id
from clufs.dlm.picture import Picture, Told
from clufs.dlm.reports import Reports
from clufs.dlm.survey_messages import (
    Blockers,
    Break,
    Check,
    Found,
    Overdue,
    Waits,
    WhatWaits,
    WhoBlocks,
)
from clufs.limits import SURVEY_LOCKS_MAX, SURVEY_PARTIES_MAX
from clufs.timeouts import SURVEY_AFTER_S, SURVEY_ANSWER_S, SURVEY_LEADER_S, SURVEY_PAUSE_S

_Question = WhoBlocks | WhatWaits
_Answer = Blockers | Waits


class Survey:
    """One member's part in the search and, if it is the first, the lead."""

    def __init__(self, node: Copies) -> None:
        self._node = node
        self._census = Census(node)
        self.reports = Reports(node)
        self._leader = Leader(node, self._answer, self.reports.break_cycle)
        handlers: dict[type, Callable[[float, Any], Effects]] = {
            Overdue: self._overdue,
            Blockers: self._leader.answered,
            Waits: self._leader.answered,
            **self.reports.handlers,
        }
        self.handlers = {kind: self._in_view(handler) for kind, handler in handlers.items()}
        self.handlers[Found] = self.reports.found
        self._chosen = 0  # whom of the members this one tells
        self._told_at: float | None = None  # when it told the one, who has asked nothing since

    def _in_view(self, handler: Callable[[float, Any], Effects]) -> Callable[[float, Any], Effects]:
        """What was asked or found in another view is nobody's any more."""

        def handle(now: float, message: Any) -> Effects:
            return handler(now, message) if message.view == self._node.view else []

        return handle

    def installed(self) -> Effects:
        """The view is new: what was under way is nobody's any more, and everything that waits may
        be part of a cycle that the former leader would have found."""
        node = self._node
        self._leader.stop()
        self._chosen, self._told_at = 0, None
        effects = self.reports.installed()
        if len(node.members) <= 1:
            node.parties.fresh = None
            return effects
        waiting = [lock for waits in node.parties.waits.values() for lock in waits]
        waiting += node.waiting_copies()
        node.parties.fresh = deque((lock, lock.since) for lock in waiting)
        node.reshaped = bool(waiting)
        return effects

    def wants_tick(self) -> bool:
        node = self._node
        return (
            bool(node.parties.fresh)
            or node.reshaped
            or self._leader.is_busy
            or self._told_at is not None
        )

    def ticked(self, now: float, event: Ticked) -> Effects:
        effects: Effects = []
        if self._node.suspended:  # all of it is looked at again when a view is installed
            return effects
        is_due = self._is_due(now)
        if self._told_at is not None and now - self._told_at >= SURVEY_LEADER_S:
            self._chosen = (self._chosen + 1) % len(self._node.members)
            is_due = True
        if is_due:
            effects += self._report(now)
        return effects + self._leader.ticked(now)

    def _is_due(self, now: float) -> bool:
        """Whether something that may close a cycle has stood for long enough."""
        node = self._node
        fresh = node.parties.fresh
        if fresh is None:
            return False
        due = node.reshaped and bool(node.parties.waits or node.copies)
        node.reshaped = False
        late = []
        while fresh:
            lock, since = fresh[0]
            waits = lock.wanted is not None and lock.since == since
            if waits and now - since < SURVEY_AFTER_S:
                break
            fresh.popleft()
            if waits:
                late.append(lock)
        return due or self._census.may_matter(late)

    def _report(self, now: float) -> Effects:
        node = self._node
        leader = node.members[self._chosen]
        if leader == node.member:
            self._told_at = None
            return self._leader.wanted(now)
        if self._told_at is None or now - self._told_at >= SURVEY_LEADER_S:
            self._told_at = now
        return [Send(leader, Overdue(node.view))]

    def _overdue(self, now: float, message: Overdue) -> Effects:
        return self._leader.wanted(now)

    def asked(self, now: float, sender: str, message: _Question) -> Effects:
        """A question of whoever leads."""
        node = self._node
        if message.view != node.view:
            return []
        if isinstance(message, WhoBlocks):
            self._chosen, self._told_at = node.members.index(sender), None
        return [Send(sender, self._answer(now, message))]

    def _answer(self, now: float, question: _Question) -> _Answer:
        if isinstance(question, WhatWaits):
            return self._census.waits(now, question)
        if self._node.parties.fresh is not None:
            self._node.parties.fresh.clear()
        self._node.reshaped = False
        return self._census.blockers(question)


class Leader:
    """Asks and puts together. One search at a time, and a pause between the starts of two.

    is_busy: a search is under way or to come.
    """

    def __init__(
        self,
        node: Copies,
        answer: Callable[[float, _Question], _Answer],
        break_here: Callable[[float, Break], Effects],
    ) -> None:
        self._node = node
        self._break_here = break_here
        self._answer_here = answer
        self._number = 0
        self._started_at = self._asked_at = float("-inf")
        self.stop()

    def stop(self) -> None:
        """Forget whatever was asked."""
        self._is_wanted = False
        self._awaited: dict[int, str] = {}
        self._owing: dict[int, str] = {}
        self._answers: dict[str, Any] = {}
        self._next: Callable[[float], Effects] | None = None
        self._first: Told | None = None
        self._checks: Mapping[str, list[Check]] = {}

    @property
    def is_busy(self) -> bool:
        return self._is_wanted or self._next is not None

    def wanted(self, now: float) -> Effects:
        """A search is wanted: now, or when the one under way or the pause is over."""
        self._is_wanted = True
        return self._start_if_due(now)

    def ticked(self, now: float) -> Effects:
        if self._next is not None and now - self._asked_at >= SURVEY_ANSWER_S:
            self._owing.update(self._awaited)
            self._awaited = {}
            return self._go_on(now)
        return self._start_if_due(now)

    def answered(self, now: float, message: _Answer) -> Effects:
        member = self._awaited.pop(message.number, None)
        if member is None:
            if self._owing.pop(message.number, None) is not None:
                return self.wanted(now)
            return []
        self._answers[member] = message
        return self._go_on(now)

    def _start_if_due(self, now: float) -> Effects:
        due = now - self._started_at >= SURVEY_PAUSE_S
        if not self._is_wanted or self._next is not None or not due:
            return []
        self._is_wanted = False
        self._started_at = now
        view = self._node.view
        return self._ask(now, lambda member, number: WhoBlocks(view, number), self._blockers_known)

    # ---------------------------------------------------------------- rounds

    def _ask(
        self,
        now: float,
        question: Callable[[str, int], _Question],
        then: Callable[[float], Effects],
    ) -> Effects:
        """One round: everybody who owes no answer is asked, this member too."""
        self._answers = {}
        self._next, self._asked_at = then, now
        owing = frozenset(self._owing.values())
        effects: Effects = []
        for member in self._node.members:
            self._number += 1
            if member == self._node.member:
                asked = question(member, self._number)
                self._answers[member] = self._answer_here(now, asked)
            elif member not in owing:
                self._awaited[self._number] = member
                effects.append(Send(member, question(member, self._number)))
        return effects + self._go_on(now)

    def _go_on(self, now: float) -> Effects:
        """When nobody is awaited, what comes next."""
        if self._awaited or self._next is None:
            return []
        then, self._next = self._next, None
        effects = then(now)
        return effects + self._start_if_due(now)

    def _blockers_known(self, now: float) -> Effects:
        answers: Mapping[str, Blockers] = self._answers
        parties: dict[Id, None] = {}
        for some in zip_longest(*(answer.parties for answer in answers.values())):
            parties.update((party, None) for party in some if party is not None)
        groups = {group.party: group for answer in answers.values() for group in answer.groups}
        for group in [group for party, group in groups.items() if party in parties]:
            parties.update(dict.fromkeys(group.members))
        if not parties:
            return []
        most = max(len(parties), *(len(answer.parties) for answer in answers.values()))
        self._is_wanted |= most >= SURVEY_PARTIES_MAX
        return self._ask_what_waits(now, tuple(parties), {}, self._waits_known)

    def _ask_what_waits(
        self,
        now: float,
        parties: tuple[Id, ...],
        checks: Mapping[str, list[Check]],
        then: Callable[[float], Effects],
    ) -> Effects:
        view, parties = self._node.view, parties[:SURVEY_PARTIES_MAX]

        def question(member: str, number: int) -> _Question:
            here = tuple(checks.get(member, ())[:SURVEY_LOCKS_MAX])
            return WhatWaits(view, number, parties, here)

        return self._ask(now, question, then)

    def _waits_known(self, now: float) -> Effects:
        answers: Mapping[str, Waits] = self._answers
        if any(answer.is_partial for answer in answers.values()):
            self._is_wanted = True
        self._first = Told(answers)
        parties, checks = Picture(self._first).suspects()
        if not parties:
            return []
        self._checks = checks
        return self._ask_what_waits(now, parties, checks, self._confirmed)

    def _confirmed(self, now: float) -> Effects:
        """Order what is a deadlock to be broken; look again at once for what is left."""
        answers: Mapping[str, Waits] = self._answers
        assert self._first is not None
        moving = [id for answer in answers.values() for id in answer.moving]
        for member, asked in self._checks.items():
            unheard = asked[SURVEY_LOCKS_MAX:] if member in answers else asked
            moving += [check.lock for check in unheard]
        same = self._first.at_rest(Told(answers), moving)
        self._is_wanted = True
        effects: list[Effect] = []
        for master, order in Picture(same).breaks(self._node.view):
            if master == self._node.member:
                effects += self._break_here(now, order)
            else:
                effects.append(Send(master, order))
        return effects
