"""Target port groups: which of an array's ports may be used for a LUN (ALUA; SPC-4, 5.15, 6.37 and 6.45)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

from clufs.errors import GarbledAnswer
from clufs.storage.layout import Layout, at

HEAD_BYTES = 4
PORT_BYTES = 4


class AccessState(IntEnum):
    """Asymmetric access states; only the first two do I/O."""

    ACTIVE_OPTIMIZED = 0x0
    ACTIVE_NON_OPTIMIZED = 0x1
    STANDBY = 0x2
    UNAVAILABLE = 0x3
    LBA_DEPENDENT = 0x4
    OFFLINE = 0xE
    TRANSITIONING = 0xF


@dataclass(frozen=True)
class _GroupBits(Layout):
    LENGTH: ClassVar[int] = 8
    preferred: bool = at(0, 1, 7)
    state: int = at(0, 4)
    can_transition: bool = at(1, 1, 7)
    can_offline: bool = at(1, 1, 6)
    can_lba_dependent: bool = at(1, 1, 4)
    can_unavailable: bool = at(1, 1, 3)
    can_standby: bool = at(1, 1, 2)
    can_non_optimized: bool = at(1, 1, 1)
    can_optimized: bool = at(1, 1)
    group: int = at(2, 16)
    why: int = at(5, 8)
    count: int = at(7, 8)


@dataclass(frozen=True)
class PortGroup(_GroupBits):
    """A group of ports with one access state; `ports` are relative target ports.

    why: 0 not said, 1 asked for by SET TARGET PORT GROUPS, 2 by the array itself.
    """

    ports: tuple[int, ...] = ()


def encode_groups(groups: tuple[PortGroup, ...]) -> bytes:
    """REPORT TARGET PORT GROUPS data (the format without a longer head)."""
    body = b""
    for one in groups:
        body += replace(one, count=len(one.ports)).pack()
        body += b"".join(port.to_bytes(PORT_BYTES, "big") for port in one.ports)
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def decode_groups(data: bytes) -> tuple[PortGroup, ...]:
    """All groups. Raises GarbledAnswer, also if it is cut off."""
    length = int.from_bytes(data[:HEAD_BYTES], "big")
    if len(data) < HEAD_BYTES + length:
        raise GarbledAnswer(
            f"target port groups have {length} bytes, {len(data) - HEAD_BYTES} came"
        )
    rest, found = data[HEAD_BYTES : HEAD_BYTES + length], []
    while rest:
        one = PortGroup.unpack(rest)
        end = PortGroup.LENGTH + PORT_BYTES * one.count
        if len(rest) < end:
            raise GarbledAnswer(f"group {one.group} has {one.count} ports, and not all came")
        ports = tuple(
            int.from_bytes(rest[begin + 2 : begin + PORT_BYTES], "big")
            for begin in range(PortGroup.LENGTH, end, PORT_BYTES)
        )
        found.append(replace(one, count=0, ports=ports))
        rest = rest[end:]
    return tuple(found)


@dataclass(frozen=True)
class WantedState(Layout):
    """One wish of SET TARGET PORT GROUPS."""

    LENGTH: ClassVar[int] = 4
    state: int = at(0, 4, default=None)
    group: int = at(2, 16, default=None)


def encode_wanted(wanted: tuple[WantedState, ...]) -> bytes:
    """SET TARGET PORT GROUPS data."""
    return bytes(HEAD_BYTES) + b"".join(one.pack() for one in wanted)


def decode_wanted(data: bytes) -> tuple[WantedState, ...]:
    """The wishes. Raises GarbledAnswer."""
    if len(data) < HEAD_BYTES or len(data) % WantedState.LENGTH:
        raise GarbledAnswer(f"SET TARGET PORT GROUPS data of {len(data)} bytes")
    begins = range(HEAD_BYTES, len(data), WantedState.LENGTH)
    return tuple(WantedState.unpack(data[begin:]) for begin in begins)
