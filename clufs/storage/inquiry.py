"""What a LUN says of itself: INQUIRY data, pages of vital product data, capacity (SPC-4, 6.6 and 7.8; SBC-3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from clufs.errors import GarbledAnswer
from clufs.storage.layout import Layout, at

SUPPORTED_PAGES, SERIAL_NUMBER, IDENTIFICATION, BLOCK_LIMITS = 0x00, 0x80, 0x83, 0xB0
STANDARD_BYTES = 36
VERSION_SPC4 = 0x06
DISK = 0x00


@dataclass(frozen=True)
class _InquiryBits(Layout):
    LENGTH: ClassVar[int] = STANDARD_BYTES
    qualifier: int = at(0, 3, 5)
    device_type: int = at(0, 5)
    version: int = at(2, 8, default=VERSION_SPC4)
    tpgs: int = at(5, 2, 4)
    third_party_copy: bool = at(5, 1, 3)
    command_queue: bool = at(7, 1, 1)


@dataclass(frozen=True)
class InquiryData(_InquiryBits):
    """Standard INQUIRY data. tpgs: 1 implicit, 2 explicit, 3 both kinds of ALUA. qualifier 3: no such LUN.

    Texts are ASCII of at most 8, 16 and 4 characters, without the blanks that fill them up.
    """

    vendor: str = ""
    product: str = ""
    revision: str = ""

    @property
    def present(self) -> bool:
        """Is there a logical unit?"""
        return self.qualifier == 0

    def encode(self) -> bytes:
        """36 bytes. Raises ValueError for a text or number too long."""
        out = bytearray(self.pack())
        out[3] = 0x02  # the only format of the data there is
        out[4] = STANDARD_BYTES - 5
        for begin, end, text in (
            (8, 16, self.vendor),
            (16, 32, self.product),
            (32, 36, self.revision),
        ):
            out[begin:end] = _padded(text, end - begin)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises GarbledAnswer if it is cut off."""
        if len(data) < STANDARD_BYTES:
            raise GarbledAnswer(f"INQUIRY data of {len(data)} bytes")
        found = cls.read_fields(data)
        texts = (("vendor", 8, 16), ("product", 16, 32), ("revision", 32, 36))
        found.update((name, _text(data[begin:end])) for name, begin, end in texts)
        return cls(**found)


class Association(IntEnum):
    """What a designator names."""

    LOGICAL_UNIT = 0
    TARGET_PORT = 1
    TARGET_DEVICE = 2


class DesignatorType(IntEnum):
    """Which kind of name a designator is (SPC-4, table 591)."""

    VENDOR_SPECIFIC = 0
    T10_VENDOR = 1
    EUI64 = 2
    NAA = 3
    RELATIVE_TARGET_PORT = 4
    TARGET_PORT_GROUP = 5
    LOGICAL_UNIT_GROUP = 6
    MD5 = 7
    SCSI_NAME = 8


BINARY, ASCII, UTF8 = 1, 2, 3

WORTH = (
    DesignatorType.NAA,
    DesignatorType.EUI64,
    DesignatorType.SCSI_NAME,
    DesignatorType.T10_VENDOR,
)
"""Kinds of names of a LUN, the best first: the order in which udev and we look."""


@dataclass(frozen=True, slots=True)
class Designator:
    """A name of a LUN, a port or the array (page 83h). code_set: BINARY, ASCII or UTF8."""

    association: int
    type: int
    code_set: int
    value: bytes
    protocol: int | None = None

    def encode(self) -> bytes:
        """Raises ValueError for a value longer than 255 bytes."""
        known = self.protocol is not None
        head = bytes(
            (
                (self.protocol or 0) << 4 | self.code_set,
                known << 7 | self.association << 4 | self.type,
                0,
            )
        )
        return head + bytes((len(self.value),)) + self.value

    @property
    def number(self) -> int:
        """The value as a number: a relative target port or a target port group is in its last two bytes."""
        return int.from_bytes(self.value, "big")

    @property
    def text(self) -> str:
        """As a person and a file name have it: `naa.` and hexadecimal digits, or the name itself."""
        if self.type in (DesignatorType.NAA, DesignatorType.EUI64):
            return f"{'naa' if self.type == DesignatorType.NAA else 'eui'}.{self.value.hex()}"
        return self.value.rstrip(b" \0").decode("utf-8", "backslashreplace")


def encode_page(page: int, content: bytes, device_type: int = DISK) -> bytes:
    """A page of vital product data with its head."""
    return bytes((device_type, page)) + len(content).to_bytes(2, "big") + content


def decode_page(page: int, data: bytes) -> bytes:
    """The content of page `page`. Raises GarbledAnswer for another page or one cut off."""
    if len(data) < 4 or data[1] != page:
        raise GarbledAnswer(f"not page {page:02X}h: {data[:4].hex(' ') or 'nothing'}")
    length = int.from_bytes(data[2:4], "big")
    if len(data) < 4 + length:
        raise GarbledAnswer(f"page {page:02X}h has {length} bytes, {len(data) - 4} came")
    return data[4 : 4 + length]


def encode_serial(serial: str) -> bytes:
    """Page 80h."""
    return encode_page(SERIAL_NUMBER, serial.encode("ascii"))


def decode_serial(data: bytes) -> str:
    """The serial number of page 80h, without blanks at its ends."""
    return _text(decode_page(SERIAL_NUMBER, data))


def encode_designators(designators: tuple[Designator, ...]) -> bytes:
    """Page 83h."""
    return encode_page(IDENTIFICATION, b"".join(one.encode() for one in designators))


def decode_designators(data: bytes) -> tuple[Designator, ...]:
    """The names in page 83h, in the array's order. Raises GarbledAnswer."""
    rest = decode_page(IDENTIFICATION, data)
    found = []
    while rest:
        if len(rest) < 4 or len(rest) < 4 + rest[3]:
            raise GarbledAnswer(f"a designator is cut off: {rest.hex(' ')}")
        protocol = rest[0] >> 4 if rest[1] & 0x80 else None
        value = rest[4 : 4 + rest[3]]
        found.append(Designator(rest[1] >> 4 & 3, rest[1] & 0x0F, rest[0] & 0x0F, value, protocol))
        rest = rest[4 + len(value) :]
    return tuple(found)


def lun_name(designators: tuple[Designator, ...]) -> Designator | None:
    """The name that makes two paths one LUN: the best kind there is, the longest of that kind; None if none."""
    named = [one for one in designators if one.association == Association.LOGICAL_UNIT]
    for kind in WORTH:
        of_kind = [one for one in named if one.type == kind]
        if of_kind:
            return max(of_kind, key=lambda one: len(one.value))
    return None


@dataclass(frozen=True)
class BlockLimits(Layout):
    """Page B0h after its head, in logical blocks; 0: no limit said. compare_and_write: 0: not known."""

    LENGTH: ClassVar[int] = 60
    compare_and_write: int = at(1, 8)
    granularity: int = at(2, 16)
    transfer_max: int = at(4, 32)
    transfer_best: int = at(8, 32)
    unmap_max: int = at(16, 32)
    unmap_descriptors: int = at(20, 32)
    write_same_max: int = at(32, 64)

    def encode(self) -> bytes:
        """The whole page."""
        return encode_page(BLOCK_LIMITS, self.pack())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """From the whole page; an old array's short one ends early, and the rest is 0. Raises GarbledAnswer."""
        return cls.unpack(decode_page(BLOCK_LIMITS, data).ljust(cls.LENGTH, b"\0"))


@dataclass(frozen=True)
class Capacity(Layout):
    """READ CAPACITY(16) data. physical_exponent: 2**n logical blocks in a physical one."""

    LENGTH: ClassVar[int] = 32
    last_lba: int = at(0, 64, default=None)
    block_bytes: int = at(8, 32, default=None)
    protected: bool = at(12, 1)
    physical_exponent: int = at(13, 4)
    thin: bool = at(14, 1, 7)

    @property
    def blocks(self) -> int:
        """How many logical blocks there are."""
        return self.last_lba + 1


def encode_luns(luns: tuple[int, ...]) -> bytes:
    """REPORT LUNS data for LUNs of one level, below 256 (peripheral device addressing, SAM-5, 4.7.7.2)."""
    entries = b"".join(bytes((0, lun)) + bytes(6) for lun in luns)
    return len(entries).to_bytes(4, "big") + bytes(4) + entries


def decode_luns(data: bytes) -> tuple[int, ...]:
    """LUN numbers of REPORT LUNS data, peripheral or flat addressing; others are left out. Raises GarbledAnswer."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < 8 or length % 8 or len(data) < 8 + length:
        raise GarbledAnswer(f"REPORT LUNS data of {len(data)} bytes says it has {length}")
    entries = [data[at : at + 8] for at in range(8, 8 + length, 8)]
    return tuple(
        int.from_bytes(one[:2], "big") & 0x3FFF for one in entries if one[0] >> 6 in (0, 1)
    )


def _padded(text: str, length: int) -> bytes:
    raw = text.encode("ascii")
    if len(raw) > length:
        raise ValueError(f"{text!r} is longer than {length} characters")
    return raw.ljust(length)


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "backslashreplace").strip(" \0")
