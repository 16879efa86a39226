"""What daemon and lease process say to each other: frames of fixed form on a socket that keeps them apart.

Both run on one machine and one version of clufs: numbers as the machine has them, and no versions.
Times are CLOCK_BOOTTIME, the same for both.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from clufs.errors import GarbledAnswer
from clufs.storage.lease import OnDisk, Sight, Standing
from clufs.storage.records import LeaseState, members_of
from clufs.timeouts.lease import LeaseTimeline

_SAID = struct.Struct("=cHHBxxQQQ")
_POISON = struct.Struct("=cHI")
_LOOKED = struct.Struct("=cBBBBIIdddQ200s")
_SEEN = struct.Struct("=HBBBBHIQQQddII")
_TEXT_BYTES = 200
_STATES = tuple(OnDisk)
FRAME_BYTES = 8192
"""Room for any frame: 64 members are 4 KiB."""


def boottime() -> float:
    """Seconds since boot, with those that the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Settings(msgspec.Struct, frozen=True):
    """The first frame to the lease process: for whom it beats, and where.

    luns: of each LUN its paths, as in clufs.toml. members: the highest nodeid. watchdog: a device, or empty for the
    supervisor alone. trusts_supervisor: the supervisor counts as a hardware watchdog.
    """

    luns: list[list[str]]
    initiator: str
    cluster_name: str
    member: int
    incarnation: int
    boot_id: str
    members: int
    watchdog: str = ""
    trusts_supervisor: bool = False

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
    """A member's slot as the lease process has seen it: `Sight`, in numbers.

    guarded, io_timeout_ms, watchdog_ms: as the record says.
    """

    member: int
    on_disk: OnDisk
    state: int
    flaws: int
    guarded: bool
    votes: int
    incarnation: int
    sequence: int
    view: int
    heard: int
    changed_s: float
    silent_s: float
    io_timeout_ms: int = 0
    watchdog_ms: int = 0

    @property
    def line(self) -> LeaseTimeline:
        """The times that the member keeps to."""
        return LeaseTimeline(self.io_timeout_ms / 1000, self.watchdog_ms / 1000)

    @property
    def hears(self) -> frozenset[int]:
        """Whom the member hears on the network, as it says."""
        return members_of(self.heard)

    @classmethod
    def of(cls, member: int, sight: Sight) -> Seen:
        """Of a sight."""
        record = sight.record
        flaws, ages = min(len(sight.flaws), 255), (sight.changed_s, sight.silent_s)
        if record is None:
            nothing = (0, flaws, False, 0, 0, sight.sequence, 0, 0)
            return cls(member, sight.on_disk, *nothing, *ages)
        return cls(
            member,
            sight.on_disk,
            record.state,
            flaws,
            record.guarded,
            record.votes,
            record.incarnation,
            sight.sequence,
            record.view,
            record.heard,
            *ages,
            record.io_timeout_ms,
            record.watchdog_ms,
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
        one.guarded,
        one.votes,
        one.incarnation,
        one.sequence,
        one.view,
        one.heard,
        one.changed_s,
        one.silent_s,
        one.io_timeout_ms,
        one.watchdog_ms,
    )


def _unpack_seen(numbers: tuple[Any, ...]) -> Seen:
    member, on_disk, state, flaws, guarded, *rest = numbers
    return Seen(member, _STATES[on_disk], state, flaws, bool(guarded), *rest)


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
