"""A tree of locks moves to the member that does nearly all the work on it, while its locks stand.

It is a recovery of one tree that nobody has lost: the homes hand over what they hold and ask
again what was not answered, the new master builds the tree when all have. The old master has
said the last word on every value, so that no value becomes doubtful. Nobody is refused
anything; what is asked meanwhile waits for these messages, and for nothing else.

Moves of one tree come one after the other, whatever the streams do. The new master builds, and
can only then give the tree away, when all who have to know have heard of the move and told it so:
each home and the directory member. So what any of them hears of a later move, or says of the tree
from then on, comes after. What can still be under way is Built, which comes before all else from
the one who sent it, and to the old master what homes, the new master among them, had asked before
they heard: it serves none of that, and takes the tree back only when each of them has told it, too,
that nothing of the kind follows. Nobody takes a tree before it has heard the end of the earlier
moves that it took part in. A view that comes in between ends the move (see interrupted).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from clufs.dlm.directory import directory_member, root_of
from clufs.dlm.giving import last_word
from clufs.dlm.grants import Effects
from clufs.dlm.handing import Handing, final_part
from clufs.dlm.interface import (
    BlockEnded,
    Effect,
    Life,
    Owner,
    OwnerEnded,
    Send,
)
from clufs.dlm.lock import Lock
from clufs.dlm.messages import (
    Ask,
    Ended,
    LastWord,
    LookedUp,
    Withdraw,
)
from clufs.dlm.moves import Built, HandedOver, Kept, Moved, MoveHeard, Offer, Taken
from clufs.dlm.rebuild import Collected
from clufs.dlm.rsb import ResourceBlock
from clufs.limits import REMASTER_LOCKED_AFTER


@dataclass(slots=True)
class Arrival:
    """A tree on its way to this member.

    homes, words: who hands over, and the last word on each block, once the old master has said so.
    heard: who has handed over, or has nothing to hand over and has heard. giver: the old master.
    """

    collected: Collected = field(default_factory=Collected)
    homes: tuple[str, ...] | None = None
    words: tuple[LastWord, ...] = ()
    heard: set[str] = field(default_factory=set)
    giver: str = ""


@dataclass(slots=True)
class Departed:
    """A tree that has been given to another member, until that one has built it and all have heard.

    deaf: the homes that have not said yet that they have heard; they will ask the new master anew what
    they had asked here. words: none once others may have written. crossed: what has been asked here
    since. view: the one that came in between, if any.
    """

    master: str
    deaf: set[str]
    words: tuple[LastWord, ...]
    crossed: list[Ask | Withdraw | Ended] = field(default_factory=list)
    is_built: bool = False
    view: int = 0

    def is_asked_anew(self, sender: str, message: Ask | Withdraw) -> bool:
        """Whether the new master, or whoever rebuilds the tree, is asked this by its home; the new
        master itself has told by Built that it asks here no more."""
        deaf = sender in self.deaf or (sender == self.master and not self.is_built)
        return deaf and (not self.view or message.view < self.view)


class Mover(Handing, abc.ABC):
    """Gives trees away, and takes trees.

    _offered: to whom. _taking: what is expected here. _sought: of the trees on their way, those that
    this member masters as the directory says. _last_heard: the last words on trees on their
    way in which a lock of this member could still write: nobody else knows what it does.
    """

    __slots__ = ("_arriving", "_departed", "_last_heard", "_offered", "_sought", "_taking")

    def __init__(self, member: str, view: int, incarnation: int, members: Sequence[Life]) -> None:
        super().__init__(member, view, incarnation, members)
        self._offered: dict[bytes, str] = {}
        self._taking: set[bytes] = set()
        self._arriving: dict[bytes, Arrival] = {}
        self._departed: dict[bytes, Departed] = {}
        self._sought: set[bytes] = set()
        self._last_heard: dict[bytes, Departed] = {}

    def _is_moving(self) -> bool:
        return bool(self._taking or self._arriving or self._departed)

    def _is_complete(self, root: bytes) -> bool:
        return not self._is_between(root) and super()._is_complete(root)

    def is_being_made(self, root: bytes) -> bool:
        """Whether locks of this tree may stand though it is mastered nowhere just now."""
        return self._is_between(root) or super().is_being_made(root)

    def _is_between(self, root: bytes) -> bool:
        """Whether this tree is on its way; the directory may name the new master already."""
        return root in self._arriving or root in self._departed or root in self._taking

    def _is_steady(self) -> bool:
        """All is well, and no recovery is under way."""
        busy = self._frozen or self._leaving or self.is_gathering() or self._work
        return not (busy or self.lost or self.phantoms)

    # ---------------------------------------------------------- the old master

    def _offer(self, root: bytes, member: str, ahead: int) -> Sequence[Effect]:
        if ahead < REMASTER_LOCKED_AFTER or root in self._offered or root not in self.blocks:
            return []
        if not self._is_steady() or self._small_tree(root) is None:
            self._usage.forget(root)
            return []
        self._offered[root] = member
        return [Send(member, Offer(self.view, root))]

    def _on_taken(self, now: float, sender: str, message: Taken) -> Sequence[Effect]:
        root = message.name
        self._offered.pop(root, None)
        self._usage.forget(root)
        if not message.wanted:
            return []
        blocks = None
        astray = root in self._seeking or root in self.copies  # of this member, or asked elsewhere
        if root in self.blocks and not astray and self._is_steady():
            blocks = self._small_tree(root)
        if blocks is None:
            return [Send(sender, Kept(self.view, root))]
        words = tuple(last_word(block, self.lock_id) for block in blocks)
        self._sequence += 1
        deaf = set(self._homes(blocks)) - {self.member, sender}
        self._departed[root] = Departed(sender, deaf, words)
        effects = self._tell_moved(root, sender, blocks, words)
        self._take_apart(now, root, blocks, sender)
        self._remember(root, sender)
        self._note_moved(root, sender)
        if root in self.copies:
            effects += self._hand_over(now, root, sender, words)
        ended = (name for name, *_ in words if name not in self.copies)
        return [*effects, *map(BlockEnded, ended)]

    def _tell_moved(
        self, root: bytes, master: str, blocks: list[ResourceBlock], words: tuple[LastWord, ...]
    ) -> Effects:
        homes = self._homes(blocks)
        others = tuple(home for home in homes if home not in (master, self.member))
        told = tuple(home for home in homes if home != master)
        effects: Effects = [
            Send(master, Moved(self.view, root, master, words, self._sequence, told))
        ]
        moved = Moved(self.view, root, master, words, self._sequence)
        effects += [Send(home, moved) for home in others]
        directory = directory_member(root, self.members)
        if directory not in (self.member, master, *others):
            effects.append(Send(directory, Moved(self.view, root, master, (), self._sequence)))
        return effects

    def _note_moved(self, root: bytes, master: str) -> None:
        """If the directory is here: who asks after this, asks the new master."""
        if directory_member(root, self.members) == self.member:
            self.directory.masters[root] = master

    # ----------------------------------------------------------------- homes

    def _on_moved(self, now: float, sender: str, message: Moved) -> Sequence[Effect]:
        root = message.name
        self._note_moved(root, message.master)
        if not message.words:
            return [Send(message.master, MoveHeard(self.view, root))]
        self._hear_words(now, sender, message.words)
        self._remember_words(message)
        if message.master != self.member:
            self._remember(root, message.master)
            heard = Send(sender, MoveHeard(self.view, root))
            return [*self._hand_over(now, root, message.master, message.words), heard]
        self._taking.discard(root)
        self._elsewhere.pop(root, None)
        self._sequence = max(self._sequence, message.floor)
        arrival = self._arriving.setdefault(root, Arrival())
        arrival.homes, arrival.giver = message.homes, sender
        if sender not in message.homes:
            arrival.heard.add(sender)  # it has nothing to hand over
        arrival.words = message.words
        arrival.collected.known = frozenset(word.name for word in message.words)
        arrival.collected.parts += map(final_part, message.words)
        arrival.collected.parts += self._written(message.words)
        if root in self.copies:
            self._wait_for_built(root, self.member)
        effects = self._forget_ended((root,))
        for found in [found for found in self._open.values() if found.root == root]:
            found.master, found.unsent = self.member, True
        return [*effects, *self._built(now, root)]

    def _remember_words(self, message: Moved) -> None:
        life = (self.member, self.incarnation)
        self._last_heard.pop(message.name, None)
        if any(word.writer is not None and word.writer[:2] == life for word in message.words):
            self._last_heard[message.name] = Departed(message.master, set(), message.words)

    def _on_move_heard(self, now: float, sender: str, message: MoveHeard) -> Sequence[Effect]:
        root = message.name
        if root in self._taking or root in self._arriving:
            self._arriving.setdefault(root, Arrival()).heard.add(sender)
            return self._built(now, root)
        departed = self._departed.get(root)
        if departed is None:
            return []
        departed.deaf.discard(sender)
        return self._departure_over(now, root)

    def _on_built(self, now: float, sender: str, message: Built) -> Sequence[Effect]:
        root = message.name
        self._note_built(root, sender)
        return self._departure_over(now, root) if root in self._departed else []

    def _note_built(self, root: bytes, sender: str) -> None:
        """Its new master has the tree: nothing of it is in doubt here."""
        block = self.copies.get(root)
        if self._moved.get(root) == sender:
            del self._moved[root]
            self._unsettled.pop(root, None)
            if block is not None and block.master == sender:
                self._set_final(root, False)
        self._forget_writes()
        heard = self._last_heard.get(root)
        if heard is not None and heard.master == sender:
            del self._last_heard[root]
        departed = self._departed.get(root)
        if departed is not None and departed.master == sender:
            departed.is_built, departed.words = True, ()

    def _departure_over(self, now: float, root: bytes) -> Sequence[Effect]:
        departed = self._departed[root]
        if departed.view or departed.deaf or not departed.is_built:
            return []
        del self._departed[root]
        self._forget_writes()
        return [*self._let_go(now), *self._after_recovery(now)]

    def _forget_writes(self) -> None:
        """Nobody will ask any more what locks that are gone have written, if no tree is on its way."""
        if not (self._moved or self._departed or self._arriving):
            self._wrote.clear()

    # -------------------------------------------------------- the new master

    def _on_offer(self, now: float, sender: str, message: Offer) -> Sequence[Effect]:
        root = message.name
        here = root in self.blocks or root in self._idle or root in self._seeking
        moving = root in self._moved or root in self._unsettled or self._is_between(root)
        wanted = self._is_steady() and not here and not moving
        if wanted:
            self._taking.add(root)
        return [Send(sender, Taken(self.view, root, wanted))]

    def _on_kept(self, now: float, sender: str, message: Kept) -> Sequence[Effect]:
        self._taking.discard(message.name)
        return [*self._let_go(now), *self._after_recovery(now)]

    def _on_handed_over(self, now: float, sender: str, message: HandedOver) -> Sequence[Effect]:
        root = message.name
        if not (root in self._taking or root in self._arriving):
            return []
        arrival = self._arriving.setdefault(root, Arrival())
        arrival.collected.parts += message.blocks
        if message.is_all:
            arrival.heard.add(sender)
        # What this home has asked here before is asked again if it still counts.
        self._held = [
            (home, held)
            for home, held in self._held
            if home != sender or not isinstance(held, Ask) or root_of(held.name) != root
        ]
        if root in self._seeking:
            self._seeking[root] = [
                found
                for found in self._seeking[root]
                if not isinstance(found, Ask) or found.id.member != sender
            ]
        return self._built(now, root)

    def _on_again(self, message: Ask | Withdraw) -> Sequence[Effect]:
        arrival = self._arriving.get(root_of(message.name))
        if arrival is None:
            return super()._on_again(message)
        arrival.collected.again.append(message)
        return []

    def _built(self, now: float, root: bytes) -> Sequence[Effect]:
        """Build the tree if all homes have handed over."""
        arrival = self._arriving[root]
        if arrival.homes is None:
            return []
        told = {*arrival.homes, directory_member(root, self.members)} - {self.member}
        if not told <= arrival.heard:
            return []
        del self._arriving[root]
        self._last_heard.pop(root, None)
        self._moved.pop(root, None)
        arrival.collected.parts += self._written(arrival.words)  # what was released without quorum
        self._collected[root] = arrival.collected
        homes = dict.fromkeys((*arrival.homes, arrival.giver))
        effects: Effects = [Send(home, Built(self.view, root)) for home in homes]
        effects += self._build(now, [root])[0]
        effects += self._forget_ended((root,))
        self._forget_writes()
        if root not in self.blocks:
            self._idle[root] = None
        effects += self._let_go(now)
        return [*effects, *self._drop_idle(), *self._after_recovery(now)]

    def _looked_up(self, now: float, message: LookedUp) -> Sequence[Effect]:
        root = message.name
        arrival = self._arriving.get(root)
        if arrival is not None and arrival.homes is not None:
            message = replace(message, master=self.member)
        elif root in self._moved:  # the old master has said more than the directory knew
            message = replace(message, master=self._moved[root])
        if message.master != self.member or not self._is_between(root):
            return super()._looked_up(now, message)
        self._sought.add(root)
        return []

    def _let_go(self, now: float) -> Effects:
        """Go on with what was held until a recovery or a move was over."""
        effects = super()._let_go(now)
        for root in [root for root in self._sought if not self._is_between(root)]:
            self._sought.discard(root)
            if root in self._seeking:
                effects += self._look_up(now, root)
        return effects

    def _owner_ended(self, now: float, event: OwnerEnded) -> Sequence[Effect]:
        """No message tells of it where the locks are on their way to this member."""
        for root, arrival in self._arriving.items():
            for word in self._last_heard[root].words if root in self._last_heard else ():
                copy = None if word.writer is None else self._by_id.get(word.writer)
                if copy is not None and _is_owned(copy, event.owner):
                    assert word.writer is not None
                    end = Ended(self.view, word.writer, (word.writer,), event.abnormal)
                    part = self._left_by(word, word.writer, [end])
                    arrival.collected.parts += () if part is None else (part,)
                    self._last_heard[root].crossed.append(end)
        return super()._owner_ended(now, event)

    # ------------------------------------------------- what is asked meanwhile

    def _on_request(self, now: float, sender: str, message: Ask) -> Sequence[Effect]:
        return [] if self._is_crossing(sender, message) else self._on_ask(now, message)

    def _is_crossing(self, sender: str, message: Ask | Withdraw) -> bool:
        """Whether it is for this member as the master that it is not any more."""
        departed = self._departed.get(root_of(message.name)) if self._departed else None
        if departed is None:
            return False
        if message not in departed.crossed:
            departed.crossed.append(message)
        return departed.is_asked_anew(sender, message)

    def _on_withdraw(self, now: float, sender: str, message: Withdraw) -> Sequence[Effect]:
        if self._is_crossing(sender, message):
            return []
        if self._is_between(root_of(message.name)):
            self._held.append((sender, message))
            return []
        return super()._on_withdraw(now, sender, message)

    def _on_ended(self, now: float, sender: str, message: Ended) -> Sequence[Effect]:
        unknown = tuple(lock for lock in message.locks if lock not in self.guests)
        if unknown and self._is_moving() and not self.is_gathering():
            self._held.append((sender, replace(message, locks=unknown)))
            known = tuple(lock for lock in message.locks if lock in self.guests)
            told = self._serve_ended(now, replace(message, locks=known))
            return [*self._never_heard(message.locks), *told[:-1]]  # not finished yet
        return super()._on_ended(now, sender, message)


def _is_owned(lock: Lock, owner: Owner) -> bool:
    """Whether the lock ends with this owner: it, or one above it, is its."""
    found: Lock | None = lock
    while found is not None and found.owner is not owner:
        found = found.parent
    return found is not None
