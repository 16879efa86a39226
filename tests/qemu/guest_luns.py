"""LUNs that are kernel devices: LIO's, by SG_IO, found by udev, two paths recognised, reserved, fenced."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from pathlib import Path

import pytest
import trio

from clufs.errors import ReservationConflict
from clufs.storage.keeping import Luns
from clufs.storage.paths import by_wwid, open_path
from clufs.storage.reservations import read_keys
from tests.qemu.lio import Disk

ME = "iqn.2026-01.org.clufs:guest"
OURS, VICTIM = 0x1000100000001, 0x1000200000001


def write_by_kernel(device: str) -> int:
    """What becomes of a block written past the page cache: 0, or the errno."""
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
    try:
        with mmap.mmap(-1, 4096) as memory:
            os.pwrite(fd, memory, 0)
        return 0
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(fd)


async def test_two_devices_are_two_paths_to_one_lun(disk: Disk) -> None:
    async with open_path(disk.devices[0], ME) as first, open_path(disk.devices[1], ME) as second:
        ((wwid, paths),) = by_wwid([first, second]).items()
        assert wwid.startswith("naa.6001405") and len(paths) == 2
        assert first.lun is not None and first.identity.alua
        assert wwid == Path(f"/sys/block/{disk.devices[0][5:]}/device/wwid").read_text().strip()


async def test_what_one_path_wrote_the_other_reads(disk: Disk) -> None:
    async with open_path(disk.devices[0], ME) as first, open_path(disk.devices[1], ME) as second:
        data = os.urandom(1 << 19)
        await first.device.write(8, data)
        assert await second.device.read(8, len(data) // 512) == data
        assert await second.device.compare_and_write(8, data[:512], b"x" * 512)
        assert not await first.device.compare_and_write(8, data[:512], b"y" * 512)
        assert await first.device.read(8, 1) == b"x" * 512


# linux/pr.h: two keys and flags; type, flags and keys.
_REGISTER, _RESERVE, _PREEMPT = 0x401870C8, 0x401070C9, 0x401870CB
_EXCLUSIVE_REGISTRANTS_ONLY = 3  # PR_WRITE_EXCLUSIVE_REG_ONLY


def kernel_pr(device: str, request: int, data: bytes) -> None:
    """One of the kernel's own reservation ioctls. What the LUN refused is no errno, but a status above 0."""
    fd = os.open(device, os.O_RDWR)
    try:
        assert fcntl.ioctl(fd, request, bytearray(data)) == 0
    finally:
        os.close(fd)


async def test_the_kernels_own_reservations_are_those_we_see(disk: Disk) -> None:
    first, second = disk.devices
    kernel_pr(first, _REGISTER, struct.pack("QQII", 0, OURS, 0, 0))
    kernel_pr(second, _REGISTER, struct.pack("QQII", 0, VICTIM, 0, 0))
    kernel_pr(first, _RESERVE, struct.pack("QII", OURS, _EXCLUSIVE_REGISTRANTS_ONLY, 0))
    async with open_path(second, ME) as path:
        assert path.lun is not None
        assert set((await read_keys(path.lun)).keys) == {OURS, VICTIM}
        # The first key is ours, the second one the victim's.
        preempting = struct.pack("QQII", OURS, VICTIM, _EXCLUSIVE_REGISTRANTS_ONLY, 0)
        kernel_pr(first, _PREEMPT, preempting)
        assert (await read_keys(path.lun)).keys == (OURS,)
        assert write_by_kernel(second) == errno.EBADE
        with pytest.raises(ReservationConflict):
            await path.device.write(0, bytes(512))
        assert len(await path.device.read(0, 1)) == 512
        assert write_by_kernel(first) == 0
    kernel_pr(first, _REGISTER, struct.pack("QQII", OURS, 0, 0, 0))


async def test_udev_tells_of_paths_that_come_and_go(disk: Disk) -> None:
    luns = Luns(ME)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(luns.serve)

        async def seen(count: int) -> None:
            with trio.fail_after(60):
                while [len(lun.paths) for lun in luns.inventory.luns.values()] != [count]:  # noqa: ASYNC110
                    await trio.sleep(0.05)

        await seen(2)
        (lun,) = luns.inventory.luns.values()
        assert lun.role == "found"
        assert await luns.run(lun, lambda path: path.device.read(0, 1)) is not None
        disk.cut(2)
        await seen(1)
        disk.devices[1] = disk.mend(2)
        await seen(2)
        nursery.cancel_scope.cancel()
