"""Members that are busy at once, each with a lock of its own and a core of its own, against one alone.

Where there are fewer cores than members, as many members as there are cores run at once, and what
each of them gets through is taken for the others: they send each other nothing (`own-messages`).
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tests.bench.measure import Size, alternate
from tests.bench.report import Row, Target, compared
from tests.cluster.lab import NAMES

if TYPE_CHECKING:
    from tests.bench.cluster import Members, Teller


def measure(size: Size, members: Members, alone: Teller, daemon: int) -> Iterator[Row]:
    """Pairs per second of EX and UN on descriptors kept open, of three members and of one."""
    cpus = sorted(os.sched_getaffinity(0))[: len(NAMES)]
    busy = [members.tellers[name] for name in NAMES[: len(cpus)]]
    contestants: dict[str, Callable[[], float]] = {
        "three": lambda: len(NAMES) * _pairs_per_s(busy, size.window_s),
        "alone": lambda: _pairs_per_s([alone], size.window_s),
    }
    places = [
        (teller, cpu, pid, cpu)
        for teller, pid, cpu in zip(busy, members.daemons, cpus, strict=False)
    ]
    with members.placed([*places, (alone, cpus[0], daemon, cpus[0])]):
        samples = alternate(contestants, size.rounds)
    yield compared(
        "own-throughput",
        f"three members, each with a lock and a core of its own ({len(cpus)} run at once)",
        "pairs/s",
        samples["three"],
        "a member alone",
        samples["alone"],
        Target(2.5, at_least=True),
    )


def _pairs_per_s(tellers: list[Teller], window_s: float) -> float:
    """What one of these does, the mean of all, while they all do it."""
    for number, teller in enumerate(tellers):
        teller.tell("pairs_within", name=f"throughput{number}", window_s=window_s)
    return statistics.fmean(float(teller.hear()) for teller in tellers) / window_s
