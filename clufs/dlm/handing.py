"""The home's side of a move: it hands over what it holds, and asks again what was not answered."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from clufs.dlm.giving import Giver
from clufs.dlm.grants import Effects
from clufs.dlm.homes import Names
from clufs.dlm.interface import Life, Send, Verb
from clufs.dlm.messages import Ask, BlockCopies, Ended, Id, LastWord, Withdraw
from clufs.dlm.modes import PROTECTED_WRITE_OR_MORE
from clufs.dlm.moves import HandedOver
from clufs.dlm.remote import Open


class Handing(Giver, abc.ABC):
    """Hands copies over.

    _moved: the trees of copies here whose new master, given for each, has not built them as far as
    this member knows. _wrote: locks that are gone, and with them what they wrote last.
    """

    __slots__ = ("_moved", "_wrote")

    def __init__(self, member: str, view: int, incarnation: int, members: Sequence[Life]) -> None:
        super().__init__(member, view, incarnation, members)
        self._moved: dict[bytes, str] = {}
        self._wrote: set[Id] = set()

    def _is_unsettled(self, found: Open) -> bool:
        """Who has handed a tree over may have asked another master since."""
        moved = self._moved.get(found.root)
        return moved in (None, found.master) and super()._is_unsettled(found)

    def _hand_over(
        self, now: float, root: bytes, master: str, words: Iterable[LastWord]
    ) -> Effects:
        """Tell the new master what is held here, and ask again what the old one has not answered."""
        parts = self._written(words)
        asked = sorted(
            (found for found in self._open.values() if found.root == root), key=self._order_of
        )
        if root in self.copies:
            names: Names = {}
            parts += [self._tell_copies(now, block, names) for block in self._tree(root)]
            self._wait_for_built(root, master)
        effects: Effects = []
        for found in asked:
            effects += self._ask_anew(found, master)
        blocks = tuple(parts)
        if not any(type(effect) is Send for effect in effects):
            return [Send(master, HandedOver(self.view, root, blocks, True)), *effects]
        first = Send(master, HandedOver(self.view, root, blocks, False))
        return [first, *effects, Send(master, HandedOver(self.view, root, (), True))]

    def _wait_for_built(self, root: bytes, master: str) -> None:
        self._unsettled[root] = self.view
        self._moved[root] = master
        for block in self._tree(root):
            block.master = master

    def _ask_anew(self, found: Open, master: str) -> Effects:
        """Ask the new master under a new name: what the old one may still say is nobody's."""
        message, copy = found.message, found.lock
        assert isinstance(message, Ask | Withdraw)
        if copy is None:
            return self._again(found, master)
        self._answered(message.id)
        place = None
        if isinstance(message, Ask):
            place = message.place
            if message.request.verb is Verb.LOCK:
                place = copy.place or None
            message = replace(message, place=place)
        found.message = message = replace(message, id=self._id(), view=self.view, again=True)
        found.master, found.unsent = master, False
        self._open[message.id] = found
        self._open_on[copy][message.id] = None
        return [Send(master, message)]

    def _written(self, words: Iterable[LastWord]) -> list[BlockCopies]:
        """The values of the blocks that a lock of this member could have written that is gone."""
        found = []
        for word in words:
            id = word.writer
            if id is None or id[:2] != (self.member, self.incarnation) or id in self._by_id:
                continue
            part = self._left_by(word, id, [])
            if part is None:
                continue
            block = self.copies.get(word.name)
            if block is not None:
                block.writer = None
                block.value, block.valid, block.valseq = part.value, part.valid, part.valseq
            found.append(part)
        return found

    def _left_by(
        self, word: LastWord, writer: Id, heard: list[Ask | Withdraw | Ended]
    ) -> BlockCopies | None:
        """The value that this lock has left, which is gone, if what is not answered tells."""
        if writer in self._wrote:
            return None
        asked = [found.message for found in self._open.values()]
        return written_after(word, writer, [*asked, *heard])

    def _again(self, found: Open, master: str) -> Effects:
        message = found.message
        if found.lock is None and isinstance(message, Ask):
            request = message.request
            if request.value is not None or request.invalidate:
                self._wrote.add(message.lock)
        return super()._again(found, master)

    def _set_final(self, root: bytes, is_final: bool) -> None:
        if root in self.copies:
            for block in self._tree(root):
                block.is_final = is_final


def final_part(word: LastWord) -> BlockCopies:
    """The last word as a home would tell it that has no lock there."""
    return BlockCopies(word.name, word.value, word.valid, word.valseq, (), True, word.writer)


def written_after(
    word: LastWord, writer: Id, messages: Iterable[Ask | Withdraw | Ended]
) -> BlockCopies | None:
    """The value that the writer has left, by what its home has sent and the master not answered; None if
    that does not tell."""
    value, valid, valseq = word.value, word.valid, word.valseq
    may_write, is_known = True, False
    for message in messages:
        if isinstance(message, Ended):
            if writer in message.locks:
                if message.abnormal and may_write:
                    return None
                is_known = True
        elif message.lock == writer:
            if isinstance(message, Withdraw):
                is_known = is_known or message.kept is None
                continue
            request = message.request
            if request.verb not in (Verb.LOCK, Verb.UNLOCK):
                continue
            if request.value is not None:
                value, valid, valseq = request.value, True, valseq + 1
            elif request.invalidate:
                valid, valseq = False, valseq + 1
            is_known = is_known or request.verb is Verb.UNLOCK
            may_write = bool(PROTECTED_WRITE_OR_MORE >> request.mode & 1)
    return BlockCopies(word.name, value, valid, valseq, (), True) if is_known else None
