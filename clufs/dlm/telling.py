"""What a member tells the others when a view is installed: all that they need to know for their part.

It is told in steps, of which each says what is so at its time: what is released, given up or
asked in between is told as it is then, or not at all.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from zlib import crc32

from msgspec.structs import replace

from clufs.dlm.directory import directory_member
from clufs.dlm.grants import Effects
from clufs.dlm.interface import Send
from clufs.dlm.messages import End, Ended, Masters, Unsettled
from clufs.dlm.rebuild import Collected, Rebuild
from clufs.dlm.remote import LOST, Copy, RemoteBlock
from clufs.limits import COPIES_MESSAGE_BYTES, RECOVERY_STEP_LOCKS

_NAMES_FOR_A_LOCK = 8
"""To tell so many names costs as much as to tell a lock."""


class Telling(Rebuild, abc.ABC):
    """Tells. _noted: names of this directory of which somebody does not know whether they have a
    master."""

    __slots__ = ("_noted",)

    def __init__(self, member: str, view: int, incarnation: int) -> None:
        super().__init__(member, view, incarnation)
        self._noted: dict[bytes, None] = {}

    def _tell_later(self, now: float, gone: set[str]) -> Effects:
        """What has to be told to whom, as work to do; and at once, what was asked of members that are
        gone and had no effect goes to others."""
        effects = self._end_again(gone)
        past = [
            found
            for found in self._open.values()
            if found.lock is None and found.root in self._unsettled
        ]
        for found in past:
            effects += self._again(found, found.master)
        lost = self._lose_masters({*gone, LOST})
        self._unsettled = {
            root: view
            for root, view in self._unsettled.items()
            if root in self.copies and self.copies[root].master != LOST
        }
        in_vain = []
        for found in self._open.values():
            if found.master in gone or found.master == LOST:
                found.master = LOST
                if found.root not in lost:
                    in_vain.append(found)
        for found in in_vain:
            self._answered(found.message.id)
        for found in in_vain:
            effects += self._turned_away(now, found)
        self._work += (
            partial(self._tell_masters, iter([*self.blocks, *self._idle])),
            partial(self._tell_unsettled, iter(self._in_doubt())),
            partial(self._tell_lost, lost, iter(lost)),
            self._tell_end,
        )
        return effects

    def _end_again(self, gone: set[str]) -> Effects:
        """Tell once more what has ended: who had not installed the view before has not listened. It comes
        before all that is new, and whoever has heard it does not listen twice."""
        effects: Effects = []
        for found in self._open.values():
            if isinstance(found.message, Ended) and found.master not in gone:
                found.message = replace(found.message, view=self.view)
                effects.append(Send(found.master, found.message))
        return effects

    def _in_doubt(self) -> list[bytes]:
        """The roots of trees of which this member does not know whether they have a master."""
        return list(self._unsettled)

    def _lose_masters(self, gone: set[str]) -> dict[bytes, None]:
        """The blocks of masters that are gone are LOST; the roots of those that had been mastered."""
        lost: dict[bytes, None] = {}
        for name, block in self.copies.items():
            if block.master not in gone:
                block.is_final = False
            elif b".sub/" in name:
                block.master = LOST
            elif self._was_mastered(block):
                block.master = LOST
                lost[name] = None
            else:
                block.master = None
        return lost

    def _tell_masters(self, names: Iterator[bytes], now: float) -> Effects:
        some = list(islice(names, RECOVERY_STEP_LOCKS * _NAMES_FOR_A_LOCK))
        if not some:
            return []
        self._work.appendleft(partial(self._tell_masters, names))
        self._spent += len(some) // _NAMES_FOR_A_LOCK
        blocks, idle = self.blocks, self._idle
        effects: Effects = []
        roots_of_some = (name for name in some if b".sub/" not in name)
        still = (name for name in roots_of_some if name in blocks or name in idle)
        for member, roots in self._by_directory(still).items():
            if member == self.member:
                self.directory.masters.update(dict.fromkeys(roots, member))
            else:
                effects += [Send(member, Masters(self.view, names)) for names in batches(roots)]
        return effects

    def _tell_unsettled(self, names: Iterator[bytes], now: float) -> Effects:
        some = list(islice(names, RECOVERY_STEP_LOCKS * _NAMES_FOR_A_LOCK))
        if not some:
            return []
        self._work.appendleft(partial(self._tell_unsettled, names))
        self._spent += len(some) // _NAMES_FOR_A_LOCK
        effects: Effects = []
        for member, roots in self._by_directory(some).items():
            if member == self.member:
                self._noted.update(dict.fromkeys(roots))
            else:
                effects += [Send(member, Unsettled(self.view, names)) for names in batches(roots)]
        return effects

    def _tell_lost(self, lost: dict[bytes, None], names: Iterator[bytes], now: float) -> Effects:
        """Hand in the copies in trees whose master is gone, to the directory member of each."""
        masters = {}
        spent = self._spent
        for name in names:
            block = self.copies.get(name)
            if block is None or block.master != LOST:
                continue  # its locks have been released
            masters[name] = directory_member(name, self.members)
            spent += 1 + block.size
            if spent >= RECOVERY_STEP_LOCKS:
                self._work.appendleft(partial(self._tell_lost, lost, names))
                return self._hand_in(now, masters)
        return [*self._hand_in(now, masters), *self._forget_ended(lost)]

    def _hand_in(self, now: float, masters: dict[bytes, str]) -> Effects:
        for root, master in masters.items():
            if master == self.member:
                self._collected.setdefault(root, Collected())
        return super()._hand_in(now, masters)

    def _tell_end(self, now: float) -> Effects:
        effects: Effects = [Send(member, End(self.view)) for member in self._others()]
        return [*effects, *self._has_told(now, self.member)]

    @abc.abstractmethod
    def _has_told(self, now: float, member: str) -> Effects:
        """All that this member has to tell is said."""

    def _others(self) -> list[str]:
        return [member for member in self.members if member != self.member]

    def _by_directory(self, roots: Iterable[bytes]) -> dict[str, list[bytes]]:
        members = self.members
        count = len(members)
        found: dict[str, list[bytes]] = {member: [] for member in members}
        lists = list(found.values())
        for root in roots:
            lists[crc32(root) % count].append(root)
        return found

    def _was_mastered(self, block: RemoteBlock) -> bool:
        """Whether the master said anything of this block: else it may have been another's."""
        return bool(block.counts) or any(
            self._open[id].placed
            for lock in block.waiting
            if isinstance(lock, Copy)
            for id in self._open_on[lock]
        )


def batches(names: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
    """The names in messages of a bounded size."""
    batch: list[bytes] = []
    size = 0
    for name in names:
        batch.append(name)
        size += len(name)
        if size >= COPIES_MESSAGE_BYTES:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)
