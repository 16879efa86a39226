"""The home's side: this member's locks on resource blocks that other members master.

A copy follows what its master says. It waits from the moment its request is sent; what the
edge hears, it hears when the master's answer comes.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any

from clufs.dlm.directory import root_of
from clufs.dlm.grants import Effects
from clufs.dlm.interface import (
    Asked,
    BlockEnded,
    Done,
    Effect,
    OwnerEnded,
    Queue,
    Refuse,
    Released,
    Send,
    Verb,
    Withdrew,
)
from clufs.dlm.judge import judge_release
from clufs.dlm.lock import Lock
from clufs.dlm.lost import Lost
from clufs.dlm.messages import (
    Ask,
    Ended,
    Id,
    Withdraw,
)
from clufs.dlm.modes import Mode
from clufs.dlm.party_names import PartyNames
from clufs.dlm.remote import LOST, Copy, Open, RemoteBlock
from clufs.dlm.rsb import UNIT
from clufs.errors import Cancelled, NoQuorum, RequestPending


class Copies(Lost, abc.ABC):
    """Passes requests on to their masters, and keeps what is held of them; `answers` follows what they say.

    copies: the blocks of which this member has a copy, by name.
    members: the names of everybody in the view.
    """

    members: list[str]

    __slots__ = (
        "_by_id",
        "_open",
        "_open_on",
        "_releasing",
        "_serial",
        "copies",
        "incarnation",
        "member",
        "names",
    )

    def __init__(self, member: str, view: int, incarnation: int) -> None:
        super().__init__(view)
        self.member = member
        self.incarnation = incarnation
        self.copies: dict[bytes, RemoteBlock] = {}
        self._open: dict[Id, Open] = {}
        self._open_on: dict[Copy, dict[Id, None]] = {}
        self._by_id: dict[Id, Copy] = {}
        self._releasing: dict[Copy, list[Asked]] = {}
        self.names = PartyNames(member, incarnation, self.parties, self.stuck_elsewhere)
        self._serial = 0

    def _id(self) -> Id:
        self._serial += 1
        return Id(self.member, self.incarnation, self._serial)

    def lock_id(self, lock: Lock) -> Id:
        """How other members name a lock of this member."""
        return Id(self.member, self.incarnation, lock.id)

    def open_requests(self) -> list[Ask | Withdraw | Ended]:
        """What has been sent and is not answered yet."""
        return [found.message for found in self._open.values()]

    def copy(self, id: Id) -> Copy | None:
        """The copy of the lock of this name."""
        return self._by_id.get(id)

    def waiting_copies(self) -> Iterator[Copy]:
        """The locks of this member that wait elsewhere, each with one request."""
        for open in self._open.values():
            copy, event = open.lock, open.event
            if copy is not None and event is not None and event.request.verb is Verb.LOCK:
                yield copy

    def stuck_elsewhere(self) -> dict[Any, int]:
        """Who is stuck in requests of this member on blocks elsewhere, and in how many."""
        found: dict[Any, int] = {}
        for copy in self.waiting_copies():
            found[copy.waiter] = found.get(copy.waiter, 0) + 1
        return found

    def is_at_rest(self, id: Id, number: int, asked: Id | None) -> bool:
        """Nothing is under way about this lock or those above it but, where it waits, `asked`."""
        copy = self._by_id.get(id)
        if copy is None or copy in self._releasing:
            return False
        if list(self._open_on[copy]) != ([] if asked is None else [asked]):
            return False
        if copy.granted is not None and copy.number != number:
            return False
        above = copy.parent
        while isinstance(above, Copy):
            if any(not self._is_lock_request(id) for id in self._open_on[above]):
                return False
            above = above.parent
        return True

    # ------------------------------------------------------ what is passed on

    def _new_copy(self, now: float, event: Asked, master: str | None) -> Copy:
        block = self.copies.get(event.name)
        if block is None:
            block = RemoteBlock(event.name, now, master)
            self.copies[event.name] = block
        self._sequence += 1
        copy = Copy(self._sequence, block, event, None, now)
        event.owner.locks[event.name] = copy
        self.parties.link(copy)
        if event.parent is not None:
            self._adopt(copy, event.parent)
        self._by_id[self.lock_id(copy)] = copy
        self._open_on[copy] = {}
        self._await(copy, event)
        return copy

    def _await(self, copy: Copy, event: Asked) -> None:
        copy.wanted = event.request.mode
        copy.waiter = event.party if event.waiter is None else event.waiter
        copy.place = event.place or 0
        copy.rsb.queue_of(copy).append(copy)
        copy.rsb.wants += UNIT[copy.wanted]

    def _pass_on(self, copy: Copy, event: Asked, master: str | None = None) -> Effects:
        """Send this request on a copy to its master; to this member itself when it is ready."""
        new = copy.granted is None and event.request.verb is Verb.LOCK
        master = master or (copy.rsb.master if new else self._asked_of(copy))
        assert master is not None
        id = self._id()
        parent = None if copy.parent is None else self.lock_id(copy.parent)
        lock = self.lock_id(copy)
        pid, command = (copy.owner.pid, copy.owner.command) if new else (0, "-")
        message = Ask(
            self.view,
            id,
            lock,
            event.name,
            event.request,
            new,
            parent,
            event.place,
            pid,
            command,
            *self.names.of_lock(copy),
        )
        found = self._open[id] = Open(message, master, root_of(event.name), copy, event)
        self._open_on[copy][id] = None
        if self.parties.fresh is not None and event.request.verb is Verb.LOCK:
            self.parties.fresh.append((copy, copy.since))
        found.unsent = master in (self.member, LOST)
        effects: Effects = [] if found.unsent else [Send(master, message)]
        if self.suspended and event.request.verb is Verb.LOCK:
            found.queued = True
            effects.append(Queue(copy))
        return effects

    def _ask_master(self, now: float, lock: Lock, event: Asked) -> Sequence[Effect]:
        """The owner has a copy already: a conversion, a release, a cancel."""
        assert isinstance(lock, Copy)
        request = event.request
        if lock in self._releasing:
            if event.parent is None:
                event.parent = lock.parent  # it may have to make the lock anew
            self._releasing[lock].append(event)
            return []
        if self._asked_of(lock) is None:
            return self._on_unsent(lock, event)
        if self.suspended and request.verb is not Verb.LOCK:
            return self._unheard(now, lock, event)
        if request.verb is Verb.LOCK:
            if lock.wanted is not None:
                return [Refuse(RequestPending("a request still waits here"), event.client)]
            assert lock.granted is not None
            if self.suspended and request.nowait:
                return [Refuse(NoQuorum("this member has no quorum"), event.client)]
            lock.kept = (lock.request, lock.client, lock.party, lock.since)
            lock.rsb.remove(lock)
            lock.request, lock.since = request, now
            self.parties.move(lock, event.party)
            lock.client = event.client
            self._await(lock, event)
            return self._pass_on(lock, event)
        if request.verb is Verb.UNLOCK:
            self._releasing[lock] = []
        return self._pass_on(lock, event)

    @abc.abstractmethod
    def _unheard(self, now: float, lock: Copy, event: Asked) -> Sequence[Effect]:
        """Release or cancel while no answer can come."""

    # ------------------------------------------------------- ends of requests

    def _on_unsent(self, lock: Copy, event: Asked) -> Sequence[Effect]:
        """The request has not left this member: its master is not known yet."""
        request = event.request
        if request.verb is Verb.LOCK:
            return [Refuse(RequestPending("a request still waits here"), event.client)]
        error = judge_release(request, None)
        if error is not None:
            return [Refuse(error, event.client)]
        effects: Effects = [Done(request, event.client)]
        if request.verb is not Verb.UNLOCK_ALL:
            effects.append(Refuse(Cancelled("taken back before it was asked"), lock.client))
            self._drop(lock)
        return effects

    def _asked_of(self, copy: Copy) -> str | None:
        """Where all that follows on this lock goes: to whom it was asked of last, whoever the
        block's master is said to be by then; None while nothing has left."""
        for id in reversed(self._open_on[copy]):
            return self._open[id].master
        return copy.rsb.master if copy.granted is not None else None

    def _answered(self, id: Id) -> Open | None:
        """The message that is answered now, if its answer was still awaited."""
        found = self._open.pop(id, None)
        if found is not None and found.lock is not None:
            self._open_on[found.lock].pop(id, None)
        return found

    def _withdrew(self, now: float, event: Withdrew) -> Sequence[Effect]:
        copy = event.lock
        if not isinstance(copy, Copy):
            return super()._withdrew(now, event)
        wanted, master, root = copy.wanted, self._asked_of(copy), root_of(copy.rsb.name)
        if wanted is None or (copy.kept is not None and copy.ranges is not None):
            return []  # bytes that were given up are not taken back
        if master is None:
            return self._drop_told(now, copy, None, False)
        asked = next((id for id in self._open_on[copy] if self._is_lock_request(id)), None)
        if asked is None:  # it was turned away, and its master is being sought
            return self._drop_told(now, copy, None, False)
        found = self._answered(asked)
        assert found is not None
        writes = copy.request.value is not None or copy.request.invalidate
        if writes and not found.unsent:
            copy.rsb.is_stale = True
        here = master in (self.member, LOST)
        if here and copy.granted is None:
            return self._drop_told(now, copy, None, False)
        if found.unsent:
            self._put_back(copy)
            return []
        here = here or master == self.member
        id = self._id()
        kept = None if copy.kept is None else copy.kept[0]
        name = copy.rsb.name
        message = Withdraw(self.view, id, self.lock_id(copy), name, asked, kept, wanted)
        send: Effects = [] if here else [Send(master, message)]
        if copy.granted is None:
            self._open[id] = Open(message, master, root)
            return [*send, *self._drop_told(now, copy, None, False)]
        self._open[id] = Open(message, master, root, copy)
        self._open_on[copy][id] = None
        self._put_back(copy)
        return send

    def _is_lock_request(self, id: Id) -> bool:
        event = self._open[id].event
        return event is not None and event.request.verb is Verb.LOCK

    def _owner_ended(self, now: float, event: OwnerEnded) -> Sequence[Effect]:
        doomed: dict[Lock, None] = {}
        for lock in event.owner.locks.values():
            if isinstance(lock, Copy) and lock not in doomed:
                doomed.update(dict.fromkeys(self._below(lock)))
        effects: Effects = []
        ended: dict[str, list[Id]] = {}
        below = any(lock.parent is not None for lock in doomed)
        for lock in doomed:
            assert isinstance(lock, Copy)
            master = self._asked_of(lock)
            if master is not None and master not in (self.member, LOST):
                ended.setdefault(master, []).append(self.lock_id(lock))
            if lock.wanted is not None and lock.owner is not event.owner:
                error = Cancelled("the lock above it was released")
                effects.append(Refuse(error, lock.client, lock))
            for id in self._open_on[lock]:
                self._open[id].event = None
            self._releasing.pop(lock, None)
            effects += self._drop_told(now, lock, lock.granted, event.abnormal)
        for master, locks in ended.items():
            id = self._id()
            message = Ended(self.view, id, tuple(locks), event.abnormal)
            self._open[id] = Open(message, master, below=below)
            effects.append(Send(master, message))
        effects += super()._owner_ended(now, event)
        return effects

    def _replay(self, now: float, held: list[Asked]) -> Sequence[Effect]:
        """Requests that came while the lock was being released, now in their order.

        A lock is granted once in a step, so that `client` is that of the request.
        """
        effects: Effects = []
        for event in held:
            lock = event.owner.locks.get(event.name)
            just_granted = lock is not None and lock.granted is not None and lock.since == now
            if just_granted and event.request.verb is Verb.LOCK:
                error = RequestPending("a request has only just been granted here")
                effects.append(Refuse(error, event.client))
            else:
                effects += self._asked(now, event)
        return effects

    # ---------------------------------------------------------------- the copies

    def _leave(self, copy: Copy) -> None:
        assert copy.wanted is not None
        copy.rsb.queue_of(copy).remove(copy)
        copy.rsb.wants -= UNIT[copy.wanted]
        copy.wanted = copy.waiter = None

    def _hold(self, copy: Copy, mode: Mode, number: int) -> None:
        copy.granted = mode
        copy.number = number
        copy.rsb.counts += UNIT[mode]
        copy.rsb.append(copy)

    def _put_back(self, copy: Copy) -> None:
        """The conversion is over without a grant (9.5)."""
        self._leave(copy)
        assert copy.kept is not None
        copy.request, copy.client, party, copy.since = copy.kept
        copy.kept = None
        self.parties.move(copy, party)
        copy.rsb.append(copy)

    def _drop_told(self, now: float, copy: Copy, mode: Mode | None, abnormal: bool) -> list[Effect]:
        self._drop(copy)
        effects: list[Effect] = [Released(copy, mode, abnormal)]
        if copy.rsb.name not in self.copies:
            effects.append(BlockEnded(copy.rsb.name))
        effects += self._replay(now, self._releasing.pop(copy, []))
        return effects

    def _drop(self, copy: Copy) -> None:
        """The copy goes; answers that are still under way are nobody's."""
        self._take_out(copy)
        self._forget(copy)

    def _take_out(self, copy: Copy) -> None:
        """The lock is no copy any more."""
        block = copy.rsb
        granted = copy.granted
        if copy.wanted is not None:
            self._leave(copy)
        else:
            block.remove(copy)
        if granted is not None:
            block.counts -= UNIT[granted]
        for id in self._open_on.pop(copy):
            self._open[id].lock = None
        del self._by_id[self.lock_id(copy)]
        if not block.counts and not block.wants:
            del self.copies[block.name]
