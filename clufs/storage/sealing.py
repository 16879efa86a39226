"""What every block of clufs on a LUN carries: a label that says what it is, where it belongs, and that it is whole.

A block has BLOCK_BYTES and its content stands in the first SEALED_BYTES of it, the sector that a disk
writes whole or not at all; arrays that tear even that are met by the checksum. This is CRC32C begun
with the LUN's UUID and the block's LBA: a write that went astray, or that was made for another LUN,
does not fit where it is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import ClassVar, Self
from uuid import UUID

import google_crc32c

from clufs.errors import BadBlock
from clufs.storage.layout import Layout, at

BLOCK_BYTES = 4096
SEALED_BYTES = 512
LABEL_BYTES = 64
BODY_BYTES = SEALED_BYTES - LABEL_BYTES
VERSION = 1
MAGIC = int.from_bytes(b"clufsLUN", "big")
_CHECKSUM = slice(12, 16)


class Kind(IntEnum):
    """What a block holds."""

    HEADER = 1
    MEMBER = 2
    MESSAGE = 3
    EVICTION = 4
    BALLOT = 5
    LOG = 6


class Flaw(StrEnum):
    """Why a block was not taken, for a person."""

    EMPTY = "never written"
    FOREIGN = "not written by clufs"
    VERSION = "of another version of clufs"
    TORN = "torn or damaged: its checksum is wrong"
    OTHER_LUN = "written for another LUN, or before this one was formatted anew"
    MISDIRECTED = "written for another place on this LUN"
    OTHER_KIND = "whole, but not what belongs here"
    OTHER_CLUSTER = "of another cluster"
    OTHER_MEMBER = "of another member than the place is for"
    STALE = "older than what stood here before: the array has forgotten a write"


@dataclass(frozen=True)
class Label(Layout):
    """The first bytes of a block. uuid: the LUN's; lba: in blocks of BLOCK_BYTES; sequence: grows with each write."""

    LENGTH: ClassVar[int] = LABEL_BYTES
    kind: int = at(10, 16, default=None)
    uuid: int = at(16, 128, default=None)
    lba: int = at(32, 64, default=None)
    sequence: int = at(40, 64, default=None)
    magic: int = at(0, 64, default=MAGIC)
    version: int = at(8, 16, default=VERSION)
    checksum: int = at(12, 32, default=0)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A block that was whole and where it belongs."""

    sequence: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where blocks lie. uuid: the LUN's; lba: in blocks of BLOCK_BYTES."""

    uuid: UUID
    lba: int

    def next(self) -> Self:
        """The place after it."""
        return type(self)(self.uuid, self.lba + 1)


def seal(place: Place, kind: Kind, sequence: int, body: bytes) -> bytes:
    """A block to be written at `place`. Raises ValueError for a body that is too long."""
    if len(body) > BODY_BYTES:
        raise ValueError(f"a body of {len(body)} bytes")
    label = Label(kind, place.uuid.int, place.lba, sequence).pack()
    block = bytearray((label + body).ljust(BLOCK_BYTES, b"\0"))
    block[_CHECKSUM] = _checksum(block, place).to_bytes(4, "big")
    return bytes(block)


def unseal(place: Place, kind: Kind, block: bytes) -> Sealed:
    """What a block read at `place` holds. Raises BadBlock."""
    label = read_label(block)
    written_for = Place(UUID(int=label.uuid), label.lba)
    if _checksum(block, written_for) != label.checksum:
        raise BadBlock(Flaw.TORN)
    if written_for.uuid != place.uuid:
        raise BadBlock(Flaw.OTHER_LUN)
    if written_for.lba != place.lba:
        raise BadBlock(Flaw.MISDIRECTED)
    if label.kind != kind:
        raise BadBlock(Flaw.OTHER_KIND)
    return Sealed(label.sequence, bytes(block[LABEL_BYTES:SEALED_BYTES]))


def read_label(block: bytes) -> Label:
    """The label, unproven. Raises BadBlock if there is none of this version."""
    if len(block) < SEALED_BYTES:
        raise BadBlock(Flaw.TORN)
    label = Label.unpack(block)
    if label.magic != MAGIC:
        raise BadBlock(Flaw.FOREIGN if any(block[:SEALED_BYTES]) else Flaw.EMPTY)
    if label.version != VERSION:
        raise BadBlock(Flaw.VERSION)
    return label


def _checksum(block: bytes | bytearray, place: Place) -> int:
    """CRC32C of UUID, LBA and content, the checksum's own field taken as zero."""
    start = place.uuid.bytes + place.lba.to_bytes(8, "big")
    content = b"".join(
        (start, block[: _CHECKSUM.start], bytes(4), block[_CHECKSUM.stop : SEALED_BYTES])
    )
    return int(google_crc32c.value(content))
