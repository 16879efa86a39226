"""The home's side: what the masters of this member's copies answer and tell."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from clufs.dlm.copies import Copies
from clufs.dlm.grants import Effects
from clufs.dlm.interface import Done, Effect, Grant, Notify, Queue, Refuse, Verb
from clufs.dlm.messages import (
    Blocking,
    Finished,
    Gone,
    Granted,
    Queued,
    Refused,
    Withdraw,
    Withdrawn,
)
from clufs.dlm.modes import lowers
from clufs.dlm.rsb import UNIT
from clufs.errors import Cancelled


class Answers(Copies, abc.ABC):
    """Follows the answers."""

    __slots__ = ()

    def _granted(self, now: float, message: Granted) -> Sequence[Effect]:
        found = self._answered(message.id)
        if found is None or found.lock is None:
            self._granted_in_vain(message)
            return []
        copy, block = found.lock, found.lock.rsb
        block.master = found.master  # whatever was heard of another request meanwhile
        block.is_stale = False
        self._leave(copy)
        if copy.granted is not None:
            block.counts -= UNIT[copy.granted]
        copy.kept = None
        self._hold(copy, message.mode, message.number)
        copy.since = now
        copy.notified = False
        if message.valseq >= block.valseq:
            if (block.value, block.valid) != (message.value, message.valid):
                block.value_at = now
            block.value, block.valid = message.value, message.valid
            block.valseq = message.valseq
        return [Grant(copy, message.sync)]

    def _granted_in_vain(self, message: Granted) -> None:
        """A conversion that has been given up here was granted: unless it only gives more, the lock is
        in that mode until the master has heard."""
        for found in self._open.values():
            copy, withdraw = found.lock, found.message
            if not isinstance(withdraw, Withdraw) or withdraw.asked != message.id:
                continue
            if copy is None or copy.granted is None or lowers(message.mode, copy.granted):
                continue
            copy.rsb.counts += UNIT[message.mode] - UNIT[copy.granted]
            copy.granted, copy.number = message.mode, message.number

    def _queued(self, now: float, message: Queued) -> Sequence[Effect]:
        found = self._open.get(message.id)
        if found is None or found.lock is None:
            return []
        copy = found.lock
        found.placed = True
        queue = copy.rsb.queue_of(copy)
        queue.remove(copy)
        copy.place = message.place
        queue.insert(copy)
        if found.queued:
            return []
        found.queued = True
        return [Queue(copy)]

    def _refused(self, now: float, message: Refused) -> Sequence[Effect]:
        found = self._answered(message.id)
        if found is None or found.event is None:
            return []
        copy, request = found.lock, found.event.request
        refuse = Refuse(message.error, found.event.client, copy if found.queued else None)
        if copy is None:
            return [refuse]
        if request.verb is Verb.UNLOCK:
            return [refuse, *self._replay(now, self._releasing.pop(copy))]
        if request.verb is not Verb.LOCK:
            return [refuse]
        if copy.granted is not None:
            self._put_back(copy)
            return [refuse]
        gone = self._drop_told(now, copy, None, False)
        return [refuse, *(gone if found.queued else gone[1:])]

    def _finished(self, now: float, message: Finished) -> Sequence[Effect]:
        found = self._answered(message.id)
        if found is None or found.event is None:
            return []
        copy, request = found.lock, found.event.request
        done = Done(request, found.event.client)
        if copy is None or request.verb is not Verb.UNLOCK:
            return [done]
        effects: Effects = [done]
        if copy.wanted is not None:
            effects.append(Refuse(Cancelled("the lock was released"), copy.client, copy))
        for id in self._open_on[copy]:
            if self._is_lock_request(id):
                self._open[id].event = None
        return [*effects, *self._drop_told(now, copy, copy.granted, False)]

    def _withdrawn(self, now: float, message: Withdrawn) -> Sequence[Effect]:
        found = self._answered(message.id)
        if found is None or found.lock is None:
            return []
        copy = found.lock
        assert copy.granted is not None
        copy.rsb.counts += UNIT[message.mode] - UNIT[copy.granted]
        copy.granted = message.mode
        copy.number = message.number
        return []

    def _gone(self, now: float, message: Gone) -> Sequence[Effect]:
        copy = self._by_id.get(message.lock)
        if copy is None:
            return []
        return self._drop_told(now, copy, message.mode, message.abnormal)

    def _blocking(self, now: float, message: Blocking) -> Sequence[Effect]:
        copy = self._by_id.get(message.lock)
        if copy is None or copy.granted is None:
            return []
        copy.notified = True
        return [Notify(copy, message.mode, message.hint)]
