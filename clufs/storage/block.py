"""Blocks of a LUN, whatever carries them: what the layout on a disk, and /clu/luns/<wwid>/data, read and write.

A write that has returned is safe from power failure. No write that raised is known to have been done or
not, except where the error says so.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import trio

from clufs.errors import (
    CheckCondition,
    GarbledAnswer,
    LunError,
    LunTimedOut,
    NotSupported,
    PathLost,
    ReservationConflict,
    WriteProtected,
)
from clufs.limits import FILE_COMMANDS_MAX, LUN_TRANSFER_MAX_BYTES
from clufs.storage import commands as c
from clufs.storage.carrier import Lun
from clufs.storage.sense import SenseKey
from clufs.timeouts import LUN_COMMAND_S

BLOCK_BYTES = 512
_BLKSSZGET = 0x1268
_NO_SUCH_FIELD = (0x24, 0x00)
_NO_SUCH_COMMAND = (0x20, 0x00)
_ERRORS: dict[int, type[LunError]] = {
    errno.EBADE: ReservationConflict,
    errno.ETIMEDOUT: LunTimedOut,
    errno.ENODEV: PathLost,
    errno.ENXIO: PathLost,
    errno.ENOLINK: PathLost,
}

T = TypeVar("T")


class BlockDevice(Protocol):
    """A LUN as an array of logical blocks. All methods raise LunError."""

    @property
    def block_bytes(self) -> int:
        """Bytes in a logical block: a power of 2 from 512 on. A write of one is whole or not done at all."""

    @property
    def blocks(self) -> int:
        """How many logical blocks there are."""

    async def read(self, lba: int, count: int) -> bytes:
        """The `count` blocks from `lba` on. A write of another at the same time may be seen in parts."""

    async def write(self, lba: int, data: bytes) -> None:
        """Write whole blocks from `lba` on; safe from power failure when it returns."""

    async def compare_and_write(self, lba: int, expected: bytes, data: bytes) -> bool:
        """Write one block if it is as `expected`, as one step; False, and nothing is changed, if it is not.

        Raises NotSupported where the LUN has no such step; nothing was done then.
        """

    async def close(self) -> None:
        """Let go of it: what is asked afterwards raises LunError."""


class ScsiBlock:
    """Blocks by READ(16), WRITE(16) and COMPARE AND WRITE through one path."""

    def __init__(self, lun: Lun, block_bytes: int, blocks: int) -> None:
        self._lun = lun
        self._block_bytes = block_bytes
        self._blocks = blocks
        self._force_unit_access = True

    @property
    def block_bytes(self) -> int:
        """See BlockDevice."""
        return self._block_bytes

    @property
    def blocks(self) -> int:
        """See BlockDevice."""
        return self._blocks

    async def read(self, lba: int, count: int) -> bytes:
        """See BlockDevice. From the medium as the array has it, never from a cache of this machine."""
        parts = []
        for begin, blocks in _pieces(lba, count, self._block_bytes):
            data = await self._lun.run(c.Read16(begin, blocks), block_bytes=self._block_bytes)
            if len(data) != blocks * self._block_bytes:
                raise GarbledAnswer(
                    f"{self._lun.path}: READ(16) of {blocks} blocks: {len(data)} bytes"
                )
            parts.append(data)
        return b"".join(parts)

    async def write(self, lba: int, data: bytes) -> None:
        """See BlockDevice."""
        count = _whole(self._lun.path, data, self._block_bytes)
        for begin, blocks in _pieces(lba, count, self._block_bytes):
            at = (begin - lba) * self._block_bytes
            try:
                await self._write(begin, data[at : at + blocks * self._block_bytes])
            except CheckCondition as refusal:
                if refusal.key == SenseKey.DATA_PROTECT:
                    raise WriteProtected(str(refusal)) from refusal
                raise

    async def _write(self, lba: int, data: bytes) -> None:
        """With FUA; an array that refuses it is told to write back its cache instead."""
        count = len(data) // self._block_bytes
        if self._force_unit_access:
            try:
                await self._lun.run(c.Write16(lba, count, fua=True), data)
                return
            except CheckCondition as refusal:
                if not _is_illegal(refusal, _NO_SUCH_FIELD):
                    raise
                self._force_unit_access = False
        await self._lun.run(c.Write16(lba, count), data)
        await self._lun.run(c.SynchronizeCache16(lba, count))

    async def compare_and_write(self, lba: int, expected: bytes, data: bytes) -> bool:
        """See BlockDevice."""
        if len(expected) != self._block_bytes or len(data) != self._block_bytes:
            raise LunError(f"{self._lun.path}: COMPARE AND WRITE takes one block of each")
        try:
            await self._lun.run(c.CompareAndWrite(lba, 1), expected + data)
        except CheckCondition as refusal:
            if refusal.key == SenseKey.MISCOMPARE:
                return False
            if _is_illegal(refusal, _NO_SUCH_COMMAND):
                raise NotSupported(f"{self._lun.path}: no COMPARE AND WRITE") from refusal
            raise
        await self._lun.run(c.SynchronizeCache16(lba, 1))
        return True

    async def close(self) -> None:
        """Nothing to do: the path's carrier is its opener's."""


class FileBlock:
    """A plain file, a loop device or another kernel device without SCSI commands: for trying out.

    Past the page cache (O_DIRECT) where the file system allows. There are no reservations, and no
    compare and write. A file has blocks of 512 bytes; what is left over at its end is not used.
    """

    def __init__(self, path: str) -> None:
        """Raises PathLost if it cannot be opened, LunError if it is neither a file nor a block device."""
        self._path = path
        try:
            self._descriptor = _open(path)
            self._block_bytes, self._blocks = _measure(path, self._descriptor)
        except OSError as error:
            raise PathLost(f"{path}: {error.strerror}") from error
        self._limiter = trio.CapacityLimiter(FILE_COMMANDS_MAX)

    @property
    def path(self) -> str:
        """Its name."""
        return self._path

    @property
    def block_bytes(self) -> int:
        """See BlockDevice."""
        return self._block_bytes

    @property
    def blocks(self) -> int:
        """See BlockDevice."""
        return self._blocks

    async def read(self, lba: int, count: int) -> bytes:
        """See BlockDevice."""
        self._look(lba, count)
        return await self._run("reading", lambda: self._read(lba, count))

    async def write(self, lba: int, data: bytes) -> None:
        """See BlockDevice."""
        self._look(lba, _whole(self._path, data, self._block_bytes))
        await self._run("writing", lambda: self._write(lba, data))

    async def compare_and_write(self, lba: int, expected: bytes, data: bytes) -> bool:
        """Raises NotSupported: a file has no such step."""
        raise NotSupported(f"{self._path}: no COMPARE AND WRITE")

    async def close(self) -> None:
        """Close it; a command that still hangs keeps what it needs."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _look(self, lba: int, count: int) -> None:
        if self._descriptor < 0:
            raise PathLost(f"{self._path}: is closed")
        if lba < 0 or lba + count > self._blocks:
            raise LunError(f"{self._path}: block {lba + count - 1} of {self._blocks}")

    async def _run(self, what: str, call: Callable[[], T]) -> T:
        """In a thread, which a dead disk may keep: then this raises LunTimedOut."""
        with trio.move_on_after(LUN_COMMAND_S):
            try:
                return await trio.to_thread.run_sync(
                    call, abandon_on_cancel=True, limiter=self._limiter
                )
            except OSError as error:
                kind = _ERRORS.get(error.errno or 0, LunError)
                raise kind(f"{self._path}: {what}: {error.strerror}") from error
        raise LunTimedOut(f"{self._path}: {what}: no answer within {LUN_COMMAND_S} s")

    def _read(self, lba: int, count: int) -> bytes:
        length = count * self._block_bytes
        if not length:
            return b""
        # Memory of its own: O_DIRECT wants it aligned, and a thread that was left alone may still fill it.
        with mmap.mmap(-1, length) as memory:
            done = os.preadv(self._descriptor, [memory], lba * self._block_bytes)
            if done != length:
                raise OSError(errno.EIO, f"{done} of {length} bytes came")
            return memory[:]

    def _write(self, lba: int, data: bytes) -> None:
        if not data:
            return
        with mmap.mmap(-1, len(data)) as memory:
            memory[:] = data
            done = os.pwritev(self._descriptor, [memory], lba * self._block_bytes)
            if done != len(data):
                raise OSError(errno.EIO, f"{done} of {len(data)} bytes went out")


def _open(path: str) -> int:
    """A descriptor, with O_DIRECT where a block can be read in that way."""
    flags = os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags)
    try:
        with mmap.mmap(-1, BLOCK_BYTES) as memory:
            os.preadv(descriptor, [memory], 0)
        return descriptor
    except OSError as error:
        os.close(descriptor)
        # Blocks of the disk below may be larger than ours.
        if error.errno != errno.EINVAL or not stat.S_ISREG(os.stat(path).st_mode):
            raise
        return os.open(path, flags)


def _measure(path: str, descriptor: int) -> tuple[int, int]:
    """Bytes in a block, and how many of them."""
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise LunError(f"{path}: neither a plain file nor a block device")
    block_bytes = BLOCK_BYTES
    if stat.S_ISBLK(mode):
        (block_bytes,) = struct.unpack("i", fcntl.ioctl(descriptor, _BLKSSZGET, bytes(4)))
    return block_bytes, os.lseek(descriptor, 0, os.SEEK_END) // block_bytes


def _pieces(lba: int, count: int, block_bytes: int) -> Iterator[tuple[int, int]]:
    """Begin and number of blocks of each command that reading or writing so many takes."""
    step = LUN_TRANSFER_MAX_BYTES // block_bytes
    for begin in range(lba, lba + count, step):
        yield begin, min(step, lba + count - begin)


def _whole(path: str, data: bytes, block_bytes: int) -> int:
    """How many blocks the data is. Raises LunError unless they are whole."""
    if len(data) % block_bytes:
        raise LunError(f"{path}: {len(data)} bytes are no whole blocks of {block_bytes}")
    return len(data) // block_bytes


def _is_illegal(refusal: CheckCondition, code: tuple[int, int]) -> bool:
    return refusal.key == SenseKey.ILLEGAL_REQUEST and (refusal.asc, refusal.ascq) == code
