"""The header of a LUN that carries clufs' own data: whose it is, and what lies where.

It stands in the first block and, the same, in the last: a LUN whose beginning was overwritten by
mistake is recognised, and not formatted by the next mistake. Between them, in blocks of 4 KiB:

    1                  the slots, one after the other: each two blocks of the member's record and two
                       of the message to it, so that one read brings all that a heartbeat looks for
    evictions_lba      for each victim, for each writer, two blocks: the tombstones of a victim are one read
    ballots_lba        two blocks for each member: what it says in the arbitration of quorum
    log_lba            the tail of the registry's log, for each member the same share of what is left
    blocks - 1         the header again

Two blocks are always a pair: see `slots`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

import google_crc32c

from clufs.errors import BadBlock, GarbledAnswer, LunError
from clufs.limits import DISK_LOG_BLOCKS_MIN, DISK_SLOTS_MAX
from clufs.storage.layout import Layout, at
from clufs.storage.sealing import (
    BLOCK_BYTES,
    BODY_BYTES,
    Flaw,
    Kind,
    Place,
    read_label,
    seal,
    unseal,
)

HEADER_LBA = 0
SLOTS_LBA = 1
PAIR_BLOCKS = 2
SLOT_BLOCKS = 2 * PAIR_BLOCKS
_NAME_BYTES = 64


@dataclass(frozen=True, slots=True)
class Geometry:
    """What lies where on a LUN of `blocks` blocks of 4 KiB with room for members 1 to `slots`."""

    blocks: int
    slots: int

    def __post_init__(self) -> None:
        """Raises LunError if it does not fit."""
        if not 1 <= self.slots <= DISK_SLOTS_MAX:
            raise LunError(f"room for {self.slots} members: 1 to {DISK_SLOTS_MAX} are possible")
        if self.log_blocks < DISK_LOG_BLOCKS_MIN:
            need_kib = self.least_blocks(self.slots) * BLOCK_BYTES // 1024
            raise LunError(
                f"{self.blocks * BLOCK_BYTES // 1024} KiB are too small for {self.slots} members:"
                f" {need_kib} KiB are needed"
            )

    @staticmethod
    def least_blocks(slots: int) -> int:
        """The smallest LUN for so many members."""
        fixed = 2 + slots * (SLOT_BLOCKS + PAIR_BLOCKS * slots + PAIR_BLOCKS)
        return fixed + slots * DISK_LOG_BLOCKS_MIN

    @property
    def last_lba(self) -> int:
        """Of the header's copy."""
        return self.blocks - 1

    @property
    def evictions_lba(self) -> int:
        """After the slots."""
        return SLOTS_LBA + SLOT_BLOCKS * self.slots

    @property
    def ballots_lba(self) -> int:
        """After the evictions."""
        return self.evictions_lba + PAIR_BLOCKS * self.slots**2

    @property
    def log_lba(self) -> int:
        """After the ballots."""
        return self.ballots_lba + PAIR_BLOCKS * self.slots

    @property
    def log_blocks(self) -> int:
        """Of each member."""
        return (self.last_lba - self.log_lba) // self.slots

    def record(self, member: int) -> int:
        """The pair of a member's record."""
        return SLOTS_LBA + SLOT_BLOCKS * self._index(member)

    def message(self, member: int) -> int:
        """The pair of the message to a member."""
        return self.record(member) + PAIR_BLOCKS

    def eviction(self, writer: int, victim: int) -> int:
        """The pair in which `writer` says that `victim` is out."""
        row = self.slots * self._index(victim)
        return self.evictions_lba + PAIR_BLOCKS * (row + self._index(writer))

    def ballot(self, member: int) -> int:
        """The pair of what a member says in an arbitration."""
        return self.ballots_lba + PAIR_BLOCKS * self._index(member)

    def log(self, member: int) -> int:
        """The first block of a member's share of the registry's log."""
        return self.log_lba + self.log_blocks * self._index(member)

    def _index(self, member: int) -> int:
        if not 1 <= member <= self.slots:
            raise LunError(
                f"nodeid {member} has no place on this LUN: it was formatted for 1 to {self.slots}"
            )
        return member - 1


@dataclass(frozen=True)
class _Body(Layout):
    """Of a header. name: of the cluster, UTF-8."""

    LENGTH: ClassVar[int] = BODY_BYTES
    cluster: int = at(0, 16, default=None)
    slots: int = at(2, 16, default=None)
    io_timeout_ms: int = at(4, 32, default=None)
    watchdog_ms: int = at(8, 32, default=None)
    blocks: int = at(16, 64, default=None)
    made_ns: int = at(24, 64, default=None)
    name: int = at(64, 8 * _NAME_BYTES, default=None)


@dataclass(frozen=True, slots=True)
class DiskHeader:
    """A formatted LUN.

    generation: grows when the timing is changed. cluster: `cluster_number` of the cluster's name.
    io_timeout_ms, watchdog_ms: what every lease on this LUN is derived from (`timeouts.LeaseTimeline`).
    made_ns: wall clock.
    """

    uuid: UUID
    geometry: Geometry
    cluster_name: str
    io_timeout_ms: int
    watchdog_ms: int
    generation: int = 1
    made_ns: int = 0

    @property
    def cluster(self) -> int:
        """The number of the cluster, as in reservation keys."""
        return cluster_number(self.cluster_name)

    def encode(self, lba: int) -> bytes:
        """The block to be written at `lba`: once HEADER_LBA, once the last one. Raises LunError for a long name."""
        name = self.cluster_name.encode()
        if not 0 < len(name) <= _NAME_BYTES:
            raise LunError(
                f"a cluster's name of {len(name)} bytes: 1 to {_NAME_BYTES} are possible"
            )
        body = _Body(
            self.cluster,
            self.geometry.slots,
            self.io_timeout_ms,
            self.watchdog_ms,
            self.geometry.blocks,
            self.made_ns,
            int.from_bytes(name.ljust(_NAME_BYTES, b"\0"), "big"),
        )
        return seal(Place(self.uuid, lba), Kind.HEADER, self.generation, body.pack())

    @classmethod
    def decode(cls, block: bytes, lba: int) -> DiskHeader:
        """Read a header found at `lba`. Raises BadBlock."""
        place = Place(UUID(int=read_label(block).uuid), lba)
        sealed = unseal(place, Kind.HEADER, block)
        body = _Body.unpack(sealed.body)
        name = body.name.to_bytes(_NAME_BYTES, "big").rstrip(b"\0").decode(errors="replace")
        try:
            geometry = Geometry(body.blocks, body.slots)
        except LunError as error:
            raise GarbledAnswer(f"a whole header that cannot be: {error}") from error
        return cls(
            place.uuid,
            geometry,
            name,
            body.io_timeout_ms,
            body.watchdog_ms,
            sealed.sequence,
            body.made_ns,
        )


def read_header(first: bytes, last: bytes, last_lba: int, cluster_name: str = "") -> DiskHeader:
    """The header out of a LUN's first and last block: of two that differ, that of the later generation.

    Raises BadBlock with the first block's flaw if neither is whole; or if `cluster_name` is another one.
    """
    found: list[DiskHeader] = []
    flaws: list[BadBlock] = []
    for block, lba in ((first, HEADER_LBA), (last, last_lba)):
        try:
            found.append(DiskHeader.decode(block, lba))
        except BadBlock as flaw:
            flaws.append(flaw)
    if not found:
        raise flaws[0]
    if len({header.uuid for header in found}) > 1:
        found.pop()  # formatted when the LUN was smaller, or interrupted: the first block is written last
    header = max(found, key=lambda one: one.generation)
    if cluster_name and header.cluster_name != cluster_name:
        raise BadBlock(Flaw.OTHER_CLUSTER, f"it belongs to {header.cluster_name}")
    return header


def cluster_number(name: str) -> int:
    """A number from 1 to 65535 for a cluster's name: the same on every member, without asking anybody."""
    return 1 + int(google_crc32c.value(name.encode())) % 0xFFFF
