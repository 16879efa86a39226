"""What clufs must not break, kept outside clufs: who is inside, by flock(2) on the machine's own disk, and counters.

The machine's kernel is the judge: its locks end exactly when the process that has them is dead.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Violation(Exception):
    """clufs broke a promise."""


class Oracle:
    """One name's oracle; several processes on several members share the directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self._inside = directory / f"{name}.inside"
        self._counter = directory / f"{name}.counter"

    @contextmanager
    def inside(self, *, exclusive: bool) -> Iterator[None]:
        """Be where the lock lets its holder be. Raises Violation if somebody is there who must not be."""
        descriptor = os.open(self._inside, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Violation(f"{self.name}: two inside at once") from None
            yield
        finally:
            os.close(descriptor)

    def counter(self) -> tuple[int, int]:
        """The last value that a writer was told to be stored, and the last that one has tried."""
        with suppress(OSError, ValueError):
            acknowledged, tried = json.loads(self._counter.read_text())
            return acknowledged, tried
        return 0, 0

    def note(self, acknowledged: int, tried: int) -> None:
        """Keep both, whole or not at all; only by who is inside alone."""
        scratch = self._counter.with_suffix(f".{os.uname().nodename}.{os.getpid()}")
        scratch.write_text(json.dumps((acknowledged, tried)))
        scratch.rename(self._counter)

    def judge(self, value: bytes, valid: bool) -> None:
        """Raises Violation if a valid value is neither the last one stored nor the last one tried."""
        acknowledged, tried = self.counter()
        read = int(value or b"0")
        if valid and read not in (acknowledged, tried):
            raise Violation(
                f"{self.name}: reads {read} as valid; {acknowledged} is stored, {tried} was tried"
            )


def report(directory: Path, sentence: str) -> None:
    """Keep a violation for the end."""
    with (directory / "violations").open("a") as file:
        file.write(f"{time.time():.3f} {os.uname().nodename} {os.getpid()} {sentence}\n")
