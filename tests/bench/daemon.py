"""The daemon as a whole: its start, its idling, the listing of many locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Size
from tests.bench.report import Row, Target, figure
from tests.bench.servers import Clufs
from tests.bench.system_calls import EX, by_path


def measure_start(size: Size, directory: Path) -> Iterator[Row]:
    """From the start of the program to its `ready`."""
    times = [_start_s(directory / f"start{number}") for number in range(size.starts)]
    yield figure("start", "start to ready", "s", times, Target(1))


def _start_s(directory: Path) -> float:
    root = directory / "clu"
    root.mkdir(parents=True)
    begin = time.perf_counter()
    daemon = subprocess.Popen(
        [sys.executable, "-m", "clufs.cli.clufsd", str(root), "--state", str(directory / "state")],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert daemon.stdout is not None
    with daemon, daemon.stdout:
        line = daemon.stdout.readline()
        elapsed = time.perf_counter() - begin
        daemon.terminate()
    if not line.startswith(b"ready"):
        raise RuntimeError(f"clufsd did not start on {root}")
    return elapsed


def measure_idle(size: Size, clufs: Clufs) -> Iterator[Row]:
    """The CPU that it uses when nobody asks anything."""
    time.sleep(size.idle_s / 10)
    begin, used = time.monotonic(), clufs.cpu_ns()
    time.sleep(size.idle_s)
    share = (clufs.cpu_ns() - used) / 1e9 / (time.monotonic() - begin)
    yield figure("idle", "CPU used when idle", "%", [share * 100], Target(0.1))


def measure_ls(size: Size, clufs: Clufs) -> Iterator[Row]:
    """`ls` of a namespace full of locks."""
    namespace = clufs.root / "locks" / "listed"
    namespace.mkdir()
    holder = _hold(namespace, size.names)
    try:
        times = [_ls_s(namespace, size.names) for _ in range(min(size.rounds, 5))]
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    yield figure("ls", f"ls of {size.names:,} lock files", "s", times, Target(1))


def _hold(namespace: Path, names: int) -> int:
    """A process that holds so many locks, once they are all granted."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        for number in range(names):
            by_path(namespace / f"lock{number}", EX)
        os.close(told)
        signal.pause()
    os.close(told)
    os.read(ready, 1)
    os.close(ready)
    return pid


def _ls_s(namespace: Path, names: int) -> float:
    begin = time.perf_counter()
    listed = subprocess.check_output(["ls", str(namespace)]).count(b"\n")
    elapsed = time.perf_counter() - begin
    if listed != names:
        raise RuntimeError(f"ls shows {listed} of {names} locks")
    return elapsed
