"""A LUN of role `clufs`: formatted once, opened by every member, and what they read and write there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

from clufs.errors import BadBlock, LunError
from clufs.limits import DISK_SLOTS, MESSAGE_TRIES_MAX
from clufs.storage.ballots import BallotRecord
from clufs.storage.block import BlockDevice
from clufs.storage.disk_header import HEADER_LBA, DiskHeader, Geometry, read_header
from clufs.storage.records import Eviction, LunMessage, MemberRecord
from clufs.storage.sealing import BLOCK_BYTES, Flaw
from clufs.storage.slots import LunMap, Pair, Slot
from clufs.timeouts.lease import IO_TIMEOUT_S, WATCHDOG_S, LeaseTimeline

_LOOKED_AT_BLOCKS = 32
"""At either end: there file systems, partition tables, volume managers and RAIDs have their labels."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a LUN shall be formatted. members: nodeids 1 to this have room."""

    cluster_name: str
    members: int = DISK_SLOTS
    io_timeout_s: float = IO_TIMEOUT_S
    watchdog_s: float = WATCHDOG_S


class Blocks:
    """A device in blocks of BLOCK_BYTES. Raises LunError where its own are larger."""

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self._each, rest = divmod(BLOCK_BYTES, device.block_bytes)
        if rest or not self._each:
            raise LunError(f"blocks of {device.block_bytes} bytes: clufs takes up to {BLOCK_BYTES}")
        self.count = device.blocks // self._each

    async def read(self, lba: int, count: int) -> bytes:
        """`count` blocks from `lba` on. Raises LunError."""
        return await self._device.read(lba * self._each, count * self._each)

    async def write(self, lba: int, data: bytes) -> None:
        """Whole blocks from `lba` on; safe when it returns. Raises LunError."""
        await self._device.write(lba * self._each, data)


class OwnLun:
    """An opened one. All methods raise LunError."""

    def __init__(self, blocks: Blocks, header: DiskHeader) -> None:
        self.header = header
        self.map = LunMap(header)
        self.blocks = blocks

    @property
    def line(self) -> LeaseTimeline:
        """The times that its header sets."""
        return LeaseTimeline(self.header.io_timeout_ms / 1000, self.header.watchdog_ms / 1000)

    async def read_slots(self, members: int) -> Iterator[tuple[int, Slot]]:
        """The slots of members 1 to `members`, by one read."""
        return self.map.read_slots(await self.blocks.read(*self.map.slots_extent(members)))

    async def write_record(self, record: MemberRecord, sequence: int) -> None:
        """Our own record, after `sequence`."""
        await self.blocks.write(*self.map.write_record(record, sequence))

    # ------------------------------------------------------------ tombstones

    async def evict(self, eviction: Eviction) -> None:
        """Write a tombstone, and see it there. One that is later already is left."""
        extent = self.map.eviction_extent(eviction.writer, eviction.victim)
        before = self.map.read_eviction(
            eviction.writer, eviction.victim, await self.blocks.read(*extent)
        )
        if before.record is not None and before.record.incarnation > eviction.incarnation:
            return
        await self.blocks.write(*self.map.write_eviction(eviction, before.sequence))
        after = self.map.read_eviction(
            eviction.writer, eviction.victim, await self.blocks.read(*extent)
        )
        if after.record != eviction:
            raise LunError(
                f"the tombstone of member {eviction.victim} was written and is not there"
            )

    async def evicted(self, victim: int) -> int:
        """The latest incarnation of a victim that anybody has declared out; -1 if nobody has."""
        extent = self.map.evictions_extent(victim)
        return self.map.evicted(victim, await self.blocks.read(*extent))

    async def read_ballots(self) -> Iterator[tuple[int, Pair[BallotRecord]]]:
        """What every member says about the quorum disk, by one read."""
        return self.map.read_ballots(await self.blocks.read(*self.map.ballots_extent()))

    # ------------------------------------------------------------ messages

    async def tell(self, message: LunMessage) -> None:
        """Leave a word for a member, and see it there. One that says the same for a later incarnation is left."""
        extent = self.map.message_extent(message.member)
        for _ in range(MESSAGE_TRIES_MAX):
            found = self.map.read_message(message.member, await self.blocks.read(*extent))
            said = found.record
            same = said is not None and said.word == message.word
            if same and said is not None and said.incarnation >= message.incarnation:
                return
            await self.blocks.write(*self.map.write_message(message, found.sequence))
        raise LunError(f"the message to member {message.member} was written and is not there")


async def open_own(device: BlockDevice, cluster_name: str = "") -> OwnLun:
    """Open a formatted LUN. Raises BadBlock for one that is none, or of another cluster; LunError."""
    blocks = Blocks(device)
    last = blocks.count - 1
    ends = await blocks.read(HEADER_LBA, 1), await blocks.read(last, 1)
    header = read_header(*ends, last, cluster_name)
    if header.geometry.last_lba != last:
        raise BadBlock(
            Flaw.OTHER_LUN,
            f"it was formatted with {header.geometry.blocks} blocks and has {blocks.count}",
        )
    return OwnLun(blocks, header)


async def format_own(device: BlockDevice, wish: Wish, *, force: bool = False) -> OwnLun:
    """Make a LUN one of clufs' own; all that it carried is gone, also where only the slots were overwritten.

    Raises LunError, with nothing changed, for one that is too small, or that carries something unless
    `force`.
    """
    blocks = Blocks(device)
    uuid = uuid4()
    header = DiskHeader(
        uuid,
        Geometry(blocks.count, wish.members),
        wish.cluster_name,
        round(wish.io_timeout_s * 1000),
        round(wish.watchdog_s * 1000),
        made_ns=time.time_ns(),
    )
    copies = header.encode(HEADER_LBA), header.encode(header.geometry.last_lba)
    if not force:
        await _refuse_what_is_used(blocks)
    # No header while there is work: what is interrupted is not taken for formatted, nor for what it was.
    await blocks.write(header.geometry.last_lba, bytes(BLOCK_BYTES))
    await blocks.write(HEADER_LBA, bytes(BLOCK_BYTES))
    await _clear(blocks, header.geometry)
    await blocks.write(header.geometry.last_lba, copies[1])
    await blocks.write(HEADER_LBA, copies[0])
    return await open_own(device, wish.cluster_name)


async def _clear(blocks: Blocks, geometry: Geometry) -> None:
    """Zero everything before the registry's log, whose blocks are judged by the UUID."""
    begin, end = HEADER_LBA + 1, geometry.log_lba
    step = _LOOKED_AT_BLOCKS
    for lba in range(begin, end, step):
        await blocks.write(lba, bytes(BLOCK_BYTES * min(step, end - lba)))


async def _refuse_what_is_used(blocks: Blocks) -> None:
    """Raise LunError with what it seems to carry."""
    count = min(_LOOKED_AT_BLOCKS, blocks.count)
    first = await blocks.read(HEADER_LBA, count)
    last = await blocks.read(blocks.count - count, count)
    try:
        header = read_header(first, last[-BLOCK_BYTES:], blocks.count - 1)
    except BadBlock as bad:
        if any(first) or any(last):
            raise LunError(f"it carries something ({bad.flaw}): --force overwrites it") from None
    else:
        raise LunError(
            f"it belongs to cluster {header.cluster_name} already: --force formats it anew,"
            " with no member running"
        )
