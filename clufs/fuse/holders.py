"""The processes behind locks: found while the daemon serves, killed, and seen gone.

Nothing here waits for what a process is doing: one in the midst of an exec(2) may be waiting for
us. Behind the lock of a descriptor is everyone who has it, whoever opened it and asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import trio

from clufs.fuse import open_files, processes
from clufs.fuse.open_files import Device
from clufs.fuse.owners import DescriptorOwner, GroupOwner, ProcessOwner
from clufs.fuse.sides import RangeOwner
from clufs.timeouts import OWNER_KILL_WAIT_S

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock

log = logging.getLogger("clufsd")


def behind(
    locks: Iterable[Lock], device: Device, makers: Iterable[ProcessOwner] = ()
) -> dict[int, int]:
    """The living processes behind these locks: pid -> a pidfd, which the caller closes.

    device: of the file system. makers: of files that stand for locks.
    """
    found = {one.pid: os.dup(one.pidfd) for one in makers if one.is_alive}
    nodes: set[int] = set()
    for lock in locks:
        owner = lock.owner
        if isinstance(owner, DescriptorOwner):
            nodes.add(owner.node)
        elif isinstance(owner, RangeOwner) and owner.side.is_by_descriptor:
            nodes |= owner.side.nodes
        for process in _processes(owner):
            if process.is_alive and process.pid not in found:
                found[process.pid] = os.dup(process.pidfd)
    if nodes:
        for pid, pidfd in open_files.holders(device, nodes):
            if pid in found:
                os.close(pidfd)
            else:
                found[pid] = pidfd
    for pid, pidfd in list(found.items()):
        if processes.is_gone(pidfd):
            os.close(found.pop(pid))
    return found


def _processes(owner: object) -> Iterator[ProcessOwner]:
    if isinstance(owner, ProcessOwner):
        yield owner
    elif isinstance(owner, DescriptorOwner) and owner.asker is not None:
        yield owner.asker
    elif isinstance(owner, RangeOwner) and owner.side.process is not None:
        yield owner.side.process
    elif isinstance(owner, GroupOwner):
        yield from owner.members.values()


def kill(pidfds: Iterable[int]) -> None:
    """SIGKILL to each; who is gone is gone."""
    for pidfd in pidfds:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)


async def end(find: Callable[[], dict[int, int]]) -> list[int]:
    """Kill whom `find` finds and see them gone, until it finds nobody; their pids.

    However long that takes: a process that does not die still has what it holds.
    """
    ended: list[int] = []
    while found := find():
        kill(found.values())
        try:
            for pid, pidfd in found.items():
                await _gone(pid, pidfd)
        finally:
            for pidfd in found.values():
                os.close(pidfd)
        ended += [pid for pid in found if pid not in ended]
    return ended


async def _gone(pid: int, pidfd: int) -> None:
    while True:
        with trio.move_on_after(OWNER_KILL_WAIT_S):
            await trio.lowlevel.wait_readable(pidfd)
            return
        log.warning("process %d holds a lock that is lost, and does not die of SIGKILL", pid)


async def leave(find: Callable[[], dict[int, int]], within_s: float) -> None:
    """Wait until `find`'s processes have ended by themselves, for at most so long."""
    found = find()
    try:
        with trio.move_on_after(within_s):
            for pidfd in found.values():
                await trio.lowlevel.wait_readable(pidfd)
    finally:
        for pidfd in found.values():
            os.close(pidfd)
