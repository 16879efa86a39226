"""The lock manager of one member: requests in, grants and refusals out.

`Node.step(now, event)` takes one event and returns what follows from it, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from clufs.dlm.interface import (
    Asked,
    Effect,
    Event,
    OwnerEnded,
    PartyChanged,
    Refuse,
    Verb,
    Withdrew,
)
from clufs.dlm.master import Master
from clufs.dlm.rsb import ResourceBlock
from clufs.errors import NotHeld

# Looking a member up in an enumeration costs a tenth of a grant.
_LOCK, _UNLOCK, _CANCEL = Verb.LOCK, Verb.UNLOCK, Verb.CANCEL


class Node(Master):
    """The lock manager of one member in one view."""

    def __init__(self, member: str, view: int) -> None:
        super().__init__(view)
        self.member = member
        self._handlers: dict[type, Callable[[float, Any], Sequence[Effect]]] = {
            Withdrew: self._withdrew,
            OwnerEnded: self._owner_ended,
            PartyChanged: self._party_changed,
        }

    def find(self, name: bytes) -> ResourceBlock | None:
        """The resource block of this name, if a lock on it exists."""
        return self.blocks.get(name)

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
        elif verb is _LOCK:
            return self._convert(now, lock, event)
        elif verb is _UNLOCK:
            return self._unlock(now, lock, event)
        elif verb is _CANCEL:
            return self._cancel(now, lock, event)
        else:
            return self._unlock_all(now, lock, event)
        return [Refuse(NotHeld("nothing is held or asked for here"), event.client)]
