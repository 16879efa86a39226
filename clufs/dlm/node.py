"""The lock manager of one member: requests in, grants and refusals out.

`Node.step(now, event)` takes one event and returns what follows from it, in order. Every
resource block has one master: the first member that asks for the name. A name that only one
member uses costs no message after the first request; alone, a member sends none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from clufs.dlm.directory import directory_member, root_of
from clufs.dlm.grants import Effects
from clufs.dlm.guests import Guest
from clufs.dlm.interface import (
    Asked,
    Cycle,
    Effect,
    Event,
    Fenced,
    Leaving,
    Life,
    Notify,
    OwnerEnded,
    PartyChanged,
    Received,
    Refuse,
    Resumed,
    Suspended,
    Ticked,
    TurnCame,
    Verb,
    ViewInstalled,
    Withdrew,
)
from clufs.dlm.interrupted import Interrupted
from clufs.dlm.lock import Lock
from clufs.dlm.messages import (
    Ask,
    Blocking,
    Copies,
    Dropped,
    End,
    Ended,
    Farewell,
    FarewellHeard,
    Finished,
    Gather,
    Gathered,
    Gone,
    Granted,
    LookedUp,
    Lookup,
    Masters,
    Message,
    NotMaster,
    Queued,
    Refused,
    Settled,
    Unsettled,
    Withdraw,
    Withdrawn,
)
from clufs.dlm.moves import Built, HandedOver, Kept, Moved, MoveHeard, Offer, Taken
from clufs.dlm.rsb import ResourceBlock
from clufs.dlm.survey import Survey
from clufs.dlm.survey_messages import Found, WhatWaits, WhoBlocks
from clufs.errors import NotHeld

# Looking a member up in an enumeration costs a tenth of a grant.
_LOCK, _UNLOCK, _CANCEL = Verb.LOCK, Verb.UNLOCK, Verb.CANCEL

_OUTLIVES_A_VIEW = frozenset(
    (
        Ask,
        Withdraw,
        Ended,
        NotMaster,
        Granted,
        Queued,
        Refused,
        Finished,
        Withdrawn,
        Gone,
        Blocking,
        Settled,
        Found,
        Built,
    )
)
"""What homes and masters say to each other goes on, and what was found stays found; all else is about
the view it was said in."""


_NUMBERED = (Ask, Withdraw, Ended)
"""Those that take effect once; a tuple, since `Ask | Withdraw` would be built anew for each message."""


class Node(Interrupted):
    """The lock manager of one member.

    incarnation: which life of this member it is; names its locks and requests.
    members: everybody in the view, this member included; alone by default. View 0 is none: the
    node is suspended until one is installed.
    """

    def __init__(
        self, member: str, view: int, members: Sequence[Life] = (), incarnation: int = 0
    ) -> None:
        super().__init__(member, view, incarnation, members)
        self._early: list[Received] = []
        self._handlers: dict[type, Callable[[float, Any], Sequence[Effect]]] = {
            Withdrew: self._withdrew,
            OwnerEnded: self._owner_ended,
            PartyChanged: self._party_changed,
            Received: self._received,
            Suspended: self._suspend,
            Resumed: self._resumed,
            ViewInstalled: self._view_installed,
            Fenced: self._fenced,
            Leaving: self._on_leaving,
            TurnCame: self._turn_came,
        }
        self._answers: dict[type, Callable[[float, Any], Sequence[Effect]]] = {
            LookedUp: self._looked_up,
            Granted: self._granted,
            Queued: self._queued,
            Refused: self._refused,
            Finished: self._finished,
            Withdrawn: self._withdrawn,
            Gone: self._gone,
            Blocking: self._blocking,
        }
        self.survey = Survey(self)
        self.survey.installed()
        self._handlers[Ticked] = self.survey.ticked
        self._answers.update(self.survey.handlers)
        self._told_by: dict[type, Callable[[float, str, Any], Sequence[Effect]]] = {
            Lookup: self._on_lookup,
            Dropped: self._on_dropped,
            Ask: self._on_request,
            Withdraw: self._on_withdraw,
            Ended: self._on_ended,
            NotMaster: self._not_master,
            Masters: self._on_masters,
            Unsettled: self._on_unsettled,
            Copies: self._on_copies,
            End: self._on_end,
            Gather: self._on_gather,
            Gathered: self._on_gathered,
            Settled: self._on_settled,
            Farewell: self._on_farewell,
            FarewellHeard: self._on_farewell_heard,
            WhoBlocks: self.survey.asked,
            WhatWaits: self.survey.asked,
            Offer: self._on_offer,
            Taken: self._on_taken,
            Kept: self._on_kept,
            Moved: self._on_moved,
            HandedOver: self._on_handed_over,
            Built: self._on_built,
            MoveHeard: self._on_move_heard,
        }

    def find(self, name: bytes) -> ResourceBlock | None:
        """The resource block of this name, if a lock on it exists: the block itself where it is
        mastered here, else what this member knows of it."""
        return self.blocks.get(name) or self.copies.get(name)

    @property
    def shared(self) -> bool:
        """Whether there are other members."""
        return len(self.members) > 1

    def master_hint(self, name: bytes) -> str | None:
        """The master of this name as far as this member has heard; itself for what it masters, also
        where no lock is left; None if it has not heard of one."""
        root = root_of(name)
        if root in self.blocks or root in self._idle:
            return self.member
        copy = self.copies.get(root)
        if copy is not None and copy.master is not None:
            return copy.master or None
        return self._elsewhere.get(root)

    def directory_member(self, name: bytes) -> str:
        """The member that knows the master of this name."""
        if not self.members:
            return self.member
        return directory_member(root_of(name), self.members)

    def wants_tick(self) -> bool:
        """Whether a Ticked every TICK_S is of use: something waits that has not been looked at."""
        return self.shared and not self.suspended and self.survey.wants_tick()

    def step(self, now: float, event: Event) -> Sequence[Effect]:
        """Let one event take effect at this time; what follows, in order.

        A request that is refused leaves everything as it was.
        """
        if type(event) is not Asked:
            effects = self._handlers[type(event)](now, event)
            return effects if type(event) is Received else _without_past(effects)
        if self._usage.rows and type(event.owner) is not Guest:
            self._usage.used_here(root_of(event.name))
        lock = event.owner.locks.get(event.name)
        verb = event.request.verb
        if lock is None:
            if verb is _LOCK:
                return self._new_lock(now, event)
        elif type(lock) is not Lock:
            return self._ask_master(now, lock, event)
        elif verb is _LOCK:
            return self._convert(now, lock, event)
        elif verb is _UNLOCK:
            return self._unlock(now, lock, event)
        elif verb is _CANCEL:
            return self._cancel(now, lock, event)
        else:
            return self._unlock_all(now, lock, event)
        return [Refuse(NotHeld("nothing is held or asked for here"), event.client)]

    _asked = step

    def _found(self, cycle: Cycle) -> Effects:
        return self.survey.reports.found_here(cycle) if self.shared else super()._found(cycle)

    def _received(self, now: float, event: Received) -> Sequence[Effect]:
        message = event.message
        if self.suspended or message.view > self.view:
            self._early.append(event)
            return []
        if not self._is_there(event):
            return []
        if message.view != self.view and type(message) not in _OUTLIVES_A_VIEW:
            return []
        if isinstance(message, _NUMBERED):
            if not isinstance(message, Ended) and message.again:
                return self._on_again(message) if message.view == self.view else []
            if self._leaving or not self._is_new(message.id):
                return []
        return self._hear(now, event.member, message)

    def _is_there(self, event: Received) -> bool:
        """Whether the life that has sent this is in the view."""
        joined = self._joined.get(event.member)
        return joined is not None and joined <= event.message.view

    def _hear(self, now: float, sender: str, message: Message) -> Sequence[Effect]:
        answer = self._answers.get(type(message))
        if answer is not None:
            return answer(now, message)
        effects = self._told_by[type(message)](now, sender, message)
        return effects if isinstance(message, _NUMBERED) else _without_past(effects)

    def _view_installed(self, now: float, event: ViewInstalled) -> Sequence[Effect]:
        for received in self._early:  # in time for what this member tells to be in doubt
            message = received.message
            if (
                isinstance(message, Built)
                and message.view <= self.view
                and self._is_there(received)
            ):
                self._note_built(message.name, received.member)
        effects = [*self._install(now, event), *self.survey.installed()]
        return [*effects, *self._take_early(now)]

    def _resumed(self, now: float, event: Resumed) -> Sequence[Effect]:
        return [*self._resume(now, event), *self._take_early(now)]

    def _take_early(self, now: float) -> list[Effect]:
        """What came while this member was suspended, or of a view that was not here yet."""
        early, self._early = self._early, []
        return [effect for received in early for effect in self._received(now, received)]

    def _on_dropped(self, now: float, sender: str, message: Dropped) -> Sequence[Effect]:
        self._forget_master(message.name, sender, message.floor)
        return []


def _without_past(effects: Sequence[Effect]) -> Sequence[Effect]:
    """Where one step serves several that have waited, who stood in the way of one of them may have no
    lock any more after another."""
    if any(type(one) is Notify and one.lock.granted is None for one in effects):
        return [one for one in effects if type(one) is not Notify or one.lock.granted is not None]
    return effects
