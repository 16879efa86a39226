"""Who owns locks at this member: processes, open descriptors, groups and the member itself (contract 2.2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from clufs.dlm.interface import Owner
from clufs.errors import ClufsError, RequestPending, UnknownProcess
from clufs.fuse import processes
from clufs.timeouts import COMMAND_KEPT_S

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.fuse.owner_record import OwnerRecord
    from clufs.fuse.sides import Side


class LockOwner(Owner):
    """An owner as the reports see it.

    outcomes: what became of `async` requests, by name, until somebody asks (None: granted).
    withdrawn: (name, line, place, until) of a request that a signal ended, to be repeated.
    lost: the signal to send when a lock is lost, by name.
    """

    __slots__ = ("lost", "outcomes", "withdrawn")
    kind = "owner"

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[bytes, ClufsError | None] | None = None
        self.withdrawn: tuple[bytes, bytes, int, float] | None = None
        self.lost: dict[bytes, tuple[int, ProcessOwner]] | None = None

    @property
    def party(self) -> object:
        """Who can release what it holds, where that is not for the request to say."""
        return self

    def put_on(self, record: OwnerRecord) -> None:
        """Before a grant is told: whoever must be killed if this daemon dies is on record."""

    def take_off(self, record: OwnerRecord) -> None:
        """The owner holds and awaits nothing more."""

    def all_lost(self) -> None:
        """Whatever the owner held or awaited is lost: this member was expelled."""


class ProcessOwner(LockOwner):
    """A process, from its first request to its exit. making: files that end with it, made or being made."""

    __slots__ = (
        "_command",
        "_named_s",
        "_pid",
        "descriptors",
        "groups",
        "is_alive",
        "making",
        "pidfd",
        "sides",
        "slot",
        "start_time",
    )
    kind = "process"

    def __init__(self, pid: int, pidfd: int, stat: processes.Stat) -> None:
        super().__init__()
        self._pid = pid
        self._command = stat.command
        self._named_s = monotonic()
        self.pidfd = pidfd
        self.start_time = stat.start_time
        self.is_alive = True
        self.making = 0
        self.slot = -1
        self.descriptors: set[DescriptorOwner] = set()
        self.groups: set[GroupOwner] = set()
        self.sides: set[Side] = set()

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def command(self) -> str:
        # It goes with each new lock to a master elsewhere, and reading /proc costs as much as sending it.
        now_s = monotonic()
        if now_s - self._named_s > COMMAND_KEPT_S:
            now = processes.command_of(self._pid) if self.is_alive else None
            self._command, self._named_s = now or self._command, now_s
        return self._command

    def is_above(self, other: Owner) -> bool:
        below = other.pid
        return below != self._pid and self._pid in processes.ancestors(below)

    def put_on(self, record: OwnerRecord) -> None:
        if self.slot < 0:
            record.set(self)

    def take_off(self, record: OwnerRecord) -> None:
        idle = not (self.making or self.sides or any(group.locks for group in self.groups))
        if self.slot >= 0 and idle:
            record.clear(self)

    def held(self, name: bytes) -> Iterator[Lock]:
        """What the process has on `name`: its own lock first, then those of descriptors it asked by."""
        if name in self.locks:
            yield self.locks[name]
        for descriptor in self.descriptors:
            if name in descriptor.locks:
                yield descriptor.locks[name]


class DescriptorOwner(LockOwner):
    """An open file description, opened read-write, as flock(2) has it.

    node: the node id of this open. asker: the process that asked last through it.
    abnormal: how its last close was judged. counted: it is on record as holding a lock.
    """

    __slots__ = ("abnormal", "asker", "counted", "node")
    kind = "descriptor"

    def __init__(self, node: int) -> None:
        super().__init__()
        self.node = node
        self.asker: ProcessOwner | None = None
        self.abnormal = False
        self.counted = False

    def asked_by(self, process: ProcessOwner | None) -> None:
        """Remember who asks through the descriptor now."""
        if process is not self.asker:
            if self.asker is not None:
                self.asker.descriptors.discard(self)
            if process is not None:
                process.descriptors.add(self)
                self.abnormal = False
            self.asker = process

    def put_on(self, record: OwnerRecord) -> None:
        if not self.counted:
            self.counted = True
            record.count_descriptors(1)

    def take_off(self, record: OwnerRecord) -> None:
        if self.counted:
            self.counted = False
            record.count_descriptors(-1)

    @property
    def pid(self) -> int:
        return self.asker.pid if self.asker else 0

    @property
    def command(self) -> str:
        return self.asker.command if self.asker else "-"

    def is_above(self, other: Owner) -> bool:
        return self.asker is not None and self.asker.is_above(other)


class FlockOwner(DescriptorOwner):
    """A descriptor that flock(2) made an owner: its release is always a clean one.

    It is not opened read-write, so nobody judges its closes, and flock(2) promises no value. Who asked is
    often gone while the lock lives on, as in a script that says `flock 9`: it stays named.
    """

    __slots__ = ("_ended",)

    def __init__(self, node: int) -> None:
        super().__init__(node)
        self._ended: tuple[int, str] = (0, "-")

    def asked_by(self, process: ProcessOwner | None) -> None:
        asker = self.asker
        if process is None and asker is not None:
            self._ended = (asker.pid, f"{asker.command},ended")
        super().asked_by(process)

    @property
    def pid(self) -> int:
        return self.asker.pid if self.asker else self._ended[0]

    @property
    def command(self) -> str:
        return self.asker.command if self.asker else self._ended[1]

    @property
    def abnormal(self) -> bool:
        return False

    @abnormal.setter
    def abnormal(self, value: bool) -> None:
        """It stays so."""


class MemberOwner(LockOwner):
    """The member itself, for the `persistent` locks that one user's processes share."""

    __slots__ = ("uid",)
    kind = "persistent"

    def __init__(self, uid: int) -> None:
        super().__init__()
        self.uid = uid

    @property
    def command(self) -> str:
        return f"persistent,uid={self.uid}"


class GroupOwner(LockOwner):
    """A process lock group; it ends its locks when its last process exits."""

    __slots__ = ("gid", "members", "name", "uid")
    kind = "group"

    def __init__(self, name: bytes, uid: int, gid: int) -> None:
        super().__init__()
        self.name = name
        self.uid = uid
        self.gid = gid
        self.members: dict[int, ProcessOwner] = {}

    def put_on(self, record: OwnerRecord) -> None:
        for process in self.members.values():
            process.put_on(record)

    def take_off(self, record: OwnerRecord) -> None:
        for process in self.members.values():
            if not process.locks:
                process.take_off(record)

    @property
    def pid(self) -> int:
        return next(iter(self.members), 0)

    @property
    def command(self) -> str:
        return f"group={self.name.decode(errors='backslashreplace')}"

    def is_above(self, other: Owner) -> bool:
        return any(member.is_above(other) for member in self.members.values())


class Thread(NamedTuple):
    """A thread of a process other than its first, as a thread of control of its own."""

    process: ProcessOwner
    tid: int


def parties(owner: LockOwner, process: ProcessOwner | None, tid: int) -> tuple[object, object]:
    """For deadlocks: who can release what the thread `tid` asks for, and who is stuck while it waits.

    As in VMS a process is one thread of control; but the threads of one process, each with a
    descriptor of its own, may wait for each other as processes do.
    """
    if owner is process:
        return process, process
    if owner.kind in ("group", "persistent"):
        return owner, process
    if owner.kind == "range":
        return owner.party, owner.party
    if process is None:
        return owner, None
    stuck = process if tid == process.pid else Thread(process, tid)
    return stuck, stuck


def held_by_ancestor(lock: Lock) -> LockOwner | None:
    """The ancestor of a waiting process that holds what it waits for."""
    waiter = lock.owner
    assert isinstance(waiter, LockOwner)
    for other in lock.rsb.why(lock):
        holder = other.owner
        if other.granted is not None and isinstance(holder, LockOwner) and holder.is_above(waiter):
            return holder
    return None


class Processes:
    """The processes that have asked for something, found by pid; told when they exit."""

    def __init__(self, record: OwnerRecord, ended: Callable[[ProcessOwner], None]) -> None:
        self.watch = processes.ExitWatch()
        self.by_pid: dict[int, ProcessOwner] = {}
        self._record = record
        self._ended = ended

    def named(self, pid: int) -> ProcessOwner:
        """The process `pid`, which somebody named: it may be doing anything now.

        Raises UnknownProcess when it is gone, RequestPending while it is in the midst of an exec.
        """
        known = self.by_pid.get(pid)
        if known is not None:
            return known
        pidfd = processes.open_pidfd(pid)
        stat = processes.stat_soon(pid)
        if pidfd is None or stat is None:
            if pidfd is not None:
                os.close(pidfd)
            raise RequestPending(f"process {pid} is gone, or in the midst of an exec: try again")
        return self._new(pid, pidfd, stat)

    def get(self, tid: int) -> ProcessOwner:
        """The process of the thread `tid`, which must be blocked in a request to us.

        Raises UnknownProcess when its pid cannot be seen from here (another pid namespace),
        StateError when there is no room to record another process.
        """
        pidfd = processes.open_pidfd(tid) if tid else None
        if pidfd is not None:
            return self._new(tid, pidfd, processes.stat(tid))
        pid = processes.group_leader(tid) if tid else None
        known = self.by_pid.get(pid) if pid else None
        if known is not None:
            return known
        pidfd = processes.open_pidfd(pid) if pid else None
        if pid is None or pidfd is None:
            raise UnknownProcess(
                "the caller's process id cannot be seen here (another pid namespace):"
                " open the file read-write, so that the descriptor owns the lock"
            )
        return self._new(pid, pidfd, processes.stat(pid))

    def pid_of(self, tid: int) -> int:
        """The process id of the thread `tid`, or `tid` itself if that cannot be seen."""
        return tid if tid in self.by_pid else processes.group_leader(tid) or tid

    def of_ancestors(self, pid: int) -> Iterator[ProcessOwner]:
        """The known processes among `pid` and its ancestors, nearest first."""
        leader = processes.group_leader(pid)
        for ancestor in processes.ancestors(leader or pid):
            known = self.by_pid.get(ancestor)
            if known is not None:
                yield known

    def _new(self, pid: int, pidfd: int, stat: processes.Stat | None) -> ProcessOwner:
        if stat is None:
            os.close(pidfd)
            raise UnknownProcess(f"process {pid} is gone")
        try:
            self._record.expect(1)
        except ClufsError:
            os.close(pidfd)
            raise
        process = ProcessOwner(pid, pidfd, stat)
        self.by_pid[pid] = process
        self.watch.add(pidfd, lambda: self._exited(process))
        return process

    def _exited(self, process: ProcessOwner) -> None:
        process.is_alive = False
        if self.by_pid.get(process.pid) is process:
            del self.by_pid[process.pid]
        self._ended(process)
        self._record.clear(process)
        self._record.expect(-1)
