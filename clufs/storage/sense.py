"""How a command ended: status codes, and sense data in words (SPC-4, 4.5; SAM-5, 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from clufs.errors import GarbledAnswer

FIXED_CURRENT, FIXED_DEFERRED = 0x70, 0x71
DESCRIPTOR_CURRENT, DESCRIPTOR_DEFERRED = 0x72, 0x73
FIXED_BYTES = 18
INFORMATION_DESCRIPTOR, FIELD_DESCRIPTOR = 0x00, 0x02


class Status(IntEnum):
    """Status codes of SAM-5, table 37."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class SenseKey(IntEnum):
    """Sense keys of SPC-4, table 43."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    RESERVED = 0xC
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


WORDS: dict[tuple[int, int], str] = {
    (0x00, 0x00): "nothing more to say",
    (0x02, 0x00): "seek did not complete",
    (0x04, 0x00): "not ready, cause not reported",
    (0x04, 0x01): "becoming ready",
    (0x04, 0x02): "must be started",
    (0x04, 0x03): "not ready, a person must act",
    (0x04, 0x07): "an operation is in progress",
    (0x04, 0x0A): "the access state of this port is changing",
    (0x04, 0x0B): "this port is on standby",
    (0x04, 0x0C): "this port is unavailable",
    (0x05, 0x00): "the logical unit does not answer its controller",
    (0x08, 0x00): "the logical unit cannot be reached by its controller",
    (0x08, 0x01): "the logical unit did not answer in time",
    (0x0B, 0x00): "a warning",
    (0x0C, 0x00): "write error",
    (0x0C, 0x02): "write error, reallocation failed",
    (0x0C, 0x0C): "write error, not enough unsolicited data",
    (0x0C, 0x0D): "write error, too much unsolicited data",
    (0x0E, 0x00): "invalid information unit",
    (0x0E, 0x01): "information unit too short",
    (0x0E, 0x02): "information unit too long",
    (0x0E, 0x03): "invalid field in the command's information unit",
    (0x10, 0x00): "checksum of a block is wrong",
    (0x11, 0x00): "unrecovered read error",
    (0x14, 0x01): "block not found",
    (0x1A, 0x00): "parameter list has a wrong length",
    (0x1D, 0x00): "what is on the medium differs from what was given",
    (0x20, 0x00): "the array does not know this command",
    (0x21, 0x00): "block address out of range",
    (0x24, 0x00): "invalid field in the command",
    (0x25, 0x00): "no such logical unit",
    (0x26, 0x00): "invalid field in the parameter list",
    (0x26, 0x01): "parameter not supported",
    (0x26, 0x02): "parameter value invalid",
    (0x26, 0x04): "release of a reservation that is another's or of another type",
    (0x27, 0x00): "write protected",
    (0x27, 0x07): "no space left for new blocks",
    (0x28, 0x00): "the medium may have changed",
    (0x29, 0x00): "power on, reset or bus device reset",
    (0x29, 0x01): "power on",
    (0x29, 0x02): "bus reset",
    (0x29, 0x03): "target reset",
    (0x29, 0x04): "internal reset of the device",
    (0x29, 0x07): "connection lost",
    (0x2A, 0x01): "mode parameters changed",
    (0x2A, 0x03): "reservations preempted",
    (0x2A, 0x04): "reservations released",
    (0x2A, 0x05): "registrations preempted",
    (0x2A, 0x06): "access state of ports changed",
    (0x2A, 0x07): "access state could not be changed",
    (0x2A, 0x09): "capacity changed",
    (0x2C, 0x00): "commands in a wrong sequence",
    (0x2F, 0x00): "commands cleared by another initiator",
    (0x2F, 0x02): "commands cleared by a device server event",
    (0x3A, 0x00): "no medium",
    (0x3F, 0x03): "inquiry data changed",
    (0x3F, 0x0E): "the list of logical units changed",
    (0x44, 0x00): "internal failure of the target",
    (0x47, 0x00): "parity error on the way",
    (0x49, 0x00): "invalid message",
    (0x4B, 0x00): "data transfer error",
    (0x4E, 0x00): "overlapping commands",
    (0x55, 0x00): "no resources left in the system",
    (0x55, 0x02): "no room for one more reservation",
    (0x55, 0x03): "not enough resources",
    (0x55, 0x04): "no room for one more registration",
    (0x67, 0x0A): "setting of port groups failed",
}
"""Additional sense codes that a shared disk can be expected to give (SPC-4, annex D), in our words."""


@dataclass(frozen=True, slots=True)
class Sense:
    """Sense data. information: mostly a block address or an offset. field_byte: the byte found fault with;
    in_cdb: of the CDB, else of the data. deferred: it is about a command already answered."""

    key: SenseKey
    asc: int
    ascq: int
    information: int | None = None
    field_byte: int | None = None
    in_cdb: bool = True
    deferred: bool = False

    def __str__(self) -> str:
        """One line for a person: key, words, and the numbers to look up."""
        key = self.key.name.replace("_", " ")
        words = WORDS.get((self.asc, self.ascq)) or WORDS.get((self.asc, 0), "cause not known")
        text = f"{key}: {words} ({self.key:X}/{self.asc:02X}/{self.ascq:02X})"
        if self.field_byte is not None:
            text += f", byte {self.field_byte} of the {'command' if self.in_cdb else 'data'}"
        if self.information is not None:
            text += f", information {self.information:#x}"
        return text + (", about an earlier command" if self.deferred else "")

    @property
    def code(self) -> tuple[int, int]:
        """ASC and ASCQ."""
        return self.asc, self.ascq

    def fixed(self) -> bytes:
        """In the format of fixed length, 18 bytes; an `information` above 32 bits does not fit and is left out."""
        out = bytearray(FIXED_BYTES)
        out[0] = FIXED_DEFERRED if self.deferred else FIXED_CURRENT
        out[2] = self.key
        if self.information is not None and self.information < 1 << 32:
            out[0] |= 0x80
            out[3:7] = self.information.to_bytes(4, "big")
        out[7] = FIXED_BYTES - 8
        out[12], out[13] = self.asc, self.ascq
        out[15:18] = self._field_pointer()
        return bytes(out)

    def descriptors(self) -> bytes:
        """In the format of descriptors."""
        out = bytearray(8)
        out[0] = DESCRIPTOR_DEFERRED if self.deferred else DESCRIPTOR_CURRENT
        out[1], out[2], out[3] = self.key, self.asc, self.ascq
        if self.information is not None:
            out += bytes((INFORMATION_DESCRIPTOR, 10, 0x80, 0)) + self.information.to_bytes(
                8, "big"
            )
        if self.field_byte is not None:
            out += bytes((FIELD_DESCRIPTOR, 6, 0, 0)) + self._field_pointer() + b"\0"
        out[7] = len(out) - 8
        return bytes(out)

    def _field_pointer(self) -> bytes:
        if self.field_byte is None:
            return bytes(3)
        return bytes((0xC0 if self.in_cdb else 0x80,)) + self.field_byte.to_bytes(2, "big")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read either format, also one cut off after its codes. Raises GarbledAnswer."""
        kind = data[0] & 0x7F if data else 0
        if kind in (FIXED_CURRENT, FIXED_DEFERRED) and len(data) >= 3:
            return cls._decode_fixed(data)
        if kind in (DESCRIPTOR_CURRENT, DESCRIPTOR_DEFERRED) and len(data) >= 4:
            return cls._decode_descriptors(data)
        raise GarbledAnswer(f"sense data of an unknown format: {data[:32].hex(' ') or 'none'}")

    @classmethod
    def _decode_fixed(cls, data: bytes) -> Self:
        whole = data[:FIXED_BYTES].ljust(FIXED_BYTES, b"\0")
        known = int.from_bytes(whole[3:7], "big") if whole[0] & 0x80 else None
        key = SenseKey(whole[2] & 0x0F)
        pointer, in_cdb = _pointer(whole[15:18], key)
        return cls(key, whole[12], whole[13], known, pointer, in_cdb, whole[0] & 1 == 1)

    @classmethod
    def _decode_descriptors(cls, data: bytes) -> Self:
        key = SenseKey(data[1] & 0x0F)
        known, pointer, in_cdb = None, None, True
        rest = data[8 : 8 + data[7]] if len(data) > 7 else b""
        while len(rest) >= 2:
            kind, length = rest[0], rest[1] + 2
            if kind == INFORMATION_DESCRIPTOR and len(rest) >= 12 and rest[2] & 0x80:
                known = int.from_bytes(rest[4:12], "big")
            elif kind == FIELD_DESCRIPTOR and len(rest) >= 8:
                pointer, in_cdb = _pointer(rest[4:7], key)
            rest = rest[length:]
        return cls(key, data[2], data[3], known, pointer, in_cdb, data[0] & 1 == 1)


def _pointer(data: bytes, key: SenseKey) -> tuple[int | None, bool]:
    """The byte found fault with, if any: only ILLEGAL REQUEST has one there (SPC-4, 4.5.2.4.2)."""
    if key != SenseKey.ILLEGAL_REQUEST or not data[0] & 0x80:
        return None, True
    return int.from_bytes(data[1:3], "big"), data[0] & 0x40 != 0
