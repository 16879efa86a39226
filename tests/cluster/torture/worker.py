"""One client on one member: asks, counts in the value block, gives back. Runs until DIRECTORY/stop is there.

python -m tests.cluster.torture.worker DIRECTORY SEED NAMES
"""

from __future__ import annotations

import errno
import os
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.cluster.torture.oracle import Oracle, Violation, report

LOCKS = Path("/clu/locks/public")

# What a request may come to while the cluster loses and finds members; all else is a fault.
EXPECTED = {
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EHOSTDOWN,
    errno.ESHUTDOWN,
    errno.ECANCELED,
    errno.ENOTCONN,
    errno.ECONNABORTED,
    errno.ENOENT,
    errno.EPERM,
    errno.EIO,
}
GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT}


class Worker:
    """Counts what came of its requests."""

    def __init__(self, directory: Path, seed: str, names: list[str]) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.oracles = [Oracle(directory, name) for name in names]
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Work until told to stop."""
        self._keep_values()
        due = time.monotonic()
        while not (self.directory / "stop").exists():
            if time.monotonic() > due:
                self._keep_values()
                due = time.monotonic() + 0.5
            try:
                self._once(self.random.choice(self.oracles))
            except OSError as error:
                self.counts[errno.errorcode.get(error.errno or 0, "?")] += 1
                if error.errno not in EXPECTED:
                    report(self.directory, f"unexpected: {error}")
                    return
                time.sleep(0.2 if error.errno in GONE else 0.01)
            except Violation as violation:
                report(self.directory, str(violation))
                return

    def _keep_values(self) -> None:
        """A value dies with the last lock: every member keeps one on each name."""
        for oracle in self.oracles:
            with suppress(OSError):
                self._write(oracle, "NL persistent nowait")

    def _write(self, oracle: Oracle, line: str) -> None:
        descriptor = os.open(LOCKS / oracle.name, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _read(self, oracle: Oracle) -> tuple[bytes, bool]:
        path = LOCKS / oracle.name
        valid = os.getxattr(path, "user.clu.valid") == b"1"
        value = path.read_bytes().strip()
        return value, valid and os.getxattr(path, "user.clu.valid") == b"1"

    def _once(self, oracle: Oracle) -> None:
        roll = self.random.random()
        wait = " timeout=2" if roll < 0.1 else " nowait" if roll < 0.15 else ""
        exclusive = self.random.random() < 0.75
        self._write(oracle, ("EX" if exclusive else "PR") + wait)
        self.counts["granted"] += 1
        try:
            with oracle.inside(exclusive=exclusive):
                value, valid = self._read(oracle)
                self.counts["valid" if valid else "invalid"] += 1
                oracle.judge(value, valid)
                if exclusive:
                    self._count(oracle)
        finally:
            with suppress(OSError):
                self._write(oracle, "UN")

    def _count(self, oracle: Oracle) -> None:
        acknowledged, tried = oracle.counter()
        new = max(acknowledged, tried) + 1
        oracle.note(acknowledged, new)
        self._write(oracle, f"EX value={new}")
        oracle.note(new, new)
        if self.random.random() < 0.2:
            time.sleep(self.random.random() * 0.01)


def main(directory: str, seed: str, *names: str) -> None:
    """Work, and leave the counts in the directory."""
    worker = Worker(Path(directory), seed, list(names))
    worker.run()
    counts = " ".join(f"{what}={count}" for what, count in sorted(worker.counts.items()))
    with (Path(directory) / "counts").open("a") as file:
        file.write(f"{os.uname().nodename} {counts}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
