"""Which member masters a name: the directory, what is remembered of it, and names with no lock."""

from __future__ import annotations

import abc
from collections import OrderedDict
from collections.abc import Sequence

from clufs.dlm.directory import Directory, directory_member, root_of
from clufs.dlm.grants import Effects
from clufs.dlm.interface import Asked, Done, Effect, Queue, Refuse, Send, Verb
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Ask, Dropped, Id, LookedUp, Lookup, Message, NotMaster
from clufs.dlm.modes import Mode
from clufs.dlm.remote import Copy, Open
from clufs.dlm.unheard import Unheard
from clufs.dlm.usage import Usage
from clufs.errors import Cancelled, NoQuorum, NotHeld
from clufs.limits import IDLE_NAMES_KEPT, REMASTER_AFTER


class Seeking(Unheard, abc.ABC):
    """Finds the master of a name; the first member that asks for an unknown one becomes it.

    members: everybody in the view, by name. directory: the names whose directory this member is.
    """

    __slots__ = (
        "_elsewhere",
        "_held",
        "_idle",
        "_seeking",
        "_unasked",
        "_usage",
        "directory",
        "members",
    )

    def __init__(self, member: str, view: int, incarnation: int) -> None:
        super().__init__(member, view, incarnation)
        self.members: list[str] = []
        self.directory = Directory()
        self._idle: OrderedDict[bytes, None] = OrderedDict()
        self._elsewhere: OrderedDict[bytes, str] = OrderedDict()
        self._seeking: dict[bytes, list[tuple[Copy, Asked] | Ask]] = {}
        self._usage = Usage()
        self._unasked: dict[bytes, None] = {}  # sought while suspended
        self._held: list[tuple[str, Message]] = []  # until the others have been heard

    @abc.abstractmethod
    def _is_complete(self, root: bytes) -> bool:
        """Whether this member has heard all that the others have to say about this name."""

    def _knows(self, root: bytes) -> bool:
        """Whether the directory of this name is here and complete."""
        if self.suspended or not self._is_complete(root):
            return False
        return directory_member(root, self.members) == self.member

    def _route(self, now: float, event: Asked) -> Sequence[Effect]:
        name, idle = event.name, self._idle
        if name in idle and not self._frozen:  # the usual case: the same member uses the name again
            del idle[name]
            return self._new_block(now, event)
        root = root_of(name)
        if root in self.blocks or root in idle:
            return self._new_here(now, event, root)
        if isinstance(event.parent, Copy) and event.parent in self._releasing:
            self._releasing[event.parent].append(event)
            return []
        block = self.copies.get(root)
        master = self._elsewhere.get(root) if block is None else block.master
        if self.suspended and event.request.nowait:
            return [Refuse(NoQuorum("this member has no quorum"), event.client)]
        if master is None and root not in self._seeking and self._knows(root):
            master = self.directory.master_of(root, self.member)
            if master == self.member:
                self._master_anew(now, root)
                return [*self._new_here(now, event, root), *self._drop_idle()]
            self._remember(root, master)
        copy = self._new_copy(now, event, master)
        copy.rsb.master = master
        if master is None:
            return self._seek(now, root, (copy, event))
        return self._pass_on(copy, event)

    def _new_here(self, now: float, event: Asked, root: bytes) -> Sequence[Effect]:
        """The first lock on a name in a tree that is mastered here."""
        name = event.name
        self._idle.pop(name, None)
        haunting = self._haunting(root) if self.phantoms else []
        if not haunting and not self._frozen:
            return self._new_block(now, event)
        block = self._block_for(now, name)
        self._haunt(now, block, Mode.EX, haunting)
        effects = self._asked(now, event)
        if not block.counts and not block.wants and self.blocks.get(name) is block:
            self._end_block(name)
        return effects

    def _master_anew(self, now: float, root: bytes) -> None:
        """This member masters the name from now on: no living member has a lock on it."""
        if self.lost:
            self._haunt(now, self._block_for(now, root), Mode.EX, self.lost)
        else:
            self._idle[root] = None

    def _seek(self, now: float, root: bytes, waiting: tuple[Copy, Asked] | Ask) -> Sequence[Effect]:
        """Ask the directory for the master; what waits for the answer goes on in its order."""
        seeking = self._seeking.get(root)
        if seeking is None:
            self._seeking[root] = [waiting]
            if root in self.blocks or root in self._idle:  # an earlier request has found that out
                return self._looked_up(now, LookedUp(self.view, root, self.member, 0))
        else:
            seeking.append(waiting)
        effects: Effects = []
        if self.suspended and not isinstance(waiting, Ask):
            effects.append(Queue(waiting[0]))
        return effects if seeking is not None else [*effects, *self._look_up(now, root)]

    def _look_up(self, now: float, root: bytes) -> Sequence[Effect]:
        """Ask who masters a name that is sought."""
        if self.suspended:
            self._unasked[root] = None
            return []  # the directory is asked when there is a view
        member = directory_member(root, self.members)
        if member != self.member:
            return [Send(member, Lookup(self.view, root))]
        if not self._is_complete(root):
            return []
        master = self.directory.master_of(root, self.member)
        return self._looked_up(now, LookedUp(self.view, root, master, self._sequence))

    def _looked_up(self, now: float, message: LookedUp) -> Sequence[Effect]:
        root, master = message.name, message.master
        waiting = self._seeking.pop(root, [])
        here = master == self.member
        if here:
            self._sequence = max(self._sequence, message.floor)
            if root not in self.blocks and root not in self._idle:
                self._master_anew(now, root)
            self._seeking[root] = []  # so that the first of these does not make it give the name up
        else:
            self._remember(root, master)
        effects: Effects = []
        for found in waiting:
            if isinstance(found, Ask):
                effects += self._on_ask(now, found)
                continue
            copy, event = found
            if event.owner.locks.get(event.name) is not copy:
                continue
            if here:
                effects += self._take_home(now, copy, event)
            else:
                copy.rsb.master = master
                effects += self._pass_on(copy, event)
        if here:
            self._seeking.pop(root, None)
        return effects + self._drop_idle()

    def _take_home(self, now: float, copy: Copy, event: Asked) -> Effects:
        """A new lock that was to go elsewhere is decided here, and stays the same for the edge."""
        given_up = self._given_up(copy)
        if given_up:
            why = Cancelled("taken back before it was asked")
            effects: Effects = [Done(late.request, late.client) for late in given_up]
            effects.append(Refuse(why, event.client))
            return [*effects, *self._drop_told(now, copy, None, False)[1:]]
        self._take_out(copy)
        lock = become_lock(copy)
        name = event.name
        self._idle.pop(name, None)
        haunting = self._haunting(root_of(name)) if self.phantoms else []
        if haunting and name not in self.blocks:
            self._haunt(now, self._block_for(now, name), Mode.EX, haunting)
        return self._told(self._admit(now, lock, event))

    def _given_up(self, copy: Copy) -> list[Asked]:
        """The releases and cancels that have followed a request that had no effect."""
        found = [self._open[id] for id in list(self._open_on[copy])]
        late = [
            one
            for one in found
            if one.event is not None and not self._is_lock_request(one.message.id)
        ]
        for one in late:
            self._answered(one.message.id)
        return [one.event for one in late if one.event is not None]

    def _on_ask(self, now: float, message: Ask) -> Sequence[Effect]:
        root = root_of(message.name)
        if root in self.blocks or root in self._idle:
            effects = self._serve(now, message)
            ahead = self._usage.asked(root, message.id.member)
            if ahead < REMASTER_AFTER:
                return effects
            if root in self._idle and root not in self._seeking:
                return [*effects, *self._give_up(root)]
            return [*effects, *self._offer(root, message.id.member, ahead)]
        if not self._is_complete(root):
            self._held.append((message.id.member, message))
            return []
        if root in self._seeking:  # the directory's answer to us is still on its way
            self._seeking[root].append(message)
            return []
        return [Send(message.id.member, NotMaster(self.view, message.id))]

    def _offer(self, root: bytes, member: str, ahead: int) -> Sequence[Effect]:
        """Another member is so far ahead in what it asks of a tree with locks."""
        return []

    def _never_heard(self, locks: tuple[Id, ...]) -> list[Effect]:
        """These locks are given up: their requests that wait here for the directory go, too."""
        effects: list[Effect] = []
        for root, waiting in self._seeking.items():
            gone = [found for found in waiting if isinstance(found, Ask) and found.lock in locks]
            if gone:
                self._seeking[root] = [found for found in waiting if found not in gone]
            for found in gone:
                effects += self._not_held(found, "the request was given up")
        return effects

    def _not_master(self, now: float, sender: str, message: NotMaster) -> Sequence[Effect]:
        found = self._open.get(message.id)
        if found is None or found.master != sender or self._is_unsettled(found):
            return []
        return self._turned_away(now, found)

    def _turned_away(self, now: float, found: Open) -> Sequence[Effect]:
        """Whom this was asked of is not the master: it has had no effect."""
        self._answered(found.message.id)
        if found.event is None:
            return []
        copy, event, root = found.lock, found.event, found.root
        if event.request.verb is not Verb.LOCK:
            return self._not_mastered_release(now, copy, event, found.master)
        if copy is None or copy not in self._open_on:
            return [Refuse(Cancelled("the lock was released"), event.client)]
        if self._elsewhere.get(root) == found.master:
            del self._elsewhere[root]
        if copy.rsb.master == found.master:
            copy.rsb.master = None
        if copy.rsb.master is None:
            return self._seek(now, root, (copy, event))
        return self._pass_on(copy, event)

    def _is_unsettled(self, found: Open) -> bool:
        """Whether what was asked of the tree's master will be sent again to another."""
        return False

    def _not_mastered_release(
        self, now: float, copy: Copy | None, event: Asked, asked: str | None
    ) -> Sequence[Effect]:
        """A release or cancel that followed a request to where (`asked`) the master no longer was."""
        held = [] if copy is None else self._releasing.pop(copy, [])
        if copy is None or event.owner.locks.get(event.name) is not copy:
            error = NotHeld("the request had ended before")
            return [Refuse(error, event.client), *self._replay(now, held)]
        granter = copy.rsb.master if copy.granted is not None else None
        if granter in (None, asked) or self.suspended or self._asked_of(copy) != asked:
            return [*self._asked(now, event), *self._replay(now, held)]
        # What went there with it comes back too: to follow that would lead there again, for ever.
        if event.request.verb is Verb.UNLOCK:
            self._releasing[copy] = held
        return self._pass_on(copy, event, granter)

    # ------------------------------------------------------------- directory

    def _forget_master(self, root: bytes, member: str, floor: int) -> None:
        self.directory.dropped(root, member)
        self._sequence = max(self._sequence, floor)

    def _remember(self, root: bytes, master: str) -> None:
        self._elsewhere[root] = master
        if len(self._elsewhere) > IDLE_NAMES_KEPT:
            self._elsewhere.popitem(last=False)

    # Names that are mastered here and have no lock for a while.

    def _end_block(self, name: bytes) -> None:
        del self.blocks[name]
        if self._shared and b".sub/" not in name:
            self._idle[name] = None

    def _drop_idle(self) -> list[Effect]:
        """Give up the names that have been idle for longest, where there are too many.

        Not while the directory has still to say who masters them: its answer would come too late.
        """
        effects: list[Effect] = []
        while len(self._idle) > IDLE_NAMES_KEPT and not self.suspended:
            root = next((root for root in self._idle if root not in self._seeking), None)
            if root is None:
                break
            effects += self._give_up(root)
        return effects

    def _give_up(self, root: bytes) -> list[Effect]:
        """Master a name with no lock no more: the next member that asks does."""
        if self.suspended:
            return []
        del self._idle[root]
        self._usage.forget(root)
        member = directory_member(root, self.members)
        if member != self.member:
            return [Send(member, Dropped(self.view, root, self._sequence))]
        self._forget_master(root, member, self._sequence)
        return []


def become_lock(copy: Copy) -> Lock:
    """The same lock, mastered here from now on: whoever refers to it need not know."""
    lock: Lock = copy
    lock.__class__ = Lock
    return lock
