"""What happens when members come and go: one round in which everybody tells everybody.

When a view is installed, each member tells each other one, in this order:

    Masters     the names it masters whose directory the other is
    Unsettled   names of which it does not know whether they have a master (see below)
    Copies      its granted locks in trees whose master is gone; the directory member of the
                new view is their new master
    Ask, again  what it had asked that master and was not answered
    End         that is all

Streams are in order, so a member that has End from everybody knows its part of the directory
and all there is to know of the trees that it rebuilds. What a surviving master masters goes on
at once.

A view may come before the recovery for the last one is over. The new master of a tree may then
be alive but not have built it, or have built it without everybody knowing; so until it has said
`Settled`, homes count the tree as unsettled. If nobody says in Masters that it masters the
tree, its directory member asks all members for their copies (Gather, Gathered). They answer
when they have End from everybody themselves: no answer of a former master is on its way then.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

from msgspec.structs import replace

from clufs.dlm.directory import directory_member
from clufs.dlm.grants import Effects
from clufs.dlm.interface import (
    Effect,
    Fenced,
    Life,
    Queue,
    Recovered,
    Resumed,
    Send,
    Suspended,
    ViewInstalled,
)
from clufs.dlm.messages import (
    Ask,
    End,
    Ended,
    Gather,
    Gathered,
    LookedUp,
    Lookup,
    Masters,
    Message,
    Settled,
    Unsettled,
    Withdraw,
)
from clufs.dlm.rebuild import Rebuild
from clufs.dlm.remote import Copy, RemoteBlock
from clufs.limits import COPIES_MESSAGE_BYTES, SEQUENCE_COUNT_BITS


class Recovery(Rebuild, abc.ABC):
    """Installs views, and recovers.

    _awaited: the members whose End is missing. _gathering: the trees whose copies all members
    are asked for. _gathered_by: the members that have not sent them yet.
    """

    __slots__ = ("_awaited", "_gathered_by", "_gathering", "_joined", "_noted", "_rebuilt")

    def __init__(self, member: str, view: int, incarnation: int, members: Sequence[Life]) -> None:
        super().__init__(member, view, incarnation)
        if view:
            self.lives = dict(members) or {member: incarnation}
        self.members = sorted(self.lives)
        self._joined = dict.fromkeys(self.lives, view)
        self._awaited: set[str] = set()
        self._noted: dict[bytes, None] = {}
        self._gathering: dict[bytes, None] = {}
        self._gathered_by: set[str] = set()
        self._rebuilt = (0, 0)
        self.suspended = self._frozen = view == 0
        self._set_shared()

    def _set_shared(self) -> None:
        """Alone and with nobody lost, a name without a block here is nowhere."""
        self._shared = len(self.members) > 1 or bool(self.lost) or self.suspended
        if not self._shared:
            self._idle.clear()
            self.directory.masters.clear()

    def waits_for(self) -> str:
        """What recovery waits for, in a sentence without its full stop; empty for nothing."""
        if self.suspended:
            return "a view with quorum"
        reasons = []
        if self._awaited:
            reasons.append(f"the locks that {_listed(self._awaited)} can tell of")
        if self._gathered_by:
            reasons.append(f"the copies that {_listed(self._gathered_by)} have")
        if self.lost:
            lives = [f"{life.member} (incarnation {life.incarnation})" for life in self.lost]
            reasons.append(f"the fencing of {_listed(lives)}")
        return " and ".join(reasons)

    def is_gathering(self) -> bool:
        """Whether the members of the view have still to tell what locks they know of."""
        return bool(self.suspended or self._awaited or self._gathered_by)

    def _is_complete(self, root: bytes) -> bool:
        return not self._awaited and root not in self._gathering

    # ------------------------------------------------------------------ events

    def _suspend(self, now: float, event: Suspended) -> Sequence[Effect]:
        self.suspended = self._frozen = True
        self._set_shared()
        effects = self._suspend_copies(now)
        for waiting in self._seeking.values():
            effects += [
                Queue(found[0])
                for found in waiting
                if not isinstance(found, Ask)
                and found[1].owner.locks.get(found[1].name) is found[0]
            ]
        return effects

    def _resume(self, now: float, event: Resumed) -> Sequence[Effect]:
        if not self.suspended or not self.view:
            return []
        blocks = list(self.blocks.values())
        self.suspended = self._frozen = False
        self._set_shared()
        effects = self._thaw(now, blocks)
        for root in list(self._unasked):
            if root in self._seeking:
                effects += self._look_up(now, root)
        self._unasked.clear()
        return effects

    def _fenced(self, now: float, event: Fenced) -> Sequence[Effect]:
        life = event.life
        self.fenced.add(life)
        if life not in self.lost:
            return []
        self.lost.discard(life)
        guests = [guest for guest in self.guests.values() if guest.life == life]
        effects = self._bury(now, guests)
        self._set_shared()
        return effects

    def _install(self, now: float, event: ViewInstalled) -> Sequence[Effect]:
        assert event.view > self.view, "views only grow"
        gone = self._change_lives(event)
        blocks = list(self.blocks.values()) if self.suspended else []
        self.suspended = self._frozen = False
        self._set_shared()
        effects = [*self._part_with(now), *self._thaw(now, blocks)]
        effects += self._tell_all_members(now, gone)
        for root, waiting in self._seeking.items():
            self._seeking[root] = [
                found for found in waiting if not isinstance(found, Ask) or self._is_alive(found.id)
            ]
        for root in list(self._seeking):
            if root in self._seeking:
                effects += self._look_up(now, root)
        return effects if self._awaited else [*effects, *self._all_told(now)]

    def _change_lives(self, event: ViewInstalled) -> set[str]:
        """Take over what the view says; the names of members whose life before is gone."""
        before, self.lives = self.lives, dict(event.members)
        gone = {member for member, life in before.items() if self.lives.get(member) != life}
        self.view = event.view
        self._sequence = max(self._sequence, event.view << SEQUENCE_COUNT_BITS)
        self.members = sorted(self.lives)
        self.lost = set(event.lost) - self.fenced
        for member in self.members:
            if member in gone or member not in self._joined:
                self._joined[member] = event.view
        for member in [member for member in self._joined if member not in self.lives]:
            del self._joined[member]
        self._awaited = set(self.members) - {self.member}
        self._gathering, self._gathered_by, self._noted = {}, set(), {}
        self._collected.clear()
        self._unasked.clear()
        self._rebuilt = (0, 0)
        self.directory.masters.clear()
        for root in [root for root, master in self._elsewhere.items() if master in gone]:
            del self._elsewhere[root]
        self._held = [
            (home, message)
            for home, message in self._held
            if home not in gone and isinstance(message, Ask | Withdraw | Ended)
        ]
        return gone

    # -------------------------------------------------------- what is told

    def _tell_all_members(self, now: float, gone: set[str]) -> Effects:
        effects: Effects = []
        for member, roots in self._by_directory(self._mastered()).items():
            if member == self.member:
                self.directory.masters.update(dict.fromkeys(roots, member))
            else:
                effects += [Send(member, Masters(self.view, names)) for names in _batches(roots)]
        past = [
            found
            for found in self._open.values()
            if found.lock is None and found.root in self._unsettled
        ]
        for found in past:
            effects += self._again(found, found.master)
        lost, unsettled = self._without_master(gone)
        for member, roots in self._by_directory(unsettled).items():
            if member == self.member:
                self._noted.update(dict.fromkeys(roots))
            else:
                effects += [Send(member, Unsettled(self.view, names)) for names in _batches(roots)]
        asked = [found for found in self._open.values() if found.master in gone]
        in_vain = [found for found in asked if found.root not in lost]
        for found in in_vain:
            self._answered(found.message.id)
        for found in in_vain:
            effects += self._turned_away(now, found)
        effects += self._hand_in(now, lost)
        return effects + [Send(member, End(self.view)) for member in self._others()]

    def _others(self) -> list[str]:
        return [member for member in self.members if member != self.member]

    def _mastered(self) -> Iterator[bytes]:
        yield from (name for name in self.blocks if b".sub/" not in name)
        yield from self._idle

    def _by_directory(self, roots: Iterable[bytes]) -> dict[str, list[bytes]]:
        members = self.members
        count = len(members)
        found: dict[str, list[bytes]] = {member: [] for member in members}
        lists = list(found.values())
        for root in roots:
            lists[crc32(root) % count].append(root)
        return found

    def _without_master(self, gone: set[str]) -> tuple[dict[bytes, str], list[bytes]]:
        """The trees of copies here: those whose master is gone, with the new one, and those of
        which it is not known whether they have one."""
        lost: dict[bytes, str] = {}
        unsettled: list[bytes] = []
        for name, block in self.copies.items():
            if block.master in gone:
                if b".sub/" not in name and self._was_mastered(block):
                    lost[name] = directory_member(name, self.members)
                continue
            block.is_final = False
            if name in self._unsettled:
                unsettled.append(name)
        self._unsettled = {root: self._unsettled[root] for root in unsettled}
        return lost, unsettled

    def _was_mastered(self, block: RemoteBlock) -> bool:
        """Whether the master said anything of this block: else it may have been another's."""
        return bool(block.counts) or any(
            self._open[id].placed
            for lock in block.waiting
            if isinstance(lock, Copy)
            for id in self._open_on[lock]
        )

    # ------------------------------------------------------ what is heard

    def _on_masters(self, now: float, sender: str, message: Masters) -> Sequence[Effect]:
        self.directory.masters.update(dict.fromkeys(message.names, sender))
        return []

    def _on_unsettled(self, now: float, sender: str, message: Unsettled) -> Sequence[Effect]:
        self._noted.update(dict.fromkeys(message.names))
        return []

    def _on_end(self, now: float, sender: str, message: End) -> Sequence[Effect]:
        self._awaited.discard(sender)
        return [] if self._awaited else self._all_told(now)

    def _all_told(self, now: float) -> Sequence[Effect]:
        """End has come from everybody."""
        masters = self.directory.masters
        gathering = {root: None for root in self._noted if root not in masters}
        self._gathering = gathering
        for root in gathering:
            self._collected.pop(root, None)
        roots = [root for root in self._to_build() if root not in gathering]
        assert not any(root in masters for root in roots), "a tree with a master is not rebuilt"
        effects = self._build_counted(now, roots)
        if not gathering:
            return [*effects, *self._recovered(now)]
        self._gathered_by = set(self._others())
        for member in self._others():
            effects += [
                Send(member, Gather(self.view, names, False)) for names in _batches(gathering)
            ]
            effects.append(Send(member, Gather(self.view, (), True)))
        own = {root: self.member for root in gathering if self._has_copies(root)}
        effects += self._hand_in(now, own)
        effects += self._let_go(now)
        return effects if self._gathered_by else [*effects, *self._all_gathered(now)]

    def _to_build(self) -> list[bytes]:
        own = [
            name
            for name, block in self.copies.items()
            if block.master == self.member
            and b".sub/" not in name
            and directory_member(name, self.members) == self.member
        ]
        return list(dict.fromkeys([*self._collected, *own]))

    def _has_copies(self, root: bytes) -> bool:
        """Whether there are copies here that their master knows of."""
        block = self.copies.get(root)
        return block is not None and block.master is not None

    def _build_counted(self, now: float, roots: list[bytes]) -> Effects:
        effects, blocks, locks = self._build(now, roots)
        self._rebuilt = (self._rebuilt[0] + blocks, self._rebuilt[1] + locks)
        masters = self.directory.masters
        for root in roots:
            if root in self.blocks or root in self._idle:
                masters[root] = self.member
        return effects

    def _on_gather(self, now: float, sender: str, message: Gather) -> Sequence[Effect]:
        if self._awaited:
            self._held.append((sender, message))
            return []
        masters = {root: sender for root in message.names if self._has_copies(root)}
        effects = self._hand_in(now, masters)
        return [*effects, Send(sender, Gathered(self.view))] if message.is_all else effects

    def _on_gathered(self, now: float, sender: str, message: Gathered) -> Sequence[Effect]:
        self._gathered_by.discard(sender)
        return [] if self._gathered_by else self._all_gathered(now)

    def _all_gathered(self, now: float) -> Sequence[Effect]:
        roots = list(self._gathering)
        self._gathering = {}
        return [*self._build_counted(now, roots), *self._recovered(now)]

    def _recovered(self, now: float) -> Effects:
        effects: Effects = [Send(member, Settled(self.view)) for member in self._others()]
        effects.append(Recovered(self.view, *self._rebuilt))
        return [*effects, *self._let_go(now), *self._after_recovery(now)]

    def _after_recovery(self, now: float) -> Sequence[Effect]:
        """What else is to be done when the recovery is over."""
        return []

    def _on_settled(self, now: float, sender: str, message: Settled) -> Sequence[Effect]:
        for root, view in list(self._unsettled.items()):
            block = self.copies.get(root)
            if block is None or block.master is None:
                del self._unsettled[root]  # what was handed in is gone; others are being asked for
            elif block.master == sender and view == message.view:
                del self._unsettled[root]
        return []

    def _let_go(self, now: float) -> Effects:
        """Go on with what was held until the others had been heard."""
        held, self._held = self._held, []
        effects: Effects = []
        for sender, message in held:
            effects += self._hear(now, sender, message)
        for root in list(self._seeking):
            if root in self._seeking and self._knows(root):
                effects += self._look_up(now, root)
        return effects

    @abc.abstractmethod
    def _hear(self, now: float, sender: str, message: Message) -> Sequence[Effect]:
        """Let a message take effect."""

    def _on_lookup(self, now: float, sender: str, message: Lookup) -> Sequence[Effect]:
        if not self._is_complete(message.name):
            self._held.append((sender, message))
            return []
        master = self.directory.master_of(message.name, sender)
        return [Send(sender, LookedUp(self.view, message.name, master, self._sequence))]

    def _on_withdraw(self, now: float, sender: str, message: Withdraw) -> Sequence[Effect]:
        if message.lock not in self.guests and (self._awaited or self._gathering):
            self._held.append((sender, message))
            return []
        unheard = self._never_heard((message.lock,))
        return [*unheard, *self._serve_withdraw(now, message)]

    def _on_ended(self, now: float, sender: str, message: Ended) -> Sequence[Effect]:
        unknown = tuple(lock for lock in message.locks if lock not in self.guests)
        if unknown and (self._awaited or self._gathering):
            self._held.append((sender, replace(message, locks=unknown)))
        return [*self._never_heard(message.locks), *self._serve_ended(now, message)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _batches(names: Iterable[bytes]) -> Iterator[tuple[bytes, ...]]:
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
