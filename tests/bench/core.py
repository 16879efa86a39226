"""The pure lock manager alone: pairs per second, memory and collector pauses with many locks.

`python -m tests.bench.core LOCKS` prints what many locks cost, as JSON, from a fresh process.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from clufs.dlm.interface import Asked, Owner, Request, Verb
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from clufs.timeouts import FREEZE_S

_EX = Request(Verb.LOCK, Mode.EX, notify=True)
_PR = Request(Verb.LOCK, Mode.PR, notify=True)
_NL = Request(Verb.LOCK, Mode.NL, notify=True)
_UN = Request(Verb.UNLOCK)

_BATCH = 50
"""Pairs timed together: long against the clock's own cost, short against a lost CPU."""

_LOCKS_OF_AN_OWNER = 1000


class Core:
    """A node with one owner at work; every event and effect is made, as the daemon does."""

    def __init__(self) -> None:
        self._node = Node("bench", 1)
        self._owner = Owner()
        self._step = self._node.step
        self._step(0.0, Asked(self._owner, b"public/conversion", _NL, self._owner))

    def _pairs(self, name: bytes, first: Request, second: Request) -> None:
        step, owner = self._step, self._owner
        for _ in range(_BATCH):
            for request in (first, second):
                for _effect in step(0.0, Asked(owner, name, request, owner)):
                    pass

    def pair_us(self, batches: int) -> float:
        """A grant and its release, on a name that nobody else uses."""
        return _median_us(lambda: self._pairs(b"public/lock", _EX, _UN), batches)

    def conversions_us(self, batches: int) -> float:
        """A conversion up and down again."""
        return _median_us(lambda: self._pairs(b"public/conversion", _EX, _NL), batches)


def _median_us(batch: Callable[[], None], batches: int) -> float:
    from tests.bench.measure import median_us

    return median_us(batch, batches) / _BATCH


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Pauses:
    """The longest time for which the collector stopped everything, gc.freeze included."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._begin = 0.0
        gc.callbacks.append(self._called)

    def _called(self, phase: str, info: dict[str, int]) -> None:
        now = perf_counter()
        if phase == "start":
            self._begin = now
        else:
            self.longest_s = max(self.longest_s, now - self._begin)

    def freeze(self) -> None:
        """Freeze as the daemon does from time to time."""
        begin = perf_counter()
        gc.freeze()
        self.longest_s = max(self.longest_s, perf_counter() - begin)


def _fill(node: Node, locks: int, first: Request) -> float:
    """Lock so many names; the bytes for each, its name included."""
    before = _rss_bytes()
    owner = Owner()
    for number in range(locks):
        if number % _LOCKS_OF_AN_OWNER == 0:
            owner = Owner()
        node.step(0.0, Asked(owner, b"public/%07d" % number, first, owner))
    return (_rss_bytes() - before) / locks


def _churn(node: Node, locks: int, seconds: float, pauses: _Pauses) -> None:
    """Go on working beside the many locks, for long enough that the daemon freezes once more."""
    owner = Owner()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for number in range(1000):
            name = b"churn/%d" % number
            node.step(0.0, Asked(owner, name, _EX, owner))
            node.step(0.0, Asked(owner, name, _UN, owner))
    pauses.freeze()


def many(locks: int) -> dict[str, float]:
    """Memory and pauses with so many locks, under the daemon's collector policy."""
    from clufs.daemon.process import mind_the_collector

    node = Node("bench", 1)
    mind_the_collector()
    pauses = _Pauses()
    block_bytes = _fill(node, locks, _PR)
    before = _rss_bytes()
    readers = [Owner() for _ in range(-(-locks // _LOCKS_OF_AN_OWNER))]
    for number in range(locks):
        reader = readers[number // _LOCKS_OF_AN_OWNER]
        node.step(0.0, Asked(reader, b"public/%07d" % number, _PR, reader))
    lock_bytes = (_rss_bytes() - before) / locks
    pauses.freeze()
    _churn(node, locks, min(FREEZE_S, locks * 1e-5), pauses)
    return {
        "block_bytes": block_bytes,
        "lock_bytes": lock_bytes,
        "pause_ms": pauses.longest_s * 1000,
    }


def many_elsewhere(locks: int) -> dict[str, float]:
    """`many` in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.core", str(locks)]
    root = Path(__file__).parents[2]
    found: dict[str, float] = json.loads(subprocess.check_output(command, cwd=root))
    return found


if __name__ == "__main__":
    print(json.dumps(many(int(sys.argv[1]))))
