"""The asking side of the lock manager: who wrote what to which lock file, and what they are told.

Everything here is synchronous and runs in the one thread of the request loop: a request is
answered at once, or parked until an effect of a later event decides it.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from clufs.dlm.interface import (
    Asked,
    Done,
    Effect,
    Grant,
    OwnerEnded,
    Queue,
    Refuse,
    Verb,
)
from clufs.dlm.interface import (
    Request as LockRequest,
)
from clufs.errors import (
    ClufsError,
    NoQuorum,
    NotHeld,
    ShuttingDown,
    UnknownProcess,
)
from clufs.fuse.asks import Ask, Through
from clufs.fuse.minority import EXPELLED
from clufs.fuse.owners import (
    DescriptorOwner,
    LockOwner,
    MemberOwner,
    Processes,
    ProcessOwner,
    parties,
)
from clufs.fuse.sides import release_ranges
from clufs.fuse.telling import send_signal
from clufs.fuse.waits import Waits
from clufs.timeouts import EXIT_SWEEP_S
from clufs.tree.grammar import Line, parse

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.dlm.node import Node
    from clufs.fuse.groups import Groups
    from clufs.fuse.lock_handle import LockHandle
    from clufs.fuse.lowlevel import Request
    from clufs.fuse.owner_record import OwnerRecord
    from clufs.fuse.timers import Timers
    from clufs.tree.items import Caller
    from clufs.tree.lock_tree import LockFile, LockTree
    from clufs.tree.member import Journals

_UNLOCK = LockRequest(Verb.UNLOCK)


class LockService(Waits):
    """Answers what is written to lock files, and ends what dies."""

    def __init__(
        self,
        node: Node,
        tree: LockTree,
        record: OwnerRecord,
        timers: Timers,
        journals: Journals,
        groups: Groups,
        kill_within_s: float | None = None,
    ) -> None:
        super().__init__(node, tree, record, journals, timers, groups, kill_within_s)
        self.processes = Processes(record, self._process_ended)
        self.stopping = False
        self._swept_s = monotonic()
        self._by_pid = self.processes.by_pid
        self._count = journals.busiest.count
        tree.unlink = self.unlink
        tree.may_create = self.may_create
        journals.refusals.process_of = self.processes.pid_of
        groups.process_of = self.processes.named
        groups.joined = lambda process: process.put_on(record)
        groups.changed = self.run

    # ------------------------------------------------------------ asking

    def write(self, handle: LockHandle, request: Request, data: bytes) -> int | None:
        """What a write of `data` returns: bytes taken, -errno, or None when it waits."""
        now = monotonic()
        try:
            if now > self.lease_until_s:
                self.end_lease()
            if now - self._swept_s > EXIT_SWEEP_S:
                self.sweep(now)
            line = parse(data)
            process = self._by_pid.get(request.pid) or self._asking_process(request.pid, handle)
            if line.plain and line.request is not None:
                owner = handle.owner
                if owner is None:
                    answer = self._ask(now, handle, request, data, line, process, process)
                else:
                    owner.asked_by(process)
                    answer = self._ask(now, handle, request, data, line, owner, process)
            else:
                answer = self._with_words(now, handle, request, data, line, process)
        except ClufsError as error:
            answer = self.refuse(handle, request, error)
        self._count(handle.key)
        self.metrics.requested(monotonic() - now)
        return answer

    def ask_of(
        self, handle: LockHandle, request: Request, line: Line, owner: DescriptorOwner
    ) -> Ask:
        """A request for a descriptor that came in another way than by a line. Raises what `ask` raises."""
        process = self._by_pid.get(request.pid) or self._asking_process(request.pid, handle)
        owner.asked_by(process)
        return Ask(line, b"", owner, process, handle, request, monotonic())

    def ask(self, ask: Ask) -> int | None:
        """0 when it is granted or done, None when it waits. Raises the ClufsError that refuses it."""
        now = ask.since
        if now > self.lease_until_s:
            self.end_lease()
        if now - self._swept_s > EXIT_SWEEP_S:
            self.sweep(now)
        request = ask.request
        assert request is not None
        self._count(ask.handle.key)
        return self._ask(now, ask.handle, request, ask.data, ask.line, ask.owner, ask.process, ask)

    def _asking_process(self, tid: int, handle: LockHandle) -> ProcessOwner | None:
        """The process of the thread `tid`; None where only a descriptor can own the lock."""
        try:
            return self.processes.get(tid)
        except ClufsError:
            if handle.owner is None:
                raise
            return None

    def _process(self, pid: int) -> ProcessOwner:
        return self._by_pid.get(pid) or self.processes.get(pid)

    def _ask(
        self,
        now: float,
        handle: Through,
        request: Request,
        data: bytes,
        line: Line,
        owner: LockOwner | None,
        process: ProcessOwner | None,
        ask: Ask | None = None,
    ) -> int | None:
        asked = line.request
        assert owner is not None and asked is not None
        if self.stopping and asked.verb is Verb.LOCK:
            raise ShuttingDown("clufsd is ending: no new locks")
        if self.is_expelled:
            raise NoQuorum(EXPELLED)
        place = None
        if owner.withdrawn is not None:
            place = _old_place(owner, handle.key, data, now)
        if owner.outcomes and asked.verb is not Verb.CANCEL:
            owner.outcomes.pop(handle.key, None)
        party, stuck = parties(owner, process, request.pid)
        parent = None
        if handle.parent_key is not None and handle.key not in owner.locks:
            parent = self._parent(owner, process, handle.parent_key)
        handle.fresh = True
        handle.lost = False
        handle.locker = owner
        event = Asked(owner, handle.key, asked, party, ask, parent, place, stuck)
        effects = self._step(now, event)
        if len(effects) == 1 and type(effects[0]) is Grant:
            owner.put_on(self.record)
            self.metrics.grants += 1
            return len(data)
        return self._outcome(now, event, effects, handle, request, data, line, owner, process, ask)

    def _outcome(
        self,
        now: float,
        event: Asked,
        effects: Iterable[Effect],
        handle: Through,
        request: Request,
        data: bytes,
        line: Line,
        owner: LockOwner,
        process: ProcessOwner | None,
        ask: Ask | None,
    ) -> int | None:
        """Carry out the effects of one's own request, and find in them what became of it."""
        waiting: Lock | None = None
        error: ClufsError | None = None
        decided = False
        for effect in effects:
            kind = type(effect)
            if kind is Grant and effect.sync:  # type: ignore[union-attr]
                owner.put_on(self.record)
                self.metrics.grants += 1
                decided = True
            elif type(effect) is Queue:
                waiting = effect.lock
                if ask is None:
                    ask = Ask(line, data, owner, process, handle, request, now)
                waiting.client = ask
            elif kind is Refuse and effect.lock is None:  # type: ignore[union-attr]
                error = effect.error  # type: ignore[union-attr]
            elif kind is Refuse and effect.lock is waiting:  # type: ignore[union-attr]
                error, waiting = effect.error, None  # type: ignore[union-attr]
                self.metrics.refused(error)
            elif kind is Done:
                decided = True
            else:
                self._deeds[kind](now, effect)
        if error is not None:
            raise error
        if waiting is None and not decided:
            ask = ask or Ask(line, data, owner, process, handle, request, now)
            answer = self._wait_elsewhere(now, event, ask)
            # What was sent leaves when the loop has no request left: many requests, one write.
            if len(self.parked) < 2:  # there are not many
                self.flush_sent()
            return answer
        if waiting is None or waiting.wanted is None:
            return len(data)
        assert ask is not None
        return self._wait(now, ask, waiting)

    def _with_words(
        self,
        now: float,
        handle: LockHandle,
        request: Request,
        data: bytes,
        line: Line,
        process: ProcessOwner | None,
    ) -> int | None:
        owner = self._owner(handle, request, line, process)
        if line.request is None:
            return self._await(handle, request, data, owner)
        ask = Ask(line, data, owner, process, handle, request, now)
        if (line.signal or line.lost) and process is None:
            raise UnknownProcess("no signal can be sent to a process whose id cannot be seen here")
        answer = self._ask(now, handle, request, data, line, owner, process, ask)
        if line.strict:
            handle.strict = True
        if line.lost and process is not None:
            lock = owner.locks.get(handle.key)
            if lock is not None:
                self._lost[lock] = (line.lost, process, request.uid)
        return answer

    def _owner(
        self, handle: LockHandle, request: Request, line: Line, process: ProcessOwner | None
    ) -> LockOwner:
        if line.persistent:
            return self._member_owners.setdefault(request.uid, MemberOwner(request.uid))
        if line.group is not None:
            return self.groups.owner_for(line.group, process)
        if handle.owner is not None:
            handle.owner.asked_by(process)
            return handle.owner
        assert process is not None
        return process

    def _parent(self, owner: LockOwner, process: ProcessOwner | None, key: bytes) -> Lock:
        """The granted lock above that lets this owner lock below. Raises NotHeld."""
        own = (owner.locks[key],) if key in owner.locks else ()
        return _first_granted((*own, *self._locks_of(process, key)))

    def _locks_of(self, process: ProcessOwner | None, key: bytes) -> Iterable[Lock]:
        """What a process has on a resource block: by itself, by descriptors, by its groups."""
        if process is not None:
            yield from process.held(key)
            for group in process.groups:
                if key in group.locks:
                    yield group.locks[key]

    # ------------------------------------------------------- ends of life

    def sweep(self, now: float) -> None:
        """End what belongs to processes that have exited."""
        self._swept_s = now
        self.processes.watch.sweep()

    def _process_ended(self, process: ProcessOwner) -> None:
        for descriptor in list(process.descriptors):
            descriptor.asked_by(None)
            descriptor.abnormal = True
        for side in list(process.sides):
            side.process_ended()
        if process.locks:
            self.run(OwnerEnded(process, abnormal=True))
        for group in list(process.groups):
            self.groups.leave(group, process)
            if not group.members and group.locks:
                self.run(OwnerEnded(group, abnormal=True))
        if process.making:
            self.maker_ended(process)

    def descriptor_closed(self, owner: DescriptorOwner) -> None:
        """The last close of a descriptor: its lock goes, cleanly or not as the last flush judged."""
        if owner.locks:
            self.run(OwnerEnded(owner, owner.abnormal))
        owner.asked_by(None)

    def unlink(self, file: LockFile, caller: Caller) -> None:
        """rm: release what the caller or its nearest ancestor holds on the file. Raises NotHeld."""
        lock = self.held_by(caller, file.key)
        if lock is not None:
            self.release(lock)
        elif not release_ranges(self.processes.of_ancestors(caller.pid), file):
            raise NotHeld("neither the caller nor an ancestor of it holds or awaits a lock here")

    def release(self, lock: Lock) -> None:
        """Have its owner give a lock up. Raises the ClufsError that refuses it."""
        now = monotonic()
        effects = self._step(now, Asked(lock.owner, lock.rsb.name, _UNLOCK, lock.party))
        for effect in effects:
            if type(effect) is Refuse and effect.lock is None:
                raise effect.error
        self._carry_out(now, effects)

    def may_create(self, parent_key: bytes, caller: Caller) -> None:
        """Raises NotHeld unless the caller holds the parent of a sublock granted."""
        locks = list(self._locks_of(self._process(caller.pid), parent_key))
        member = self._member_owners.get(caller.uid)
        if member is not None and parent_key in member.locks:
            locks.append(member.locks[parent_key])
        _first_granted(locks)

    def held_by(self, caller: Caller, key: bytes) -> Lock | None:
        """What the caller or its nearest ancestor that holds something has on a resource block."""
        for process in self.processes.of_ancestors(caller.pid):
            for lock in self._locks_of(process, key):
                return lock
        return None

    def stop(self, handles: Iterable[LockHandle]) -> None:
        """The daemon ends: no new locks, waiters get ESHUTDOWN, holders are told (contract 0)."""
        self.stopping = True
        for request, waiter in self.parked.all():
            if request in self.parked:
                ask = waiter if isinstance(waiter, Ask) else waiter.ask
                self._withdraw(ask, ShuttingDown("clufsd is ending"))
        for number, process, uid in list(self._lost.values()):
            send_signal(process, uid, number, 0)
        for handle in handles:
            handle.lost = True
            handle.wake()


def _first_granted(parents: Iterable[Lock]) -> Lock:
    """The lock that lets its owner lock below. Raises NotHeld when none of these is granted."""
    for lock in parents:
        if lock.granted is not None:
            return lock
    raise NotHeld("a sublock needs its parent granted to the same owner first")


def _old_place(owner: LockOwner, key: bytes, data: bytes, now: float) -> int | None:
    """The queue place of the same request, if a signal ended it a moment ago (contract 2.1, EINTR)."""
    withdrawn, owner.withdrawn = owner.withdrawn, None
    if withdrawn is None:
        return None
    old_key, old_data, place, until = withdrawn
    return place if old_key == key and old_data == data and now < until else None
