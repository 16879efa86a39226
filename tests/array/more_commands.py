"""Commands that clufs does not send but other initiators do (SPC-4, SBC-3)."""

from __future__ import annotations

from dataclasses import dataclass

from clufs.storage.commands import COMMANDS, Command, kinds_of
from clufs.storage.layout import at, places


@dataclass(frozen=True)
class ModeSense6(Command):
    NAME = "MODE SENSE(6)"
    OPCODE = 0x1A
    LENGTH = 6
    no_descriptors: bool = at(1, 1, 3)
    control: int = at(2, 2, 6)
    page: int = at(2, 6)
    subpage: int = at(3, 8)
    allocation_length: int = at(4, 8)


@dataclass(frozen=True)
class ReadCapacity10(Command):
    NAME = "READ CAPACITY(10)"
    OPCODE = 0x25
    LENGTH = 10
    lba: int = at(2, 32)
    partial: bool = at(8, 1)

    def bytes_in(self, block_bytes: int) -> int:
        return 8


@dataclass(frozen=True)
class ReadWrite10(Command):
    LENGTH = 10
    lba: int = at(2, 32, default=None)
    blocks: int = at(7, 16, default=None)
    protect: int = at(1, 3, 5)
    dpo: bool = at(1, 1, 4)
    fua: bool = at(1, 1, 3)
    group: int = at(6, 5)


@dataclass(frozen=True)
class Read10(ReadWrite10):
    NAME = "READ(10)"
    OPCODE = 0x28

    def bytes_in(self, block_bytes: int) -> int:
        return self.blocks * block_bytes


@dataclass(frozen=True)
class Write10(ReadWrite10):
    NAME = "WRITE(10)"
    OPCODE = 0x2A

    def bytes_out(self, block_bytes: int) -> int:
        return self.blocks * block_bytes


@dataclass(frozen=True)
class SynchronizeCache10(Command):
    NAME = "SYNCHRONIZE CACHE(10)"
    OPCODE = 0x35
    LENGTH = 10
    lba: int = at(2, 32)
    blocks: int = at(7, 16)
    immediate: bool = at(1, 1, 1)
    group: int = at(6, 5)


@dataclass(frozen=True)
class ReportSupportedOpcodes(Command):
    NAME = "REPORT SUPPORTED OPERATION CODES"
    OPCODE = 0xA3
    SERVICE_ACTION = 0x0C
    LENGTH = 12
    timeouts: bool = at(2, 1, 7)
    option: int = at(2, 3)
    opcode: int = at(3, 8)
    action: int = at(4, 16)
    allocation_length: int = at(6, 32)


EVERYTHING: tuple[type[Command], ...] = (
    *COMMANDS,
    ModeSense6,
    ReadCapacity10,
    Read10,
    Write10,
    SynchronizeCache10,
    ReportSupportedOpcodes,
)
KINDS = kinds_of(*EVERYTHING)

NO_TIMEOUTS = bytes((0, 10)) + bytes(10)


def all_opcodes(timeouts: bool) -> bytes:
    """REPORT SUPPORTED OPERATION CODES data for all commands."""
    body = b""
    for each in EVERYTHING:
        action = each.SERVICE_ACTION
        head = bytes((each.OPCODE, 0)) + (action or 0).to_bytes(2, "big")
        how = int(action is not None) | timeouts << 1
        body += head + bytes((0, how)) + each.LENGTH.to_bytes(2, "big")
        body += NO_TIMEOUTS if timeouts else b""
    return len(body).to_bytes(4, "big") + body


def one_opcode(wanted: ReportSupportedOpcodes) -> bytes | None:
    """The same for one command: which of its bits are looked at. None: asked for in the wrong way.

    A command that is told by its service action can be asked for with it only (option 2), others only
    without (option 1); SPC-4, 6.35.1.
    """
    with_action = any(opcode == wanted.opcode and action is not None for opcode, action in KINDS)
    known = with_action or (wanted.opcode, None) in KINDS
    if known and with_action != (wanted.option == 2):
        return None
    kind = KINDS.get((wanted.opcode, wanted.action if with_action else None))
    if kind is None:
        return bytes((0, 1, 0, 0))
    usage = bytearray(kind.LENGTH)
    for _, place in places(kind):
        ones = (1 << place.bits) - 1
        if place.bits < 8:
            usage[place.byte] |= ones << place.low
        else:
            usage[place.byte : place.end] = ones.to_bytes(place.bits // 8, "big")
    usage[0] = kind.OPCODE
    usage[1] |= kind.SERVICE_ACTION or 0
    flags = wanted.timeouts << 7 | 3
    return (
        bytes((0, flags))
        + len(usage).to_bytes(2, "big")
        + usage
        + (NO_TIMEOUTS if wanted.timeouts else b"")
    )
