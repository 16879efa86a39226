"""A view comes before a move is over.

It ends the move unless the new master has built by then: nobody says in the new view that he masters
the tree, the old master and the homes that had heard of the move say `Unsettled`, and the tree is
rebuilt from its homes (see recovery). The last word stands as long as whoever was to build the tree
lives, for it has written nothing.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

from clufs.dlm.directory import directory_member
from clufs.dlm.grants import Effects
from clufs.dlm.handing import final_part
from clufs.dlm.interface import Effect, Send, ViewInstalled
from clufs.dlm.messages import Ask, Ended, Gather, LastWord, Settled, Withdraw
from clufs.dlm.moves import Moved
from clufs.dlm.moving import Departed, Mover
from clufs.dlm.rebuild import Collected


class Interrupted(Mover, abc.ABC):
    """Lets the trees that were on their way be rebuilt."""

    __slots__ = ()

    def _change_lives(self, event: ViewInstalled) -> set[str]:
        gone = super()._change_lives(event)
        self._offered.clear()
        self._taking.clear()
        self._departed = {**self._last_heard, **self._departed}
        self._last_heard.clear()
        self._arriving.clear()
        self._sought.clear()
        for departed in self._departed.values():
            departed.view = event.view
            # What was asked here about locks that are gone is asked of nobody in the new view.
            departed.words = () if departed.master in gone else self._words_of(departed)
        return gone

    def _lose_masters(self, gone: set[str]) -> dict[bytes, None]:
        """The last word of an old master stands while the new one, who has not built, lives."""
        final = []
        known = self.copies.keys() & self._unsettled.keys()
        self._moved = {root: one for root, one in self._moved.items() if root in known}
        for root, master in list(self._moved.items()):
            if master in gone:
                del self._moved[root]
                self._set_final(root, False)
            else:
                final += [block for block in self._tree(root) if block.is_final]
        lost = super()._lose_masters(gone)
        for block in final:
            block.is_final = True
        return lost

    def _in_doubt(self) -> list[bytes]:
        departed = (root for root, one in self._departed.items() if not one.is_built)
        return list(dict.fromkeys([*super()._in_doubt(), *departed]))

    def _hand_in(self, now: float, masters: dict[bytes, str]) -> Effects:
        moved = {root: master for root, master in masters.items() if root in self._moved}
        final = [block for root in moved for block in self._tree(root) if block.is_final]
        self._written(
            LastWord(one.name, one.value, one.valid, one.valseq, one.writer) for one in final
        )
        effects = super()._hand_in(now, masters)
        for root in masters:
            self._elsewhere.pop(root, None)  # it may be the one that has given it away
        self._moved.update(moved)
        for block in final:
            block.is_final = True
        return effects

    def _on_gather(self, now: float, sender: str, message: Gather) -> Sequence[Effect]:
        words: Effects = []
        if not self._awaited:
            words = [
                Send(sender, Moved(self.view, root, sender, self._words_for(root, sender), 0))
                for root in message.names
                if root in self._departed and self._departed[root].words
            ]
            for root in message.names:
                if not self._has_copies(root):
                    self._moved.pop(root, None)
        return [*words, *super()._on_gather(now, sender, message)]

    def _words_for(self, root: bytes, master: str) -> tuple[LastWord, ...]:
        """What is known of a tree that was given away, and that this one will build."""
        departed = self._departed[root]
        departed.master = master
        return self._words_of(departed)

    def _words_of(self, departed: Departed) -> tuple[LastWord, ...]:
        ended = [one for _, one in self._held if isinstance(one, Ended)]
        return tuple(self._as_left(word, [*departed.crossed, *ended]) for word in departed.words)

    def _as_left(self, word: LastWord, heard: list[Ask | Withdraw | Ended]) -> LastWord:
        """With what has been heard of its writer since: a home without quorum does not ask again."""
        if word.writer is None:
            return word
        part = self._left_by(word, word.writer, heard)
        return word if part is None else LastWord(*part[:4])

    def _all_gathered(self, now: float) -> Effects:
        for root in self._gathering:
            self._moved.pop(root, None)
            if root in self._departed:
                self._note_words(root, self._words_for(root, self.member))
        return super()._all_gathered(now)

    def _on_moved(self, now: float, sender: str, message: Moved) -> Sequence[Effect]:
        if message.name not in self._gathering:
            return super()._on_moved(now, sender, message)
        self._note_words(message.name, message.words)
        return []

    def _note_words(self, root: bytes, words: tuple[LastWord, ...]) -> None:
        """The former master of a tree that is rebuilt here has told all that there was."""
        if words:
            collected = self._collected.setdefault(root, Collected())
            collected.known = frozenset(word.name for word in words)
            collected.parts += map(final_part, words)

    def _on_settled(self, now: float, sender: str, message: Settled) -> Sequence[Effect]:
        effects = super()._on_settled(now, sender, message)
        return [*effects, *self._settled(now, sender, message.view)]

    def _recovered(self, now: float) -> Effects:
        effects = super()._recovered(now)
        return [*effects, *self._settled(now, self.member, self.view)]

    def _settle_trees(self, sender: str, settled: int) -> None:
        super()._settle_trees(sender, settled)
        for root, view in list(self._unsettled.items()) if settled == self.view else ():
            directory = directory_member(root, self.members)
            if view == settled and directory == sender and root not in self._moved:
                del self._unsettled[root]  # it was handed in there, whatever was heard of it since
        for root in self._moved.keys() - self._unsettled.keys():
            del self._moved[root]
            self._set_final(root, False)
        self._forget_writes()

    def _settled(self, now: float, directory: str, view: int) -> Sequence[Effect]:
        """In this view the directory of these trees knows their master, whoever it is."""
        over = [
            root
            for root, departed in self._departed.items()
            if departed.view == view == self.view
            and directory_member(root, self.members) == directory
        ]
        for root in over:
            del self._departed[root]
        self._forget_writes()
        return [*self._let_go(now), *self._after_recovery(now)] if over else []
