"""Requests on the resource blocks that this member masters: which are legal, which wait.

Table and section numbers are those of the Tru64 manual.
"""

from __future__ import annotations

from collections.abc import Sequence

from clufs.dlm.grants import Effects, Grants
from clufs.dlm.interface import (
    Asked,
    BlockEnded,
    Done,
    Effect,
    Grant,
    OwnerEnded,
    PartyChanged,
    Refuse,
    Released,
    Request,
    Withdrew,
)
from clufs.dlm.judge import judge_conversion, judge_new_lock, judge_ranges, judge_release
from clufs.dlm.lock import Lock
from clufs.dlm.modes import Mode, lowers
from clufs.dlm.rsb import BLOCKING, UNIT, ResourceBlock
from clufs.errors import (
    Cancelled,
    HasSublocks,
    NotHeld,
    NotQueued,
    RequestError,
    RequestPending,
)

_NL = Mode.NL


class Master(Grants):
    """Takes requests one by one; one that is refused leaves everything as it was."""

    __slots__ = ()

    # ------------------------------------------------------------- new locks

    def _new_lock(self, now: float, event: Asked) -> Sequence[Effect]:
        request = event.request
        parent = event.parent
        if request.needs_judging or parent is not None:
            error = judge_new_lock(request, parent)
            if error is not None:
                return [Refuse(error, event.client)]
        name = event.name
        mode = request.mode
        block = self.blocks.get(name)
        if block is None:
            return self._route(now, event) if self._shared else self._new_block(now, event)
        if self._frozen or (mode is not _NL and not _fits_at_once(block, event)):
            if request.nowait:
                error = self._not_at_once(block, request, f"{mode.name} is not granted at once")
                return [Refuse(error, event.client)]
            return self._queue_new(now, block, event)
        self._sequence = number = self._sequence + 1
        lock = Lock(number, block, event, mode, now)
        block.append(lock)
        block.counts += UNIT[mode]
        event.owner.locks[name] = lock
        self.parties.link(lock)
        if parent is not None:
            self._adopt(lock, parent)
        if request.notify:
            block.listening = True
        if not block.wants:
            return [Grant(lock, True)]
        return self._granted_past_waiters(now, lock, _NL)

    def _route(self, now: float, event: Asked) -> Sequence[Effect]:
        """The first lock on a name among several members: who masters it?"""
        return self._new_block(now, event)

    def _new_block(self, now: float, event: Asked) -> Sequence[Effect]:
        """The first lock of a resource block: nobody to look at, and the path to keep short."""
        name, request = event.name, event.request
        mode = request.mode
        self._sequence = number = self._sequence + 1
        self.blocks[name] = block = ResourceBlock(name, now, number)
        event.owner.locks[name] = block.first = block.last = lock = Lock(
            number, block, event, mode, now
        )
        block.size = 1
        block.counts = UNIT[mode]
        self.parties.link(lock)
        if event.parent is not None:
            self._adopt(lock, event.parent)
        if request.notify:
            block.listening = True
        return [Grant(lock, True)]

    def _not_at_once(self, block: ResourceBlock, request: Request, why: str) -> RequestError:
        """With which error a `nowait` request is refused."""
        return NotQueued(why)

    def _queue_new(self, now: float, block: ResourceBlock, event: Asked) -> Sequence[Effect]:
        self._sequence += 1
        lock = Lock(self._sequence, block, event, None, now)
        event.owner.locks[event.name] = lock
        self.parties.link(lock)
        if event.parent is not None:
            self._adopt(lock, event.parent)
        return self._queue(now, lock, event)

    def _admit(self, now: float, lock: Lock, event: Asked) -> Effects:
        """Decide a new lock that was on its way to another master until now, and is no longer.

        It is linked to its owner, its party and its parent, and stands in no queue.
        """
        request = event.request
        error = judge_new_lock(request, event.parent)
        block = self._block_for(now, event.name)
        if error is None and self._fits_now(block, event):
            return self._grant_new(now, lock, block)
        if error is None and request.nowait:
            why = f"{request.mode.name} is not granted at once"
            error = self._not_at_once(block, request, why)
        if error is None:
            lock.rsb = block
            return list(self._queue(now, lock, event))
        self._forget(lock)
        effects: Effects = [Refuse(error, event.client)]
        self._settle(now, block, effects)
        return effects

    def _fits_now(self, block: ResourceBlock, event: Asked) -> bool:
        if self._frozen:
            return False
        return event.request.mode is _NL or _fits_at_once(block, event)

    def _grant_new(self, now: float, lock: Lock, block: ResourceBlock) -> Effects:
        lock.rsb = block
        lock.granted = lock.request.mode
        lock.since = now
        self._sequence = lock.number = self._sequence + 1
        block.append(lock)
        block.counts += UNIT[lock.granted]
        if lock.request.notify:
            block.listening = True
        if not block.wants:
            return [Grant(lock, True)]
        return self._granted_past_waiters(now, lock, _NL)

    def _block_for(self, now: float, name: bytes) -> ResourceBlock:
        """The resource block of a name that is mastered here, made if there is none."""
        block = self.blocks.get(name)
        if block is None:
            self._sequence += 1
            block = self.blocks[name] = ResourceBlock(name, now, self._sequence)
        return block

    # ----------------------------------------------------------- conversions

    def _convert(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        request = event.request
        held = lock.granted
        if lock.wanted is not None or held is None:
            return [Refuse(RequestPending("a request still waits here"), event.client)]
        if request.needs_judging:
            error = judge_conversion(request, held)
            if error is not None:
                return [Refuse(error, event.client)]
        if request.ranges is not lock.request.ranges:
            error = judge_ranges(request, lock)
            if error is not None:
                return [Refuse(error, event.client)]
        mode = request.mode
        block = lock.rsb
        if (
            not lowers(held, mode)
            if self._frozen
            else ((block.counts - UNIT[held]) & BLOCKING[mode] and request.ranges is None)
            or (request.quecvt and block.wants and _must_queue(block, event))
        ):
            if request.nowait:
                why = f"{held.name} to {mode.name} is not granted at once"
                return [Refuse(self._not_at_once(block, request, why), event.client)]
            return self._queue_conversion(now, lock, event)
        if request.value is not None:
            self._store(now, block, request.value)
        elif request.invalidate:
            self._invalidate(block)
        if mode is not held:
            self._change_mode(lock, held, mode)
        lock.request = request
        lock.client = event.client
        lock.since = now
        lock.notified = False
        if event.party is not lock.party and event.party != lock.party:
            self.parties.move(lock, event.party)
            held = _NL  # to those who wait, everything it holds is in new hands
        if request.notify:
            block.listening = True
        if not block.wants:
            return [Grant(lock, True)]
        return self._granted_past_waiters(now, lock, held)

    def _queue_conversion(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        lock.kept = (lock.request, lock.client, lock.party, lock.since)
        lock.rsb.remove(lock)
        lock.request = event.request
        lock.client = event.client
        lock.since = now
        self.parties.move(lock, event.party)
        if event.request.notify:
            lock.rsb.listening = True
        return self._queue(now, lock, event)

    # -------------------------------------------------------------- releases

    def _unlock(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        request = event.request
        if lock.sublocks:
            return [Refuse(HasSublocks(f"{lock.sublocks} sublocks are below it"), event.client)]
        if request.needs_judging:
            error = judge_release(request, lock.granted)
            if error is not None:
                return [Refuse(error, event.client)]
        block = lock.rsb
        if block.size == 1 and not block.wants and not self._frozen:
            return self._unlock_last(lock, block, event)
        effects: Effects = [Done(request, event.client)]
        if request.value is not None:
            self._store(now, block, request.value)
        elif request.invalidate:
            self._invalidate(block)
        if lock.wanted is not None:
            effects.append(Refuse(Cancelled("the lock was released"), lock.client, lock))
        self._remove(lock, False, effects)
        self._settle(now, block, effects)
        return self._told(effects)

    def _unlock_last(self, lock: Lock, block: ResourceBlock, event: Asked) -> Sequence[Effect]:
        """Nobody else is here: the block ends with the lock, and with it its value."""
        mode = lock.granted
        name = block.name
        if self._shared:
            self._end_block(name)
        else:
            del self.blocks[name]
        block.first = block.last = None
        block.size = block.counts = 0
        self._forget(lock)
        done = Done(event.request, event.client)
        return [done, Released(lock, mode, False), BlockEnded(name)]

    def _unlock_all(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        """Release all sublocks; the lock itself stays (Table 9-4)."""
        error = judge_release(event.request, None)
        if error is not None:
            return [Refuse(error, event.client)]
        effects: Effects = []
        below = self._below(lock)
        below.pop()
        self._remove_all(now, below, None, False, effects)
        effects.append(Done(event.request, event.client))  # when all else has been heard
        return self._told(effects)

    def _cancel(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        error = judge_release(event.request, None)
        if error is None and lock.wanted is None:
            error = NotHeld("no request waits here")
        if error is not None:
            return [Refuse(error, event.client)]
        effects: Effects = [
            Refuse(Cancelled("CANCEL took the request away"), lock.client, lock),
            Done(event.request, event.client),
        ]
        self._withdraw(now, lock, effects)
        return self._told(effects)

    def _withdrew(self, now: float, event: Withdrew) -> Sequence[Effect]:
        effects: Effects = []
        if event.lock.wanted is not None:
            self._withdraw(now, event.lock, effects)
        return self._told(effects)

    def _owner_ended(self, now: float, event: OwnerEnded) -> Sequence[Effect]:
        doomed: dict[Lock, None] = {}
        for lock in event.owner.locks.values():
            if lock not in doomed:
                doomed.update(dict.fromkeys(self._below(lock)) if lock.sublocks else {lock: None})
        effects: Effects = []
        self._remove_all(now, list(doomed), event.owner, event.abnormal, effects)
        return self._told(effects)

    # -------------------------------------------------------------- deadlock

    def _party_changed(self, now: float, event: PartyChanged) -> Sequence[Effect]:
        effects: Effects = []
        self.parties.set_members(event.party, event.members)
        self._break_deadlocks(now, event.party, effects)
        return self._told(effects)


def _fits_at_once(block: ResourceBlock, event: Asked) -> bool:
    """Compatible with everything granted, and nobody waits (9.3.3) but those behind the place
    that the request takes again."""
    request = event.request
    if block.counts & BLOCKING[request.mode]:
        return request.ranges is not None and block.is_free(request)
    if not block.wants or request.ranges is not None:
        return True
    first = block.waiting.first
    if block.converting.first is not None or first is None:
        return False
    return event.place is not None and event.place < first.place


def _must_queue(block: ResourceBlock, event: Asked) -> bool:
    """QUECVT waits behind conversions that are queued already (9.6.4.2)."""
    first = block.converting.first
    return first is not None and (event.place is None or event.place > first.place)
