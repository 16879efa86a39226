"""fcntl(2) locks on byte ranges, clusterwide: F_SETLK, F_SETLKW, F_GETLK, and F_OFD_* for descriptors.

What kind of file it is does not matter here. F_RDLCK is PR and F_WRLCK is EX on the bytes; a process's
locks on a file end with the first close of that file by it, a descriptor's with its last close.
Nobody but fcntl(2) excludes them: as on other file systems flock(2) has locks of its own.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from clufs.dlm.interface import Asked, OwnerEnded, Request, Verb
from clufs.dlm.modes import Mode
from clufs.dlm.ranges import Spans, covers, meet, union, without
from clufs.errors import ClufsError, TooManyRanges
from clufs.fuse import processes
from clufs.fuse.asks import Ask, Deed
from clufs.fuse.sides import Presence, RangedFile, RangeOwner, Side
from clufs.limits import RANGE_LOCKS_OF_A_SIDE, RANGES_OF_A_SIDE_MAX
from clufs.tree.grammar import Line

if TYPE_CHECKING:
    from clufs.fuse.lock_service import LockService
    from clufs.fuse.lowlevel import Request as SystemCall
    from clufs.fuse.owners import ProcessOwner

MODES = {fcntl.F_RDLCK: Mode.PR, fcntl.F_WRLCK: Mode.EX}

_UNLOCK = Request(Verb.UNLOCK)
_PRESENT = Request(Verb.LOCK, Mode.NL, nodeadlock=True)


class RangeLocks:
    """The ranges that processes and descriptors of this member hold and await."""

    def __init__(self, service: LockService) -> None:
        self._service = service
        self._files: dict[bytes, RangedFile] = {}
        self._by_handle: dict[int, set[Side]] = {}
        self._is_told = False
        self._due: list[Asked | OwnerEnded] = []

    def __bool__(self) -> bool:
        """Whether anybody here has asked for ranges and still has that file open."""
        return bool(self._files)

    def __contains__(self, key: bytes) -> bool:
        """Whether ranges are locked here in the file with this resource block of ranges."""
        return key in self._files

    def side_of(self, key: bytes, lock_owner: int) -> Side | None:
        """What the kernel's lock owner has of that file."""
        file = self._files.get(key)
        return None if file is None else file.sides.get(lock_owner)

    # ------------------------------------------------------------ what is asked

    def lock(
        self,
        file: RangedFile,
        opened: tuple[int, int],
        request: SystemCall,
        lock_owner: int,
        kind: int,
        first: int,
        last: int,
        sleep: bool,
    ) -> int | None:
        """F_SETLK or, where it may sleep, F_SETLKW. 0: done, -errno: refused, None: it waits.

        file: made for this call, where none of this key is known. opened: handle and node of the open.
        """
        self._step_now()
        file = self._files.get(file.key, file)
        side = file.sides.get(lock_owner)
        try:
            if kind == fcntl.F_UNLCK:
                return 0 if side is None else self._unlock(side, request, first, last)
            if side is None:
                side = self._new_side(file, request.pid, lock_owner)
            self._through(side, *opened)
            return self._take(side, request, MODES[kind], ((first, last),), sleep)
        except ClufsError as error:
            if side is not None:
                self._rest_if_idle(side)
            return self._service.refuse(file, request, error)
        finally:
            self._step_now()

    def _new_side(self, file: RangedFile, tid: int, lock_owner: int) -> Side:
        process = self._process(tid)
        of_descriptor = processes.asks_for_descriptor(tid)
        node = self._service.node
        life = f"{node.member}.{node.incarnation}"
        side = Side(life, file, lock_owner, process, of_descriptor, self.release)
        file.sides[lock_owner] = side
        self._files[file.key] = file
        return side

    def _process(self, tid: int) -> ProcessOwner | None:
        try:
            return self._service.processes.by_pid.get(tid) or self._service.processes.get(tid)
        except ClufsError:
            return None

    def _through(self, side: Side, handle: int, node: int) -> None:
        side.nodes.add(node)
        if handle not in side.handles:
            side.handles.add(handle)
            self._by_handle.setdefault(handle, set()).add(side)

    def _take(
        self, side: Side, request: SystemCall, mode: Mode, spans: Spans, sleep: bool
    ) -> int | None:
        if covers(side.held(mode), *spans[0]):
            return 0
        if side.count() >= RANGES_OF_A_SIDE_MAX:
            raise TooManyRanges(f"more than {RANGES_OF_A_SIDE_MAX} ranges of one file")
        self._begin(side)
        lock = RangeOwner(side, mode, spans, self._lost)
        line = Line(side.request(mode, spans, nowait=not sleep))
        ask = Ask(line, b"", lock, side.process, side.file, request, monotonic())
        ask.on_decided = lambda error: self._decided_later(lock, error)
        side.waiting.add(lock)
        try:
            answer = self._service.ask(ask)
        except ClufsError:
            side.waiting.discard(lock)
            raise
        if answer is not None:
            self._decided(lock, None)
        return answer

    def _decided_later(self, lock: RangeOwner, error: ClufsError | None) -> None:
        with self._being_told():
            self._decided(lock, error)

    def _decided(self, lock: RangeOwner, error: ClufsError | None) -> None:
        """A request is granted or refused, at once or after it has waited."""
        side = lock.side
        if lock not in side.waiting:
            return
        side.waiting.discard(lock)
        if error is None:
            self._replace(lock)
        else:
            self._rest_if_idle(side)

    def _replace(self, new: RangeOwner) -> None:
        """A lock is granted: those that the side has of the same bytes give them up."""
        side = new.side
        before = tuple(side.locks)
        side.locks.append(new)
        for first, last in new.keeps:
            self._give_up(before, first, last)
        alike = [lock for lock in side.locks if lock.mode is new.mode]
        if len(alike) > RANGE_LOCKS_OF_A_SIDE and side.folding is None:
            self._fold(side, alike)

    def _unlock(self, side: Side, request: SystemCall, first: int, last: int) -> int | None:
        """F_UNLCK: done when the master has heard of it, and of whatever was given up before; no signal
        takes it back."""
        self._give_up(tuple(side.locks), first, last)
        busy = {lock for lock in side.locks if lock.is_busy}
        if side.folding is not None:
            busy.add(side.folding)
        if not busy or self._service.node.suspended:
            return 0
        side.unlocking[request] = busy
        self._service.parked.add_other(request, lambda: self._unlocked(side, request))
        return None

    def _unlocked(self, side: Side, request: SystemCall) -> None:
        side.unlocking.pop(request, None)
        self._service.parked.remove(request)
        request.reply_err(0)
        self._rest_if_idle(side)

    # ------------------------------------------------------------ the locks

    def _give_up(self, locks: Iterable[RangeOwner], first: int, last: int) -> None:
        """Whatever these locks have of these bytes."""
        touched = [lock for lock in locks if meet(lock.keeps, ((first, last),))]
        for lock in touched:
            lock.keeps = without(lock.keeps, first, last)
        for lock in touched:
            self._tell(lock)

    def _tell(self, lock: RangeOwner) -> None:
        """Bring what the lock manager has in line with what the lock is to keep, one step at a time."""
        if lock.is_busy or lock.told == lock.keeps:
            return
        lock.is_busy = True
        lock.told = spans = lock.keeps
        request = lock.side.request(lock.mode, spans) if spans else _UNLOCK
        self._run(lock, request, lambda error: self._told(lock, error))

    def _run(
        self, lock: RangeOwner, request: Request, then: Callable[[ClufsError | None], None]
    ) -> None:
        def told(error: ClufsError | None) -> None:
            with self._being_told():
                then(error)

        self._step(Asked(lock, lock.side.file.key, request, lock.party, Deed(told)))

    def _step(self, event: Asked | OwnerEnded) -> None:
        """Let it happen: soon, if what follows from another event is just being told."""
        if not self._is_told:
            self._service.run(event)
            return
        if not self._due:
            self._service.timers.at(monotonic(), self._step_now)
        self._due.append(event)

    def _step_now(self) -> None:
        """What was put off, at a time when nothing is being told."""
        while self._due:
            due, self._due = self._due, []
            for event in due:
                self._service.run(event)

    @contextmanager
    def _being_told(self) -> Iterator[None]:
        before, self._is_told = self._is_told, True
        try:
            yield
        finally:
            self._is_told = before

    def _told(self, lock: RangeOwner, error: ClufsError | None) -> None:
        lock.is_busy = False
        side = lock.side
        if error is not None and lock.locks:
            self._step(OwnerEnded(lock, abnormal=False))
        if not lock.locks:
            lock.keeps = lock.told = ()
        if not lock.keeps and not lock.locks:
            side.forget(lock)
        else:
            self._tell(lock)
        if not lock.is_busy:
            self._settled(lock)
        self._rest_if_idle(side)

    def _settled(self, lock: RangeOwner) -> None:
        """The lock manager has of this lock what it is to have."""
        for request, busy in list(lock.side.unlocking.items()):
            busy.discard(lock)
            if not busy:
                self._unlocked(lock.side, request)

    def _fold(self, side: Side, several: list[RangeOwner]) -> None:
        """Many locks in one mode become one. It is granted beside them, whatever others hold or await."""
        mode = several[0].mode
        spans = union(*(lock.keeps for lock in several))
        one = RangeOwner(side, mode, spans, self._lost)
        side.folding = one

        def granted(error: ClufsError | None) -> None:
            side.folding = None
            if error is None:
                one.keeps = union(*(lock.keeps for lock in several))
                side.locks.append(one)
                for lock in several:
                    lock.keeps = ()
                    self._tell(lock)
                self._tell(one)
            if not one.is_busy:
                self._settled(one)
            self._rest_if_idle(side)

        self._run(one, side.request(mode, spans, nowait=True), granted)

    # ------------------------------------------------------------ ends

    def closed(self, key: bytes, lock_owner: int) -> None:
        """A process has closed the file, by whatever descriptor: its locks on it end (fcntl(2))."""
        side = self.side_of(key, lock_owner)
        if side is not None and not side.of_descriptor:
            self.release(side)
            if not side.is_active:
                self._forget_side(side)
            self._step_now()

    def last_closed(self, handle: int) -> None:
        """The last close of a descriptor: what was locked through it ends."""
        for side in list(self._by_handle.pop(handle, ())):
            side.handles.discard(handle)
            self.release(side)
            if not (side.is_active and side.handles):
                self._forget_side(side)
        self._step_now()

    def _forget_side(self, side: Side) -> None:
        """The kernel may give its name to another owner."""
        for handle in side.handles:
            self._by_handle[handle].discard(side)
        side.handles.clear()
        file = side.file
        del file.sides[side.lock_owner]
        if not file.sides:
            del self._files[file.key]

    def release(self, side: Side) -> None:
        """Everything that the side has; what it waits for goes on."""
        locks, side.locks = side.locks, []
        for lock in locks:
            lock.keeps = lock.told = ()
            self._step(OwnerEnded(lock, abnormal=False))
        for request in list(side.unlocking):
            self._unlocked(side, request)
        self._rest_if_idle(side)

    def _lost(self, lock: RangeOwner) -> None:
        """The member was expelled, and the lock with it."""
        side = lock.side
        self._due = [event for event in self._due if event.owner is not lock]
        lock.keeps = lock.told = ()
        lock.is_busy, side.folding = False, None
        side.waiting.discard(lock)
        side.forget(lock)
        for request in list(side.unlocking):
            self._unlocked(side, request)
        self._rest_if_idle(side)

    def _begin(self, side: Side) -> None:
        """The side holds or awaits something from now on."""
        if side.is_active:
            return
        side.is_active = True
        if side.process is not None:
            side.process.sides.add(side)
        file = side.file
        file.active += 1
        if file.active == 1 and file.own_key is not None:
            file.presence = lock = Presence(file.own_key)
            self._step(Asked(lock, file.own_key, _PRESENT, lock, lock))

    def _rest_if_idle(self, side: Side) -> None:
        """It may have come to hold nothing more."""
        if not side.is_active or not side.is_idle:
            return
        side.is_active = False
        record, process, file = self._service.record, side.process, side.file
        if side.is_recorded:
            side.is_recorded = False
            record.count_descriptors(-1)
        if process is not None:
            process.sides.discard(side)
            if not process.locks:
                process.take_off(record)
        file.active -= 1
        if not file.active and file.presence is not None:
            lock, file.presence = file.presence, None
            if lock.locks:
                self._step(OwnerEnded(lock, abnormal=False))
