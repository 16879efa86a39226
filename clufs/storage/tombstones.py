"""Tombstones on the LUNs of clufs: written by who fences, read by who enters. See `fencing` and `entering`."""

from __future__ import annotations

from clufs.errors import BadBlock, LunError, PathLost
from clufs.storage.disk_header import DiskHeader
from clufs.storage.inventory import SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.own_lun import Blocks, OwnLun, open_own
from clufs.storage.paths import LunPath
from clufs.storage.records import Eviction
from clufs.timeouts.lease import LeaseTimeline


class Tombstones:
    """Those of one cluster. The header of each LUN is read once: it changes only when all members are off."""

    def __init__(self, luns: Luns, cluster_name: str) -> None:
        self._luns = luns
        self._cluster_name = cluster_name
        self._headers: dict[str, DiskHeader] = {}

    @property
    def disks(self) -> tuple[str, ...]:
        """The LUNs of clufs that are configured, each by the first of its paths."""
        return tuple(self._luns.inventory.expected("clufs"))

    def lease(self) -> LeaseTimeline:
        """The longest times that a header has set, of those that were read."""
        known = (self._headers[wwid] for wwid in sorted(self._headers))
        lines = [LeaseTimeline(one.io_timeout_ms / 1000, one.watchdog_ms / 1000) for one in known]
        return max(lines, key=lambda line: line.takeover_s, default=LeaseTimeline())

    async def bury(self, disk: str, eviction: Eviction) -> None:
        """Write a tombstone; it is safe, and was seen there, when this returns. Raises LunError."""
        await self._luns.run(self._lun(disk), lambda path: self._bury(path, eviction))

    async def buried(self, disk: str, member: int) -> int:
        """The latest incarnation of a member that has a tombstone there, -1 for none. Raises LunError."""
        return await self._luns.run(self._lun(disk), lambda path: self._buried(path, member))

    async def _bury(self, path: LunPath, eviction: Eviction) -> None:
        await (await self._open(path)).evict(eviction)

    async def _buried(self, path: LunPath, member: int) -> int:
        return await (await self._open(path)).evicted(member)

    async def _open(self, path: LunPath) -> OwnLun:
        header = self._headers.get(path.identity.wwid)
        if header is not None:
            return OwnLun(Blocks(path.device), header)
        try:
            opened = await open_own(path.device, self._cluster_name)
        except BadBlock as bad:
            raise LunError(f"{path.identity.wwid}: {bad}") from bad
        self._headers[path.identity.wwid] = opened.header
        return opened

    def _lun(self, disk: str) -> SharedLun:
        lun = self._luns.inventory.expected("clufs").get(disk)
        if lun is None:
            raise PathLost("no path has led to it yet")
        return lun
