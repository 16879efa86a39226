"""Virtual time: one heap of events and one seed. Nothing here or above looks at a real clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any
from zlib import crc32

KEPT_LINES = 60
"""The last lines of a run, kept for the report of a violation."""


class Violation(AssertionError):
    """Something that must never happen has happened."""


class Clock:
    """Runs what is due, in the order of time and then of asking.

    digest: a checksum over everything noted: two runs of one seed have the same.
    """

    def __init__(self, seed: int, trace: bool = False) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.steps = 0
        self.digest = 0
        self.trace = trace
        self.lines: deque[tuple[float, tuple[Any, ...]]] = deque(maxlen=KEPT_LINES)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heappush(self._heap, (self.now + delay, self._count, action, args))

    def step(self) -> bool:
        """Run the next event; False if there is none."""
        if not self._heap:
            return False
        self.now, _, action, args = heappop(self._heap)
        self.steps += 1
        action(*args)
        return True

    def run_until(self, when: float) -> None:
        while self._heap and self._heap[0][0] <= when:
            self.step()
        self.now = max(self.now, when)

    def note(self, *words: Any) -> None:
        """Something happened: a line of the trace, and a part of the digest."""
        self.digest = crc32(repr((round(self.now, 9), str(words[0]))).encode(), self.digest)
        self.lines.append((self.now, words))
        if self.trace:
            print(line(self.now, words), flush=True)

    def about(self, mean: float) -> float:
        """A random time, exponential around the mean."""
        return self.random.expovariate(1.0 / mean)


def line(now: float, words: tuple[Any, ...]) -> str:
    return f"{now:10.6f} " + " ".join(str(word) for word in words)
