"""What the kernel says about processes: /proc, pidfds and pending signals."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clufs.timeouts import STAT_WAIT_S

_READ_BYTES = 8192

_NOT_INTERRUPTING = (signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH, signal.SIGURG)
_NOT_INTERRUPTING_MASK = sum(1 << (number - 1) for number in _NOT_INTERRUPTING)


_OF_DESCRIPTORS = (36, 37, 38)  # F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW
_CALL_COMMAND = 2  # number, descriptor, command
_LOOKS_AT_CALL = 5


@dataclass(frozen=True, slots=True)
class Stat:
    """The facts of /proc/PID/stat that clufs uses. start_time is in clock ticks since boot."""

    command: str
    ppid: int
    start_time: int


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = os.read(fd, _READ_BYTES)
        while raw and len(raw) % _READ_BYTES == 0:
            more = os.read(fd, _READ_BYTES)
            if not more:
                break
            raw += more
        return raw
    except OSError:
        return None
    finally:
        os.close(fd)


def stat(pid: int) -> Stat | None:
    """The process or thread `pid` now, None when there is none.

    Waits while the process is in the midst of an exec(2), and an exec that closes our files waits
    for us: a daemon that serves may ask this only of the caller of the request in hand.
    """
    raw = _read(f"/proc/{pid}/stat")
    if not raw:
        return None
    head, _, tail = raw.rpartition(b")")
    fields = tail.split()
    return Stat(
        command=head.partition(b"(")[2].decode(errors="backslashreplace"),
        ppid=int(fields[1]),
        start_time=int(fields[19]),
    )


def stat_soon(pid: int) -> Stat | None:
    """Like `stat`, of any process: None, too, when it is in the midst of an exec(2)."""
    found: list[Stat | None] = []
    reader = threading.Thread(target=lambda: found.append(stat(pid)), daemon=True)
    reader.start()
    reader.join(STAT_WAIT_S)
    return found[0] if found else None


def _status_fields(pid: int) -> dict[bytes, bytes]:
    raw = _read(f"/proc/{pid}/status") or b""
    return dict(line.split(b":\t", 1) for line in raw.splitlines() if b":\t" in line)


def group_leader(tid: int) -> int | None:
    """The process id of the thread `tid`, None when it is gone."""
    tgid = _status_fields(tid).get(b"Tgid")
    return int(tgid) if tgid else None


def uid_of(pid: int) -> int | None:
    """The effective uid of the process, None when it is gone."""
    uids = _status_fields(pid).get(b"Uid")
    return int(uids.split()[1]) if uids else None


def groups_of(tid: int) -> list[int]:
    """The supplementary groups of the thread `tid`; none when it is gone."""
    return [int(group) for group in _status_fields(tid).get(b"Groups", b"").split()]


def must_interrupt(tid: int) -> bool:
    """Whether a signal that ends a wait is pending for the thread `tid`, or the thread is gone.

    CHLD, CONT, WINCH and URG do not end a wait (contract 2.1); a stop signal does.
    """
    fields = _status_fields(tid)
    if not fields or fields.get(b"State", b"Z")[:1] in (b"Z", b"X"):
        return True
    pending = int(fields[b"SigPnd"], 16) | int(fields[b"ShdPnd"], 16)
    return bool(pending & ~int(fields[b"SigBlk"], 16) & ~_NOT_INTERRUPTING_MASK)


def asks_for_descriptor(tid: int) -> bool:
    """Whether the thread, which is blocked in fcntl(2), asks by F_OFD_GETLK, F_OFD_SETLK or F_OFD_SETLKW:
    the kernel does not pass that on. What cannot be seen counts as a process's request."""
    for _ in range(_LOOKS_AT_CALL):
        words = (_read(f"/proc/{tid}/syscall") or b"").split()
        if words != [b"running"]:  # it is about to sleep
            break
    return len(words) > _CALL_COMMAND and int(words[_CALL_COMMAND], 16) in _OF_DESCRIPTORS


def is_ending(pid: int) -> bool:
    """Whether the process has begun to exit: no thread of it runs on.

    A thread gives up its memory before it closes its files.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    return not any(b"VmSize" in _status_fields(int(thread)) for thread in threads)


def command_of(pid: int) -> str | None:
    """The command of the process, None when it is gone."""
    name = _status_fields(pid).get(b"Name")
    return name.decode(errors="backslashreplace") if name is not None else None


def ancestors(pid: int) -> Iterator[int]:
    """`pid` and its ancestors, nearest first."""
    while pid > 0:
        yield pid
        pid = int(_status_fields(pid).get(b"PPid", b"0"))


_libc = ctypes.CDLL(None, use_errno=True)
_SYS_PIDFD_SEND_SIGNAL = 424
_SIGINFO_BYTES = 128
_SI_QUEUE = -1


def send_signal(pidfd: int, number: int, value: int) -> None:
    """Send a queued signal whose si_value is `value`, to exactly the process of `pidfd`.

    Nothing happens when the process is gone. Raises OSError otherwise.
    """
    info = struct.pack("=iii4xiiQ", number, 0, _SI_QUEUE, os.getpid(), os.getuid(), value)
    buffer = ctypes.create_string_buffer(info, _SIGINFO_BYTES)
    if _libc.syscall(_SYS_PIDFD_SEND_SIGNAL, pidfd, number, buffer, 0) != 0:
        code = ctypes.get_errno()
        if code != errno.ESRCH:
            raise OSError(code, os.strerror(code))


def open_pidfd(pid: int) -> int | None:
    """A pidfd of the process `pid`; None when no process (but perhaps a thread) has that id."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def is_gone(pidfd: int, within_ms: float = 0) -> bool:
    """Whether the process has ended, or ends within that time (a zombie is gone)."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(within_ms))


class ExitWatch:
    """Tells of process exits: one epoll set of pidfds, itself pollable.

    fd turns readable when a watched process has ended; `sweep` then calls back, once each.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    @property
    def fd(self) -> int:
        """The descriptor to wait on."""
        return self._epoll.fileno()

    def add(self, pidfd: int, callback: Callable[[], None]) -> None:
        """Call `callback` when the process of `pidfd` ends; the watch then owns and closes the pidfd."""
        self._callbacks[pidfd] = callback
        self._epoll.register(pidfd, select.EPOLLIN)

    def sweep(self) -> None:
        """Call back for every process that has ended."""
        while True:
            ended = self._epoll.poll(0, 1024)
            for pidfd, _ in ended:
                callback = self._callbacks.pop(pidfd)
                self._epoll.unregister(pidfd)
                callback()
                os.close(pidfd)
            if len(ended) < 1024:
                return

    def close(self) -> None:
        """Forget all processes."""
        for pidfd in self._callbacks:
            with contextlib.suppress(OSError):
                os.close(pidfd)
        self._callbacks.clear()
        self._epoll.close()
