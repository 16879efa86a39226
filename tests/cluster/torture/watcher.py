"""python -m tests.cluster.torture.watcher URL JOURNAL: what stands on a LUN of an array that keeps no log itself.

Reads the sectors again and again, and writes each that has changed to the journal: some that were written over at
once are missed, none is seen before what was there earlier.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from clufs.errors import LunError
from clufs.storage import commands as c
from clufs.storage.carrier import Lun
from clufs.storage.iscsi import iscsi_lun
from tests.array.journal import Journal
from tests.cluster.torture.stamps import AREAS, SECTOR_BYTES, SECTORS

PAUSE_S = 0.05
_INITIATOR = "iqn.2026-01.org.clufs:watcher"


async def watch(url: str, journal: Path) -> None:
    """Until killed."""
    note = Journal(journal).of(0)
    count = SECTORS * len(AREAS)
    before = bytes(count * SECTOR_BYTES)
    while True:
        try:
            async with iscsi_lun(url, _INITIATOR, 1) as carrier:
                lun = Lun(carrier)
                while True:
                    seen = await lun.run(c.Read16(0, count))
                    for at in range(0, len(seen), SECTOR_BYTES):
                        sector = seen[at : at + SECTOR_BYTES]
                        if sector != before[at : at + SECTOR_BYTES]:
                            note(at // SECTOR_BYTES, sector, _INITIATOR)
                    before = seen
                    await trio.sleep(PAUSE_S)
        except LunError:
            await trio.sleep(PAUSE_S)


if __name__ == "__main__":
    trio.run(watch, sys.argv[1], Path(sys.argv[2]))
