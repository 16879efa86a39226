"""What follows from requests: queues, grants, values, notifications, releases, broken deadlocks.

`Grants` keeps the resource blocks; which request is legal is judged before, in `Master`.
The rules are those of the Tru64 manual, chapter 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from clufs.dlm.deadlock import Search, kind_of
from clufs.dlm.interface import (
    Asked,
    BlockEnded,
    Cycle,
    Effect,
    Grant,
    Notify,
    Owner,
    Queue,
    Refuse,
    Released,
)
from clufs.dlm.judge import names
from clufs.dlm.lock import Lock
from clufs.dlm.modes import INCOMPATIBLE_MASK, PROTECTED_WRITE_OR_MORE, Mode
from clufs.dlm.parties import Parties
from clufs.dlm.ranges import Spans
from clufs.dlm.rsb import BLOCKING, UNIT, ResourceBlock
from clufs.errors import (
    Cancelled,
    Deadlock,
    RequestError,
)
from clufs.limits import SEQUENCE_COUNT_BITS

Effects = list[Effect]


class Grants:
    """The resource blocks of this member and everything that happens in their queues.

    blocks: the resource blocks by name; each exists while a lock on it does.
    """

    # Looked at on every request; an object with so many attributes as a Node finds them faster so.
    __slots__ = (
        "_children",
        "_doubtful",
        "_frozen",
        "_sequence",
        "_shared",
        "_ticket",
        "blocks",
        "parties",
        "reshaped",
        "search",
        "view",
    )

    def __init__(self, view: int) -> None:
        self.view = view
        self.blocks: dict[bytes, ResourceBlock] = {}
        self.parties = Parties()
        self.search = Search(self.parties)
        self._sequence = view << SEQUENCE_COUNT_BITS
        self._ticket = 0
        self._children: dict[Lock, dict[Lock, None]] = {}
        self._shared = False  # a name without a block here may be known elsewhere
        self._frozen = False  # nothing more is granted, and no deadlock looked for
        self._doubtful: set[bytes] = set()  # what is stored there now may not be the newest value
        self.reshaped = False  # who waits for whom has changed other than by a new wait

    # ------------------------------------------------------------ the queues

    def _told(self, effects: Effects) -> Effects:
        """What is to be done about effects on locks whose owners may be at other members."""
        return effects

    def _adopt(self, lock: Lock, parent: Lock) -> None:
        parent.sublocks += 1
        self._children.setdefault(parent, {})[lock] = None

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
        return self._told(effects)

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
        cycle = None if self._frozen else self._closed_by(lock)
        if cycle is not None and _victim(cycle) is lock:
            found, error = _describe(cycle)
            self._take_back(lock)
            return self._told([*self._found(found), Refuse(error, event.client)])
        effects: Effects = [Queue(lock)]
        if block.listening:
            self._notify_holders(lock, effects)
        if cycle is not None:
            self._break_deadlocks(now, lock, effects)
            self._break_deadlocks(now, lock.party, effects)
        return self._told(effects)

    def _closed_by(self, lock: Lock) -> list[Lock] | None:
        """The cycle that this request, which has just been queued, has closed."""
        cycle = self.search.through_request(lock)
        if cycle is None and (lock.after or lock.granted is not None) and not self.parties.plain:
            # Those behind it wait for its party, which may wait elsewhere.
            cycle = self.search.through_party(lock.party)
        return cycle

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
        if self._frozen:
            return
        first = block.converting.first or block.waiting.first
        if first is not None and first.request.ranges is not None:
            granted = self._grant_ranges(now, block)
        else:
            granted = self._grant_in_order(now, block)
        for lock in granted:
            effects.append(Grant(lock, False))
        for lock in granted:
            self._notify_holder(lock, effects)
        if first is not None and first.request.ranges is not None and block.wants:
            for lock in granted:  # those who wait had not waited for it, wherever they stand
                self._break_deadlocks(now, lock.party, effects)

    def _grant_in_order(self, now: float, block: ResourceBlock) -> list[Lock]:
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
        return granted

    def _grant_ranges(self, now: float, block: ResourceBlock) -> list[Lock]:
        """Of requests for ranges, each that fits: nobody waits for those ahead. A crowd that waits for the
        same bytes is looked at once."""
        granted: list[Lock] = []
        refused: dict[tuple[Mode, Spans], str] = {}
        for lock in list(block.queued()):
            ranges = lock.request.ranges
            assert lock.wanted is not None and ranges is not None
            if refused.get((lock.wanted, ranges.spans), ranges.side) != ranges.side:
                continue
            holder = next(block.in_the_way(lock.request, lock), None)
            if holder is None:
                self._grant_waiting(now, lock)
                granted.append(lock)
            elif holder.ranges is not None:
                refused[lock.wanted, ranges.spans] = holder.ranges.side
        return granted

    def _thaw(self, now: float, blocks: Iterable[ResourceBlock]) -> Effects:
        """Grant what could be granted meanwhile, then break the deadlocks that have formed."""
        self._frozen = False
        effects: Effects = []
        contended = [block for block in blocks if block.wants]
        for block in contended:
            for lock in [lock for lock in block.waiting if lock.wanted is Mode.NL]:
                self._grant_waiting(now, lock)  # it waits for nobody, wherever it stands
                effects.append(Grant(lock, False))
            self._sweep(now, block, effects)
        for block in contended:
            for lock in list(block.queued()):
                if lock.wanted is not None:
                    self._break_deadlocks(now, lock, effects)
        return self._told(effects)

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
        block.valid = block.name not in self._doubtful
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

    # -------------------------------------------------------------- removals

    def _withdraw(self, now: float, lock: Lock, effects: Effects) -> None:
        party = lock.party
        if self._take_back(lock):
            effects.append(Released(lock, None, False))
        self._settle(now, lock.rsb, effects)
        self._notify_holder(lock, effects)
        if lock.party != party:  # what it holds is in other hands again
            self._break_deadlocks(now, lock.party, effects)

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
        elif mode is not None:  # else it has not been asked again yet
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
            self._end_block(block.name)
            effects.append(BlockEnded(block.name))

    def _end_block(self, name: bytes) -> None:
        del self.blocks[name]

    # -------------------------------------------------------------- deadlock

    def _found(self, cycle: Cycle) -> Effects:
        """Who is told of a deadlock that is being broken."""
        return [cycle]

    def _break_deadlocks(self, now: float, start: Any, effects: Effects) -> None:
        """Refuse the youngest request of every cycle through this waiting lock or this party."""
        self.reshaped = True
        if self._frozen:
            return
        search = self.search.through_request if type(start) is Lock else self.search.through_party
        while (cycle := search(start)) is not None:
            found, error = _describe(cycle)
            victim = found.victim
            effects += self._found(found)
            effects += self._refuse_waiting(now, victim, error)

    def _refuse_waiting(self, now: float, lock: Lock, error: RequestError) -> Effects:
        effects: Effects = [Refuse(error, lock.client, lock)]
        self._withdraw(now, lock, effects)
        return effects

    def refuse_waiting(self, now: float, lock: Lock, error: RequestError) -> Effects:
        """The request that waits on this lock ends so."""
        return self._told(self._refuse_waiting(now, lock, error))


def _victim(cycle: list[Lock]) -> Lock:
    """The youngest request that waits in the cycle; granted locks are never revoked (9.3.5)."""
    waiting = [lock for lock in cycle if lock.wanted is not None and not lock.request.nodeadlock]
    return max(waiting, key=lambda lock: lock.place)


def _describe(cycle: list[Lock]) -> tuple[Cycle, RequestError]:
    modes = tuple((lock.granted, lock.wanted) for lock in cycle)
    found = Cycle(tuple(cycle), _victim(cycle), kind_of(cycle), modes)
    said = ", ".join(names(lock) for lock in cycle)
    return found, Deadlock(f"a deadlock, and this is the youngest request in it: {said}")
