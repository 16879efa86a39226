"""A program inside a member: does what it is told on standard input, a line of JSON each, and answers so.

`python -m tests.bench.inside PUBLIC` measures where the kernel answers: the round trips to whoever
tells it are in no figure.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import ssl
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns, perf_counter_ns
from typing import Any

import trio

from clufs.cluster.corosync import _Group
from clufs.cluster.interface import Delivered, Report
from clufs.cluster.keys import Keys
from tests.bench.crowd import writes_per_s
from tests.bench.hand_over import queued, until
from tests.bench.measure import median_us

_MESSAGE = bytes(100)
_PAUSE_S = 0.002


class Inside:
    """The deeds; each public method is one. public: the directory of the lock files."""

    def __init__(self, public: Path) -> None:
        self._public = public
        self._files: dict[str, int] = {}
        self._echo = 0
        self._users: list[int] = []

    def pin(self, cpu: int | None) -> None:
        """On one CPU, or on all."""
        cpus = range(os.cpu_count() or 1) if cpu is None else {cpu}
        os.sched_setaffinity(0, cpus)

    def write(self, name: str, line: str) -> None:
        """Ask, on a descriptor that stays open."""
        os.write(self._file(name), line.encode())

    def _file(self, name: str) -> int:
        if name not in self._files:
            path = self._public / name
            self._files[name] = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        return self._files[name]

    def medians_us(self, name: str, lines: list[str], calls: int) -> list[float]:
        """The median time of each of these requests, which follow each other again and again."""
        fd = self._file(name)
        requests = [line.encode() for line in lines]
        times: list[list[int]] = [[] for _ in lines]
        for _ in range(calls):
            for request, taken in zip(requests, times, strict=True):
                begin = perf_counter_ns()
                os.write(fd, request)
                taken.append(perf_counter_ns() - begin)
        return [statistics.median(taken) / 1000 for taken in times]

    def p99_us(self, name: str, window_s: float) -> float:
        """The 99th percentile of a lock and its release, one every other millisecond."""
        fd = self._file(name)
        times: list[int] = []
        end = time.monotonic() + window_s
        while time.monotonic() < end or not times:
            begin = perf_counter_ns()
            os.write(fd, b"EX\n")
            os.write(fd, b"UN\n")
            times.append(perf_counter_ns() - begin)
            time.sleep(_PAUSE_S)
        return sorted(times)[len(times) * 99 // 100] / 1000

    def pairs_within(self, name: str, window_s: float) -> int:
        """How often this process got and gave back a lock in this time."""
        fd = self._file(name)
        end = perf_counter_ns() + int(window_s * 1e9)
        pairs = 0
        while perf_counter_ns() < end:
            os.write(fd, b"EX\n")
            os.write(fd, b"UN\n")
            pairs += 1
        return pairs

    def pairs_per_s(self, name: str, clients: int, window_s: float) -> float:
        """EX and UN by so many processes at once, each on a lock of its own."""
        return writes_per_s(lambda n: self._public / f"{name}{n}", clients, window_s, b"UN\n") / 2

    def ask_ns(self, name: str) -> int:
        """Ask for EX; when it was granted."""
        os.write(self._file(name), b"EX\n")
        return monotonic_ns()

    def give_way_ns(self, name: str) -> int:
        """Release once somebody waits; when that began."""
        fd = self._file(name)
        until(lambda: queued(fd, "waiting") == 1, "the other's request")
        time.sleep(0.001)  # what asking cost the others is over
        begin = monotonic_ns()
        os.write(fd, b"UN\n")
        return begin

    def make_us(self, directory: str, calls: int) -> float:
        """The median time of making a file that must not be there, and removing it."""
        path = Path(directory, f"bench-{os.getpid()}")

        def pair() -> None:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.unlink(path)

        return median_us(pair, calls)

    def flush_us(self, path: str, calls: int) -> float:
        """The median time until 4 KiB are on disk, in a file that has its room already."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(fd, bytes(4096), 0)
        os.fsync(fd)

        def flush() -> None:
            os.pwrite(fd, os.urandom(4096), 0)
            os.fdatasync(fd)

        taken = median_us(flush, calls)
        os.close(fd)
        return taken

    def multicast_us(self, calls: int) -> float:
        """The median time until corosync brings back what was said, at its place in the order of all."""
        reports: deque[Report] = deque()
        group = _Group(reports, "clufs-bench")
        group.join()

        def multicast() -> None:
            reports.clear()
            while not group.send(_MESSAGE):
                pass
            while not any(isinstance(report, Delivered) for report in reports):
                select.select([group.fd], [], [])
                group.dispatch()

        taken = median_us(multicast, calls)
        group.close()
        return taken

    def ping_pong_us(self, name: str, locks: int, window_s: float) -> float:
        """Samba's ping_pong: a byte is locked, then the one before it unlocked. The median time for a byte."""
        fd = os.open(self._public / name, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)
        at = 0
        times = []
        begin = now = perf_counter_ns()
        while now < begin + window_s * 1e9 or not times:
            before, following = now, (at + 1) % locks
            fcntl.lockf(fd, fcntl.LOCK_EX, 1, following)
            fcntl.lockf(fd, fcntl.LOCK_UN, 1, at)
            at, now = following, perf_counter_ns()
            times.append(now - before)
        os.close(fd)
        return statistics.median(times) / 1000

    def use(self, names: list[str], every_s: float) -> None:
        """Have a process use these persistent locks so often, until `end_use`: their master stays here, then.

        Else they would soon be mastered where nearly all the work on them is done.
        """
        files = [self._file(name) for name in names]
        user = os.fork()
        while user == 0:
            for fd in files:
                os.write(fd, b"NL persistent\n")
            time.sleep(every_s)
        self._users.append(user)

    def end_use(self) -> None:
        """No more of that."""
        while self._users:
            _end(self._users.pop())

    def tls_round_trips_us(self, keys: str, address: str, port: int, calls: int) -> float:
        """The median of round trips over trio's TLS, to `serve_tls`."""
        return trio.run(_round_trips_us, Keys.in_directory(keys).dialing(), address, port, calls)

    def serve_tls(self, keys: str, address: str, port: int) -> None:
        """Have a process answer round trips, where this one runs, until `end_tls`."""
        listens, ready = os.pipe()
        self._echo = os.fork()
        if self._echo == 0:
            try:
                trio.run(_echo, Keys.in_directory(keys).accepting(), address, port, ready)
            finally:
                os._exit(1)
        os.close(ready)
        os.read(listens, 1)
        os.close(listens)

    def end_tls(self) -> None:
        """No more of them."""
        _end(self._echo)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


async def _round_trips_us(context: ssl.SSLContext, address: str, port: int, calls: int) -> float:
    times = []
    stream = trio.SSLStream(await trio.open_tcp_stream(address, port), context)
    async with stream:
        for _ in range(calls):
            begin = perf_counter_ns()
            await stream.send_all(_MESSAGE)
            await stream.receive_some()
            times.append(perf_counter_ns() - begin)
    return statistics.median(times) / 1000


async def _echo(context: ssl.SSLContext, address: str, port: int, ready: int) -> None:
    async def serve(tcp: trio.SocketStream) -> None:
        stream = trio.SSLStream(tcp, context, server_side=True)
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some():
                await stream.send_all(data)

    listeners = await trio.open_tcp_listeners(port, host=address)
    os.close(ready)
    await trio.serve_listeners(serve, listeners)


def _serve(deeds: Inside) -> None:
    for line in sys.stdin:
        name, arguments = json.loads(line)
        deed: Callable[..., Any] = getattr(deeds, name)
        print(json.dumps(deed(**arguments)), flush=True)


if __name__ == "__main__":
    _serve(Inside(Path(sys.argv[1])))
