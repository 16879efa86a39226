"""What members say on the LUNs about the quorum disk: who may write its journal, and where it stands. Pure.

A ballot is a number that no two takes share: a count, and below it the member. Each member has one
record on each LUN, which only it writes; of what several LUNs say of a member its latest counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import UUID

from clufs.limits import QUORUM_LUNS_MAX
from clufs.storage.layout import at
from clufs.storage.records import Record
from clufs.storage.sealing import Kind

_MEMBER_BITS = 16
_SET_BITS = 128 * QUORUM_LUNS_MAX

LunSet = frozenset[UUID]


def next_ballot(highest: int, member: int) -> int:
    """The lowest ballot of a member that is above every one up to `highest`."""
    return ((highest >> _MEMBER_BITS) + 1 << _MEMBER_BITS) | member


@dataclass(frozen=True)
class BallotRecord(Record):
    """What one member says.

    promised: the highest ballot that it has begun. accepted: the ballot under which its share holds the journal,
    0 for none; generation: of that journal in its share; safe: so many frames of it are on a majority of the LUNs.
    beat: grows while it holds the disk. free: it let go. luns: those that the journal is on; old_luns: those that
    it was on before, until a majority of both has it.
    """

    KIND = Kind.BALLOT
    member: int = at(2, 16, default=None)
    incarnation: int = at(4, 32, default=None)
    promised: int = at(8, 64)
    accepted: int = at(16, 64)
    generation: int = at(24, 64)
    safe: int = at(32, 64)
    beat: int = at(40, 64)
    free: bool = at(48, 1, default=0)
    luns_bits: int = at(64, _SET_BITS)
    old_luns_bits: int = at(64 + _SET_BITS // 8, _SET_BITS)

    @property
    def order(self) -> tuple[int, int, int, int, bool, int, int]:
        """Grows with each record that a member writes."""
        ballots = self.promised, self.incarnation, self.accepted, self.generation
        return *ballots, not self.old_luns_bits, self.safe, self.beat

    @property
    def may_hold(self) -> bool:
        """Whether its member may believe to hold the disk."""
        return 0 < self.accepted == self.promised and not self.free

    @property
    def luns(self) -> LunSet:
        """See above."""
        return _set_of(self.luns_bits)

    @property
    def sets(self) -> tuple[LunSet, ...]:
        """A majority of each of these is needed to be sure to see all that was acknowledged."""
        return tuple(_set_of(bits) for bits in (self.old_luns_bits, self.luns_bits) if bits)

    def on(self, luns: LunSet, old_luns: LunSet = frozenset()) -> BallotRecord:
        """The same for a journal on other LUNs."""
        return replace(self, luns_bits=_bits_of(luns), old_luns_bits=_bits_of(old_luns))


def _bits_of(luns: LunSet) -> int:
    return sum(uuid.int << 128 * at for at, uuid in enumerate(sorted(luns)))


def _set_of(bits: int) -> LunSet:
    each = ((bits >> 128 * at) & (1 << 128) - 1 for at in range(QUORUM_LUNS_MAX))
    return frozenset(UUID(int=one) for one in each if one)


Table = Mapping[int, BallotRecord]
"""What stands on one LUN, by member."""


class Ballots:
    """What several LUNs say together."""

    def __init__(self, tables: Mapping[UUID, Table]) -> None:
        self.luns = frozenset(tables)
        self.latest: dict[int, BallotRecord] = {}
        self._all = [record for table in tables.values() for record in table.values()]
        for record in self._all:
            known = self.latest.get(record.member)
            if known is None or record.order > known.order:
                self.latest[record.member] = record

    @property
    def highest(self) -> int:
        """The highest ballot that anybody has begun."""
        return max((record.promised for record in self._all), default=0)

    @cached_property
    def top(self) -> BallotRecord | None:
        """Of the member that began the highest ballot."""
        return max(self.latest.values(), key=lambda one: one.promised, default=None)

    @cached_property
    def base(self) -> BallotRecord | None:
        """Of the member whose share has the journal."""
        found = [one for one in self.latest.values() if one.accepted]
        return max(found, key=lambda one: one.accepted, default=None)

    @property
    def sets(self) -> tuple[LunSet, ...]:
        """A majority of each must be among `luns`; none while nobody has held the disk."""
        return self.base.sets if self.base is not None else ()

    def safe(self, base: BallotRecord) -> int:
        """So many frames of the journal at `base` are there for sure."""
        return max(one.safe for one in self._all if _journal(one) == _journal(base))


def _journal(record: BallotRecord) -> tuple[int, int, int]:
    return record.member, record.accepted, record.generation


def majorities(sets: Iterable[LunSet], luns: Collection[UUID]) -> bool:
    """Whether a majority of each set is among `luns`."""
    return all(2 * len(one.intersection(luns)) > len(one) for one in sets)
