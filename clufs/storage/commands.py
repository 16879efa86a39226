"""The commands that clufs sends to a LUN, as command descriptor blocks (CDB).

Layouts are those of SPC-4 (INQUIRY, TEST UNIT READY, REQUEST SENSE, REPORT LUNS, PERSISTENT RESERVE,
TARGET PORT GROUPS), SPC-2 (RESERVE(6), RELEASE(6)) and SBC-3 (the rest).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from clufs.errors import GarbledAnswer
from clufs.storage.layout import Layout, at

SERVICE_ACTION_MASK = 0x1F


@dataclass(frozen=True)
class Command(Layout):
    """A command: its class says which, its fields are those of the CDB.

    NAME: as the standards write it. SERVICE_ACTION: where it is part of what the command is.
    """

    NAME: ClassVar[str]
    OPCODE: ClassVar[int]
    SERVICE_ACTION: ClassVar[int | None] = None

    def cdb(self) -> bytes:
        """The CDB. Raises ValueError for a number that its field cannot hold."""
        block = bytearray(self.pack())
        block[0] = self.OPCODE
        block[1] |= self.SERVICE_ACTION or 0
        return bytes(block)

    def bytes_in(self, block_bytes: int) -> int:
        """How many bytes the LUN sends at most, with logical blocks of `block_bytes`."""
        return int(getattr(self, "allocation_length", 0))

    def bytes_out(self, block_bytes: int) -> int:
        """How many bytes go to the LUN."""
        return int(getattr(self, "parameter_length", 0))


@dataclass(frozen=True)
class TestUnitReady(Command):
    """Is the LUN ready? Also what fetches a unit attention at no cost."""

    __test__ = False  # not a test, whatever pytest takes from the name
    NAME = "TEST UNIT READY"
    OPCODE = 0x00
    LENGTH = 6


@dataclass(frozen=True)
class RequestSense(Command):
    """The sense data that waits; `descriptor_format`: of variable length."""

    NAME = "REQUEST SENSE"
    OPCODE = 0x03
    LENGTH = 6
    descriptor_format: bool = at(1, 1)
    allocation_length: int = at(4, 8, default=252)


@dataclass(frozen=True)
class Inquiry(Command):
    """What the LUN is; with `evpd` the page `page` of its vital product data."""

    NAME = "INQUIRY"
    OPCODE = 0x12
    LENGTH = 6
    evpd: bool = at(1, 1)
    page: int = at(2, 8)
    allocation_length: int = at(3, 16, default=0xFFFF)


@dataclass(frozen=True)
class Reserve6(Command):
    """SPC-2's reservation of a whole LUN for one I_T nexus."""

    NAME = "RESERVE(6)"
    OPCODE = 0x16
    LENGTH = 6


@dataclass(frozen=True)
class Release6(Command):
    """The end of what RESERVE(6) began; GOOD also for who has nothing reserved."""

    NAME = "RELEASE(6)"
    OPCODE = 0x17
    LENGTH = 6


@dataclass(frozen=True)
class ReadWrite16(Command):
    """What READ(16) and WRITE(16) have in common."""

    LENGTH = 16
    lba: int = at(2, 64, default=None)
    blocks: int = at(10, 32, default=None)
    protect: int = at(1, 3, 5)
    dpo: bool = at(1, 1, 4)
    fua: bool = at(1, 1, 3)
    group: int = at(14, 6)


@dataclass(frozen=True)
class Read16(ReadWrite16):
    """Read; `fua`: from the medium, not from a cache that is not safe from power failure."""

    NAME = "READ(16)"
    OPCODE = 0x88

    def bytes_in(self, block_bytes: int) -> int:
        return self.blocks * block_bytes


@dataclass(frozen=True)
class Write16(ReadWrite16):
    """Write; `fua`: GOOD means that it is safe from power failure."""

    NAME = "WRITE(16)"
    OPCODE = 0x8A

    def bytes_out(self, block_bytes: int) -> int:
        return self.blocks * block_bytes


@dataclass(frozen=True)
class CompareAndWrite(Command):
    """Write the second half of the data if what is there equals the first half, as one step."""

    NAME = "COMPARE AND WRITE"
    OPCODE = 0x89
    LENGTH = 16
    lba: int = at(2, 64, default=None)
    blocks: int = at(13, 8, default=None)
    protect: int = at(1, 3, 5)
    dpo: bool = at(1, 1, 4)
    fua: bool = at(1, 1, 3)
    group: int = at(14, 6)

    def bytes_out(self, block_bytes: int) -> int:
        return 2 * self.blocks * block_bytes


@dataclass(frozen=True)
class SynchronizeCache16(Command):
    """Make what was written safe; 0 blocks: from `lba` to the end. `immediate`: answer before it is done."""

    NAME = "SYNCHRONIZE CACHE(16)"
    OPCODE = 0x91
    LENGTH = 16
    lba: int = at(2, 64)
    blocks: int = at(10, 32)
    immediate: bool = at(1, 1, 1)
    group: int = at(14, 6)


@dataclass(frozen=True)
class ReadCapacity16(Command):
    """The last block's address and the length of a block."""

    NAME = "READ CAPACITY(16)"
    OPCODE = 0x9E
    SERVICE_ACTION = 0x10
    LENGTH = 16
    allocation_length: int = at(10, 32, default=32)


@dataclass(frozen=True)
class ReportLuns(Command):
    """The LUNs behind this path."""

    NAME = "REPORT LUNS"
    OPCODE = 0xA0
    LENGTH = 12
    select: int = at(2, 8)
    allocation_length: int = at(6, 32, default=4096)


class ReserveIn(IntEnum):
    """Service actions of PERSISTENT RESERVE IN (SPC-4, table 217)."""

    READ_KEYS = 0
    READ_RESERVATION = 1
    REPORT_CAPABILITIES = 2
    READ_FULL_STATUS = 3


class ReserveOut(IntEnum):
    """Service actions of PERSISTENT RESERVE OUT (SPC-4, table 229)."""

    REGISTER = 0
    RESERVE = 1
    RELEASE = 2
    CLEAR = 3
    PREEMPT = 4
    PREEMPT_AND_ABORT = 5
    REGISTER_AND_IGNORE_EXISTING_KEY = 6
    REGISTER_AND_MOVE = 7
    REPLACE_LOST_RESERVATION = 8


@dataclass(frozen=True)
class PersistentReserveIn(Command):
    """Read what is known of registrations and the reservation; the action is one of ReserveIn."""

    NAME = "PERSISTENT RESERVE IN"
    OPCODE = 0x5E
    LENGTH = 10
    action: int = at(1, 5, default=None)
    allocation_length: int = at(7, 16, default=8192)


@dataclass(frozen=True)
class PersistentReserveOut(Command):
    """Change registrations or the reservation; the action is one of ReserveOut, keys are in the data."""

    NAME = "PERSISTENT RESERVE OUT"
    OPCODE = 0x5F
    LENGTH = 10
    action: int = at(1, 5, default=None)
    scope: int = at(2, 4, 4)
    type: int = at(2, 4)
    parameter_length: int = at(5, 32, default=24)


@dataclass(frozen=True)
class ReportTargetPortGroups(Command):
    """Which ports are active, standby and so on (ALUA)."""

    NAME = "REPORT TARGET PORT GROUPS"
    OPCODE = 0xA3
    SERVICE_ACTION = 0x0A
    LENGTH = 12
    extended: int = at(1, 3, 5)
    allocation_length: int = at(6, 32, default=4096)


@dataclass(frozen=True)
class SetTargetPortGroups(Command):
    """Ask for another state of groups of ports (ALUA)."""

    NAME = "SET TARGET PORT GROUPS"
    OPCODE = 0xA4
    SERVICE_ACTION = 0x0A
    LENGTH = 12
    parameter_length: int = at(6, 32, default=None)


COMMANDS: tuple[type[Command], ...] = (
    TestUnitReady,
    RequestSense,
    Inquiry,
    Reserve6,
    Release6,
    Read16,
    Write16,
    CompareAndWrite,
    SynchronizeCache16,
    ReadCapacity16,
    ReportLuns,
    PersistentReserveIn,
    PersistentReserveOut,
    ReportTargetPortGroups,
    SetTargetPortGroups,
)

Kinds = Mapping[tuple[int, int | None], type[Command]]


def kinds_of(*classes: type[Command]) -> Kinds:
    """A table to parse by: opcode and service action."""
    return {(each.OPCODE, each.SERVICE_ACTION): each for each in classes}


KINDS = kinds_of(*COMMANDS)


def parse(cdb: bytes, kinds: Kinds = KINDS) -> Command | None:
    """The command of a CDB, None for one that is not in the table. Raises GarbledAnswer if it is cut off."""
    if len(cdb) < 2:
        raise GarbledAnswer(f"a CDB of {len(cdb)} bytes")
    action = cdb[1] & SERVICE_ACTION_MASK
    kind = kinds.get((cdb[0], None)) or kinds.get((cdb[0], action))
    return kind.unpack(cdb) if kind else None
