"""The home's side of a recovery: what it tells the new master of its locks.

The home is the authority on its locks: what it was told is granted was granted, what it has
released it does not hold, and what was not answered it asks again.
"""

from __future__ import annotations

import abc
from collections.abc import Container, Iterable, Iterator

from msgspec.structs import replace

from clufs.dlm.grants import Effects
from clufs.dlm.interface import Owner, Refuse, Send, Verb
from clufs.dlm.messages import Ask, BlockCopies, Copies, HeldCopy, Id, Withdraw
from clufs.dlm.modes import Mode, common
from clufs.dlm.remote import LOST, Copy, Open, RemoteBlock
from clufs.dlm.seeking import Seeking
from clufs.errors import NotHeld
from clufs.limits import COPIES_IN_A_MESSAGE, COPIES_MESSAGE_BYTES

_HELD_COPY_BYTES = 100
"""A copy in a message without its command, about."""

Names = dict[Owner, tuple[int, str]]
"""Whose pid and command have been looked up already."""


class Homes(Seeking, abc.ABC):
    """Hands copies in to new masters.

    _unsettled: the roots of which copies were handed in, and the view in which, until the new
    master has them all.
    """

    __slots__ = ("_unsettled",)

    def __init__(self, member: str, view: int, incarnation: int) -> None:
        super().__init__(member, view, incarnation)
        self._unsettled: dict[bytes, int] = {}

    def _is_unsettled(self, found: Open) -> bool:
        return found.root in self._unsettled

    def _hand_in(self, now: float, masters: dict[bytes, str]) -> Effects:
        """These are the new masters of these roots: tell them what is held here, and ask again
        what was not answered."""
        told: dict[str, list[BlockCopies]] = {}
        asked: list[Id] = []
        names: Names = {}
        for root, master in masters.items():
            self._unsettled[root] = self.view
            for block in self._tree(root):
                block.master = master
                for lock in (*block.holders(), *block.waiting):
                    assert isinstance(lock, Copy)
                    asked += self._open_on[lock]
                if master != self.member:
                    told.setdefault(master, []).append(self._tell_copies(now, block, names))
                    block.is_final = False
                self._spent += 1 + block.size
        effects: Effects = [
            Send(master, Copies(self.view, batch))
            for master, blocks in told.items()
            for batch in _batches(blocks)
        ]
        asked.sort(key=lambda id: self._order_of(self._open[id]))  # whatever lock they are about
        for id in asked:
            found = self._open[id]
            effects += self._again(found, masters[found.root])
        return effects

    def _order_of(self, found: Open) -> tuple[Id, bool]:
        """As they were asked: a new lock comes before what followed it, also where it was turned away and
        asked elsewhere since."""
        id, copy = found.message.id, found.lock
        if copy is None or copy.granted is not None or not self._is_lock_request(id):
            return id, True
        return min(self._open_on[copy]), False

    def _forget_ended(self, roots: Container[bytes]) -> Effects:
        """What was asked about locks in these trees that are gone by now is not asked again: nobody
        else will know of them."""
        past = [
            found
            for found in self._open.values()
            if found.lock is None and (found.master == LOST or found.root in roots)
        ]
        effects: Effects = []
        for found in past:
            effects += self._again(found, LOST)
        return effects

    def _tree(self, root: bytes) -> Iterator[RemoteBlock]:
        """The blocks of a tree of which there are copies here, parents first."""
        block = self.copies[root]
        found: dict[RemoteBlock, None] = {block: None}
        for lock in [*block.holders(), *block.waiting]:
            if lock.sublocks:
                for below in reversed(self._below(lock)):
                    assert isinstance(below, Copy)
                    found[below.rsb] = None
        yield from found

    def _tell_copies(self, now: float, block: RemoteBlock, names: Names) -> BlockCopies:
        locks = []
        proves = proved = False
        for lock in block.holders():
            assert isinstance(lock, Copy) and lock.granted is not None
            request, party, since = lock.request, lock.party, lock.since
            if lock.kept is not None:
                request, _, party, since = lock.kept
            if request.value is not None:
                request = replace(request, value=None)
            owner = lock.owner
            if owner not in names:
                names[owner] = (owner.pid, owner.command)
            least = self._least(lock)
            proves, proved = proves or least > Mode.CR, proved or lock.granted > Mode.CR
            locks.append(
                HeldCopy(
                    self.lock_id(lock),
                    None if lock.parent is None else self.lock_id(lock.parent),
                    lock.granted,
                    least,
                    lock.number,
                    request,
                    lock.notified,
                    int((now - since) * 1000),
                    *names[owner],
                    self.names.of(party),
                )
            )
        if proved and not proves:
            block.is_stale = True  # the new master may make it invalid, whatever is kept in the end
        return BlockCopies(
            block.name,
            block.value,
            block.valid,
            block.valseq,
            tuple(locks),
            block.is_final,
            block.writer,
        )

    def _least(self, copy: Copy) -> Mode:
        """What is left of the lock if all took effect that is on its way."""
        least = copy.granted
        assert least is not None
        if copy.rsb.is_stale:
            return Mode.NL
        for id in self._open_on[copy]:
            mode = _asked_mode(self._open[id])
            if mode is not None and not self._open[id].unsent:
                least = common(least, mode)
        above = copy.parent
        while above is not None:
            assert isinstance(above, Copy)
            for id in self._open_on[above]:
                found = self._open[id]
                message = found.message
                if found.unsent or not isinstance(message, Ask):
                    continue
                if message.request.verb is Verb.UNLOCK_ALL:
                    return Mode.NL
            above = above.parent
        return least

    def _again(self, found: Open, master: str) -> Effects:
        """Ask the new master what the old one has not answered."""
        message, copy = found.message, found.lock
        assert isinstance(message, Ask | Withdraw)
        if copy is None:  # the lock is gone at home, and nobody else will know of it
            del self._open[message.id]
            if found.event is None:
                return []
            return [Refuse(NotHeld("the lock was released before"), found.event.client)]
        found.master = master
        found.unsent = found.unsent and master == self.member
        if isinstance(message, Ask) and message.request.verb is Verb.LOCK:
            message = replace(message, place=copy.place or None)
        found.message = message = replace(message, view=self.view, again=True)
        return [] if master == self.member else [Send(master, message)]


def _asked_mode(found: Open) -> Mode | None:
    """In which mode this would leave the lock, None if it does not change it."""
    message = found.message
    if isinstance(message, Withdraw):
        return message.mode
    if not isinstance(message, Ask):
        return None
    verb = message.request.verb
    if verb is Verb.LOCK:
        return message.request.mode
    return Mode.NL if verb is Verb.UNLOCK else None


def _batches(blocks: Iterable[BlockCopies]) -> Iterator[tuple[BlockCopies, ...]]:
    """The same in messages of a bounded size; a block may be told in several parts."""
    batch: list[BlockCopies] = []
    locks = size = 0
    for block in _parts(blocks):
        batch.append(block)
        locks += 1 + len(block.locks)
        size += len(block.name) + len(block.value) + _HELD_COPY_BYTES * (1 + len(block.locks))
        if locks >= COPIES_IN_A_MESSAGE or size >= COPIES_MESSAGE_BYTES:
            yield tuple(batch)
            batch = []
            locks = size = 0
    if batch:
        yield tuple(batch)


def _parts(blocks: Iterable[BlockCopies]) -> Iterator[BlockCopies]:
    for block in blocks:
        if len(block.locks) <= COPIES_IN_A_MESSAGE:
            yield block
            continue
        for start in range(0, len(block.locks), COPIES_IN_A_MESSAGE):
            yield block._replace(locks=block.locks[start : start + COPIES_IN_A_MESSAGE])
