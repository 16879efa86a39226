"""LUNs that are kernel devices, through the SG_IO ioctl(2) (scsi/sg.h): packing, the call, and what it says."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from dataclasses import dataclass

import trio

from clufs.errors import GarbledAnswer, LunError, LunTimedOut, NotSupported, PathLost
from clufs.storage.commands import Command
from clufs.storage.outcome import check
from clufs.storage.sense import Status
from clufs.timeouts import LUN_COMMAND_S

SG_IO = 0x2285
NO_DATA, TO_DEVICE, FROM_DEVICE = -1, -2, -3
SENSE_BYTES = 252
"""As much as a LUN can send (SPC-4, 4.5.1)."""

_HEADER = struct.Struct("@iiBBHIPPPIIiPBBBBHHiII0P")
"""struct sg_io_hdr: interface_id dxfer_direction cmd_len mx_sb_len iovec_count dxfer_len dxferp cmdp sbp
timeout flags pack_id usr_ptr status masked_status msg_status sb_len_wr host_status driver_status resid
duration info."""

HEADER_BYTES = _HEADER.size
_DRIVER_SENSE = 0x08
_HOST_WORDS = {
    0x01: "no connection",
    0x02: "the bus stayed busy",
    0x03: "no answer in time",
    0x04: "no such target",
    0x05: "aborted",
    0x07: "an error inside the host adapter",
    0x08: "reset",
    0x0B: "try again, said the host adapter",
    0x0E: "the transport is disrupted",
    0x0F: "the transport failed",
    0x10: "the target failed",
    0x11: "the path failed",
}
"""host_status of the kernel (DID_*), in our words."""
_TIMED_OUT = 0x03
_ERRORS: dict[int, type[LunError]] = {
    errno.ENODEV: PathLost,
    errno.ENXIO: PathLost,
    errno.ENOTTY: NotSupported,
    errno.EINVAL: NotSupported,
}
"""What ioctl(2) itself says; the last two: the device takes no SCSI commands."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel wrote back. residual: bytes of the data that were not sent."""

    status: int
    host_status: int
    driver_status: int
    sense_bytes: int
    residual: int


def pack(
    direction: int,
    cdb: int,
    cdb_bytes: int,
    data: int,
    data_bytes: int,
    sense: int,
    timeout_ms: int,
) -> bytes:
    """A request, from addresses and lengths."""
    asked = (
        ord("S"),
        direction,
        cdb_bytes,
        SENSE_BYTES,
        0,
        data_bytes,
        data,
        cdb,
        sense,
        timeout_ms,
    )
    return _HEADER.pack(*asked, *(0,) * 12)


def unpack(header: bytes) -> Answer:
    """The answer. Raises GarbledAnswer for another length."""
    if len(header) != HEADER_BYTES:
        raise GarbledAnswer(f"SG_IO has {HEADER_BYTES} bytes, not {len(header)}")
    found = _HEADER.unpack(header)
    status, _, _, sense_bytes, host, driver, residual = found[13:20]
    return Answer(status, host, driver, sense_bytes, residual)


def judge(what: str, answer: Answer, sense: bytes) -> None:
    """Raise the LunError that an answer stands for, if any."""
    if answer.host_status == _TIMED_OUT:
        raise LunTimedOut(f"{what}: {_HOST_WORDS[answer.host_status]}")
    if answer.status == Status.GOOD and answer.host_status:
        words = _HOST_WORDS.get(answer.host_status, f"host status {answer.host_status:#x}")
        raise PathLost(f"{what}: {words}")
    check(what, answer.status, sense)
    if answer.driver_status & 0x0F not in (0, _DRIVER_SENSE):
        raise PathLost(f"{what}: driver status {answer.driver_status:#x}")


class SgIo:
    """A kernel device as a carrier: /dev/sdX or /dev/sgN, one path. Needs CAP_SYS_RAWIO for most commands."""

    def __init__(self, device: str) -> None:
        """Raises PathLost if it cannot be opened."""
        self._device = device
        try:
            self._descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise PathLost(f"{device}: {error.strerror}") from error

    @property
    def path(self) -> str:
        """The device."""
        return self._device

    async def run(
        self,
        command: Command,
        data: bytes = b"",
        *,
        block_bytes: int = 512,
        timeout_s: float = LUN_COMMAND_S,
    ) -> bytes:
        """See Carrier. A thread waits for the kernel; when the caller is cancelled the command goes on."""
        bytes_in = 0 if data else command.bytes_in(block_bytes)
        return await trio.to_thread.run_sync(
            self._send, command, data, bytes_in, timeout_s, abandon_on_cancel=True
        )

    def _send(self, command: Command, data: bytes, bytes_in: int, timeout_s: float) -> bytes:
        what = f"{self._device}: {command.NAME}"
        cdb = command.cdb()
        block = ctypes.create_string_buffer(cdb, len(cdb))
        length = len(data) or bytes_in
        # From a page's beginning: the kernel hands it on as it is, and LIO's COMPARE AND WRITE takes it for that.
        buffer = mmap.mmap(-1, max(length, 1))
        buffer[: len(data)] = data
        memory = ctypes.c_char.from_buffer(buffer)
        sense = ctypes.create_string_buffer(SENSE_BYTES)
        direction = TO_DEVICE if data else FROM_DEVICE if bytes_in else NO_DATA
        addresses = [ctypes.addressof(one) for one in (block, memory, sense)]
        header = bytearray(
            pack(
                direction,
                addresses[0],
                len(cdb),
                addresses[1],
                length,
                addresses[2],
                round(timeout_s * 1000),
            )
        )
        try:
            fcntl.ioctl(self._descriptor, SG_IO, header)
        except OSError as error:
            raise _ERRORS.get(error.errno or 0, LunError)(f"{what}: {error.strerror}") from error
        answer = unpack(bytes(header))
        judge(what, answer, sense.raw[: answer.sense_bytes])
        return buffer[: max(0, length - answer.residual)] if bytes_in else b""

    def close(self) -> None:
        """Close the device."""
        os.close(self._descriptor)
