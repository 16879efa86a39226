"""`waiters.py PATH COUNT`: so many processes that all wait for EX on PATH.

At a line on standard input, or its end, all are killed at once, and how many milliseconds it took
until the last was gone is printed. A program of its own, so that what it forks is small.
"""

from __future__ import annotations

import os
import signal
import sys
from time import monotonic_ns


def _wait_for_ever(path: str) -> None:
    try:
        os.write(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), b"EX\n")
    finally:
        os._exit(1)


def _fork(path: str, count: int) -> list[int]:
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            _wait_for_ever(path)
        pids.append(pid)
    return pids


def _kill_ms(pids: list[int]) -> float:
    begin = monotonic_ns()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    return (monotonic_ns() - begin) / 1e6


if __name__ == "__main__":
    processes = _fork(sys.argv[1], int(sys.argv[2]))
    sys.stdin.readline()
    print(_kill_ms(processes))
