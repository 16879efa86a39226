"""Deadlines of single requests, kept in one heap and served by one task."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable

import trio


class Timer:
    """One deadline; `cancel` makes it do nothing."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """The action will not be called."""
        self.action = None


class Timers:
    """Calls actions at their times (seconds of time.monotonic), soon after, never before."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._changed = trio.Event()

    def at(self, when_s: float, action: Callable[[], None]) -> Timer:
        """Call `action` at `when_s`."""
        timer = Timer(action)
        earliest = self._heap[0][0] if self._heap else math.inf
        heapq.heappush(self._heap, (when_s, next(self._order), timer))
        if when_s < earliest:
            self._changed.set()
        return timer

    async def run(self) -> None:
        """Serve the deadlines until cancelled."""
        while True:
            self._changed = trio.Event()
            self._serve()
            if self._heap:
                with trio.move_on_after(max(0.0, self._heap[0][0] - time.monotonic())):
                    await self._changed.wait()
            else:
                await self._changed.wait()

    def _serve(self) -> None:
        heap = self._heap
        while heap and heap[0][0] <= time.monotonic():
            timer = heapq.heappop(heap)[2]
            action, timer.action = timer.action, None
            if action is not None:
                action()
