"""iSCSI's protocol data units (RFC 7143, 11): a header of 48 bytes as a Layout, then data in fours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import trio

from clufs.storage.layout import Layout, at

HEADER_BYTES = 48
NO_TAG = 0xFFFFFFFF
FINAL = 0x80


@dataclass(frozen=True)
class Header(Layout):
    """What every header has."""

    LENGTH: ClassVar[int] = HEADER_BYTES
    OPCODE: ClassVar[int]
    immediate: bool = at(0, 1, 6)
    ahs_words: int = at(4, 8)
    data_length: int = at(5, 24)
    itt: int = at(16, 32, default=NO_TAG)


@dataclass(frozen=True)
class Request(Header):
    """From the initiator."""

    cmd_sn: int = at(24, 32)
    exp_stat_sn: int = at(28, 32)


@dataclass(frozen=True)
class NopOut(Request):
    OPCODE = 0x00
    lun: int = at(8, 64)
    ttt: int = at(20, 32)


@dataclass(frozen=True)
class ScsiCommand(Request):
    OPCODE = 0x01
    final: bool = at(1, 1, 7)
    read: bool = at(1, 1, 6)
    write: bool = at(1, 1, 5)
    lun: int = at(8, 64)
    length: int = at(20, 32)
    cdb: int = at(32, 128)


@dataclass(frozen=True)
class TaskManagement(Request):
    OPCODE = 0x02
    function: int = at(1, 7)
    lun: int = at(8, 64)
    referenced: int = at(20, 32)


@dataclass(frozen=True)
class Login(Request):
    OPCODE = 0x03
    transit: bool = at(1, 1, 7)
    more: bool = at(1, 1, 6)
    stage: int = at(1, 2, 2)
    next_stage: int = at(1, 2)
    isid: int = at(8, 48)
    tsih: int = at(14, 16)
    cid: int = at(20, 16)


@dataclass(frozen=True)
class Text(Request):
    OPCODE = 0x04
    final: bool = at(1, 1, 7)
    ttt: int = at(20, 32)


@dataclass(frozen=True)
class DataOut(Header):
    OPCODE = 0x05
    final: bool = at(1, 1, 7)
    ttt: int = at(20, 32)
    data_sn: int = at(36, 32)
    offset: int = at(40, 32)


@dataclass(frozen=True)
class Logout(Request):
    OPCODE = 0x06
    reason: int = at(1, 7)


REQUESTS: dict[int, type[Header]] = {
    kind.OPCODE: kind
    for kind in (NopOut, ScsiCommand, TaskManagement, Login, Text, DataOut, Logout)
}


@dataclass(frozen=True)
class Answer(Header):
    """From the target; numbers are filled in by the session."""

    final: bool = at(1, 1, 7, default=1)
    stat_sn: int = at(24, 32)
    exp_cmd_sn: int = at(28, 32)
    max_cmd_sn: int = at(32, 32)


@dataclass(frozen=True)
class NopIn(Answer):
    OPCODE = 0x20
    lun: int = at(8, 64)
    ttt: int = at(20, 32, default=NO_TAG)


@dataclass(frozen=True)
class ScsiResponse(Answer):
    OPCODE = 0x21
    overflow: bool = at(1, 1, 2)
    underflow: bool = at(1, 1, 1)
    response: int = at(2, 8)
    status: int = at(3, 8)
    residual: int = at(44, 32)


@dataclass(frozen=True)
class TaskManagementResponse(Answer):
    OPCODE = 0x22
    response: int = at(2, 8)


@dataclass(frozen=True)
class LoginResponse(Header):
    OPCODE = 0x23
    transit: bool = at(1, 1, 7)
    stage: int = at(1, 2, 2)
    next_stage: int = at(1, 2)
    isid: int = at(8, 48)
    tsih: int = at(14, 16)
    stat_sn: int = at(24, 32)
    exp_cmd_sn: int = at(28, 32)
    max_cmd_sn: int = at(32, 32)
    status_class: int = at(36, 8)
    status_detail: int = at(37, 8)


@dataclass(frozen=True)
class TextResponse(Answer):
    OPCODE = 0x24
    ttt: int = at(20, 32, default=NO_TAG)


@dataclass(frozen=True)
class DataIn(Answer):
    OPCODE = 0x25
    overflow: bool = at(1, 1, 2)
    underflow: bool = at(1, 1, 1)
    has_status: bool = at(1, 1)
    status: int = at(3, 8)
    ttt: int = at(20, 32, default=NO_TAG)
    data_sn: int = at(36, 32)
    offset: int = at(40, 32)
    residual: int = at(44, 32)


@dataclass(frozen=True)
class LogoutResponse(Answer):
    OPCODE = 0x26
    response: int = at(2, 8)


@dataclass(frozen=True)
class ReadyToTransfer(Answer):
    OPCODE = 0x31
    lun: int = at(8, 64)
    ttt: int = at(20, 32)
    r2t_sn: int = at(36, 32)
    offset: int = at(40, 32)
    desired: int = at(44, 32)


@dataclass(frozen=True)
class Reject(Answer):
    OPCODE = 0x3F
    reason: int = at(2, 8)


def encode(header: Header, data: bytes = b"") -> bytes:
    """The whole unit; `data_length` is filled in."""
    raw = bytearray(header.pack())
    raw[0] |= header.OPCODE
    raw[5:8] = len(data).to_bytes(3, "big")
    return bytes(raw) + data + bytes(-len(data) % 4)


class Reader:
    """Units from a stream, through a buffer."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> tuple[bytes, Header | None, bytes] | None:
        """Header as it came, as read (None: not known), and data. None at the end of the stream."""
        raw = await self._exactly(HEADER_BYTES)
        if raw is None:
            return None
        header = Header.unpack(raw)
        length = header.data_length
        rest = await self._exactly(4 * header.ahs_words + length + -length % 4)
        if rest is None:
            return None
        kind = REQUESTS.get(raw[0] & 0x3F)
        data = rest[4 * header.ahs_words :][:length]
        return raw, kind.unpack(raw) if kind else None, data

    async def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            more = await self._stream.receive_some(1 << 18)
            if not more:
                return None
            self._buffer += more
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
