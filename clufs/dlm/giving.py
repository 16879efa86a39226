"""A master takes a tree of locks apart, to give it to another: its own locks become copies."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable

from clufs.dlm.guests import Guest
from clufs.dlm.interface import Asked
from clufs.dlm.leaving import Leaver
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Ask, Id, LastWord
from clufs.dlm.modes import PROTECTED_WRITE_OR_MORE
from clufs.dlm.remote import Copy, Open, RemoteBlock
from clufs.dlm.rsb import UNIT, ResourceBlock
from clufs.limits import COPIES_MESSAGE_BYTES, REMASTER_LOCKS_MAX

_SPAN_BYTES = 20
"""Two numbers of nine bytes at most, and what is around them."""


class Giver(Leaver, abc.ABC):
    """Looks at trees that are mastered here, and takes them apart."""

    __slots__ = ()

    def _small_tree(self, root: bytes) -> list[ResourceBlock] | None:
        """The blocks of this tree, parents first; None if it is too large to move."""
        blocks = {self.blocks[root]: None}
        found = list(blocks)
        locks = size = 0
        for block in found:
            locks += block.size + len(block.converting) + len(block.waiting)
            if locks > REMASTER_LOCKS_MAX:
                return None
            here = _all_locks(block)
            spans = sum(len(lock.ranges.spans) for lock in here if lock.ranges is not None)
            size += len(block.name) + len(block.value) + _SPAN_BYTES * spans
            if size > COPIES_MESSAGE_BYTES:
                return None
            above = (lock for lock in here if lock.sublocks)
            for below in (child.rsb for lock in above for child in self._children[lock]):
                if below not in blocks:
                    blocks[below] = None
                    found.append(below)
        return found

    def _homes(self, blocks: Iterable[ResourceBlock]) -> list[str]:
        """The members that have locks there."""
        homes = set()
        for block in blocks:
            for lock in _all_locks(block):
                homes.add(lock.owner.member if type(lock.owner) is Guest else self.member)
        return sorted(homes)

    def _take_apart(
        self, now: float, root: bytes, blocks: Iterable[ResourceBlock], master: str
    ) -> None:
        """Nothing of this tree is mastered here any more; this member's own locks are copies, and
        what they wait for has been asked of the new master."""
        for block in blocks:
            del self.blocks[block.name]
            here = RemoteBlock(block.name, block.created_at, master)
            here.value, here.valid, here.valseq = block.value, block.valid, block.valseq
            here.value_at = block.value_at
            here.writer = last_word(block, self.lock_id).writer
            here.is_final = True
            for lock in _all_locks(block):
                if type(lock.owner) is Guest:
                    self._forget_guest(lock, lock.owner)
                else:
                    self._become_copy(lock, here, root, master)
            if here.counts or here.wants:
                self.copies[block.name] = here

    def _forget_guest(self, lock: Lock, guest: Guest) -> None:
        if lock.wanted is not None:
            self.parties.unwait(lock)
        self.parties.unlink(lock)
        self._children.pop(lock, None)
        lock.granted = lock.wanted = None
        guest.locks.clear()
        self.guests.pop(guest.id, None)

    def _become_copy(self, lock: Lock, block: RemoteBlock, root: bytes, master: str) -> None:
        """The same lock, mastered elsewhere from now on: whoever refers to it need not know."""
        wanted, waiter = lock.wanted, lock.waiter
        if wanted is not None:
            self.parties.unwait(lock)
        lock.__class__ = Copy
        assert isinstance(lock, Copy)
        copy: Copy = lock
        copy.rsb = block
        self._by_id[self.lock_id(copy)] = copy
        self._open_on[copy] = {}
        if copy.granted is not None:
            block.counts += UNIT[copy.granted]
        if wanted is None:
            block.append(copy)
            return
        copy.waiter = waiter
        block.queue_of(copy).insert(copy)
        block.wants += UNIT[wanted]
        self._open_here(copy, root, master)

    def _open_here(self, copy: Copy, root: bytes, master: str) -> None:
        """What waits here waits for an answer from elsewhere."""
        name, new = copy.rsb.name, copy.granted is None
        event = Asked(
            copy.owner,
            name,
            copy.request,
            copy.party,
            copy.client,
            copy.parent,
            copy.place,
            copy.waiter,
        )
        id = self._id()
        message = Ask(
            self.view,
            id,
            self.lock_id(copy),
            name,
            copy.request,
            new,
            None if copy.parent is None else self.lock_id(copy.parent),
            copy.place,
            copy.owner.pid if new else 0,
            copy.owner.command if new else "-",
            *self.names.of_lock(copy),
        )
        self._open[id] = Open(message, master, root, copy, event, True, True)
        self._open_on[copy][id] = None


def _all_locks(block: ResourceBlock) -> list[Lock]:
    return [*block.each(), *block.converting, *block.waiting]


def last_word(block: ResourceBlock, own: Callable[[Lock], Id]) -> LastWord:
    """The value block as its master leaves it. own: how others name a lock of this member."""
    writer = None
    for lock in block.holders():
        if lock.granted is not None and PROTECTED_WRITE_OR_MORE >> lock.granted & 1:
            writer = lock.owner.id if isinstance(lock.owner, Guest) else own(lock)
    return LastWord(block.name, block.value, block.valid, block.valseq, writer)
