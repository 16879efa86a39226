"""What a file of /clu/lockfiles costs, made and removed, beside what its promise cannot do without.

Each of both is ordered among all members, and on disk at a majority, before it is answered.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from clufs.lab import plan
from tests.bench.measure import Size, alternate
from tests.bench.report import Row, Target, compared, figure

if TYPE_CHECKING:
    from tests.bench.cluster import Members


def measure(size: Size, members: Members) -> Iterator[Row]:
    """The rows."""
    tellers, directory = members.tellers, members.lab.directory
    home = next(iter(tellers.values()))
    lockfiles = str(Path(plan.MOUNT_POINT, "lockfiles"))
    calls = max(size.calls // 10, 2)
    files = {name: str(directory / f"flush-{name}") for name in tellers}

    def flush_us() -> float:
        """A write and fdatasync(2) on all members at once, until it is done on two of the three."""
        with ThreadPoolExecutor(len(tellers)) as pool:
            asked = [
                pool.submit(teller.call, "flush_us", path=files[name], calls=calls)
                for name, teller in tellers.items()
            ]
            return float(statistics.median(one.result() for one in asked))

    contestants: dict[str, Callable[[], float]] = {
        "pair": lambda: float(home.call("make_us", directory=lockfiles, calls=calls)),
        "multicast": lambda: float(home.call("multicast_us", calls=calls)),
        "flush": flush_us,
    }
    samples = alternate(contestants, size.rounds)
    pairs = zip(samples["multicast"], samples["flush"], strict=True)
    least = [multicast + 2 * flush for multicast, flush in pairs]
    yield compared(
        "lockfiles-pair",
        "lockfiles: create O_EXCL + unlink, three members",
        "us",
        samples["pair"],
        "an ordered multicast + two quorum flushes",
        least,
        Target(3),
    )
    yield figure("multicast", "an ordered multicast of three", "us", samples["multicast"])
    yield figure("quorum-flush", "4 KiB on two of three disks", "us", samples["flush"])
