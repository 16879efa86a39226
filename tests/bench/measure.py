"""How things are measured: one call at a time, medians, contestants in alternating rounds."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int = 9
    calls: int = 400
    waiters: int = 1000
    clients: int = 16
    window_s: float = 0.3
    names: int = 10_000
    locks: int = 1_000_000
    idle_s: float = 6.0
    starts: int = 5
    recovered: int = 100_000
    recovery_s: float = 6.0
    resources: int = 500
    checked_s: float = 10.0
    beats: int = 100


TINY = Size(
    rounds=1,
    calls=5,
    waiters=5,
    clients=2,
    window_s=0.02,
    names=20,
    locks=1000,
    idle_s=0.1,
    starts=1,
    recovered=20,
    recovery_s=0.5,
    resources=20,
    checked_s=0.1,
    beats=3,
)
"""Enough to see that everything can be measured."""

Round = Callable[[], float]
Samples = dict[str, list[float]]


def median_us(action: Callable[[], object], calls: int) -> float:
    """The median time of a call. Each is timed alone: a call that lost its CPU counts once."""
    times = []
    for _ in range(calls):
        begin = perf_counter_ns()
        action()
        times.append(perf_counter_ns() - begin)
    return statistics.median(times) / 1000


def alternate(contestants: Mapping[str, Round], rounds: int) -> Samples:
    """The contestants' figures, round by round, each round begun by another end of the row."""
    samples: Samples = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(rounds):
        for name in order:
            samples[name].append(contestants[name]())
        order.reverse()
    return samples


def cpu_of_pins() -> int:
    """The CPU that pinned programs share."""
    return max(os.sched_getaffinity(0))


@contextmanager
def pinned(pids: Iterable[int], really: bool = True) -> Iterator[None]:
    """This process and those `pids`, with all their threads, on one CPU together."""
    if not really:
        yield
        return
    threads = [int(tid) for pid in (os.getpid(), *pids) for tid in os.listdir(f"/proc/{pid}/task")]
    free = os.sched_getaffinity(0)
    one = {cpu_of_pins()}
    for thread in threads:
        os.sched_setaffinity(thread, one)
    try:
        yield
    finally:
        for thread in threads:
            os.sched_setaffinity(thread, free)


def placement(really_pinned: bool) -> str:
    """What a row says about where the programs ran."""
    return "pinned" if really_pinned else "free"
