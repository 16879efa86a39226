"""The lock manager of one member: requests in, grants and refusals out.

`Node.step(now, event)` takes one event and returns what follows from it, in order.
The rules are those of the Tru64 manual, chapter 9; table and section numbers stand
where one is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from clufs.dlm.deadlock import Search, kind_of
from clufs.dlm.interface import (
    Asked,
    BlockEnded,
    Cycle,
    Done,
    Effect,
    Event,
    Grant,
    Notify,
    Owner,
    OwnerEnded,
    PartyChanged,
    Queue,
    Refuse,
    Released,
    Request,
    Verb,
    Withdrew,
)
from clufs.dlm.judge import judge_conversion, judge_new_lock, judge_release, names
from clufs.dlm.lock import Lock
from clufs.dlm.modes import INCOMPATIBLE_MASK, PROTECTED_WRITE_OR_MORE, Mode
from clufs.dlm.parties import Parties
from clufs.dlm.rsb import BLOCKING, UNIT, ResourceBlock
from clufs.errors import (
    Cancelled,
    Deadlock,
    HasSublocks,
    NotHeld,
    NotQueued,
    RequestError,
    RequestPending,
)
from clufs.limits import SEQUENCE_COUNT_BITS

Effects = list[Effect]

# Looking a member up in an enumeration costs a tenth of a grant.
_LOCK, _UNLOCK, _CANCEL = Verb.LOCK, Verb.UNLOCK, Verb.CANCEL
_NL = Mode.NL


class Node:
    """The lock manager of one member in one view.

    blocks: the resource blocks by name; each exists while a lock on it does.
    """

    def __init__(self, member: str, view: int) -> None:
        self.member = member
        self.view = view
        self.blocks: dict[bytes, ResourceBlock] = {}
        self.parties = Parties()
        self.search = Search(self.parties)
        self._sequence = view << SEQUENCE_COUNT_BITS
        self._ticket = 0
        self._children: dict[Lock, dict[Lock, None]] = {}
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

    # ------------------------------------------------------------- new locks

    def _new_lock(self, now: float, event: Asked) -> Sequence[Effect]:
        request = event.request
        parent = event.parent
        if request.quecvt or request.invalidate or request.value is not None or parent is not None:
            error = judge_new_lock(request, parent)
            if error is not None:
                return [Refuse(error, event.client)]
        name = event.name
        mode = request.mode
        block = self.blocks.get(name)
        if block is None:
            return self._new_block(now, event)
        if mode is not _NL and not _fits_at_once(block, event):
            if request.nowait:
                return [Refuse(NotQueued(f"{mode.name} is not granted at once"), event.client)]
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

    def _queue_new(self, now: float, block: ResourceBlock, event: Asked) -> Sequence[Effect]:
        self._sequence += 1
        lock = Lock(self._sequence, block, event, None, now)
        event.owner.locks[event.name] = lock
        self.parties.link(lock)
        if event.parent is not None:
            self._adopt(lock, event.parent)
        return self._queue(now, lock, event)

    def _adopt(self, lock: Lock, parent: Lock) -> None:
        parent.sublocks += 1
        self._children.setdefault(parent, {})[lock] = None

    # ----------------------------------------------------------- conversions

    def _convert(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        request = event.request
        held = lock.granted
        if lock.wanted is not None or held is None:
            return [Refuse(RequestPending("a request still waits here"), event.client)]
        if request.quecvt or request.invalidate or request.value is not None:
            error = judge_conversion(request, held)
            if error is not None:
                return [Refuse(error, event.client)]
        mode = request.mode
        block = lock.rsb
        if (block.counts - UNIT[held]) & BLOCKING[mode] or (
            request.quecvt and block.wants and _must_queue(block, event)
        ):
            if request.nowait:
                why = f"{held.name} to {mode.name} is not granted at once"
                return [Refuse(NotQueued(why), event.client)]
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
        if event.party is not lock.party:
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

    def _change_mode(self, lock: Lock, held: Mode, mode: Mode) -> None:
        lock.rsb.counts += UNIT[mode] - UNIT[held]
        lock.granted = mode
        self._sequence = lock.number = self._sequence + 1

    def _granted_past_waiters(self, now: float, lock: Lock, held: Mode) -> Effects:
        """A lock was granted at once while requests wait: it may have made way for some and
        may stand in the way of others."""
        effects: Effects = [Grant(lock, True)]
        assert lock.granted is not None
        self._sweep(now, lock.rsb, effects)
        self._notify_holder(lock, effects)
        if INCOMPATIBLE_MASK[lock.granted] & ~INCOMPATIBLE_MASK[held]:
            self._break_deadlocks(now, lock.party, effects)
        return effects

    # ------------------------------------------------------------- the queue

    def _queue(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        """The request waits. If that closes a cycle whose youngest it is, it is refused at once
        and nothing has changed."""
        block = lock.rsb
        if event.place is None:
            self._ticket += 1
            lock.place = self._ticket
        else:
            lock.place = event.place
        lock.wanted = event.request.mode
        lock.waiter = event.party if event.waiter is None else event.waiter
        block.queue_of(lock).insert(lock)
        block.wants += UNIT[lock.wanted]
        self.parties.wait(lock)
        cycle = self.search.through_request(lock)
        if cycle is None and not self.parties.plain:
            # those behind it wait for its party, which may wait elsewhere
            cycle = self.search.through_party(lock.party)
        if cycle is not None and _victim(cycle) is lock:
            found, error = _describe(cycle)
            self._take_back(lock)
            return [found, Refuse(error, event.client)]
        effects: Effects = [Queue(lock)]
        if block.listening:
            self._notify_holders(lock, effects)
        if cycle is not None:
            self._break_deadlocks(now, lock, effects)
            self._break_deadlocks(now, lock.party, effects)
        return effects

    def _leave_queue(self, lock: Lock) -> None:
        """The request on this lock no longer waits; it stands in no queue."""
        wanted = lock.wanted
        assert wanted is not None
        block = lock.rsb
        block.queue_of(lock).remove(lock)
        block.wants -= UNIT[wanted]
        self.parties.unwait(lock)
        lock.wanted = None

    def _take_back(self, lock: Lock) -> bool:
        """Withdraw the waiting request: a new lock goes away (True), a conversion keeps its
        granted mode and what was asked with it (9.5)."""
        self._leave_queue(lock)
        if lock.granted is None:
            self._forget(lock)
            return True
        assert lock.kept is not None
        lock.request, lock.client, party, lock.since = lock.kept
        lock.kept = None
        self.parties.move(lock, party)
        lock.rsb.append(lock)
        if lock.request.notify:
            lock.rsb.listening = True
        return False

    def _sweep(self, now: float, block: ResourceBlock, effects: Effects) -> None:
        """Grant what can be granted: CONVERTING in order until one does not fit and, only if
        none is left there, WAITING in order until one does not fit (9.3.4)."""
        granted: list[Lock] = []
        while (lock := block.converting.first) is not None:
            assert lock.wanted is not None and lock.granted is not None
            if (block.counts - UNIT[lock.granted]) & BLOCKING[lock.wanted]:
                break
            self._grant_waiting(now, lock)
            granted.append(lock)
        if block.converting.first is None:
            while (lock := block.waiting.first) is not None:
                assert lock.wanted is not None
                if block.counts & BLOCKING[lock.wanted]:
                    break
                self._grant_waiting(now, lock)
                granted.append(lock)
        for lock in granted:
            effects.append(Grant(lock, False))
        for lock in granted:
            self._notify_holder(lock, effects)

    def _grant_waiting(self, now: float, lock: Lock) -> None:
        block, held, mode = lock.rsb, lock.granted, lock.wanted
        assert mode is not None
        self._leave_queue(lock)
        if held is None:
            block.counts += UNIT[mode]
            lock.granted = mode
            self._sequence = lock.number = self._sequence + 1
        elif mode is not held:
            self._change_mode(lock, held, mode)
        block.append(lock)
        lock.kept = None
        lock.since = now
        lock.notified = False
        if lock.request.notify:
            block.listening = True

    # ----------------------------------------------------------- value block

    def _store(self, now: float, block: ResourceBlock, value: bytes) -> None:
        self._sequence = block.valseq = self._sequence + 1
        block.value = value
        block.valid = True
        block.value_at = now

    def _invalidate(self, block: ResourceBlock) -> None:
        self._sequence = block.valseq = self._sequence + 1
        block.valid = False

    # ---------------------------------------------------------- notification

    def _notify_holder(self, lock: Lock, effects: Effects) -> None:
        """The lock has just been granted; tell its holder if requests wait for it (9.6.3)."""
        if lock.request.notify and not lock.notified:
            blocked = lock.rsb.blocks(lock)
            if blocked is not None:
                self._notify(lock, blocked, effects)

    def _notify_holders(self, waiting: Lock, effects: Effects) -> None:
        """A request has just been queued; tell the holders that stand in its way."""
        block = waiting.rsb
        assert waiting.wanted is not None
        mask = INCOMPATIBLE_MASK[waiting.wanted]
        block.listening = False
        for holder in block.holders():
            if not holder.request.notify or holder.notified or holder.granted is None:
                continue
            if holder is not waiting and mask >> holder.granted & 1:
                self._notify(holder, waiting, effects)
            else:
                block.listening = True

    def _notify(self, holder: Lock, blocked: Lock, effects: Effects) -> None:
        assert blocked.wanted is not None
        holder.notified = True
        effects.append(Notify(holder, blocked.wanted, blocked.request.hint))

    # -------------------------------------------------------------- releases

    def _unlock(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        request = event.request
        if lock.sublocks:
            return [Refuse(HasSublocks(f"{lock.sublocks} sublocks are below it"), event.client)]
        if request.value is not None or request.invalidate:
            error = judge_release(request, lock.granted)
            if error is not None:
                return [Refuse(error, event.client)]
        block = lock.rsb
        if block.size == 1 and not block.wants:
            return self._unlock_last(lock, block, request)
        effects: Effects = [Done(request)]
        if request.value is not None:
            self._store(now, block, request.value)
        elif request.invalidate:
            self._invalidate(block)
        if lock.wanted is not None:
            effects.append(Refuse(Cancelled("the lock was released"), lock.client, lock))
        self._remove(lock, False, effects)
        self._settle(now, block, effects)
        return effects

    def _unlock_last(self, lock: Lock, block: ResourceBlock, request: Request) -> Sequence[Effect]:
        """Nobody else is here: the block ends with the lock, and with it its value."""
        mode = lock.granted
        name = block.name
        del self.blocks[name]
        block.first = block.last = None
        block.size = block.counts = 0
        self._forget(lock)
        return [Done(request), Released(lock, mode, False), BlockEnded(name)]

    def _unlock_all(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        """Release all sublocks; the lock itself stays (Table 9-4)."""
        error = judge_release(event.request, None)
        if error is not None:
            return [Refuse(error, event.client)]
        effects: Effects = [Done(event.request)]
        below = self._below(lock)
        below.pop()
        self._remove_all(now, below, None, False, effects)
        return effects

    def _cancel(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        error = judge_release(event.request, None)
        if error is None and lock.wanted is None:
            error = NotHeld("no request waits here")
        if error is not None:
            return [Refuse(error, event.client)]
        effects: Effects = [
            Done(event.request),
            Refuse(Cancelled("CANCEL took the request away"), lock.client, lock),
        ]
        self._withdraw(now, lock, effects)
        return effects

    def _withdrew(self, now: float, event: Withdrew) -> Sequence[Effect]:
        effects: Effects = []
        if event.lock.wanted is not None:
            self._withdraw(now, event.lock, effects)
        return effects

    def _withdraw(self, now: float, lock: Lock, effects: Effects) -> None:
        party = lock.party
        if self._take_back(lock):
            effects.append(Released(lock, None, False))
        self._settle(now, lock.rsb, effects)
        self._notify_holder(lock, effects)
        if lock.party != party:  # what it holds is in other hands again
            self._break_deadlocks(now, lock.party, effects)

    def _owner_ended(self, now: float, event: OwnerEnded) -> Sequence[Effect]:
        doomed: dict[Lock, None] = {}
        for lock in event.owner.locks.values():
            if lock not in doomed:
                doomed.update(dict.fromkeys(self._below(lock)) if lock.sublocks else {lock: None})
        effects: Effects = []
        self._remove_all(now, list(doomed), event.owner, event.abnormal, effects)
        return effects

    def _below(self, lock: Lock) -> list[Lock]:
        """The lock and everything below it, sublocks before their parents."""
        found = [lock]
        for above in found:
            if above.sublocks:
                found.extend(self._children[above])
        found.reverse()
        return found

    def _remove_all(
        self, now: float, locks: list[Lock], ended: Owner | None, abnormal: bool, effects: Effects
    ) -> None:
        """Remove these locks, and only then grant what that has made way for; requests that
        wait are answered unless their owner is the one that ended."""
        blocks: dict[ResourceBlock, None] = {}
        for lock in locks:
            if lock.wanted is not None and lock.owner is not ended:
                error = Cancelled("the lock above it was released")
                effects.append(Refuse(error, lock.client, lock))
            mode = lock.granted
            if abnormal and mode is not None and PROTECTED_WRITE_OR_MORE >> mode & 1:
                self._invalidate(lock.rsb)
            self._remove(lock, abnormal, effects)
            blocks[lock.rsb] = None
        for block in blocks:
            self._settle(now, block, effects)

    def _remove(self, lock: Lock, abnormal: bool, effects: Effects) -> None:
        """Take the lock out of whatever queue it is in; nothing is granted yet."""
        block, mode = lock.rsb, lock.granted
        if lock.wanted is not None:
            self._leave_queue(lock)
            lock.kept = None
        else:
            block.remove(lock)
        if mode is not None:
            block.counts -= UNIT[mode]
        self._forget(lock)
        effects.append(Released(lock, mode, abnormal))

    def _forget(self, lock: Lock) -> None:
        """The lock, already in no queue, belongs to nobody and nothing any more."""
        lock.granted = None
        del lock.owner.locks[lock.rsb.name]
        self.parties.unlink(lock)
        parent = lock.parent
        if parent is not None:
            parent.sublocks -= 1
            if parent.sublocks:
                del self._children[parent][lock]
            else:
                del self._children[parent]

    def _settle(self, now: float, block: ResourceBlock, effects: Effects) -> None:
        """After a removal: grant what can be granted, or end the block with its last lock."""
        if block.wants:
            self._sweep(now, block, effects)
        elif not block.counts:
            del self.blocks[block.name]
            effects.append(BlockEnded(block.name))

    # -------------------------------------------------------------- deadlock

    def _party_changed(self, now: float, event: PartyChanged) -> Sequence[Effect]:
        effects: Effects = []
        self.parties.set_members(event.party, event.members)
        self._break_deadlocks(now, event.party, effects)
        return effects

    def _break_deadlocks(self, now: float, start: Any, effects: Effects) -> None:
        """Refuse the youngest request of every cycle through this waiting lock or this party."""
        search = self.search.through_request if type(start) is Lock else self.search.through_party
        while (cycle := search(start)) is not None:
            found, error = _describe(cycle)
            victim = found.victim
            effects.append(found)
            effects.append(Refuse(error, victim.client, victim))
            self._withdraw(now, victim, effects)


def _fits_at_once(block: ResourceBlock, event: Asked) -> bool:
    """Compatible with everything granted, and nobody waits (9.3.3) but those behind the place
    that the request takes again."""
    if block.counts & BLOCKING[event.request.mode]:
        return False
    if not block.wants:
        return True
    first = block.waiting.first
    if block.converting.first is not None or first is None:
        return False
    return event.place is not None and event.place < first.place


def _must_queue(block: ResourceBlock, event: Asked) -> bool:
    """QUECVT waits behind conversions that are queued already (9.6.4.2)."""
    first = block.converting.first
    return first is not None and (event.place is None or event.place > first.place)


def _victim(cycle: list[Lock]) -> Lock:
    """The youngest request that waits in the cycle; granted locks are never revoked (9.3.5)."""
    waiting = [lock for lock in cycle if lock.wanted is not None and not lock.request.nodeadlock]
    return max(waiting, key=lambda lock: lock.place)


def _describe(cycle: list[Lock]) -> tuple[Cycle, RequestError]:
    modes = tuple((lock.granted, lock.wanted) for lock in cycle)
    found = Cycle(tuple(cycle), _victim(cycle), kind_of(cycle), modes)
    said = ", ".join(names(lock) for lock in cycle)
    return found, Deadlock(f"a deadlock, and this is the youngest request in it: {said}")
