"""The lock manager of one member: requests in, grants and refusals out.

`Node.step(now, event)` takes one event and returns what follows from it, in order. Every
resource block has one master: the first member that asks for the name. A name that only one
member uses costs no message after the first request; alone, a member sends none at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from clufs.dlm.copies import Copies, Copy
from clufs.dlm.directory import Directory, directory_member, root_of
from clufs.dlm.grants import Effects
from clufs.dlm.interface import (
    Asked,
    Cycle,
    Effect,
    Event,
    OwnerEnded,
    PartyChanged,
    Received,
    Refuse,
    Send,
    Ticked,
    Verb,
    Withdrew,
)
from clufs.dlm.lock import Lock
from clufs.dlm.messages import (
    Ask,
    Blocking,
    Dropped,
    Ended,
    Finished,
    Gone,
    Granted,
    Id,
    LookedUp,
    Lookup,
    NotMaster,
    Queued,
    Refused,
    Withdraw,
    Withdrawn,
)
from clufs.dlm.rsb import ResourceBlock
from clufs.dlm.survey import Survey
from clufs.errors import NotHeld
from clufs.limits import IDLE_NAMES_KEPT

# Looking a member up in an enumeration costs a tenth of a grant.
_LOCK, _UNLOCK, _CANCEL = Verb.LOCK, Verb.UNLOCK, Verb.CANCEL


class Node(Copies):
    """The lock manager of one member in one view.

    members: everybody in the view, this member included; alone by default.
    incarnation: which life of this member it is; names its locks and requests.
    """

    def __init__(
        self, member: str, view: int, members: Sequence[str] = (), incarnation: int = 0
    ) -> None:
        super().__init__(member, view, incarnation)
        self.members = sorted(members) or [member]
        self._shared = len(self.members) > 1
        self.directory = Directory()
        self._idle: OrderedDict[bytes, None] = OrderedDict()
        self._elsewhere: OrderedDict[bytes, str] = OrderedDict()
        self._seeking: dict[bytes, list[tuple[Copy, Asked] | Ask]] = {}
        self._handlers: dict[type, Callable[[float, Any], Sequence[Effect]]] = {
            Withdrew: self._withdrew,
            OwnerEnded: self._owner_ended,
            PartyChanged: self._party_changed,
            Received: self._received,
        }
        self._answers: dict[type, Callable[[float, Any], Sequence[Effect]]] = {
            LookedUp: self._looked_up,
            Ask: self._on_ask,
            Withdraw: self._on_withdraw,
            Ended: self._on_ended,
            NotMaster: self._not_master,
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

    def find(self, name: bytes) -> ResourceBlock | None:
        """The resource block of this name, if a lock on it exists: the block itself where it is
        mastered here, else what this member knows of it."""
        return self.blocks.get(name) or self.copies.get(name)

    @property
    def shared(self) -> bool:
        """Whether there are other members."""
        return self._shared

    @property
    def suspended(self) -> bool:
        """Whether nothing is granted here: this member has no quorum."""
        return False

    def waits_for(self) -> str:
        """What keeps this member from serving all that it masters; empty when nothing does."""
        return ""

    def master_hint(self, name: bytes) -> str | None:
        """The master of this name as far as this member has heard; itself for what it masters, also
        where no lock is left; None if it has not heard of one."""
        root = root_of(name)
        if root in self.blocks or root in self._idle:
            return self.member
        copy = self.copies.get(root)
        if copy is not None and copy.master is not None:
            return copy.master
        return self._elsewhere.get(root)

    def directory_member(self, name: bytes) -> str:
        """The member that knows the master of this name."""
        return directory_member(root_of(name), self.members)

    def wants_tick(self) -> bool:
        """Whether a Ticked every TICK_S is of use: something waits that has not been looked at."""
        return self._shared and self.survey.wants_tick()

    def step(self, now: float, event: Event) -> Sequence[Effect]:
        """Let one event take effect at this time; what follows, in order.

        A request that is refused leaves everything as it was.
        """
        if type(event) is not Asked:
            return self._handlers[type(event)](now, event)
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

    # --------------------------------------------------------------- masters

    def _route(self, now: float, event: Asked) -> Sequence[Effect]:
        name, idle = event.name, self._idle
        if name in idle:  # the usual case: the same member uses the name again
            del idle[name]
            return self._new_block(now, event)
        root = root_of(name)
        if root in self.blocks or root in idle:
            return self._new_block(now, event)
        if isinstance(event.parent, Copy) and event.parent in self._releasing:
            self._releasing[event.parent].append(event)
            return []
        block = self.copies.get(root)
        master = self._elsewhere.get(root) if block is None else block.master
        if master is None and root not in self._seeking:
            member = directory_member(root, self.members)
            if member == self.member:
                master = self.directory.master_of(root, self.member)
                if master == self.member:
                    return [*self._new_block(now, event), *self._drop_idle()]
                self._remember(root, master)
        copy = self._new_copy(now, event, master)
        if master is None:
            return self._seek(now, root, (copy, event))
        return [self._pass_on(copy, event)]

    def _seek(self, now: float, root: bytes, waiting: tuple[Copy, Asked] | Ask) -> Sequence[Effect]:
        """Ask the directory for the master; what waits for the answer goes on in its order."""
        seeking = self._seeking.get(root)
        if seeking is not None:
            seeking.append(waiting)
            return []
        self._seeking[root] = [waiting]
        if root in self.blocks or root in self._idle:  # an earlier request has found that out
            return self._looked_up(now, LookedUp(self.view, root, self.member, 0))
        member = directory_member(root, self.members)
        if member == self.member:
            master = self.directory.master_of(root, self.member)
            return self._looked_up(now, LookedUp(self.view, root, master, self._sequence))
        return [Send(member, Lookup(self.view, root))]

    def _looked_up(self, now: float, message: LookedUp) -> Sequence[Effect]:
        root, master = message.name, message.master
        waiting = self._seeking.pop(root, [])
        here = master == self.member
        if here:
            self._sequence = max(self._sequence, message.floor)
            if root not in self.blocks:
                self._idle[root] = None
        else:
            self._remember(root, master)
        effects: Effects = []
        for found in waiting:
            if isinstance(found, Ask):
                effects += self._on_ask(now, found)
                continue
            copy, event = found
            if event.owner.locks.get(event.name) is not copy:
                continue
            if here:
                self._drop(copy)
                effects += self.step(now, event)
            else:
                copy.rsb.master = master
                effects.append(self._pass_on(copy, event))
        return effects + self._drop_idle()

    def _on_ask(self, now: float, message: Ask) -> Sequence[Effect]:
        root = root_of(message.name)
        if root in self.blocks or root in self._idle:
            return self._serve(now, message)
        if root in self._seeking:  # the directory's answer to us is still on its way
            self._seeking[root].append(message)
            return []
        return [Send(message.id.member, NotMaster(self.view, message.id))]

    def _on_withdraw(self, now: float, message: Withdraw) -> Sequence[Effect]:
        unheard = self._never_heard((message.lock,))
        return [*unheard, *self._serve_withdraw(now, message)]

    def _on_ended(self, now: float, message: Ended) -> Sequence[Effect]:
        return [*self._never_heard(message.locks), *self._serve_ended(now, message)]

    def _never_heard(self, locks: tuple[Id, ...]) -> list[Effect]:
        """These locks are given up: their requests that wait here for the directory go, too."""
        effects: list[Effect] = []
        for root, waiting in self._seeking.items():
            gone = [found for found in waiting if isinstance(found, Ask) and found.lock in locks]
            if gone:
                self._seeking[root] = [found for found in waiting if found not in gone]
            for found in gone:
                effects += self._not_held(found, "the request was given up")
        return effects

    def _not_master(self, now: float, message: NotMaster) -> Sequence[Effect]:
        found = self._answered(message.id)
        if found is None or found.event is None:
            return []
        copy, event = found.lock, found.event
        if event.request.verb is not _LOCK:
            return self._not_mastered_release(now, copy, event)
        if copy is None:
            return []
        root = root_of(copy.rsb.name)
        self._elsewhere.pop(root, None)
        copy.rsb.master = copy.asked = None
        return self._seek(now, root, (copy, event))

    def _not_mastered_release(
        self, now: float, copy: Copy | None, event: Asked
    ) -> Sequence[Effect]:
        """A release or cancel that followed a request to where the master no longer was."""
        if copy is None:
            return [Refuse(NotHeld("the request had ended before"), event.client)]
        held = self._releasing.pop(copy, [])
        return [*self._ask_master(now, copy, event), *self._replay(now, held)]

    def _found(self, cycle: Cycle) -> Effects:
        return self.survey.reports.found_here(cycle) if self._shared else super()._found(cycle)

    # ------------------------------------------------------------- directory

    def _received(self, now: float, event: Received) -> Sequence[Effect]:
        message = event.message
        if message.view != self.view:
            return []
        if type(message) is Lookup:
            master = self.directory.master_of(message.name, event.member)
            answer = LookedUp(self.view, message.name, master, self._sequence)
            return [Send(event.member, answer)]
        if type(message) is Dropped:
            self._forget_master(message.name, event.member, message.floor)
            return []
        if isinstance(message, Ask | Withdraw | Ended) and not self._is_new(message.id):
            return []
        return self._answers[type(message)](now, message)

    def _forget_master(self, root: bytes, member: str, floor: int) -> None:
        self.directory.dropped(root, member)
        self._sequence = max(self._sequence, floor)

    def _remember(self, root: bytes, master: str) -> None:
        self._elsewhere[root] = master
        if len(self._elsewhere) > IDLE_NAMES_KEPT:
            self._elsewhere.popitem(last=False)

    # Names that are mastered here and have no lock for a while.

    def _end_block(self, name: bytes) -> None:
        del self.blocks[name]
        if self._shared and b".sub/" not in name:
            self._idle[name] = None

    def _drop_idle(self) -> list[Effect]:
        """Give up the names that have been idle for longest, where there are too many."""
        effects: list[Effect] = []
        while len(self._idle) > IDLE_NAMES_KEPT:
            root, _ = self._idle.popitem(last=False)
            member = directory_member(root, self.members)
            if member == self.member:
                self.directory.dropped(root, member)
            else:
                effects.append(Send(member, Dropped(self.view, root, self._sequence)))
        return effects
