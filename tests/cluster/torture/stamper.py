"""One writer on one member: takes a lock, stamps its sectors until it has had enough, gives the lock back.

python -m tests.cluster.torture.stamper SEED NAME WAY AREA LUN URL...

`file` writes LUN/data, a directory of /clu/luns. `session` stands for an application on a kernel device: it has
sessions of its own, registered with the key that clufsd has registered for the present life, so clufsd's death is
not its end. Who cannot give its lock back, or cannot write, does not stop for that: only fencing, or being killed,
stops it.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import trio

from clufs.errors import LunError, NotFenced, ReservationConflict
from clufs.storage import commands as c
from clufs.storage import steps
from clufs.storage.carrier import Lun
from clufs.storage.certificate import MemberKey
from clufs.storage.iscsi import iscsi_lun
from clufs.storage.paths import initiator_name, isid_of
from clufs.storage.reservations import carry, read_full_status
from tests.cluster.torture.stamps import SECTOR_BYTES, SECTORS, Stamp, first_of

LOCKS = Path("/clu/locks/public")
HOLD_S = {"quick": (0.05, 0.6), "slow": (2.0, 12.0)}
FIRST_S = 5.0
"""So much longer it is held if nothing was written yet: a session takes its time on a busy machine."""
PAUSE_S = 0.003
AGAIN_S = 0.2
ENOUGH_S = 60.0
"""After so long a writer whose lock cannot be given back ends."""


class Over(Exception):
    """The life under which the lock was granted is over."""


class Writer:
    """Until it is killed."""

    def __init__(
        self, seed: str, name: str, way: str, area: str, lun: str, urls: list[str]
    ) -> None:
        self._dice = random.Random(seed)
        self._member = os.uname().nodename
        self._name = f"{way}:{name}:{os.getpid()}"
        self._initiator = f"{initiator_name(self._member)}.{name}"
        self._way = way
        self._area = area
        self._data = f"{lun}/data"
        self._urls = urls
        self._count = 0
        self._until_s = self._first_until_s = 0.0

    async def run(self) -> None:
        """Hold after hold."""
        while True:
            try:
                await self._hold()
            except OSError:
                await trio.sleep(AGAIN_S)

    def _incarnation(self) -> int:
        return int(Path(f"/clu/members/{self._member}/incarnation").read_text())

    async def _hold(self) -> None:
        path = LOCKS / self._area
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            incarnation = self._incarnation()
            os.write(lock, b"EX")
            _, mode, number = os.getxattr(path, "user.clu.sequencer").decode().split()
            if self._incarnation() == incarnation and mode == "EX":
                stamp = Stamp(
                    self._area, int(number), self._member, incarnation, self._name, self._count
                )
                await self._use(stamp, lock)
            else:
                os.write(lock, b"UN")
        finally:
            os.close(lock)

    async def _use(self, stamp: Stamp, lock: int) -> None:
        """Write for a while, and on for as long as the lock cannot be given back."""
        begun = time.monotonic()
        while True:
            self._until_s = time.monotonic() + self._dice.uniform(*HOLD_S[self._area])
            self._first_until_s = self._until_s + FIRST_S
            try:
                await (self._by_file if self._way == "file" else self._by_session)(stamp)
            except (ReservationConflict, Over):
                await trio.sleep(AGAIN_S)
            try:
                os.write(lock, b"UN")
                return
            except OSError:
                if time.monotonic() > begun + ENOUGH_S:
                    sys.exit(1)

    def _goes_on(self) -> bool:
        return time.monotonic() < max(self._until_s, self._first_until_s)

    def _next(self, stamp: Stamp) -> tuple[int, bytes]:
        self._count += 1
        sector = first_of(self._area) + self._dice.randrange(SECTORS)
        return sector, replace(stamp, count=self._count).encode()

    async def _by_file(self, stamp: Stamp) -> None:
        while self._goes_on():
            try:
                data = os.open(self._data, os.O_RDWR)
                try:
                    while self._goes_on():
                        sector, block = self._next(stamp)
                        os.pwrite(data, block, sector * SECTOR_BYTES)
                        self._first_until_s = 0.0
                        await trio.sleep(PAUSE_S)
                finally:
                    os.close(data)
            except OSError:
                await trio.sleep(AGAIN_S)

    async def _by_session(self, stamp: Stamp) -> None:
        while self._goes_on():
            url = self._dice.choice(self._urls)
            try:
                async with iscsi_lun(url, self._initiator, isid_of(url, "app")) as carrier:
                    lun = Lun(carrier)
                    await self._enter(lun, stamp.incarnation)
                    while self._goes_on():
                        sector, block = self._next(stamp)
                        await lun.run(c.Write16(sector, 1, fua=True), block)
                        self._first_until_s = 0.0
                        await trio.sleep(PAUSE_S)
            except ReservationConflict:
                raise
            except LunError:
                await trio.sleep(AGAIN_S)

    async def _enter(self, lun: Lun, incarnation: int) -> None:
        """Register as clufsd has, then look whether it still has: who is fenced meanwhile never writes here."""
        key = await self._key(lun)
        if key is None or key.incarnation != incarnation:
            raise NotFenced("clufsd has registered nothing")
        await carry(lun, steps.register(key.number, aptpl=True))
        if await self._key(lun) != key:
            await carry(lun, steps.unregister())
            raise Over

    async def _key(self, lun: Lun) -> MemberKey | None:
        """What clufsd has registered here for its present life."""
        clufsd = initiator_name(self._member)
        found = [one.key for one in await read_full_status(lun) if one.initiator.name == clufsd]
        return MemberKey.of(max(found)) if found else None


def main(seed: str, name: str, way: str, area: str, lun: str, *urls: str) -> None:
    """Write until killed."""
    trio.run(Writer(seed, name, way, area, lun, list(urls)).run)


if __name__ == "__main__":
    main(*sys.argv[1:])
