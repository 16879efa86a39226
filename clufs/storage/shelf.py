"""The places of the quorum disk on one LUN, as one member uses them: what is read and written, step by step. Pure.

A step yields an Io and takes what was read; what failed is thrown into it as the LunError that it failed
with. Whoever carries it does nothing else. The steps of one lane are never carried two at a time.

A write that failed may still land, up to QUEUED_WRITE_S later. So what says who may write, promises above all,
is written to both blocks of the pair, and only while no more than one of them awaits an old write: whichever
that covers, the other has it. A frame that lands late stands where the same frame stands, or shall stand;
and an area is not begun anew while a late one may still come. Of a former life at most one ballot may come
late, and none while a write of this life has failed, too: its process is gone, and its session with it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar
from uuid import UUID

from clufs.errors import BadBlock, LunError, QuorumDiskLost
from clufs.limits import FRAME_BLOCKS_MAX, QUORUM_SLICE_FRAMES
from clufs.storage.ballots import BallotRecord, Table
from clufs.storage.disk_header import PAIR_BLOCKS, DiskHeader
from clufs.storage.journal import AREAS, Journal, Name, Scan
from clufs.storage.sealing import BLOCK_BYTES, Flaw, Place
from clufs.storage.slots import Pair, next_write, read_pair
from clufs.timeouts.lease import QUEUED_WRITE_S

_PAIR_BYTES = PAIR_BLOCKS * BLOCK_BYTES
_READ_BLOCKS = 2 * FRAME_BLOCKS_MAX


class Lane(IntEnum):
    """What is done one after the other on one LUN; two lanes side by side."""

    BALLOTS = 0
    JOURNAL = 1
    LOOKING = 2


@dataclass(frozen=True, slots=True)
class Read:
    """Read so many blocks."""

    lba: int
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """Write whole blocks."""

    lba: int
    data: bytes


Io = Read | Write
T = TypeVar("T")
Steps = Generator[Io, bytes, T]


class Shelf:
    """One LUN. incarnation: of the member's present life. clock: seconds that only grow."""

    def __init__(
        self, header: DiskHeader, member: int, incarnation: int, clock: Callable[[], float]
    ) -> None:
        self.uuid: UUID = header.uuid
        self.cluster = header.cluster
        self._geometry = header.geometry
        self._member, self._incarnation = member, incarnation
        self._clock = clock
        self._sequence: int | None = None
        self._turns_unsure_s = [0.0] * PAIR_BLOCKS
        self._areas_unsure_s = [0.0] * AREAS
        self._known: dict[int, tuple[bytes, Pair[BallotRecord]]] = {}
        self._name = Name(0, 0)
        self._position = 0
        header.geometry.ballot(member)

    @property
    def area_blocks(self) -> int:
        """The largest journal has so many."""
        return self._geometry.log_blocks // AREAS

    def needs_bytes(self, blocks: int) -> int:
        """How large the LUN must be for a journal of so many."""
        geometry = self._geometry
        return (geometry.log_lba + 1 + geometry.slots * AREAS * blocks) * BLOCK_BYTES

    def position(self, name: Name) -> int:
        """So many frames of a journal of ours are on it."""
        return self._position if self._name == name else 0

    # ------------------------------------------------------------ ballots

    def read(self) -> Steps[Table]:
        """What every member says. Raises QuorumDiskLost if another machine writes as this member, LunError."""
        geometry = self._geometry
        data = yield Read(geometry.ballots_lba, PAIR_BLOCKS * geometry.slots)
        found = {}
        for index in range(geometry.slots):
            pair = self._pair(index + 1, data[index * _PAIR_BYTES : (index + 1) * _PAIR_BYTES])
            if pair.record is not None and pair.record.member == index + 1:
                found[index + 1] = pair.record
            elif pair.record is not None or len(pair.flaws) == PAIR_BLOCKS:
                # One that was torn as the first of all has an empty one beside it.
                why = "; ".join(pair.flaws) or Flaw.OTHER_MEMBER
                raise BadBlock(Flaw.TORN, f"both ballots of member {index + 1}: {why}")
            if index + 1 == self._member and self._sequence is None:
                self._sequence = pair.sequence
        mine = found.get(self._member)
        if mine is not None and mine.incarnation > self._incarnation:
            raise QuorumDiskLost(f"another machine writes as the member with nodeid {self._member}")
        return found

    def _pair(self, member: int, data: bytes) -> Pair[BallotRecord]:
        """Most have not changed since the last time."""
        known = self._known.get(member)
        if known is None or known[0] != data:
            place = Place(self.uuid, self._geometry.ballot(member))
            known = data, read_pair(BallotRecord, place, data, self.cluster)
            self._known[member] = known
        return known[1]

    def say(self, record: Callable[[], BallotRecord], times: int = 1) -> Steps[Table]:
        """Write our own, as it is when its turn comes, see it there, and read what the others say.

        times: PAIR_BLOCKS for what must never be unsaid by a late write.
        """
        if self._sequence is None:
            yield from self.read()
        said = record()
        for _ in range(times):
            yield from self._write(said, times)
        found = yield from self.read()
        if found.get(self._member) != said:
            self._sequence = None
            raise BadBlock(Flaw.STALE, "our ballot")
        return found

    def _write(self, said: BallotRecord, times: int) -> Steps[None]:
        """Between a write that fails and the next read nobody knows which sequence stands there."""
        sequence = self._sequence
        assert sequence is not None
        if times > 1 and min(self._turns_unsure_s) > self._clock():
            raise LunError("two ballots that failed may still be written")
        lba, block = next_write(
            Place(self.uuid, self._geometry.ballot(self._member)), said, sequence
        )
        self._sequence = None
        try:
            yield Write(lba, block)
        except LunError:
            self._turns_unsure_s[(sequence + 1) % PAIR_BLOCKS] = self._clock() + QUEUED_WRITE_S
            raise
        self._sequence = sequence + 1

    # ------------------------------------------------------------ the journal

    def ship(self, journal: Journal, upto: int) -> Steps[None]:
        """Write what is missing of its first `upto` frames."""
        area = journal.name.generation % AREAS
        if self._name != journal.name:
            wait_s = self._areas_unsure_s[area] - self._clock()
            if wait_s > 0:
                raise LunError(f"a write that failed may still be done for {wait_s:.0f} s")
            self._name, self._position = journal.name, 0
        lba = self._area(self._member, area)
        while self._position < upto:
            if journal.over:
                raise QuorumDiskLost("it was taken anew")
            at, data, end = journal.run(self.uuid, lba, self._position, upto)
            if at + len(data) // BLOCK_BYTES > lba + self.area_blocks:
                raise LunError("this LUN is too small for the quorum disk's journal")
            try:
                yield Write(at, data)
            except LunError:
                self._areas_unsure_s[area] = self._clock() + QUEUED_WRITE_S
                raise
            self._position = end

    def append(self, journal: Journal, upto: int) -> Steps[Table]:
        """The same, and then read what the others say."""
        yield from self.ship(journal, upto)
        return (yield from self.read())

    def load(self, base: BallotRecord, scans: dict[UUID, Scan]) -> Steps[Scan]:
        """Go on reading the journal at `base`, as much of it as is whole here, for a while."""
        lba = self._area(base.member, base.generation % AREAS)
        name = Name(base.accepted, base.generation)
        scan = scans.setdefault(self.uuid, Scan(name, self.uuid, lba))
        end = scan.next_block + QUORUM_SLICE_FRAMES * FRAME_BLOCKS_MAX
        while not scan.ended and scan.next_block < end:
            count = min(_READ_BLOCKS, self.area_blocks - scan.next_block)
            last = scan.next_block + count == self.area_blocks
            scan.take((yield Read(lba + scan.next_block, count)) if count else b"", last)
        return scan

    def _area(self, member: int, area: int) -> int:
        return self._geometry.log(member) + area * self.area_blocks
