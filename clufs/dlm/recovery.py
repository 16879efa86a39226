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

All this is done in steps (see `turns`), between which whatever is not lost is served: first is
released what finished lives held, then the others are told, then the trees are rebuilt, each of
them usable as soon as it is there. What is asked meanwhile of a tree whose master is gone waits
at home until its copies are handed in.

A view may come before the recovery for the last one is over. The new master of a tree may then
be alive but not have built it, or have built it without everybody knowing; so until it has said
`Settled`, homes count the tree as unsettled. If nobody says in Masters that it masters the
tree, its directory member asks all members for their copies (Gather, Gathered). They answer
when they have End from everybody themselves: no answer of a former master is on its way then.
What its master has given up in this view has had no lock since: nothing that is told of it counts.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from clufs.dlm.directory import directory_member, root_of
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
from clufs.dlm.rebuild import Collected
from clufs.dlm.telling import Telling, batches
from clufs.limits import SEQUENCE_COUNT_BITS


class Recovery(Telling, abc.ABC):
    """Installs views, and recovers.

    _awaited: the members whose End is missing; this one while it has not told all. _gathering: the
    trees whose copies all members are asked for. _gathered_by: the members that have not sent them
    yet. _without_locks: what its master has given up, with no lock on it, while not all was heard.
    _recovering: not all trees are there yet.
    """

    __slots__ = (
        "_awaited",
        "_gathered_by",
        "_gathering",
        "_joined",
        "_rebuilt",
        "_recovering",
        "_without_locks",
    )

    def __init__(self, member: str, view: int, incarnation: int, members: Sequence[Life]) -> None:
        super().__init__(member, view, incarnation)
        if view:
            self.lives = dict(members) or {member: incarnation}
        self.members = sorted(self.lives)
        self._joined = dict.fromkeys(self.lives, view)
        self._awaited: set[str] = set()
        self._gathering: dict[bytes, None] = {}
        self._gathered_by: set[str] = set()
        self._without_locks: set[bytes] = set()
        self._rebuilt = (0, 0)
        self._recovering = False
        self.suspended = self._frozen = view == 0
        self._set_shared()

    def _set_shared(self) -> None:
        """Alone, with nobody lost and all trees built, a name without a block here is nowhere."""
        alone = len(self.members) <= 1 and not (self.lost or self._recovering)
        self._shared = self.suspended or not alone
        if not self._shared:
            self._idle.clear()
            self.directory.masters.clear()

    def waits_for(self) -> str:
        """What recovery waits for, in a sentence without its full stop; empty for nothing."""
        if self.suspended:
            return "a view with quorum"
        reasons = []
        if awaited := self._awaited - {self.member}:
            reasons.append(f"the locks that {_listed(awaited)} can tell of")
        if self.member in self._awaited or self._unbuilt:
            reasons.append("its own part in the recovery")
        if self._gathered_by:
            reasons.append(f"the copies that {_listed(self._gathered_by)} have")
        if self.lost:
            lives = [f"{life.member} (incarnation {life.incarnation})" for life in self.lost]
            reasons.append(f"the fencing of {_listed(lives)}")
        return " and ".join(reasons)

    def is_gathering(self) -> bool:
        """Whether the members of the view have still to tell what locks they know of."""
        return self.suspended or self.is_recovering()

    def is_recovering(self) -> bool:
        """Whether there are trees here that may have to be rebuilt."""
        return self._recovering

    def is_being_made(self, root: bytes) -> bool:
        """Whether locks of this tree may stand though it is mastered nowhere just now."""
        return root in self._gathering or root in self._unbuilt

    def _is_complete(self, root: bytes) -> bool:
        if self._awaited:
            return root in self.directory.masters  # who masters it has said so
        return not self.is_being_made(root)

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
        self.suspended = self._frozen = False
        self._set_shared()
        effects = self._thaw(now, list(self.parties.contended))
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
        self._bury_later()
        self._set_shared()
        return [] if self.suspended else self._work_on(now)

    def _install(self, now: float, event: ViewInstalled) -> Sequence[Effect]:
        assert event.view > self.view, "views only grow"
        gone = self._change_lives(event)
        blocks = list(self.parties.contended) if self.suspended else []
        self.suspended = self._frozen = False
        self._set_shared()
        effects = [*self._part_with(now), *self._thaw(now, blocks)]
        sought = list(self._seeking)
        effects += self._tell_later(now, gone)
        for root, waiting in self._seeking.items():
            self._seeking[root] = [
                found for found in waiting if not isinstance(found, Ask) or self._is_alive(found.id)
            ]
        for root in sought:  # others that are sought by now have been looked up
            if root in self._seeking:
                effects += self._look_up(now, root)
        return [*effects, *self._work_on(now)]

    def _change_lives(self, event: ViewInstalled) -> set[str]:
        """Take over what the view says; the names of members whose life before is gone."""
        before, self.lives = self.lives, dict(event.members)
        gone = {member for member, life in before.items() if self.lives.get(member) != life}
        if event.view > self.view + 1:
            self._rise_above(event.view)
        self.view = event.view
        self._sequence = max(self._sequence, event.view << SEQUENCE_COUNT_BITS)
        self.members = sorted(self.lives)
        self.lost = set(event.lost) - self.fenced
        for member in self.members:
            if member in gone or member not in self._joined:
                self._joined[member] = event.view
        for member in [member for member in self._joined if member not in self.lives]:
            del self._joined[member]
        self._awaited = set(self.members)
        self._gathering, self._gathered_by, self._noted = {}, set(), {}
        self._without_locks.clear()
        self._work.clear()
        self._collected.clear()
        self._unbuilt = {}
        self._unasked.clear()
        self._rebuilt = (0, 0)
        self._recovering = True
        self.directory.masters.clear()
        for root in [root for root, master in self._elsewhere.items() if master in gone]:
            del self._elsewhere[root]
        self._held = [
            (home, message)
            for home, message in self._held
            if home not in gone and isinstance(message, Ask | Withdraw | Ended)
        ]
        return gone

    def _rise_above(self, view: int) -> None:
        """Others had views without this member, and are gone without a trace: they may have told of
        values, and of invalid ones, with a higher VALSEQ than here. None was written that stands, for
        who could write is known here to have held a lock."""
        for block in self.blocks.values():
            block.valseq = max(block.valseq, view << SEQUENCE_COUNT_BITS)

    # ------------------------------------------------------ what is heard

    def _on_masters(self, now: float, sender: str, message: Masters) -> Sequence[Effect]:
        self.directory.masters.update(dict.fromkeys(message.names, sender))
        return self._let_go_of(now, message.names)

    def _on_unsettled(self, now: float, sender: str, message: Unsettled) -> Sequence[Effect]:
        self._noted.update(dict.fromkeys(message.names))
        return []

    def _forget_master(self, root: bytes, member: str, floor: int) -> None:
        super()._forget_master(root, member, floor)
        if self._awaited:
            self._without_locks.add(root)

    def _on_end(self, now: float, sender: str, message: End) -> Sequence[Effect]:
        return [*self._has_told(now, sender), *self._work_on(now)]

    def _has_told(self, now: float, member: str) -> Effects:
        self._awaited.discard(member)
        return [] if self._awaited else self._all_told(now)

    def _all_told(self, now: float) -> Effects:
        """End has come from everybody, and all has been told."""
        masters = self.directory.masters
        self._gathering = gathering = {root: None for root in self._noted if root not in masters}
        self._without_locks &= gathering.keys()
        for root in gathering:
            self._collected.pop(root, None)
        self._unbuilt = dict.fromkeys(self._collected)
        assert not self._unbuilt.keys() & masters, "a tree with a master is not rebuilt"
        self._work.append(self._rebuild)
        if not gathering:
            self._work.append(self._recovered)
            return []
        self._gathered_by = set(self._others())
        effects: Effects = []
        for member in self._others():
            effects += [
                Send(member, Gather(self.view, names, False)) for names in batches(gathering)
            ]
            effects.append(Send(member, Gather(self.view, (), True)))
        own = {root: self.member for root in gathering if self._has_copies(root)}
        effects += [*self._hand_in(now, own), *self._forget_ended(gathering)]
        self._work.append(self._let_go)
        return effects if self._gathered_by else [*effects, *self._all_gathered(now)]

    def _has_copies(self, root: bytes) -> bool:
        """Whether there are copies here that their master knows of."""
        block = self.copies.get(root)
        return block is not None and block.master is not None

    def _rebuild(self, now: float) -> Effects:
        """Build some of the trees, and go on with what was held because of them."""
        roots = self._next_to_build()
        if not roots:
            return []
        effects, blocks, locks = self._build(now, roots)
        self._rebuilt = (self._rebuilt[0] + blocks, self._rebuilt[1] + locks)
        masters = self.directory.masters
        for root in roots:
            del self._unbuilt[root]
            if root in self.blocks or root in self._idle:
                masters[root] = self.member
        self._work.appendleft(self._rebuild)
        return [*effects, *self._let_go_of(now, roots)]

    def _on_gather(self, now: float, sender: str, message: Gather) -> Sequence[Effect]:
        if self._awaited:
            self._held.append((sender, message))
            return []
        masters = {root: sender for root in message.names if self._has_copies(root)}
        effects = [*self._hand_in(now, masters), *self._forget_ended(frozenset(message.names))]
        return [*effects, Send(sender, Gathered(self.view))] if message.is_all else effects

    def _on_gathered(self, now: float, sender: str, message: Gathered) -> Sequence[Effect]:
        self._gathered_by.discard(sender)
        if self._gathered_by:
            return []
        return [*self._all_gathered(now), *self._work_on(now)]

    def _all_gathered(self, now: float) -> Effects:
        for root in self._without_locks:  # whatever others knew of it has ended with its last lock
            self._collected.setdefault(root, Collected()).known = frozenset()
        self._unbuilt.update(self._gathering)
        self._gathering = {}
        self._work += (self._rebuild, self._recovered)
        return []

    def _recovered(self, now: float) -> Effects:
        """All trees are there."""
        self._recovering = False
        effects: Effects = []
        for found in [found for found in self._open.values() if found.lock is None]:
            if found.master == self.member:
                effects += self._again(found, self.member)
        effects += [Send(member, Settled(self.view)) for member in self._others()]
        self._settle_trees(self.member, self.view)
        effects.append(Recovered(self.view, *self._rebuilt))
        effects += self._let_go(now)
        self._set_shared()
        return [*effects, *self._after_recovery(now)]

    def _after_recovery(self, now: float) -> Sequence[Effect]:
        """What else is to be done when the recovery is over."""
        return []

    def _on_settled(self, now: float, sender: str, message: Settled) -> Sequence[Effect]:
        self._settle_trees(sender, message.view)
        return []

    def _settle_trees(self, sender: str, settled: int) -> None:
        """This member has rebuilt all that it had been sent for this view."""
        current = settled == self.view
        for root, view in list(self._unsettled.items()):
            block = self.copies.get(root)
            if block is None or block.master is None:
                del self._unsettled[root]  # what was handed in is gone; others are being asked for
            elif view == settled and block.master == sender:
                del self._unsettled[root]
            elif view < settled and current and directory_member(root, self.members) == sender:
                del self._unsettled[root]  # asked whether it has a master, it has not gathered it

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

    def _let_go_of(self, now: float, roots: Sequence[bytes]) -> Effects:
        """The masters of these are known: what was held until then comes before what is asked next."""
        ready: list[tuple[str, Message]] = []
        rest: list[tuple[str, Message]] = []
        built = set(roots) if self._held else set()
        for sender, message in self._held:
            (ready if self._is_about(message, built) else rest).append((sender, message))
        self._held = rest
        effects: Effects = []
        for sender, message in ready:
            effects += self._hear(now, sender, message)
        for root in [root for root in roots if root in self._seeking] if self._seeking else ():
            if root in self._seeking and self._knows(root):
                effects += self._look_up(now, root)
        return effects

    def _is_about(self, message: Message, roots: set[bytes]) -> bool:
        if isinstance(message, Ended):
            return any(lock in self.guests for lock in message.locks)
        return isinstance(message, Lookup | Ask | Withdraw) and root_of(message.name) in roots

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
        if message.lock not in self.guests and self.is_recovering():
            self._held.append((sender, message))
            return []
        unheard = self._never_heard((message.lock,))
        return [*unheard, *self._serve_withdraw(now, message)]

    def _on_ended(self, now: float, sender: str, message: Ended) -> Sequence[Effect]:
        unknown = tuple(lock for lock in message.locks if lock not in self.guests)
        if unknown and self.is_recovering():
            self._held.append((sender, replace(message, locks=unknown)))
        return [*self._never_heard(message.locks), *self._serve_ended(now, message)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
