"""The master's side: locks of owners at other members, on resource blocks that live here.

A guest's request is an ordinary request of an ordinary owner; only what comes of it is
told to the guest's member instead of the edge.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Sequence
from typing import Any

from msgspec.structs import replace

from clufs.dlm.grants import Effects
from clufs.dlm.interface import (
    Asked,
    Done,
    Effect,
    Grant,
    Life,
    Notify,
    Owner,
    Queue,
    Refuse,
    Released,
    Request,
    Send,
    Verb,
)
from clufs.dlm.lock import Lock
from clufs.dlm.master import Master
from clufs.dlm.messages import (
    Ask,
    Blocking,
    Ended,
    Finished,
    Gone,
    Granted,
    Id,
    Message,
    Queued,
    Refused,
    Withdraw,
    Withdrawn,
)
from clufs.errors import NotHeld

_UNLOCK = Request(Verb.UNLOCK)


class Guest(Owner):
    """The owner of one lock whose home is another member; it names the lock there.

    Its party is an Id that the home made: what else that party holds or awaits here is known here.
    """

    __slots__ = ("_command", "_pid", "id")

    def __init__(self, id: Id, pid: int = 0, command: str = "-") -> None:
        super().__init__()
        self.id = id
        self._pid = pid
        self._command = command

    @property
    def pid(self) -> int:
        """The process at its home, 0 when there is none."""
        return self._pid

    @property
    def command(self) -> str:
        """The command as it was when the lock was asked for."""
        return self._command

    @property
    def member(self) -> str:
        """The lock's home."""
        return self.id.member

    @property
    def life(self) -> Life:
        """The life of the home that the lock belongs to."""
        return Life(self.id.member, self.id.incarnation)


class Guests(Master, abc.ABC):
    """Serves the requests of other members.

    guests: the owners of locks that are here for other members, by the lock's name there.
    Every request has a number that grows with each one a member sends, so that one that
    comes again is known and dropped.
    lives: the members of the view and their incarnations.
    """

    __slots__ = ("_answered_for", "_last", "_tell", "guests", "lives")

    def __init__(self, view: int) -> None:
        super().__init__(view)
        self.lives: dict[str, int] = {}
        self.guests: dict[Id, Guest] = {}
        self._last: dict[tuple[str, int], int] = {}
        # Those whose home takes the answer to what is being served for their release.
        self._answered_for: Collection[Owner] = ()
        self._tell: dict[type, Callable[[Any], Effect | None]] = {
            Grant: self._tell_grant,
            Queue: self._tell_queue,
            Refuse: self._tell_refuse,
            Done: self._tell_done,
            Released: self._tell_released,
            Notify: self._tell_notify,
        }

    @abc.abstractmethod
    def _asked(self, now: float, event: Asked) -> Sequence[Effect]:
        """Serve a request of an owner here or, as a guest's, of one elsewhere."""

    def _is_new(self, id: Id) -> bool:
        life = (id.member, id.incarnation)
        if id.serial <= self._last.get(life, 0):
            return False
        self._last[life] = id.serial
        return True

    # ---------------------------------------------------------- what is asked

    def _serve(self, now: float, message: Ask) -> Sequence[Effect]:
        """A request of another member on a name that is mastered here."""
        guest = self.guests.get(message.lock)
        if guest is None:
            if not message.new:
                return self._not_held(message, "the lock was released before")
            guest = Guest(message.lock, message.pid, message.command)
        parent = None
        if message.new and message.parent is not None:
            above = self.guests.get(message.parent)
            if above is None:
                return self._not_held(message, "the lock above it is not granted")
            parent = lock_of(above)
        event = Asked(
            guest,
            message.name,
            message.request,
            party=message.lock if message.party is None else message.party,
            client=message.id,
            parent=parent,
            place=message.place,
            waiter=message.waiter,
        )
        if message.request.verb is Verb.UNLOCK:
            self._answered_for = (guest,)
        effects = self._tell_all(self._asked(now, event))
        self._answered_for = ()
        if guest.locks:
            self.guests[guest.id] = guest
        return effects

    def _not_held(self, message: Ask, why: str) -> Sequence[Effect]:
        return [Send(message.id.member, Refused(self.view, message.id, NotHeld(why)))]

    def _serve_withdraw(self, now: float, message: Withdraw) -> Sequence[Effect]:
        guest = self.guests.get(message.lock)
        home = message.id.member
        if guest is None:
            return [Send(home, Finished(self.view, message.id))]
        lock = lock_of(guest)
        effects: Effects = []
        if lock.client == message.asked:
            if lock.wanted is not None:
                self._withdraw(now, lock, effects)
            else:
                effects += self._undo(now, lock, message)
        answer: Message = Finished(self.view, message.id)
        if message.kept is not None and lock.granted is not None:
            answer = Withdrawn(self.view, message.id, lock.granted, lock.number)
        return [*self._tell_all(effects), Send(home, answer)]

    def _undo(self, now: float, lock: Lock, message: Withdraw) -> list[Effect]:
        """The grant crossed the withdrawal: take it back, unless others' locks that were
        granted since forbid the old mode; nobody has been told that the new one is held."""
        request = _UNLOCK
        if message.kept is not None:
            request = replace(message.kept, nowait=True, quecvt=False, invalidate=False, value=None)
        event = Asked(lock.owner, lock.rsb.name, request, party=lock.party, client=message.id)
        effects = self._tell_all(self._asked(now, event))
        return [
            effect
            for effect in effects
            if not (
                type(effect) is Send
                and isinstance(effect.message, Granted | Refused | Finished)
                and effect.message.id == message.id
            )
        ]

    def _serve_ended(self, now: float, message: Ended) -> Sequence[Effect]:
        effects: Effects = []
        guests = [self.guests[id] for id in message.locks if id in self.guests]
        locks = [lock_of(guest) for guest in guests]
        self._remove_all(now, locks, None, message.abnormal, effects)
        done = Finished(self.view, message.id)
        self._answered_for = set(guests)
        told = self._tell_all(effects)
        self._answered_for = ()
        return [*told, Send(message.id.member, done)]

    # ------------------------------------------------------------ who is told

    def _told(self, effects: Effects) -> Effects:
        """The same effects; what concerns a guest goes to its home."""
        return self._tell_all(effects) if self.guests else effects

    def _tell_all(self, effects: Sequence[Effect]) -> Effects:
        tell = self._tell
        told: Effects = []
        for effect in effects:
            translate = tell.get(type(effect))
            found = effect if translate is None else translate(effect)
            if found is not None:
                told.append(found)
        return told

    def _to(self, id: Id, message: Message) -> Effect | None:
        """Tell the life that made this id; one that is gone hears nothing."""
        if self.lives.get(id.member) != id.incarnation:
            return None
        return Send(id.member, message)

    def _tell_grant(self, effect: Grant) -> Effect | None:
        lock = effect.lock
        if type(lock.owner) is not Guest:
            return effect
        block = lock.rsb
        assert lock.granted is not None
        answer = Granted(
            self.view,
            lock.client,
            lock.granted,
            lock.number,
            effect.sync,
            block.value,
            block.valid,
            block.valseq,
        )
        return self._to(lock.owner.id, answer)

    def _tell_queue(self, effect: Queue) -> Effect | None:
        owner = effect.lock.owner
        if type(owner) is not Guest:
            return effect
        return self._to(owner.id, Queued(self.view, effect.lock.client, effect.lock.place))

    def _tell_refuse(self, effect: Refuse) -> Effect | None:
        if type(effect.client) is not Id:
            return effect
        return self._to(effect.client, Refused(self.view, effect.client, effect.error))

    def _tell_done(self, effect: Done) -> Effect | None:
        if type(effect.client) is not Id:
            return effect
        return self._to(effect.client, Finished(self.view, effect.client))

    def _tell_released(self, effect: Released) -> Effect | None:
        owner = effect.lock.owner
        if type(owner) is not Guest:
            return effect
        self.guests.pop(owner.id, None)
        if owner in self._answered_for:
            return None
        return self._to(owner.id, Gone(self.view, owner.id, effect.mode, effect.abnormal))

    def _tell_notify(self, effect: Notify) -> Effect | None:
        owner = effect.lock.owner
        if type(owner) is not Guest:
            return effect
        return self._to(owner.id, Blocking(self.view, owner.id, effect.mode, effect.hint))


def lock_of(guest: Guest) -> Lock:
    """The one lock of a guest."""
    (lock,) = guest.locks.values()
    return lock
