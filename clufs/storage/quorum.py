"""The quorum disk as its users see it: a journal on the LUNs of clufs' own that one member at a time holds.

What was appended is on a majority of the LUNs and is found by whoever takes the disk next, whatever
happened in between. Who holds it is decided by ballots on the LUNs, without any clock; that no two
members cast its votes at one time rests on clocks, too: see `timeouts.QUORUM_DISK_DEAD_S`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Share:
    """What the journal holds: the latest checkpoint and what was appended after it, in order.

    Nothing (b"" and no records) until somebody has taken the disk for the first time and written to it.
    """

    checkpoint: bytes = field(default=b"", repr=False)
    records: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at the LUNs has shown.

    readable: so many LUNs answer that the disk can be taken; else `why` says what is missing. holder: the member
    that holds it or began to take it last, 0 for nobody yet; alive: its beat has not been seen to stand still
    for QUORUM_DISK_DEAD_S; free: it let go.
    """

    readable: bool
    why: str = ""
    holder: int = 0
    holder_incarnation: int = 0
    alive: bool = False
    free: bool = False

    def may_take(self, member: int) -> bool:
        """Whether this member may take it now: nobody else can believe to hold it."""
        return self.readable and (self.holder in (0, member) or self.free or not self.alive)


class Held(Protocol):
    """The disk in the hands of this member. All methods raise LunError; QuorumDiskLost when it is over for ever.

    ballot: no other take, of anybody, has the same, and later ones have higher. data: as it was found.
    sure_until_s: until then, on CLOCK_BOOTTIME, no other member can have taken it by the rule of time.
    """

    @property
    def ballot(self) -> int:
        """See above."""

    @property
    def data(self) -> Share:
        """See above."""

    @property
    def sure_until_s(self) -> float:
        """See above. Grows with each `beat` that succeeds."""

    async def append(self, record: bytes) -> None:
        """Journal a record: when this returns it is on a majority of the LUNs, and the disk was still ours then.

        Raises ShareFull, with nothing written, when a checkpoint is due instead: one of the state with the
        record in it. After another LunError it is not known whether the record is there, and all is over.
        """

    async def checkpoint(self, data: bytes) -> None:
        """Let `data` take the place of all that was journalled so far; as safe as `append`.

        Raises LunError naming the sizes, with nothing written, if the LUNs are too small for it; after another
        LunError all is over, and what was journalled before is there, or `data`.
        """

    async def beat(self) -> None:
        """Say on a majority of the LUNs that we are here, and see that the disk is ours; moves `sure_until_s`.

        A LunError that is no QuorumDiskLost changes nothing: the next beat may succeed.
        """

    async def let_go(self) -> None:
        """Say that whoever wants may take it. It is over when this begins, also if no LUN hears of it."""


class QuorumDisk(Protocol):
    """The quorum disk of one member's life."""

    async def look(self) -> Sight:
        """Read the ballots. Never raises LunError: a disk that cannot be read is a Sight that says why."""

    async def take(self) -> Held:
        """Take the disk, with all that was ever acknowledged in its journal.

        Raises QuorumDiskHeld where `Sight.may_take` says no or another is quicker, LunError. Whatever this
        member held before is over when it begins.
        """
