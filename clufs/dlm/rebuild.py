"""The new master's side of a recovery: resource blocks made anew from what their homes know.

All homes have spoken before anything is built. Requests that were on their way to the lost
master follow, in the order of their homes: first those take effect that give something up or
take their places in a queue again, while nothing is granted; only then is granted what fits.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from msgspec.structs import replace

from clufs.dlm.directory import root_of
from clufs.dlm.grants import Effects
from clufs.dlm.guests import Guest, lock_of
from clufs.dlm.homes import Homes, Names
from clufs.dlm.interface import Asked, BlockEnded, Done, Effect, Queue, Refuse, Request, Send, Verb
from clufs.dlm.lock import Lock
from clufs.dlm.messages import (
    Ask,
    BlockCopies,
    Copies,
    Finished,
    HeldCopy,
    Id,
    Withdraw,
    Withdrawn,
)
from clufs.dlm.modes import INCOMPATIBLE_MASK, Mode, lowers
from clufs.dlm.ranges import exclude
from clufs.dlm.remote import Copy, Open, RemoteBlock
from clufs.dlm.rsb import UNIT, ResourceBlock
from clufs.dlm.seeking import become_lock
from clufs.errors import Cancelled, NotHeld
from clufs.limits import SEQUENCE_COUNT_BITS

_Undecided = Ask | Open
"""A `nowait` request, of another member or of this one: it waits until all others have theirs."""


@dataclass(slots=True)
class Collected:
    """What homes have told about one tree: copies, and then requests that are to be asked again.

    known: the blocks that there were, where their master has said so.
    """

    parts: list[BlockCopies] = field(default_factory=list)
    again: list[Ask | Withdraw] = field(default_factory=list)
    known: frozenset[bytes] | None = None


class Told:
    """What all homes together say of one resource block."""

    __slots__ = ("_final", "_locks", "blocked", "is_proven", "valid", "valseq", "value")

    def __init__(self) -> None:
        self.blocked = 0
        self.is_proven = False
        self.value, self.valid, self.valseq = b"", False, -1
        self._final: BlockCopies | None = None
        self._locks: set[Id] = set()

    def add(self, part: BlockCopies) -> None:
        """A lock above CR that its home has surely kept proves the value that it was told: nobody
        can have written since. Else the highest VALSEQ is the best guess."""
        proves = False
        if part.is_final and (self._final is None or part.writer is None):
            self._final = part  # a home knows of its own lock that it wrote nothing
        for copy in part.locks:
            self._locks.add(copy.lock)
            if copy.request.ranges is None:
                self.blocked |= INCOMPATIBLE_MASK[copy.least]
            proves = proves or copy.least > Mode.CR
        if (proves, part.valseq) > (self.is_proven, self.valseq):
            self.is_proven = proves
            self.value, self.valid, self.valseq = part.value, part.valid, part.valseq

    def conclude(self) -> None:
        """A leaving master's last word proves its value, too, unless the lock that could still write
        it is gone: what it has written, if anything, nobody here knows."""
        final = self._final
        if final is None or (final.writer is not None and final.writer not in self._locks):
            return
        if (True, final.valseq) > (self.is_proven, self.valseq) or not self.is_proven:
            self.is_proven = True
            self.value, self.valid, self.valseq = final.value, final.valid, final.valseq

    def highest(self) -> Mode:
        """The highest mode in which another may have held the block, or other bytes of it, too."""
        return max(mode for mode in Mode if not self.blocked >> mode & 1)


@dataclass(slots=True)
class Building:
    """What one building has at hand.

    opened: what was asked here on locks of these trees, and in which order. undecided: requests that must be granted at
    once or not at all. withdrawn: their conversions may have been granted by the lost master.
    replays: what waited for the release of a lock.
    """

    blocks: dict[bytes, ResourceBlock] = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    opened: list[tuple[tuple[Id, bool], Open]] = field(default_factory=list)
    undecided: list[_Undecided] = field(default_factory=list)
    withdrawn: list[Withdraw] = field(default_factory=list)
    withdrawn_here: list[tuple[Lock, Withdraw]] = field(default_factory=list)
    replays: list[Asked] = field(default_factory=list)


class Rebuild(Homes, abc.ABC):
    """Collects what homes tell, and builds, tree by tree.

    _unbuilt: the trees that are to be built, in their order; nobody else can make them.
    """

    __slots__ = ("_building", "_collected", "_unbuilt")

    def __init__(self, member: str, view: int, incarnation: int) -> None:
        super().__init__(member, view, incarnation)
        self._collected: dict[bytes, Collected] = {}
        self._unbuilt: dict[bytes, None] = {}
        self._building: Building | None = None

    def _end_block(self, name: bytes) -> None:
        if self._building is None:  # what is asked again may need it
            super()._end_block(name)

    def _block_for(self, now: float, name: bytes) -> ResourceBlock:
        block = super()._block_for(now, name)
        if self._building is not None:
            self._building.blocks[name] = block
        return block

    # ------------------------------------------------------------- collecting

    def _on_copies(self, now: float, sender: str, message: Copies) -> Sequence[Effect]:
        roots = set()
        for part in message.blocks:
            root = root_of(part.name)
            roots.add(root)
            self._collected.setdefault(root, Collected()).parts.append(part)
        # What these homes have asked before is asked again if it still counts.
        self._held = [
            (home, held)
            for home, held in self._held
            if home != sender or not isinstance(held, Ask) or root_of(held.name) not in roots
        ]
        for root in roots & self._seeking.keys():
            self._seeking[root] = [
                found
                for found in self._seeking[root]
                if not isinstance(found, Ask) or found.id.member != sender
            ]
        return []

    def _on_again(self, message: Ask | Withdraw) -> Sequence[Effect]:
        self._collected.setdefault(root_of(message.name), Collected()).again.append(message)
        return []

    # --------------------------------------------------------------- building

    def _next_to_build(self) -> list[bytes]:
        """As many trees as one step may build."""
        roots = []
        for root in self._unbuilt:
            collected, own = self._collected.get(root), self.copies.get(root)
            parts = () if collected is None else collected.parts
            self._spent += 1 + sum(len(part.locks) for part in parts)
            self._spent += 0 if own is None else own.size
            roots.append(root)
            if not self._has_time():
                break
        return roots

    def _build(self, now: float, roots: Iterable[bytes]) -> tuple[Effects, int, int]:
        """Build these trees and go on with them; how many blocks and locks there were."""
        built = {root: self._collected.pop(root, Collected()) for root in roots}
        building = Building()
        shared, self._shared = self._shared, True  # blocks end in the usual way: not yet
        self._frozen, self._building = True, building
        for root, collected in built.items():
            self._build_tree(now, root, collected, building)
        locks = sum(block.size for block in building.blocks.values())
        counts = len(building.blocks), locks
        effects: Effects = []
        again = [message for collected in built.values() for message in collected.again]
        again = [self._without_old_value(message) for message in again]
        for _, found in building.opened:
            self._forget_old_value(found)
        for message in again:
            effects += self._ask_again(now, message, building)
        for _, found in sorted(building.opened, key=itemgetter(0)):
            effects += self._ask_here(now, found, building)
        for withdraw in building.withdrawn:
            effects += self._withdraw_again(withdraw)
        for lock, withdraw in building.withdrawn_here:
            self._keep_granted(lock, withdraw)
        self._doubtful.clear()
        self._building = None
        self._shared = shared
        effects = [effect for effect in effects if not _is_past(effect)]
        effects += self._thaw(now, building.blocks.values())
        for undecided in building.undecided:
            effects += self._decide(now, undecided)
        effects += self._replay(now, building.replays)
        for block in building.blocks.values():
            if self.blocks.get(block.name) is block:
                self._settle(now, block, effects)
        for root in built:
            self._unsettled.pop(root, None)
        return effects, *counts

    def _build_tree(
        self, now: float, root: bytes, collected: Collected, building: Building
    ) -> None:
        assert root not in self.blocks, "a tree that is mastered here is not rebuilt"
        blocks = building.blocks
        mine = self.copies.get(root)
        own = list(self._tree(root)) if mine is not None and mine.master == self.member else []
        told: dict[bytes, Told] = {}
        for part in collected.parts:
            told.setdefault(part.name, Told()).add(part)
        for copies in own:
            part = self._tell_copies(now, copies, building.names)
            told.setdefault(copies.name, Told()).add(part)
        for name, value in told.items():
            value.conclude()
            if collected.known is None or name in collected.known:
                blocks[name] = self._new_value(now, name, value)
            else:
                blocks[name] = self._block_for(now, name)  # only asked for: there is no value yet
        for part in collected.parts:
            for copy in part.locks:
                self._build_guest(now, blocks[part.name], copy)
        for copies in own:
            self._move_in(copies, blocks[copies.name], building)
        for message in collected.again:
            if isinstance(message, Ask) and message.place is not None:
                self._ticket = max(self._ticket, message.place)

    def _new_value(self, now: float, name: bytes, told: Told) -> ResourceBlock:
        block = self._block_for(now, name)
        block.value = told.value
        if told.is_proven:
            # Above all that another master may have given it in views that those here have missed.
            block.valid = told.valid
            block.valseq = max(told.valseq, self.view << SEQUENCE_COUNT_BITS)
        else:
            self._invalidate(block)
            self._doubtful.add(name)
        self._haunt(now, block, told.highest(), self.lost)
        return block

    def _build_guest(self, now: float, block: ResourceBlock, copy: HeldCopy) -> None:
        guest = self.guests[copy.lock] = Guest(copy.lock, copy.pid, copy.command)
        parent = None if copy.parent is None else lock_of(self.guests[copy.parent])
        asked = Asked(
            guest, block.name, copy.request, party=copy.party, client=copy.lock, parent=parent
        )
        lock = Lock(copy.number, block, asked, copy.granted, now - copy.age_ms / 1000)
        lock.notified = copy.notified
        guest.locks[block.name] = lock
        self.parties.link(lock)
        if parent is not None:
            self._adopt(lock, parent)
        self._stand(lock, block)

    def _stand(self, lock: Lock, block: ResourceBlock) -> None:
        """Put the granted lock into the block."""
        assert lock.granted is not None
        block.append(lock)
        block.counts += UNIT[lock.granted]
        if lock.request.notify:
            block.listening = True

    def _move_in(self, copies: RemoteBlock, block: ResourceBlock, building: Building) -> None:
        """This member's own locks: granted ones stand in the new block as the same locks; what
        they wait for is asked again."""
        for copy in list(copies.converting):
            assert isinstance(copy, Copy)
            self._put_back(copy)
        for copy in [*copies.granted, *copies.waiting]:
            assert isinstance(copy, Copy)
            granted, opened = copy.granted, self._open_on[copy]
            if granted is None and not any(map(self._is_lock_request, opened)):
                continue  # it was not sent yet, or turned away: its master is being sought
            self._ticket = max(self._ticket, copy.place)
            order = [(self._order_of(self._open[id]), self._open[id]) for id in opened]
            self._take_out(copy)
            for _, found in order:
                found.lock = copy
            building.opened += order
            lock = become_lock(copy)
            lock.rsb = block
            if granted is not None:
                self._stand(lock, block)

    # ------------------------------------------------------- asked once more

    def _without_old_value(self, message: Ask | Withdraw) -> Ask | Withdraw:
        guest = self.guests.get(message.lock)
        if isinstance(message, Withdraw) or guest is None:
            return message
        if not self._has_written(lock_of(guest), message.request):
            return message
        return replace(message, request=replace(message.request, value=None, invalidate=False))

    def _forget_old_value(self, found: Open) -> None:
        """The same for what this member has asked itself."""
        event, lock = found.event, found.lock
        if event is not None and lock is not None and self._has_written(lock, event.request):
            event.request = replace(event.request, value=None, invalidate=False)

    def _has_written(self, lock: Lock, request: Request) -> bool:
        """Whether the lost master let this take effect: else it would not have granted to others what
        does not go with the mode that is given up. They know the value, or a newer one."""
        if request.value is None and not request.invalidate:
            return False
        return lock.granted is not None and self._clashes(lock, lock.granted)

    def _ask_again(
        self, now: float, message: Ask | Withdraw, building: Building
    ) -> Sequence[Effect]:
        guest = self.guests.get(message.lock)
        if isinstance(message, Withdraw):
            building.withdrawn.append(message)
            return []
        held = None if guest is None else lock_of(guest).granted
        if _must_fit(message.request, held):
            building.undecided.append(message)
            return []
        return self._serve(now, message)

    def _ask_here(self, now: float, found: Open, building: Building) -> Sequence[Effect]:
        """The same for what this member has asked itself."""
        del self._open[found.message.id]
        lock, event = found.lock, found.event
        if event is None:
            if lock is not None and isinstance(found.message, Withdraw):
                building.withdrawn_here.append((lock, found.message))
            return []
        if lock is None or event.owner.locks.get(event.name) is not lock:
            if lock is not None:
                building.replays += self._releasing.pop(lock, [])
            return [Refuse(NotHeld("the lock was released before"), event.client)]
        if lock.queue == "GONE" and event.request.verb in (Verb.UNLOCK, Verb.CANCEL):
            return self._ended_undecided(lock, event, building)
        if event.request.verb is Verb.UNLOCK:
            building.replays += self._releasing.pop(lock, [])
            return self._unlock(now, lock, event)
        if event.request.verb is Verb.UNLOCK_ALL:
            return self._unlock_all(now, lock, event)
        if event.request.verb is Verb.CANCEL:
            return self._cancel(now, lock, event)
        if _must_fit(event.request, lock.granted):
            building.undecided.append(found)
            return []
        event.place = lock.place or event.place
        effects = self._admit_or_convert(now, lock, event)
        if found.queued:
            effects = [effect for effect in effects if type(effect) is not Queue]
        return effects

    def _ended_undecided(self, lock: Copy, event: Asked, building: Building) -> Sequence[Effect]:
        """A release or cancel finds a new lock that was to be granted at once or not at all."""
        mine = [found for found in building.undecided if isinstance(found, Open)]
        first = next(found for found in mine if found.lock is lock)
        building.undecided.remove(first)
        building.replays += self._releasing.pop(lock, [])
        assert first.event is not None
        self._forget(lock)
        done = Done(event.request, event.client)
        return [done, Refuse(Cancelled("the request was given up"), first.event.client)]

    def _admit_or_convert(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        if lock.granted is not None:
            return self._convert(now, lock, event)
        return self._told(self._admit(now, lock, event))

    def _decide(self, now: float, undecided: _Undecided) -> Sequence[Effect]:
        if isinstance(undecided, Ask):
            return self._serve(now, undecided)
        lock, event = undecided.lock, undecided.event
        assert event is not None
        if lock is None or event.owner.locks.get(event.name) is not lock:
            return [Refuse(NotHeld("the lock was released before"), event.client)]
        return self._admit_or_convert(now, lock, event)

    def _withdraw_again(self, message: Withdraw) -> Sequence[Effect]:
        guest = self.guests.get(message.lock)
        answer: Finished | Withdrawn = Finished(self.view, message.id)
        if guest is not None:
            lock = lock_of(guest)
            self._keep_granted(lock, message)
            if lock.granted is not None:
                answer = Withdrawn(self.view, message.id, lock.granted, lock.number)
        return [Send(message.id.member, answer)]

    def _keep_granted(self, lock: Lock, message: Withdraw) -> None:
        """A conversion was given up. If the lost master had granted it, and to others then what
        does not go with the old mode, the lock has the new one: nobody was told that it is held."""
        held = lock.granted
        if held is not None and self._clashes(lock, held):
            self._change_mode(lock, held, message.mode)

    def _clashes(self, lock: Lock, held: Mode) -> bool:
        """Another living lock is granted that does not go with it."""
        return any(
            other is not lock
            and other.granted is not None
            and INCOMPATIBLE_MASK[held] >> other.granted & 1
            and exclude(lock.ranges, other.ranges)
            and not (isinstance(other.owner, Guest) and other.owner.life in self.phantoms)
            for other in lock.rsb.holders()
        )


def _is_past(effect: Effect) -> bool:
    """The block goes on, or the request that was queued is answered already."""
    if isinstance(effect, Queue):
        return effect.lock.queue == "GONE"
    return isinstance(effect, BlockEnded)


def _must_fit(request: Request, held: Mode | None) -> bool:
    """A `nowait` request that only others' locks can decide."""
    if request.verb is not Verb.LOCK or not request.nowait:
        return False
    return held is None or not lowers(held, request.mode)
