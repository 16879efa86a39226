"""What the check scripts of many applications do to locks: all of them are called every 10 s."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.measure import Size
from tests.bench.report import Row, Target, compared
from tests.bench.servers import Clufs, running

_ROUNDS = 3
_PAUSE_S = 0.002
_PROFILE = "TYPE=application\nNAME={0}\nACTION_SCRIPT=bench.scr\nCHECK_INTERVAL=10\n"


def measure(size: Size, directory: Path) -> Iterator[Row]:
    """The 99th percentile of a lock and its release, before the applications run and while they do."""
    rounds = min(size.rounds, _ROUNDS)
    with running(clufs := Clufs(directory, "checked")):
        names = _register(clufs, size.resources)
        calm = [_p99_us(clufs, size.checked_s) for _ in range(rounds)]
        with ThreadPoolExecutor(size.clients) as threads:
            list(threads.map(lambda name: _start(clufs, name), names))
        busy = [_p99_us(clufs, size.checked_s) for _ in range(rounds)]
        with ThreadPoolExecutor(size.clients) as threads:
            list(threads.map(lambda name: _start(clufs, name, "OFFLINE"), names))
    what = f"99th percentile of a lock, {size.resources} check scripts every 10 s"
    yield compared("checks", what, "us", busy, "without them", calm, Target(2))


def _register(clufs: Clufs, number: int) -> list[str]:
    while "QUORATE=1" not in (clufs.root / "status" / "quorum").read_text():
        time.sleep(_PAUSE_S)
    script = clufs.root / "scripts" / "bench.scr"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    resources = clufs.root / "resources"
    names = [f"app{count}" for count in range(number)]
    for name in names:
        (resources / f"{name}.cap").write_text(_PROFILE.format(name))
        (resources / name).mkdir()
    return names


def _start(clufs: Clufs, name: str, target: str = "ONLINE") -> None:
    (clufs.root / "resources" / name / "target").write_text(target)


def _p99_us(clufs: Clufs, window_s: float) -> float:
    fd = os.open(clufs.public / "checked", os.O_RDWR | os.O_CREAT)
    times = []
    end = time.monotonic() + window_s
    while time.monotonic() < end or not times:
        begin = time.perf_counter_ns()
        os.write(fd, b"EX")
        os.write(fd, b"UN")
        times.append(time.perf_counter_ns() - begin)
        time.sleep(_PAUSE_S)
    os.close(fd)
    return sorted(times)[len(times) * 99 // 100] / 1000
