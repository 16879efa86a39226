"""Data of PERSISTENT RESERVE IN and OUT (SPC-4, 6.15 and 6.16), and TransportIDs (SPC-4, 7.6.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar, Self

from clufs.errors import GarbledAnswer
from clufs.storage.layout import Layout, at

ISCSI = 5
KEY_BYTES = 8
HEAD_BYTES = 8
TRANSPORT_ID_MIN_BYTES = 24
STATUS_HEAD_BYTES = 24


class ReservationType(IntEnum):
    """Types of a persistent reservation (SPC-4, table 224)."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8

    @property
    def all_registrants(self) -> bool:
        """Is every registrant a holder?"""
        return self in (self.WRITE_EXCLUSIVE_ALL_REGISTRANTS, self.EXCLUSIVE_ACCESS_ALL_REGISTRANTS)

    @property
    def registrants_only(self) -> bool:
        """May every registrant use the LUN, though one holds the reservation?"""
        return self in (
            self.WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
            self.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
        )

    @property
    def excludes_reads(self) -> bool:
        """May the others not even read?"""
        return self in (
            self.EXCLUSIVE_ACCESS,
            self.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY,
            self.EXCLUSIVE_ACCESS_ALL_REGISTRANTS,
        )


@dataclass(frozen=True, slots=True)
class TransportId:
    """An initiator port. iSCSI: `name`, and `isid` (48 bits) of a session; other protocols: `raw`, kept as it is."""

    protocol: int = ISCSI
    name: str = ""
    isid: int | None = None
    raw: bytes = b""

    def encode(self) -> bytes:
        """Raises ValueError for an iSCSI name longer than 223 bytes."""
        if self.protocol != ISCSI:
            return self.raw
        text = self.name if self.isid is None else f"{self.name},i,0x{self.isid:012x}"
        if len(self.name.encode()) > 223:
            raise ValueError(f"an iSCSI name of {len(self.name.encode())} bytes")
        body = text.encode() + b"\0"
        body += bytes(max(-len(body) % 4, TRANSPORT_ID_MIN_BYTES - 4 - len(body)))
        head = bytes(((0x40 if self.isid is not None else 0) | ISCSI, 0))
        return head + len(body).to_bytes(2, "big") + body

    @classmethod
    def split(cls, data: bytes) -> tuple[Self, bytes]:
        """The first TransportID and what follows it. Raises GarbledAnswer."""
        length = TRANSPORT_ID_MIN_BYTES
        iscsi = bool(data) and data[0] & 0x0F == ISCSI
        if iscsi and len(data) >= 4:
            length = 4 + int.from_bytes(data[2:4], "big")
        if len(data) < length:
            raise GarbledAnswer(f"a TransportID is cut off: {data.hex(' ') or 'nothing'}")
        if not iscsi:
            return cls(data[0] & 0x0F, raw=data[:length]), data[length:]
        return cls._of_text(data[4:length].split(b"\0")[0], data[0] >> 6), data[length:]

    @classmethod
    def _of_text(cls, raw: bytes, form: int) -> Self:
        text = raw.decode("utf-8", "backslashreplace")
        if form == 0:
            return cls(name=text)
        name, separator, isid = text.partition(",i,0x")
        try:
            if form != 1 or not separator or not 1 <= len(isid) <= 12:
                raise ValueError
            return cls(name=name, isid=int(isid, 16))
        except ValueError:
            raise GarbledAnswer(f"not an iSCSI initiator port: {text!r}") from None

    def __str__(self) -> str:
        if self.protocol != ISCSI:
            return f"protocol {self.protocol}: {self.raw.hex()}"
        return self.name if self.isid is None else f"{self.name},i,0x{self.isid:012x}"


def encode_transport_ids(ids: tuple[TransportId, ...]) -> bytes:
    """TransportIDs one behind the other."""
    return b"".join(one.encode() for one in ids)


def decode_transport_ids(data: bytes) -> tuple[TransportId, ...]:
    """All TransportIDs in `data`. Raises GarbledAnswer."""
    found = []
    while data:
        one, data = TransportId.split(data)
        found.append(one)
    return tuple(found)


# ----------------------------------------------------------------------- out


@dataclass(frozen=True)
class _OutBits(Layout):
    LENGTH: ClassVar[int] = 24
    key: int = at(0, 64)
    action_key: int = at(8, 64)
    spec_i_pt: bool = at(20, 1, 3)
    all_tg_pt: bool = at(20, 1, 2)
    aptpl: bool = at(20, 1)


@dataclass(frozen=True)
class OutParameters(_OutBits):
    """Data of PERSISTENT RESERVE OUT, except REGISTER AND MOVE.

    key: ours, as registered. action_key: the new one (registering) or the victim's (preempting).
    aptpl: keep it through loss of power. all_tg_pt: register at every target port. spec_i_pt: register
    the initiator ports `initiators`, too.
    """

    initiators: tuple[TransportId, ...] = ()

    def encode(self) -> bytes:
        """24 bytes, more with `spec_i_pt`."""
        ids = encode_transport_ids(self.initiators)
        return self.pack() + (len(ids).to_bytes(4, "big") + ids if self.spec_i_pt else b"")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises GarbledAnswer."""
        found = cls.unpack(data)
        if not found.spec_i_pt:
            return found
        length = int.from_bytes(data[24:28], "big")
        if len(data) != 28 + length:
            raise GarbledAnswer(f"TransportIDs of {length} bytes in a list of {len(data)}")
        return replace(found, initiators=decode_transport_ids(data[28:]))


@dataclass(frozen=True)
class _MoveBits(Layout):
    LENGTH: ClassVar[int] = 24
    key: int = at(0, 64)
    action_key: int = at(8, 64)
    unregister: bool = at(17, 1, 1)
    aptpl: bool = at(17, 1)
    target_port: int = at(18, 16)
    id_length: int = at(20, 32)


@dataclass(frozen=True)
class MoveParameters(_MoveBits):
    """Data of REGISTER AND MOVE: the reservation goes to `initiator` at the relative target port `target_port`,
    registered with `action_key`; `unregister`: our registration ends."""

    initiator: TransportId = TransportId()

    def encode(self) -> bytes:
        """The parameter list."""
        raw = self.initiator.encode()
        return replace(self, id_length=len(raw)).pack() + raw

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises GarbledAnswer."""
        found = cls.unpack(data)
        if len(data) != cls.LENGTH + found.id_length:
            raise GarbledAnswer(
                f"a TransportID of {found.id_length} bytes in a list of {len(data)}"
            )
        return replace(found, id_length=0, initiator=TransportId.split(data[24:])[0])


# ------------------------------------------------------------------------ in


@dataclass(frozen=True, slots=True)
class Keys:
    """READ KEYS: one key for each registration; `length` is what the LUN has, in bytes.

    generation: counts what changed registrations (PRgeneration), so that two readings can be told apart.
    """

    generation: int
    keys: tuple[int, ...]
    length: int

    @property
    def whole(self) -> bool:
        """Is nothing cut off? Otherwise ask again with room for 8 + `length` bytes."""
        return self.length == KEY_BYTES * len(self.keys)

    @classmethod
    def of(cls, generation: int, keys: tuple[int, ...]) -> Self:
        """All keys."""
        return cls(generation, keys, KEY_BYTES * len(keys))

    def encode(self) -> bytes:
        """The data, whole."""
        head = self.generation.to_bytes(4, "big") + self.length.to_bytes(4, "big")
        return head + b"".join(key.to_bytes(KEY_BYTES, "big") for key in self.keys)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Also what is cut off between two keys or in one. Raises GarbledAnswer."""
        generation, length, rest = _head(data)
        if length % KEY_BYTES:
            raise GarbledAnswer(f"keys of {length} bytes")
        ends = range(KEY_BYTES, len(rest[:length]) + 1, KEY_BYTES)
        keys = tuple(int.from_bytes(rest[end - KEY_BYTES : end], "big") for end in ends)
        return cls(generation, keys, length)


@dataclass(frozen=True)
class Reservation(Layout):
    """READ RESERVATION, after its head: `key` of the holder (0 where all registrants are), type and scope."""

    LENGTH: ClassVar[int] = 16
    key: int = at(0, 64, default=None)
    type: int = at(13, 4, default=None)
    scope: int = at(13, 4, 4)


def encode_reservation(generation: int, reservation: Reservation | None) -> bytes:
    """READ RESERVATION data."""
    body = reservation.pack() if reservation else b""
    return generation.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body


def decode_reservation(data: bytes) -> tuple[int, Reservation | None]:
    """Generation, and the reservation if there is one. Raises GarbledAnswer."""
    generation, length, rest = _head(data)
    return generation, Reservation.unpack(rest[:length]) if length else None


@dataclass(frozen=True)
class _CapabilityBits(Layout):
    LENGTH: ClassVar[int] = 8
    length: int = at(0, 16, default=8)
    replace_lost: bool = at(2, 1, 7)
    compatible_reserve: bool = at(2, 1, 4)
    spec_i_pt: bool = at(2, 1, 3)
    all_tg_pt: bool = at(2, 1, 2)
    aptpl: bool = at(2, 1)
    mask_valid: bool = at(3, 1, 7)
    allowed_commands: int = at(3, 3, 4)
    aptpl_active: bool = at(3, 1)
    low_mask: int = at(4, 8)
    high_mask: int = at(5, 8)


@dataclass(frozen=True)
class Capabilities(_CapabilityBits):
    """REPORT CAPABILITIES: which bits of PERSISTENT RESERVE OUT the LUN honours, and which types (`types`).

    compatible_reserve: RESERVE(6) of a registrant is answered GOOD. aptpl_active: registrations now survive power.
    """

    @property
    def types(self) -> frozenset[ReservationType]:
        """The types it knows; all of them if it does not say."""
        mask = self.low_mask | self.high_mask << 8
        return frozenset(one for one in ReservationType if not self.mask_valid or mask >> one & 1)


@dataclass(frozen=True)
class _FullStatusBits(Layout):
    LENGTH: ClassVar[int] = STATUS_HEAD_BYTES
    key: int = at(0, 64, default=None)
    all_target_ports: bool = at(12, 1, 1)
    holder: bool = at(12, 1)
    scope: int = at(13, 4, 4)
    type: int = at(13, 4)
    target_port: int = at(18, 16)
    id_length: int = at(20, 32)


@dataclass(frozen=True)
class FullStatus(_FullStatusBits):
    """One registration of READ FULL STATUS: key, who (`initiator`), at which relative target port, and whether
    it holds the reservation; type and scope count for a holder only."""

    initiator: TransportId = TransportId()


def encode_full_status(generation: int, statuses: tuple[FullStatus, ...]) -> bytes:
    """READ FULL STATUS data."""
    body = b""
    for one in statuses:
        raw = one.initiator.encode()
        body += replace(one, id_length=len(raw)).pack() + raw
    return generation.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body


def decode_full_status(data: bytes) -> tuple[int, tuple[FullStatus, ...]]:
    """Generation and all registrations. Raises GarbledAnswer, also if it is cut off."""
    generation, length, rest = _head(data)
    if len(rest) < length:
        raise GarbledAnswer(f"READ FULL STATUS has {length} bytes, {len(rest)} came")
    rest, found = rest[:length], []
    while rest:
        one = FullStatus.unpack(rest)
        initiator, _ = TransportId.split(rest[STATUS_HEAD_BYTES:][: one.id_length])
        found.append(replace(one, id_length=0, initiator=initiator))
        rest = rest[STATUS_HEAD_BYTES + one.id_length :]
    return generation, tuple(found)


def _head(data: bytes) -> tuple[int, int, bytes]:
    if len(data) < HEAD_BYTES:
        raise GarbledAnswer(f"PERSISTENT RESERVE IN data of {len(data)} bytes")
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"), data[HEAD_BYTES:]
