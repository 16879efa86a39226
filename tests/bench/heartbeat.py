"""The heartbeat on a LUN of clufs' own, while as many processes as there are want locks of the same member."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from clufs.storage.own_lun import OwnLun, Wish, format_own, open_own
from clufs.storage.paths import open_path
from tests.bench.measure import Size
from tests.bench.report import Row, Target, compared
from tests.bench.servers import Clufs, running
from tests.bench.system_calls import EX, NL

_MEMBER = "bench"
_INITIATOR = "iqn.2026-01.org.clufs:bench"
_WISH = Wish(_MEMBER, members=2, io_timeout_s=0.1, watchdog_s=10)
_LOOK_S = 0.02
_LUN_BYTES = 4 << 20


def measure(size: Size, directory: Path) -> Iterator[Row]:
    """The 99th percentile of the time between two beats, as the records on the LUN have it."""
    lun, config = directory / "lun", directory / "heartbeat.toml"
    lun.write_bytes(bytes(_LUN_BYTES))
    words = f'[member]\nname = "{_MEMBER}"\n[storage]\nwatchdog = ""\n[[luns]]\nurl = "{lun}"\nrole = "clufs"\n'
    config.write_text(words)
    trio.run(_format, lun)
    with running(clufs := Clufs(directory, "heartbeat", "--config", str(config))):
        crowd = [_asking(clufs.public / f"lock{n}") for n in range(size.clients)]
        try:
            times_ms = trio.run(_beats_ms, lun, size.beats)
        finally:
            for pid in crowd:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    intervals = [after - before for before, after in itertools.pairwise(times_ms)]
    period_ms = 2000 * _WISH.io_timeout_s
    p99_ms = statistics.quantiles(intervals, n=100, method="inclusive")[98]
    what = f"99th percentile between two heartbeats, {size.clients} clients at it"
    yield compared("heartbeat", what, "ms", [p99_ms], "its period", [period_ms], Target(1.2))


def _asking(path: Path) -> int:
    """A process that takes and gives a lock without end, each with a descriptor of its own."""
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        while True:
            os.write(fd, EX)
            os.write(fd, NL)
    return pid


async def _format(lun: Path) -> None:
    async with open_path(str(lun), _INITIATOR) as path:
        await format_own(path.device, _WISH)


async def _beats_ms(lun: Path, count: int) -> list[int]:
    """When the beats began, by the member's clock; every one of them, in order."""
    begun: dict[int, int] = {}
    async with open_path(str(lun), _INITIATOR, "bench") as path:
        own = await open_own(path.device)
        while len(begun) <= count:
            await _look(own, begun)
            time.sleep(_LOOK_S)
    first = min(begun)
    assert sorted(begun) == list(range(first, first + len(begun))), "a beat was not seen"
    return [begun[sequence] for sequence in sorted(begun)]


async def _look(own: OwnLun, begun: dict[int, int]) -> None:
    pair = dict(await own.read_slots(1))[1].record
    for sequence, record in ((pair.sequence, pair.record), (pair.sequence - 1, pair.older)):
        if record is not None:
            begun[sequence] = record.renewed_ms
