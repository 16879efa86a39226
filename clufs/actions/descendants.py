"""Processes by their ancestry: who descends from a process, and how all of them are killed.

Only /proc/PID/status is read of other processes: it never waits for them, whatever they are in.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress

_READ_BYTES = 4096
_ROUNDS, _QUIET_ROUNDS = 100, 3
_KERNEL_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if there is none. It may wait for an exec(2)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return None


def children(zombies: bool = False) -> dict[int, list[int]]:
    """The children of every process."""
    found: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            parent = _parent(name, zombies)
            if parent is not None:
                found[parent].append(int(name))
    return found


def _parent(pid: str, zombies: bool = False) -> int | None:
    """The parent of a process; None if it is gone or, unless these count, a zombie."""
    try:
        fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(fd, _READ_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)
    fields = dict(line.split(b":\t", 1) for line in text.split(b"\n") if b":\t" in line)
    # The first thread of a process may be a zombie while others run on, and fork.
    if (
        not zombies
        and fields[b"State"][:1] in (b"Z", b"X")
        and int(fields.get(b"Threads", b"0")) <= 1
    ):
        return None
    return int(fields[b"PPid"])


def below(roots: Collection[int], spared: frozenset[int] = frozenset()) -> set[int]:
    """The living descendants of processes, without these; none of or below `spared`."""
    found: set[int] = set()
    ahead = list(roots)
    children_of = _quick_children if _KERNEL_LISTS_CHILDREN else children().__getitem__
    while ahead:
        for child in children_of(ahead.pop()):
            if child not in found and child not in spared:
                found.add(child)
                ahead.append(child)
    return found


def _quick_children(pid: int) -> list[int]:
    """The living children of one process, as the kernel lists them: fast enough for who forks and ends all the time."""
    found = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += file.read().split()
    return [int(child) for child in found if _parent(child.decode()) is not None]


def kill_reaper(reaper: int) -> None:
    """Kill all below a reaper. It ends by itself when it has no child: only the kernel knows that for certain."""
    kill_below([reaper])
    with suppress(OSError):
        os.kill(reaper, signal.SIGCONT)


def kill_below(roots: Collection[int], spared: frozenset[int] = frozenset()) -> bool:
    """Send SIGKILL to all descendants of processes; whether none was seen.

    They are stopped first, until no new one turns up, so that none forks faster than it is found. One that
    forks and ends all the time may be missed by a call. None dies for having got the number of another.
    """
    stopped: set[int] = set()
    quiet = 0
    for _ in range(_ROUNDS):
        family = below(roots, spared)
        new = family - stopped
        quiet = 0 if new else quiet + 1
        for pid in new:
            _send(pid, family.union(roots), signal.SIGSTOP)
        stopped |= new
        if quiet == _QUIET_ROUNDS:
            break
    for pid in family:
        _send(pid, family.union(roots), signal.SIGKILL)
    return not stopped


def _send(pid: int, parents: Collection[int], number: signal.Signals) -> None:
    """Send a signal to a process whose parent is one of these; others have only its number."""
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if _parent(str(pid)) in parents:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
