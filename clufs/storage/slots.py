"""Pairs of blocks, and the places of a LUN by what stands there.

A pair is written in turn: the block of an even sequence is the first, that of an odd one the second.
So a write that is torn, or lost on its way, leaves what was written before; a reader takes the whole
block with the highest sequence.

Records and evictions have one writer each. A message has many: each writes the next sequence after
what it has read, and reads it again. Of two at once one may be lost; as both say the same, to stop,
nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from clufs.errors import BadBlock
from clufs.storage.ballots import BallotRecord
from clufs.storage.disk_header import PAIR_BLOCKS, SLOT_BLOCKS, SLOTS_LBA, DiskHeader
from clufs.storage.records import Eviction, LunMessage, MemberRecord, Record
from clufs.storage.sealing import BLOCK_BYTES, Flaw, Place

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Pair(Generic[R]):
    """What a pair holds. sequence: of `record`; 0 without one. older: what stands in the other block.

    flaws: why each block that was not taken was not; a block that was never written is no flaw.
    """

    sequence: int
    record: R | None
    flaws: tuple[str, ...] = ()
    older: R | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """A member's own record, and the message to it."""

    record: Pair[MemberRecord]
    message: Pair[LunMessage]


def read_pair(kind: type[R], place: Place, data: bytes, cluster: int) -> Pair[R]:
    """What two blocks read at `place` hold."""
    found: list[tuple[int, R]] = []
    flaws = []
    for turn in range(PAIR_BLOCKS):
        block = data[turn * BLOCK_BYTES : (turn + 1) * BLOCK_BYTES]
        try:
            sequence, record = kind.decode(Place(place.uuid, place.lba + turn), block, cluster)
            if sequence % PAIR_BLOCKS != turn:
                raise BadBlock(Flaw.MISDIRECTED)
        except BadBlock as bad:
            if bad.flaw != Flaw.EMPTY:
                flaws.append(str(bad))
            continue
        found.append((sequence, record))
    if not found:
        return Pair(0, None, tuple(flaws))
    found.sort(key=lambda one: one[0], reverse=True)
    older = found[1][1] if len(found) > 1 else None
    return Pair(*found[0], tuple(flaws), older)


def next_write(place: Place, record: Record, sequence: int) -> tuple[int, bytes]:
    """Where and what to write so that `record` follows `sequence` in the pair at `place`."""
    following = sequence + 1
    target = Place(place.uuid, place.lba + following % PAIR_BLOCKS)
    return target.lba, record.encode(target, following)


class LunMap:
    """The places of a formatted LUN, and what bytes read there mean. lba and count: in blocks of 4 KiB."""

    def __init__(self, header: DiskHeader) -> None:
        self.header = header
        self._geometry = header.geometry

    def _place(self, lba: int) -> Place:
        return Place(self.header.uuid, lba)

    # ------------------------------------------------------------ slots

    def slots_extent(self, members: int) -> tuple[int, int]:
        """lba and count of the slots of members 1 to `members`. Raises LunError if there are not so many."""
        self._geometry.record(members)
        return SLOTS_LBA, SLOT_BLOCKS * members

    def read_slots(self, data: bytes) -> Iterator[tuple[int, Slot]]:
        """Member by member, what the first slots say."""
        for index in range(len(data) // (SLOT_BLOCKS * BLOCK_BYTES)):
            yield index + 1, self._slot(index + 1, data[index * SLOT_BLOCKS * BLOCK_BYTES :])

    def _slot(self, member: int, data: bytes) -> Slot:
        record = self._pair(MemberRecord, self._geometry.record(member), data)
        message = self._pair(
            LunMessage, self._geometry.message(member), data[PAIR_BLOCKS * BLOCK_BYTES :]
        )
        if record.record is not None and record.record.member != member:
            record = Pair(0, None, (*record.flaws, Flaw.OTHER_MEMBER))
        if message.record is not None and message.record.member != member:
            message = Pair(0, None, (*message.flaws, Flaw.OTHER_MEMBER))
        return Slot(record, message)

    def write_record(self, record: MemberRecord, sequence: int) -> tuple[int, bytes]:
        """Where and what to write after `sequence`. Raises LunError for a member without a slot."""
        return next_write(self._place(self._geometry.record(record.member)), record, sequence)

    def message_extent(self, member: int) -> tuple[int, int]:
        """lba and count of the message to a member."""
        return self._geometry.message(member), PAIR_BLOCKS

    def read_message(self, member: int, data: bytes) -> Pair[LunMessage]:
        """What is said to a member."""
        return self._pair(LunMessage, self._geometry.message(member), data)

    def write_message(self, message: LunMessage, sequence: int) -> tuple[int, bytes]:
        """Where and what to write after `sequence`, the one that `read_message` found."""
        return next_write(self._place(self._geometry.message(message.member)), message, sequence)

    # ------------------------------------------------------------ evictions

    def evictions_extent(self, victim: int) -> tuple[int, int]:
        """lba and count of all that is said about a victim."""
        return self._geometry.eviction(1, victim), PAIR_BLOCKS * self._geometry.slots

    def read_evictions(self, victim: int, data: bytes) -> Iterator[tuple[int, Pair[Eviction]]]:
        """Writer by writer, what is said about a victim."""
        for index in range(self._geometry.slots):
            part = data[index * PAIR_BLOCKS * BLOCK_BYTES :][: PAIR_BLOCKS * BLOCK_BYTES]
            pair = self._pair(Eviction, self._geometry.eviction(index + 1, victim), part)
            said = pair.record
            if said is not None and (said.writer, said.victim) != (index + 1, victim):
                pair = Pair(0, None, (*pair.flaws, Flaw.OTHER_MEMBER))
            yield index + 1, pair

    def evicted(self, victim: int, data: bytes) -> int:
        """The latest incarnation of a victim that anybody has declared out; -1 if nobody has."""
        said = [pair.record for _, pair in self.read_evictions(victim, data)]
        return max((one.incarnation for one in said if one is not None), default=-1)

    def eviction_extent(self, writer: int, victim: int) -> tuple[int, int]:
        """lba and count of what one writer says about a victim."""
        return self._geometry.eviction(writer, victim), PAIR_BLOCKS

    def read_eviction(self, writer: int, victim: int, data: bytes) -> Pair[Eviction]:
        """What one writer says about a victim."""
        return self._pair(Eviction, self._geometry.eviction(writer, victim), data)

    def write_eviction(self, eviction: Eviction, sequence: int) -> tuple[int, bytes]:
        """Where and what to write after `sequence`, the one that `read_eviction` found."""
        lba = self._geometry.eviction(eviction.writer, eviction.victim)
        return next_write(self._place(lba), eviction, sequence)

    # ------------------------------------------------------------ ballots

    def ballots_extent(self) -> tuple[int, int]:
        """lba and count of what all members say about the quorum disk."""
        return self._geometry.ballots_lba, PAIR_BLOCKS * self._geometry.slots

    def read_ballots(self, data: bytes) -> Iterator[tuple[int, Pair[BallotRecord]]]:
        """Member by member, what it says."""
        for index in range(self._geometry.slots):
            part = data[index * PAIR_BLOCKS * BLOCK_BYTES :][: PAIR_BLOCKS * BLOCK_BYTES]
            yield index + 1, self._pair(BallotRecord, self._geometry.ballot(index + 1), part)

    def _pair(self, kind: type[R], lba: int, data: bytes) -> Pair[R]:
        return read_pair(kind, self._place(lba), data, self.header.cluster)
