"""A LUN of clufs' own: formatted only when nothing is lost by it, and used by several members at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from clufs.errors import BadBlock, LunError
from clufs.storage.block import BlockDevice
from clufs.storage.own_lun import Blocks, OwnLun, Wish, format_own, open_own
from clufs.storage.paths import initiator_name, open_path
from clufs.storage.records import Eviction, LunMessage, MemberRecord, Word
from clufs.storage.sealing import BLOCK_BYTES
from tests.array.array import Array, Shape

LAB = Wish("lab", members=4, io_timeout_s=0.5, watchdog_s=2)
MIB = 1 << 20


@asynccontextmanager
async def disk(carrier: str, tmp_path: Path) -> AsyncIterator[BlockDevice]:
    async with AsyncExitStack() as stack:
        url = str(tmp_path / "lun")
        if carrier == "array":
            array = Array(Shape())
            await stack.enter_async_context(array.serving())
            url = array.url()
        else:
            Path(url).write_bytes(bytes(4 * MIB))
        path = await stack.enter_async_context(open_path(url, initiator_name("provolone")))
        yield path.device


@pytest.mark.parametrize("carrier", ["file", "array"])
async def test_what_one_member_writes_the_others_read(carrier: str, tmp_path: Path) -> None:
    async with disk(carrier, tmp_path) as device:
        mine = await format_own(device, LAB)
        theirs = await open_own(device, "lab")
        assert theirs.header == mine.header
        assert theirs.line.renew_s == 1.0
        beat = MemberRecord(mine.header.cluster, 2, 7, view=9)
        for sequence in range(3):
            await mine.write_record(beat, sequence)
        slots = dict(await theirs.read_slots(4))
        assert (slots[2].record.sequence, slots[2].record.record) == (3, beat)
        assert [n for n, slot in slots.items() if slot.record.record] == [2]


async def test_a_tombstone_stays_and_only_grows(tmp_path: Path) -> None:
    async with disk("file", tmp_path) as device:
        lun = await format_own(device, LAB)
        ours = lun.header.cluster
        assert await lun.evicted(3) == -1
        await lun.evict(Eviction(ours, 1, 5, 3, 12))
        await lun.evict(Eviction(ours, 2, 8, 3, 10))
        await lun.evict(Eviction(ours, 1, 5, 3, 11))
        assert await lun.evicted(3) == 12
        assert await lun.evicted(1) == -1


async def test_members_who_send_at_once_both_reach_the_slot(tmp_path: Path) -> None:
    async with disk("file", tmp_path) as device:
        lun = await format_own(device, LAB)
        ours = lun.header.cluster
        async with trio.open_nursery() as nursery:
            for writer in (1, 2, 4):
                poison = LunMessage(ours, 3, 20, Word.STOP, writer)
                nursery.start_soon(lun.tell, poison)
        slots = dict(await lun.read_slots(4))
        said = slots[3].message.record
        assert said is not None and said.stops(20) and not said.stops(21)


async def test_a_lun_that_carries_something_is_not_formatted(tmp_path: Path) -> None:
    async with disk("file", tmp_path) as device:
        await device.write(2, b"ext4?".ljust(512, b"\0"))
        with pytest.raises(LunError, match="carries something"):
            await format_own(device, LAB)
        assert (await device.read(2, 1)).startswith(b"ext4?")
        await format_own(device, LAB, force=True)
        with pytest.raises(LunError, match="belongs to cluster lab already"):
            await format_own(device, Wish("other", 4))
        with pytest.raises(BadBlock, match="of another cluster: it belongs to lab"):
            await open_own(device, "other")


async def test_a_lun_formatted_anew_has_nothing_of_before(tmp_path: Path) -> None:
    async with disk("file", tmp_path) as device:
        before = await format_own(device, LAB)
        await before.write_record(MemberRecord(before.header.cluster, 2, 7), 0)
        await before.evict(Eviction(before.header.cluster, 1, 5, 2, 12))
        after = await format_own(device, LAB, force=True)
        assert after.header.uuid != before.header.uuid
        assert await after.evicted(2) == -1
        # Who had it open goes on writing: nobody takes it for a record of this LUN.
        await before.write_record(MemberRecord(before.header.cluster, 2, 7), 1)
        slot = dict(await after.read_slots(4))[2]
        assert slot.record.record is None
        assert slot.record.flaws == (
            "written for another LUN, or before this one was formatted anew",
        )


class Interrupted(Exception):
    pass


class Failing:
    """A device that takes so many writes, and no more."""

    def __init__(self, device: BlockDevice, writes: int) -> None:
        self._device, self._left = device, writes
        self.block_bytes, self.blocks = device.block_bytes, device.blocks

    async def read(self, lba: int, count: int) -> bytes:
        return await self._device.read(lba, count)

    async def write(self, lba: int, data: bytes) -> None:
        if not self._left:
            raise Interrupted
        self._left -= 1
        await self._device.write(lba, data)

    async def compare_and_write(self, lba: int, expected: bytes, data: bytes) -> bool:
        return await self._device.compare_and_write(lba, expected, data)

    async def close(self) -> None:
        pass


async def test_a_format_that_is_interrupted_leaves_no_half_of_one(tmp_path: Path) -> None:
    """After each of its writes: the LUN is what it was, or a new one with nothing on it, or none."""
    async with disk("file", tmp_path) as device:
        old = await format_own(device, LAB)
        await old.evict(Eviction(old.header.cluster, 1, 5, 2, 12))
        writes, found_as = 0, set()
        while True:
            try:
                await format_own(Failing(device, writes), LAB, force=True)
                break
            except Interrupted:
                writes += 1
            found: OwnLun | None
            try:
                found = await open_own(device)
            except BadBlock:
                found_as.add("none")
                continue
            is_old = found.header.uuid == old.header.uuid
            found_as.add("old" if is_old else "new")
            assert await found.evicted(2) == (12 if is_old else -1)
        assert found_as == {"old", "none", "new"}


async def test_a_device_with_larger_blocks_than_ours_is_refused(tmp_path: Path) -> None:
    async with disk("file", tmp_path) as device:
        large = Failing(device, 0)
        large.block_bytes = 2 * BLOCK_BYTES
        with pytest.raises(LunError, match="blocks of 8192 bytes"):
            Blocks(large)


# ------------------------------------------------------------------ the program


def clufs_lun(*words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "clufs"
    return subprocess.run([program, "lun", *words], capture_output=True, text=True, timeout=60)


def test_clufs_lun_formats_and_shows(tmp_path: Path) -> None:
    lun = tmp_path / "lun"
    lun.write_bytes(bytes(4 * MIB))
    options = ["--cluster", "lab", "--members", "8", "--io-timeout", "0.5", "--watchdog", "2"]
    done = clufs_lun("format", *options, str(lun))
    assert (done.returncode, done.stderr) == (0, "")
    assert "CLUSTER=lab\n" in done.stdout and "IO_TIMEOUT_S=0.5\n" in done.stdout
    assert clufs_lun("show", str(lun)).stdout == done.stdout
    again = clufs_lun("format", *options, str(lun))
    assert again.returncode == 1
    assert again.stderr == (
        f"clufs lun: {lun}: it belongs to cluster lab already: --force formats it anew,"
        " with no member running\n"
    )


def test_clufs_lun_says_what_is_wrong_in_a_sentence(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(MIB))
    done = clufs_lun("format", "--cluster", "lab", str(small))
    assert done.returncode == 1
    assert "1024 KiB are too small for 16 members: " in done.stderr
    assert clufs_lun("show", str(small)).stderr == f"clufs lun: {small}: never written\n"
    done = clufs_lun("show", str(tmp_path / "none"))
    assert done.stderr == f"clufs lun: {tmp_path / 'none'}: No such file or directory\n"
    assert clufs_lun("format", "--io-timeout", "0", str(small)).returncode == 2
