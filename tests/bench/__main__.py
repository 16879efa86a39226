"""`make bench`: what clufs costs, beside what the same calls cost elsewhere, in one run.

Only ratios mean anything: a machine that others use, or that places programs otherwise, moves
all absolute figures. So the contestants alternate round by round, and a row is a median.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from clufs.daemon.process import mind_the_collector
from tests.bench import (
    checks,
    cluster,
    crowd,
    daemon,
    heartbeat,
    placement,
    quorum_disk,
    recovery,
    shells,
    system_calls,
    takeover,
)
from tests.bench.core import many_elsewhere
from tests.bench.group import one_group
from tests.bench.measure import TINY, Size
from tests.bench.report import Row, Target, figure, machine, table, write_json
from tests.bench.servers import Bare, Clufs, Hello, build_hello, running

_BUILD = Path(__file__).parents[2] / "build"


def _alone(size: Size, directory: Path) -> Iterator[Row]:
    program = build_hello(_BUILD)
    with ExitStack() as stack:
        disk = stack.enter_context(tempfile.TemporaryDirectory(prefix="disk-", dir=_made(_BUILD)))

        def run(server: Hello | Bare | Clufs) -> None:
            stack.enter_context(running(server))

        run(hello := Hello(directory, program))
        run(bare := Bare(directory))
        run(clufs := Clufs(directory))
        yield from system_calls.measure(size, hello, bare, clufs, Path(disk))
        yield from shells.measure(size, clufs, Path(disk))
        yield from crowd.measure_clients(size, hello, clufs)
        yield from daemon.measure_ls(size, clufs)
        yield from daemon.measure_idle(size, clufs)
    with running(clufs := Clufs(directory, "crowd")):
        yield from crowd.measure_hand_over(size, clufs)
        yield from crowd.measure_kill(size, clufs)
    yield from daemon.measure_start(size, directory)


def _many_locks(size: Size, directory: Path) -> Iterator[Row]:
    many = many_elsewhere(size.locks)
    at = f"at {size.locks:,} resources"
    for key, what, unit, bound in (
        ("block_bytes", f"core: a resource block with its lock, {at}", "bytes", 700),
        ("lock_bytes", f"core: each further lock, {at}", "bytes", None),
        ("pause_ms", f"core: longest collector pause, {at}", "ms", 10),
    ):
        target = Target(bound) if bound is not None else None
        yield figure(key.replace("_", "-"), what, unit, [many[key]], target)


def _applications(size: Size, directory: Path) -> Iterator[Row]:
    with cluster.lab_up(directory / "applications") as members:
        yield from checks.measure_members(size, members, directory)
        yield from takeover.measure(size, members.lab, directory)


_PARTS: dict[str, Callable[[Size, Path], Iterator[Row]]] = {
    "alone": _alone,
    "locks": _many_locks,
    "placement": placement.measure,
    "checks": checks.measure,
    "applications": _applications,
    "heartbeat": heartbeat.measure,
    "cluster": cluster.measure,
    "recovery": recovery.measure,
    "quorum-disk": quorum_disk.measure,
}


def main() -> None:
    """Measure everything, print the table, keep the JSON."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="hardly measure; only see that it runs")
    parser.add_argument("--json", type=Path, default=_BUILD / "bench.json", metavar="FILE")
    parser.add_argument(
        "--only", choices=_PARTS, action="append", help="only this part, and others named so"
    )
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("tests.bench: run it as root: it mounts file systems for others to use")
    size = TINY if arguments.tiny else Size()
    before = machine()
    mind_the_collector()
    with one_group(), tempfile.TemporaryDirectory(prefix="clufs-bench-") as directory:
        parts = [_PARTS[name] for name in arguments.only or _PARTS]
        rows = [row for part in parts for row in part(size, Path(directory))]
    write_json(arguments.json, rows, before)
    print(table(rows))
    load = " ".join(f"{one}" for one in os.getloadavg())
    print(f"\n{before['cpus']} CPUs, load at the end {load}; medians of {size.rounds} rounds")


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


if __name__ == "__main__":
    main()
