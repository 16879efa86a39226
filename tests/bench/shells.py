"""What a shell pays: `echo EX > f; echo UN > f` beside `flock f true`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Size, alternate, pinned, placement
from tests.bench.report import Row, Target, compared
from tests.bench.servers import Clufs

_LOOP = 'i=0; while [ "$i" -lt {turns} ]; do {body}; i=$((i + 1)); done'
_ECHOES_FOR_A_FLOCK = 10
_BOUNDS = {"free": 1 / 5, "pinned": 1 / 12}


def _run_s(script: str, directory: Path) -> float:
    begin = time.perf_counter()
    subprocess.run(["dash", "-c", script], cwd=directory, check=True)
    return time.perf_counter() - begin


def _loop_us(body: str, turns: int, directory: Path) -> float:
    """One turn of a loop around `body`, without the start of the shell and the loop itself."""
    empty = _run_s(_LOOP.format(turns=turns, body=":"), directory)
    full = _run_s(_LOOP.format(turns=turns, body=body), directory)
    return max(full - empty, 1e-6) / turns * 1e6


def measure(size: Size, clufs: Clufs, disk: Path) -> Iterator[Row]:
    """Pinned and free. disk: a directory on a file system of the disk."""
    (disk / "f").touch()
    flocks = max(size.calls // 10, 2)
    contestants = {
        "clufs": lambda: _loop_us(
            "echo EX > shell; echo UN > shell", flocks * _ECHOES_FOR_A_FLOCK, clufs.public
        ),
        "flock": lambda: _loop_us("flock f true", flocks, disk),
    }
    for really in (True, False):
        with pinned((clufs.pid,), really):
            samples = alternate(contestants, size.rounds)
        where = placement(really)
        yield compared(
            f"shell-{where}",
            f"dash: echo EX > f; echo UN > f, {where}",
            "us",
            samples["clufs"],
            "flock f true",
            samples["flock"],
            Target(_BOUNDS[where]),
        )
