"""Many processes: hand-overs with nobody and with a crowd behind, its memory and its end, clients at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns

from tests.bench.hand_over import HandOver, queued, until
from tests.bench.measure import Size, alternate, median_us, pinned, placement
from tests.bench.report import Row, Target, compared, figure
from tests.bench.servers import Clufs, Hello
from tests.bench.system_calls import EX, NL, pair_on

_KILLS = 3
_WAITERS = Path(__file__).with_name("waiters.py")


class Crowd:
    """Processes that all wait for EX on one lock."""

    def __init__(self, path: Path, count: int) -> None:
        self._leader = subprocess.Popen(
            [sys.executable, "-S", "-E", str(_WAITERS), str(path), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def kill_ms(self) -> float:
        """SIGKILL to all; the time until the last is gone."""
        out, _ = self._leader.communicate(b"kill\n")
        return float(out)

    def close(self) -> None:
        """End them: the end of the leader's input is their end too."""
        if self._leader.poll() is None:
            self._leader.communicate(b"")


def measure_hand_over(size: Size, clufs: Clufs) -> Iterator[Row]:
    """Alone and with a crowd behind, pinned and free; the crowd's memory."""
    alone = HandOver(clufs.public / "alone")
    crowded = HandOver(clufs.public / "crowded")
    before = clufs.rss_bytes()
    crowd = Crowd(clufs.public / "crowded", size.waiters)
    try:
        until(lambda: queued(crowded.fd, "waiting") == size.waiters, "the crowd")
        grown = (clufs.rss_bytes() - before) / size.waiters
        yield figure(
            "waiter-memory",
            f"memory for each of {size.waiters:,} waiters",
            "bytes",
            [grown],
            Target(10_000),
        )
        for really in (True, False):
            with pinned((clufs.pid, *alone.pids, *crowded.pids), really):
                yield from _hand_over_rows(size, clufs, alone, crowded, placement(really))
    finally:
        crowd.close()
        alone.close()
        crowded.close()


def _hand_over_rows(
    size: Size, clufs: Clufs, alone: HandOver, crowded: HandOver, where: str
) -> Iterator[Row]:
    fd = os.open(clufs.public / "uncontended", os.O_WRONLY | os.O_CREAT, 0o666)

    def uncontended() -> float:
        def pair() -> None:
            os.write(fd, EX)
            os.write(fd, NL)

        return median_us(pair, size.calls) / 2

    turns = max(size.calls // 4, 2)
    samples = alternate(
        {
            "uncontended": uncontended,
            "alone": lambda: alone.measure_us(turns),
            "crowded": lambda: crowded.measure_us(turns),
        },
        size.rounds,
    )
    os.close(fd)
    yield compared(
        f"hand-over-{where}",
        f"hand-over between two processes, {where}",
        "us",
        samples["alone"],
        "an uncontended request",
        samples["uncontended"],
        Target(3),
    )
    yield compared(
        f"hand-over-crowd-{where}",
        f"hand-over with {size.waiters:,} waiters behind, {where}",
        "us",
        samples["crowded"],
        "with nobody behind",
        samples["alone"],
        Target(1.2),
    )


def measure_kill(size: Size, clufs: Clufs) -> Iterator[Row]:
    """A whole crowd killed at once."""
    path = clufs.public / "killed"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    os.write(fd, EX)
    times = []
    for _ in range(min(_KILLS, size.rounds)):
        crowd = Crowd(path, size.waiters)
        try:
            until(lambda: queued(fd, "waiting") == size.waiters, "the crowd")
            times.append(crowd.kill_ms())
            until(lambda: queued(fd, "waiting") == 0, "the end of the crowd in the queue")
        finally:
            crowd.close()
    os.close(fd)
    what = f"SIGKILL to {size.waiters:,} waiters, until all are gone"
    yield figure("kill", what, "ms", times, Target(300))


def measure_clients(size: Size, hello: Hello, clufs: Clufs) -> Iterator[Row]:
    """Many clients at once, each with a lock and a descriptor of its own."""

    def writes(path_of: Callable[[int], Path]) -> Callable[[], float]:
        return lambda: writes_per_s(path_of, size.clients, size.window_s)

    samples = alternate(
        {
            "hello": writes(hello.file),
            "clufs": writes(lambda number: clufs.public / f"client{number}"),
        },
        size.rounds,
    )
    yield compared(
        "clients",
        f"{size.clients} clients at once, free",
        "writes/s",
        samples["clufs"],
        "the C hello",
        samples["hello"],
        Target(0.5, at_least=True),
    )


def writes_per_s(
    path_of: Callable[[int], Path], clients: int, window_s: float, second: bytes = NL
) -> float:
    """So many processes write EX and `second` to a file each."""
    return per_s(lambda number: _writing(path_of(number), second), clients, window_s) * 2


def _writing(path: Path, second: bytes) -> Callable[[], None]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    return pair_on(fd, EX, second)


def per_s(client: Callable[[int], Callable[[], None]], clients: int, window_s: float) -> float:
    """How often so many processes do together what `client` gives each of them to do."""
    start, go = os.pipe()
    results, result = os.pipe()
    pids = []
    for number in range(clients):
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os._exit(_count(client(number), start, result, window_s))
        pids.append(pid)
    os.close(start)
    os.close(go)
    for pid in pids:
        os.waitpid(pid, 0)
    os.close(result)
    with open(results, "rb") as lines:
        counts = [int(line) for line in lines]
    if len(counts) != clients:
        raise RuntimeError("a client of the throughput test failed")
    return sum(counts) / window_s


def _count(deed: Callable[[], None], start: int, result: int, window_s: float) -> int:
    """Do it until the time is over; the pipe's end is the start signal."""
    os.read(start, 1)
    end = monotonic_ns() + int(window_s * 1e9)
    count = 0
    while monotonic_ns() < end:
        deed()
        count += 1
    os.write(result, b"%d\n" % count)
    return 0
