"""Copies in a member without quorum: no answer comes, and no new grant counts.

What gives something up takes effect at home at once, and at the master when it hears of it.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

from clufs.dlm.answers import Answers
from clufs.dlm.grants import Effects
from clufs.dlm.interface import Asked, Done, Effect, Queue, Refuse, Request, Verb, Withdrew
from clufs.dlm.judge import judge_release
from clufs.dlm.messages import Ended
from clufs.dlm.remote import Copy
from clufs.errors import Cancelled, HasSublocks, NotHeld, RequestError


class Unheard(Answers, abc.ABC):
    """Releases copies before their masters have answered."""

    __slots__ = ()

    def _unheard(self, now: float, lock: Copy, event: Asked) -> Sequence[Effect]:
        """A release or cancel while no answer can come: it takes effect here at once, and at the
        master when it hears of it."""
        request = event.request
        if request.verb is Verb.CANCEL:
            if lock.wanted is None:
                return [Refuse(NotHeld("no request waits here"), event.client)]
            why = Cancelled("CANCEL took the request away")
            told: Effects = [Done(request, event.client), Refuse(why, lock.client, lock)]
            return [*told, *self._withdrew(now, Withdrew(lock))]
        error: RequestError | None
        if request.verb is Verb.UNLOCK_ALL:
            error = judge_release(request, None)
        elif lock.sublocks:
            error = HasSublocks(f"{lock.sublocks} sublocks are below it")
        else:
            error = judge_release(request, lock.granted)
        if error is not None:
            return [Refuse(error, event.client)]
        if not _can_release(lock, request):
            self._releasing[lock] = []
            return self._pass_on(lock, event)
        return [*self._pass_on(lock, event), *self._released_here(now, lock, event)]

    def _released_here(self, now: float, lock: Copy, event: Asked) -> Effects:
        """Tell the edge of a release that the master has not answered yet."""
        effects: Effects = [Done(event.request, event.client)]
        if event.request.value is not None:  # no master may ever hear of it
            lock.rsb.is_final, lock.rsb.is_stale = False, True
        below = self._below(lock)
        if event.request.verb is Verb.UNLOCK_ALL:
            below.pop()
        for id in self._open_on[lock]:
            if self._open[id].event is event:
                self._open[id].event = None
        for copy in below:
            assert isinstance(copy, Copy)
            if copy.wanted is not None:
                effects.append(Refuse(Cancelled("the lock was released"), copy.client, copy))
            for id in self._open_on[copy]:
                if self._is_lock_request(id):
                    self._open[id].event = None
            effects += self._drop_told(now, copy, copy.granted, False)
        return effects

    def _suspend_copies(self, now: float) -> Effects:
        """No answer will come for a while: those who ask learn that they wait, releases are over."""
        effects: Effects = []
        below, ended = self._given_up_below()
        for found in list(self._open.values()):
            copy, event = found.lock, found.event
            if copy is None or event is None or not _can_release(copy, event.request):
                continue
            if found.message.id.serial < max(ended, below.get(copy.rsb.name, 0)):
                continue
            # A request that was turned away and its release may be under way to two members.
            if len({self._open[id].master for id in self._open_on[copy]}) > 1:
                continue
            under = self._below(copy)[:-1]
            if not any(isinstance(lock, Copy) and self._open_on[lock] for lock in under):
                effects += self._released_here(now, copy, event)
        for found in self._open.values():
            copy, event = found.lock, found.event
            if copy is None or event is None or event.request.verb is not Verb.LOCK:
                continue
            if not found.queued:
                found.queued = True
                effects.append(Queue(copy))
        return effects

    def _given_up_below(self) -> tuple[dict[bytes, int], int]:
        """For each name the last request about a sublock of it, and the last Ended about any sublocks.

        A release that was sent before is refused by the master, though no sublock is left here.
        """
        found: dict[bytes, int] = {}
        ended = 0
        for id, one in self._open.items():
            if one.below:
                ended = id.serial
            elif not isinstance(one.message, Ended):
                name, separator, _ = one.message.name.rpartition(b".sub/")
                while separator:
                    found[name] = id.serial
                    name, separator, _ = name.rpartition(b".sub/")
        return found, ended


def _can_release(copy: Copy, request: Request) -> bool:
    """Whether a release takes effect as far as its home can tell.

    A value for a master that has said its last word is kept for the next one, who comes soon.
    """
    if copy.rsb.is_final and request.value is not None:
        return False
    if request.verb is Verb.UNLOCK_ALL:
        return judge_release(request, None) is None
    return (
        request.verb is Verb.UNLOCK
        and not copy.sublocks
        and judge_release(request, copy.granted) is None
    )
