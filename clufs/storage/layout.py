"""Structures of SCSI as tables: every field says where it lies, and packing and unpacking follow from that.

SCSI counts bytes from 0, bits of a byte from 7 (first) to 0 (last), and has numbers of several bytes
with the first byte highest (SPC-4, 3.7 and 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Self

from clufs.errors import GarbledAnswer


class Place(NamedTuple):
    """Where a field lies: whole bytes from `byte` on, or `bits` bits of one byte that end at bit `low`."""

    byte: int
    bits: int
    low: int

    @property
    def end(self) -> int:
        """The first byte after the field."""
        return self.byte + (self.low + self.bits + 7) // 8


def at(byte: int, bits: int, low: int = 0, default: int | None = 0) -> Any:
    """A field of a Layout; a single bit is a bool. `default` None: it must be given."""
    where = {"place": Place(byte, bits, low)}
    if default is None:
        return field(metadata=where)
    return field(metadata=where, default=bool(default) if bits == 1 else default)


_places: dict[Any, tuple[tuple[str, Place], ...]] = {}


def places(layout: type[Layout]) -> tuple[tuple[str, Place], ...]:
    """Name and place of every field of a layout that lies in its bytes."""
    if layout not in _places:
        _places[layout] = tuple(
            (one.name, one.metadata["place"]) for one in fields(layout) if "place" in one.metadata
        )
    return _places[layout]


@dataclass(frozen=True)
class Layout:
    """A structure of a fixed length; bytes that no field covers are zero and are not looked at."""

    LENGTH: ClassVar[int]

    def pack(self) -> bytes:
        """The bytes. Raises ValueError for a number that its field cannot hold."""
        out = bytearray(self.LENGTH)
        for name, place in places(type(self)):
            value = int(getattr(self, name))
            if not 0 <= value < 1 << place.bits:
                raise ValueError(f"{name}={value:#x} does not fit in {place.bits} bits")
            if place.bits < 8:
                out[place.byte] |= value << place.low
            else:
                out[place.byte : place.end] = value.to_bytes(place.bits // 8, "big")
        return bytes(out)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read the fields; what follows the structure is not looked at. Raises GarbledAnswer if cut off."""
        if len(data) < cls.LENGTH:
            raise GarbledAnswer(f"{cls.__name__} has {cls.LENGTH} bytes, not {len(data)}")
        return cls(**cls.read_fields(data))

    @classmethod
    def read_fields(cls, data: bytes) -> dict[str, Any]:
        """The fields by name, from at least LENGTH bytes."""
        found: dict[str, Any] = {}
        for name, place in places(cls):
            if place.bits == 1:
                found[name] = bool(data[place.byte] >> place.low & 1)
            elif place.bits < 8:
                found[name] = data[place.byte] >> place.low & (1 << place.bits) - 1
            else:
                found[name] = int.from_bytes(data[place.byte : place.end], "big")
        return found
