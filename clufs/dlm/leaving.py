"""A member leaves in order: nothing that it masters is lost, no value becomes doubtful.

It stops all that it masters and tells each home the last word on its blocks; everything it has
answered comes before that, everything else had no effect. When all homes have heard it, the
member may go. In the next view its trees are rebuilt from their homes, as after a loss, but
with values that are certain, and with nobody to be fenced.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence

from clufs.dlm.grants import Effects
from clufs.dlm.guests import Guest, lock_of
from clufs.dlm.interface import Effect, Leaving, Left, Life, Send
from clufs.dlm.messages import Farewell, FarewellHeard, Id, LastWord
from clufs.dlm.modes import PROTECTED_WRITE_OR_MORE
from clufs.dlm.recovery import Recovery
from clufs.dlm.rsb import ResourceBlock
from clufs.limits import COPIES_MESSAGE_BYTES


class Leaver(Recovery, abc.ABC):
    """Leaves.

    _leaving: what other members ask is answered by the next master. _farewells: the members that
    have not heard the last word yet.
    """

    __slots__ = ("_farewells", "_leaving")

    def __init__(self, member: str, view: int, incarnation: int, members: Sequence[Life]) -> None:
        super().__init__(member, view, incarnation, members)
        self._leaving = False
        self._farewells: set[str] = set()

    def _on_leaving(self, now: float, event: Leaving) -> Sequence[Effect]:
        self._leaving = True
        if self.is_recovering() or self._is_moving():
            return []  # first that
        self._work.append(self._say_farewell)
        return [] if self.suspended else self._work_on(now)

    def _is_moving(self) -> bool:
        """Whether a tree is on its way to this member or from it."""
        return False

    def _say_farewell(self, now: float) -> Effects:
        self._frozen = True
        blocks: dict[str, dict[ResourceBlock, None]] = {}
        for guest in self.guests.values():
            if self._is_alive(guest.id):
                blocks.setdefault(guest.member, {})[lock_of(guest).rsb] = None
        effects: Effects = []
        for member, known in blocks.items():
            effects += [
                Send(member, Farewell(self.view, part, False)) for part in self._last_words(known)
            ]
            effects.append(Send(member, Farewell(self.view, (), True)))
        self._farewells = set(blocks)
        return effects if blocks else [Left()]

    def _last_words(self, blocks: Iterable[ResourceBlock]) -> list[tuple[LastWord, ...]]:
        """The last words in messages of a bounded size."""
        found: list[tuple[LastWord, ...]] = []
        batch: list[LastWord] = []
        size = 0
        for block in blocks:
            valid = block.valid and not self._writer_is_lost(block)
            writer = _writer(block)
            batch.append(LastWord(block.name, block.value, valid, block.valseq, writer))
            size += len(block.name) + len(block.value)
            if size >= COPIES_MESSAGE_BYTES:
                found.append(tuple(batch))
                batch, size = [], 0
        if batch:
            found.append(tuple(batch))
        return found

    def _writer_is_lost(self, block: ResourceBlock) -> bool:
        """A lost life might write here: its fencing would make the value invalid."""
        return any(
            isinstance(lock.owner, Guest)
            and lock.owner.life in self.lost
            and lock.owner.id in self.guests
            and lock.granted is not None
            and PROTECTED_WRITE_OR_MORE >> lock.granted & 1
            for lock in block.holders()
        )

    def _after_recovery(self, now: float) -> Sequence[Effect]:
        """A view came while this member was leaving: it may have got more to master."""
        if not self._leaving or self._is_moving() or self.is_gathering():
            return []
        return self._say_farewell(now)

    def _hear_words(self, now: float, sender: str, words: Iterable[LastWord]) -> None:
        """The last words of the master of these blocks."""
        for word in words:
            block = self.copies.get(word.name)
            if block is not None and block.master == sender:
                if (block.value, block.valid) != (word.value, word.valid):
                    block.value_at = now
                block.value, block.valid, block.valseq = word.value, word.valid, word.valseq
                block.is_final, block.writer = True, word.writer

    def _on_farewell(self, now: float, sender: str, message: Farewell) -> Sequence[Effect]:
        self._hear_words(now, sender, message.blocks)
        return [Send(sender, FarewellHeard(self.view))] if message.is_all else []

    def _on_farewell_heard(
        self, now: float, sender: str, message: FarewellHeard
    ) -> Sequence[Effect]:
        if sender not in self._farewells:
            return []
        self._farewells.discard(sender)
        return [] if self._farewells else [Left()]


def _writer(block: ResourceBlock) -> Id | None:
    """The guest's lock in PW or EX, of which there is one at most."""
    for lock in block.holders():
        if lock.granted is not None and PROTECTED_WRITE_OR_MORE >> lock.granted & 1:
            return lock.owner.id if isinstance(lock.owner, Guest) else None
    return None
