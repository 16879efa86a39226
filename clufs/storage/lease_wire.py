"""What daemon and lease process say to each other: frames of fixed form on a socket that keeps them apart.

Both run on one machine and one version of clufs: numbers as the machine has them, and no versions.
Times are CLOCK_BOOTTIME, the same for both.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from clufs.errors import GarbledAnswer
from clufs.storage.lease import OnDisk, Sight, Standing
from clufs.storage.records import LeaseState, members_of

_SAID = struct.Struct("=cHHBxxQQQ")
_POISON = struct.Struct("=cHI")
_LOOKED = struct.Struct("=cBBBBIIdddQ200s")
_SEEN = struct.Struct("=HBBBxHIQQQdd")
_TEXT_BYTES = 200
_STATES = tuple(OnDisk)
FRAME_BYTES = 8192
"""Room for any frame: 64 members are 3.5 KiB."""


def boottime() -> float:
    """Seconds since boot, with those that the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Settings(msgspec.Struct, frozen=True):
    """The first frame to the lease process: for whom it beats, and where.

    luns: of each LUN its paths, as in clufs.toml. members: the highest nodeid. watchdog: a device, or empty for the
    supervisor alone.
    """

    luns: list[list[str]]
    initiator: str
    cluster_name: str
    member: int
    incarnation: int
    boot_id: str
    members: int
    watchdog: str = ""

    def encode(self) -> bytes:
        """The frame."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, frame: bytes) -> Settings:
        """Raises GarbledAnswer."""
        try:
            return msgspec.json.decode(frame, type=cls)
        except msgspec.DecodeError as error:
            raise GarbledAnswer(f"settings of the lease: {error}") from error


@dataclass(frozen=True, slots=True)
class Said:
    """What the daemon wants to stand in the record. heard: see MemberRecord."""

    state: LeaseState = LeaseState.STARTING
    votes: int = 0
    quorate: bool = False
    view: int = 0
    key: int = 0
    heard: int = 0

    def encode(self) -> bytes:
        """The frame."""
        return _SAID.pack(
            b"S", self.state, self.votes, self.quorate, self.view, self.key, self.heard
        )

    @classmethod
    def decode(cls, frame: bytes) -> Said:
        """Raises GarbledAnswer."""
        try:
            kind, state, votes, quorate, view, key, heard = _SAID.unpack(frame)
            if kind == b"S":
                return cls(LeaseState(state), votes, bool(quorate), view, key, heard)
        except (struct.error, ValueError) as error:
            raise GarbledAnswer(f"a frame of {len(frame)} bytes: {error}") from error
        raise GarbledAnswer(f"a frame of kind {kind!r}")


@dataclass(frozen=True, slots=True)
class Seen:
    """A member's slot as the lease process has seen it: `Sight`, in numbers."""

    member: int
    on_disk: OnDisk
    state: int
    flaws: int
    votes: int
    incarnation: int
    sequence: int
    view: int
    heard: int
    changed_s: float
    silent_s: float

    @property
    def hears(self) -> frozenset[int]:
        """Whom the member hears on the network, as it says."""
        return members_of(self.heard)

    @classmethod
    def of(cls, member: int, sight: Sight) -> Seen:
        """Of a sight."""
        record = sight.record
        numbers = (
            (record.state, record.votes, record.incarnation, record.view, record.heard)
            if record is not None
            else (0, 0, 0, 0, 0)
        )
        state, votes, incarnation, view, heard = numbers
        return cls(
            member,
            sight.on_disk,
            state,
            min(len(sight.flaws), 255),
            votes,
            incarnation,
            sight.sequence,
            view,
            heard,
            sight.changed_s,
            sight.silent_s,
        )


@dataclass(frozen=True, slots=True)
class Looked:
    """After each beat on a LUN. lun: its number in Settings.

    renewed_s: when our lease began, -1 without one; beat_s: when this beat began. stopped: somebody told us to
    stop, or writes in our place; nothing is renewed any more. trouble: what went wrong in this beat, or empty.
    sequence: of our own record.
    """

    lun: int
    standing: Standing
    stopped: bool
    io_timeout_ms: int
    watchdog_ms: int
    renewed_s: float
    beat_s: float
    looked_s: float
    sequence: int
    trouble: str
    seen: tuple[Seen, ...] = ()

    def encode(self) -> bytes:
        """The frame."""
        head = _LOOKED.pack(
            b"L",
            self.lun,
            self.standing,
            self.stopped,
            len(self.seen),
            self.io_timeout_ms,
            self.watchdog_ms,
            self.renewed_s,
            self.beat_s,
            self.looked_s,
            self.sequence,
            self.trouble.encode(errors="replace")[:_TEXT_BYTES],
        )
        return head + b"".join(_pack_seen(one) for one in self.seen)

    @classmethod
    def decode(cls, frame: bytes) -> Looked:
        """Raises GarbledAnswer."""
        try:
            head = _LOOKED.unpack_from(frame)
            kind, lun, standing, stopped, count, io_ms, watchdog_ms = head[:7]
            renewed_s, beat_s, looked_s, sequence, text = head[7:]
            if kind != b"L" or len(frame) != _LOOKED.size + count * _SEEN.size:
                raise GarbledAnswer(f"a frame of kind {kind!r} and {len(frame)} bytes")
            seen = tuple(_unpack_seen(one) for one in _SEEN.iter_unpack(frame[_LOOKED.size :]))
            return cls(
                lun,
                Standing(standing),
                bool(stopped),
                io_ms,
                watchdog_ms,
                renewed_s,
                beat_s,
                looked_s,
                sequence,
                text.rstrip(b"\0").decode(errors="replace"),
                seen,
            )
        except (struct.error, ValueError, IndexError) as error:
            raise GarbledAnswer(f"a frame of {len(frame)} bytes: {error}") from error


def _pack_seen(one: Seen) -> bytes:
    return _SEEN.pack(
        one.member,
        _STATES.index(one.on_disk),
        one.state,
        one.flaws,
        one.votes,
        one.incarnation,
        one.sequence,
        one.view,
        one.heard,
        one.changed_s,
        one.silent_s,
    )


def _unpack_seen(numbers: tuple[int, int, int, int, int, int, int, int, int, float, float]) -> Seen:
    member, on_disk, *rest = numbers
    return Seen(member, _STATES[on_disk], *rest)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Poison:
    """Tell a member's incarnation, and all before it, to stop: by a message to its slot, on every LUN."""

    member: int
    incarnation: int

    def encode(self) -> bytes:
        """The frame."""
        return _POISON.pack(b"P", self.member, self.incarnation)


def decode_word(frame: bytes) -> Said | Poison:
    """What the daemon has said, END aside. Raises GarbledAnswer."""
    if frame[:1] == b"P" and len(frame) == _POISON.size:
        return Poison(*_POISON.unpack(frame)[1:])
    return Said.decode(frame)


END = b"E"
"""To the lease process: this life is over in good order, nobody holds anything: say so on the LUNs and end."""


def seen_of(sights: Iterable[tuple[int, Sight]]) -> tuple[Seen, ...]:
    """Those members of which there is something to say."""
    return tuple(
        Seen.of(member, sight)
        for member, sight in sights
        if sight.record is not None or sight.flaws
    )
