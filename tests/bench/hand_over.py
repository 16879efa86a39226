"""A lock that goes to and fro between two processes."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns

from tests.bench.system_calls import EX, NL

_PATIENCE_S = 60.0


def queued(fd: int, queue: str) -> int:
    """How many requests stand in a queue of the lock that is open as `fd`."""
    return int(os.getxattr(fd, f"user.clu.{queue}"))


def until(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so. Raises RuntimeError when it does not come."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"never came: {what}")


class Peer:
    """The other end of a hand-over: a forked process with a descriptor of its own on the same lock.

    b"a": it asks for EX and tells when it runs again. b"g": once somebody waits for it, it gives
    way, and tells when it began to.
    """

    def __init__(self, path: Path) -> None:
        commands, self._commands = os.pipe()
        self._times, times = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._commands)
                _serve_hand_over(path, commands, times)
                status = 0
            finally:
                os._exit(status)
        os.close(commands)
        os.close(times)

    def tell(self, command: bytes) -> None:
        """Have it do something."""
        os.write(self._commands, command)

    def time_ns(self) -> int:
        """When it did what it was told."""
        return int.from_bytes(os.read(self._times, 8), "little")

    def close(self) -> None:
        """End it, whatever it waits for."""
        os.close(self._commands)
        os.close(self._times)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _serve_hand_over(path: Path, commands: int, times: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    os.write(fd, NL)
    os.write(times, monotonic_ns().to_bytes(8, "little"))
    while command := os.read(commands, 1):
        if command == b"a":
            os.write(fd, EX)
            when = monotonic_ns()
        else:
            until(lambda: queued(fd, "converting") == 1, "the other's request")
            when = monotonic_ns()
            os.write(fd, NL)
        os.write(times, when.to_bytes(8, "little"))


class HandOver:
    """One lock that goes to and fro between this process and its peer, by conversions."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        os.write(self.fd, NL)
        os.write(self.fd, EX)
        self.peer = Peer(path)
        self.peer.time_ns()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes to pin."""
        return (self.peer.pid,)

    def measure_us(self, turns: int) -> float:
        """The median time from before the release to when the waiter runs again."""
        times = []
        for _ in range(-(-turns // 2)):
            self.peer.tell(b"a")
            until(lambda: queued(self.fd, "converting") == 1, "the peer's request")
            begin = monotonic_ns()
            os.write(self.fd, NL)
            times.append(self.peer.time_ns() - begin)
            self.peer.tell(b"g")
            os.write(self.fd, EX)
            end = monotonic_ns()
            times.append(end - self.peer.time_ns())
        return statistics.median(times) / 1000

    def close(self) -> None:
        """Both ends go."""
        self.peer.close()
        os.close(self.fd)
