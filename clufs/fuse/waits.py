"""Requests that wait for a grant, from when they are parked to when they are decided or withdrawn."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from clufs.dlm.interface import Asked, Verb, Withdrew
from clufs.errors import Cancelled, ClufsError, Interrupted, NotHeld, TimedOut
from clufs.fuse.asks import Ask, Await, Parked
from clufs.fuse.minority import Minority
from clufs.fuse.owners import LockOwner, held_by_ancestor
from clufs.limits import WITHDRAWN_PLACE_S
from clufs.timeouts import ANCESTOR_LOOK_S

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.dlm.node import Node
    from clufs.fuse.groups import Groups
    from clufs.fuse.lock_handle import LockHandle
    from clufs.fuse.lowlevel import Request
    from clufs.fuse.owner_record import OwnerRecord
    from clufs.fuse.timers import Timers
    from clufs.tree.lock_tree import LockTree
    from clufs.tree.member import Journals


class Waits(Minority):
    """Parks system calls until an effect, a timer or a signal decides them."""

    def __init__(
        self,
        node: Node,
        tree: LockTree,
        record: OwnerRecord,
        journals: Journals,
        timers: Timers,
        groups: Groups,
        kill_within_s: float | None = None,
    ) -> None:
        super().__init__(node, tree, record, journals, timers, groups, kill_within_s)
        self.parked = Parked(timers, self._interrupted)
        self._will_look = False

    def _wait_elsewhere(self, now: float, event: Asked, ask: Ask) -> int | None:
        """Another member decides: until its answer comes this is a wait like any other."""
        event.client = ask
        lock = ask.owner.locks.get(ask.handle.key)
        if event.request.verb is Verb.LOCK and lock is not None:
            lock.client = ask
            return self._wait(now, ask, lock)
        assert ask.request is not None
        self.parked.add(ask.request, ask)
        return None

    def _wait(self, now: float, ask: Ask, lock: Lock) -> int | None:
        ask.lock = lock
        line = ask.line
        self.metrics.waits += 1
        if self._pollers:
            self._wake(ask.handle.key)  # whoever stands in its way may be polling
        if line.timeout_s is not None:
            ask.timer = self.timers.at(now + line.timeout_s, lambda: self._timed_out(ask))
        if line.is_async:
            ask.request = None
            return len(ask.data)
        request = ask.request
        assert request is not None
        self.parked.add(request, ask)
        if ask.process is not None and not self._will_look:
            self._will_look = True
            self.timers.at(now + ANCESTOR_LOOK_S, self._look_at_waits)
        return None

    def _await(
        self, handle: LockHandle, request: Request, data: bytes, owner: LockOwner
    ) -> int | None:
        lock = owner.locks.get(handle.key)
        if lock is not None and lock.wanted is not None:
            ask = lock.client
            waiter = Await(ask, handle, request, data)
            ask.awaits = [*(ask.awaits or ()), waiter]
            self.parked.add(request, waiter)
            return None
        if owner.outcomes is not None and handle.key in owner.outcomes:
            error = owner.outcomes.pop(handle.key)
            if error is not None:
                raise error
        elif lock is None:
            raise NotHeld("nothing was asked for here, so there is nothing to wait for")
        return len(data)

    # ------------------------------------------------------ ends of waits

    def _withdraw(self, ask: Ask, error: ClufsError) -> None:
        lock = ask.lock
        if lock is not None and lock.wanted is not None and lock.client is ask:
            now = monotonic()
            if isinstance(error, Interrupted) and lock.place:
                ask.owner.withdrawn = (
                    ask.handle.key, ask.data, lock.place, now + WITHDRAWN_PLACE_S
                )  # fmt: skip
            self.metrics.refused(error)
            lock.client = None
            self.run(Withdrew(lock))
        self._decided(ask, error)

    def _timed_out(self, ask: Ask) -> None:
        self._withdraw(ask, TimedOut(f"not granted within {ask.line.timeout_s} s"))

    def _interrupted(self, waiter: Ask | Await) -> None:
        error = Interrupted("a signal ended the wait")
        if isinstance(waiter, Ask) and waiter.lock is None:
            self._decided(waiter, None)  # a release on its way takes effect, come what may
        elif isinstance(waiter, Ask):
            self._withdraw(waiter, error)
        else:
            if waiter.ask.awaits:
                waiter.ask.awaits.remove(waiter)
            self._answer(waiter.request, waiter.handle, 0, error)

    def _look_at_waits(self) -> None:
        """Look at each wait once it is ANCESTOR_LOOK_S old, at no more than twice that age.

        Nearly all are over by then: one timer for all of them costs nothing beside one for each.
        """
        now = monotonic()
        self._will_look = False
        for _, waiter in self.parked.all():
            if not isinstance(waiter, Ask) or waiter.is_looked_at:
                continue
            if now - waiter.since < ANCESTOR_LOOK_S:
                self._will_look = True
            else:
                waiter.is_looked_at = True
                self._look_at_ancestors(waiter)
        if self._will_look:
            self.timers.at(now + ANCESTOR_LOOK_S, self._look_at_waits)

    def _look_at_ancestors(self, ask: Ask) -> None:
        """Say so when somebody waits for what an ancestor holds: usually `/bin/echo` or `| tee`."""
        lock = ask.lock
        if ask.request is None or lock is None or lock.wanted is None:
            return
        holder = held_by_ancestor(lock)
        if holder is not None:
            sentence = Cancelled(
                f"waits for a lock that its own ancestor {holder.pid} ({holder.command}) holds:"
                " the process that writes owns the lock"
            )
            sentence.errno = 0
            self.journals.refusals.add(ask.uid, ask.owner.pid, ask.handle.file.path, sentence)
