"""One member's disk: one write after the other, sometimes slow, sometimes full. What was not done at
a crash is not there; of the write under way either all or nothing is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from clufs.registry.log import Stored, Write
from tests.sim.clock import Clock


class Disk:
    """view, stored: what is on it. full: log writes fail and change nothing."""

    def __init__(self, clock: Clock, write_s: float) -> None:
        self.clock = clock
        self.write_s = write_s
        self.view = 0
        self.stored = Stored()
        self.full = False
        self.writes = self.bytes = 0
        self._queue: deque[tuple[int | Write, Callable[..., None]]] = deque()

    def put(self, what: int | Write, done: Callable[[int | Write, bool], Any]) -> None:
        """Write a view number or a change of the log; done(what, whether it is on disk)."""
        self._queue.append((what, done))
        if len(self._queue) == 1:
            self._begin()

    def _begin(self) -> None:
        self.clock.after(self.clock.about(self.write_s), self._end, self._queue[0])

    def _end(self, entry: tuple[int | Write, Callable[..., None]]) -> None:
        if not self._queue or self._queue[0] is not entry:
            return  # there was a crash meanwhile
        self._queue.popleft()
        what, done = entry
        kept = not (self.full and isinstance(what, Write))
        if kept:
            self._keep(what)
        if self._queue:
            self._begin()
        done(what, kept)

    def _keep(self, what: int | Write) -> None:
        self.writes += 1
        if isinstance(what, Write):
            self.stored = self.stored.after(what)
        else:
            self.view = max(self.view, what)

    def crash(self) -> None:
        """Nobody waits for what is under way any more."""
        if self._queue and self.clock.random.random() < 0.5 and not self.full:
            self._keep(self._queue[0][0])
        self._queue.clear()
