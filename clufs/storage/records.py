"""What members write on a LUN, each in its own place: heartbeat, tombstone, message. Bytes in, bytes out.

Only the owner of a place writes there, messages aside; who reads takes nothing on trust: a record
names its member, and is refused where another's should stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from clufs.errors import BadBlock
from clufs.storage.layout import Layout, at
from clufs.storage.sealing import BODY_BYTES, Flaw, Kind, Place, seal, unseal


class LeaseState(IntEnum):
    """What a member says of itself."""

    STARTING = 1
    IN = 2
    LEAVING = 3
    ENDED = 4
    """It said goodbye: that its sequence stands still means nothing."""


class Word(IntEnum):
    """What a message tells its member."""

    NOTHING = 0
    STOP = 1
    """The poison: this incarnation kills its applications and lock holders, and ends."""


@dataclass(frozen=True)
class Record(Layout):
    """What all records have in common. cluster: the number of `disk_header.cluster_number`."""

    LENGTH: ClassVar[int] = BODY_BYTES
    KIND: ClassVar[Kind]
    cluster: int = at(0, 16, default=None)

    def encode(self, place: Place, sequence: int) -> bytes:
        """The block to be written at `place`."""
        return seal(place, self.KIND, sequence, self.pack())

    @classmethod
    def decode(cls, place: Place, block: bytes, cluster: int) -> tuple[int, Self]:
        """Sequence and record of a block read at `place`. Raises BadBlock."""
        sealed = unseal(place, cls.KIND, block)
        record = cls.unpack(sealed.body)
        if record.cluster != cluster:
            raise BadBlock(Flaw.OTHER_CLUSTER)
        return sealed.sequence, record


@dataclass(frozen=True)
class MemberRecord(Record):
    """A heartbeat: what a member says of itself, again and again.

    member: its nodeid. boot_id: the kernel's, as a number. view: the last one it is sure of. key: of its
    reservations, 0 for none. io_timeout_ms, watchdog_ms: those it keeps to, by which others judge it.
    heard: bit n - 1 is set if it hears member n on the network. renewed_ms: its own CLOCK_BOOTTIME before
    the write; time_ns: the wall clock then, for people. guarded: a hardware watchdog is armed that resets it within
    watchdog_ms of fail_s (`timeouts.lease`); a version that does not say so writes no.
    """

    KIND = Kind.MEMBER
    member: int = at(2, 16, default=None)
    incarnation: int = at(4, 32, default=None)
    boot_id: int = at(16, 128, default=0)
    view: int = at(32, 64, default=0)
    key: int = at(40, 64, default=0)
    heard: int = at(48, 64, default=0)
    renewed_ms: int = at(56, 64, default=0)
    time_ns: int = at(64, 64, default=0)
    io_timeout_ms: int = at(72, 32, default=0)
    watchdog_ms: int = at(76, 32, default=0)
    state: int = at(80, 16, default=LeaseState.STARTING)
    votes: int = at(82, 16, default=0)
    quorate: bool = at(84, 1, default=0)
    guarded: bool = at(85, 1, default=0)

    @property
    def hears(self) -> frozenset[int]:
        """The members whose bit is set."""
        return members_of(self.heard)


@dataclass(frozen=True)
class Eviction(Record):
    """A tombstone: `victim` up to `incarnation` is out, says `writer`, and registers no key any more.

    by: the incarnation of the writer. view: the one that did without the victim. time_ns: wall clock.
    """

    KIND = Kind.EVICTION
    writer: int = at(2, 16, default=None)
    by: int = at(4, 32, default=None)
    victim: int = at(8, 16, default=None)
    incarnation: int = at(12, 32, default=None)
    view: int = at(16, 64, default=0)
    time_ns: int = at(24, 64, default=0)


@dataclass(frozen=True)
class LunMessage(Record):
    """A word to `member` up to `incarnation`, from `writer`. Anybody writes it: see `slots`."""

    KIND = Kind.MESSAGE
    member: int = at(2, 16, default=None)
    incarnation: int = at(4, 32, default=None)
    word: int = at(8, 16, default=None)
    writer: int = at(10, 16, default=None)
    by: int = at(12, 32, default=0)
    time_ns: int = at(16, 64, default=0)

    def stops(self, incarnation: int) -> bool:
        """Whether it tells this incarnation of its member to stop."""
        return self.word == Word.STOP and incarnation <= self.incarnation


def bitmap(members: frozenset[int] | set[int]) -> int:
    """The bits of so many members. Raises ValueError for a nodeid that has no bit."""
    if any(not 1 <= member <= 64 for member in members):
        raise ValueError(f"no bit for each of {sorted(members)}")
    return sum(1 << member - 1 for member in members)


def members_of(bits: int) -> frozenset[int]:
    """The members whose bit is set."""
    return frozenset(bit + 1 for bit in range(64) if bits >> bit & 1)
