"""A member's lease, and what it may think of the others': by sequences and clocks alone. Pure.

A lease lasts from the reading of the clock before a write that reached the LUN. With several LUNs
it is that which a majority of them carries.

Another member is judged by one thing: that the sequence in its slot changes, seen on our own clock,
against the timeouts that it wrote there. What its clock says is for people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Protocol

from clufs.storage.records import LeaseState, MemberRecord
from clufs.storage.sealing import Flaw
from clufs.storage.slots import Pair, Slot
from clufs.timeouts.lease import LeaseTimeline


class Standing(IntEnum):
    """Of our own lease."""

    NONE = 0
    """No majority of the LUNs has been written yet."""
    GOOD = 1
    WARNED = 2
    """Nothing may be granted by it any more."""
    FAILED = 3
    """Nobody who relied on it may go on."""


class Lease:
    """Our own. All times on one clock that goes on while the machine sleeps (CLOCK_BOOTTIME)."""

    def __init__(self, luns: int, line: LeaseTimeline) -> None:
        self.line = line
        self._renewed_s: list[float | None] = [None] * luns
        self._failed = False

    def renewed(self, lun: int, began_s: float) -> None:
        """A record reached a LUN whose write began then."""
        before_s = self._renewed_s[lun]
        self._renewed_s[lun] = began_s if before_s is None else max(before_s, began_s)

    @property
    def renewed_s(self) -> float | None:
        """When the lease began that a majority of the LUNs carries; None if there is none."""
        known = sorted((at for at in self._renewed_s if at is not None), reverse=True)
        majority = len(self._renewed_s) // 2 + 1
        return known[majority - 1] if len(known) >= majority else None

    def standing(self, now_s: float) -> Standing:
        """How it is. A lease that has failed stays so: it takes a new life to get another."""
        renewed_s = self.renewed_s
        if renewed_s is None:
            return Standing.NONE
        age_s = now_s - renewed_s
        self._failed = self._failed or age_s >= self.line.fail_s
        if self._failed:
            return Standing.FAILED
        return Standing.WARNED if age_s >= self.line.warn_s else Standing.GOOD

    def may_pet(self, now_s: float) -> bool:
        """Whether the watchdog may be reset: not before there is a lease, and not after it."""
        return self.standing(now_s) in (Standing.GOOD, Standing.WARNED)


class OnDisk(StrEnum):
    """What a member's slot says of it."""

    ABSENT = "no record"
    UNPROVEN = "not seen to change yet"
    ALIVE = "alive"
    SLOW = "slow"
    DEAD = "dead"
    ENDED = "ended"


_HOPE = (OnDisk.ALIVE, OnDisk.SLOW, OnDisk.UNPROVEN, OnDisk.ENDED, OnDisk.DEAD, OnDisk.ABSENT)
"""Of what several LUNs say, the first of these counts: nobody is dead who lives on one of them."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A member's slot on one LUN, as we have seen it.

    changed_s: on our clock, the end of the read that first showed this sequence. read_s: the beginning of the
    latest one. proven: it was seen to change. flaws: see `Pair`; a sequence that goes back is one, too.
    """

    sequence: int = 0
    record: MemberRecord | None = None
    changed_s: float = 0.0
    read_s: float = 0.0
    proven: bool = False
    flaws: tuple[str, ...] = ()

    @property
    def silent_s(self) -> float:
        """How long it surely has not changed: whatever we have not looked at is no silence."""
        return max(0.0, self.read_s - self.changed_s)

    @property
    def hears(self) -> frozenset[int]:
        """Whom it hears on the network, as it says."""
        return self.record.hears if self.record is not None else frozenset()

    @property
    def on_disk(self) -> OnDisk:
        """What follows from it."""
        record = self.record
        if record is None:
            return OnDisk.ABSENT
        if record.state == LeaseState.ENDED:
            return OnDisk.ENDED
        line = LeaseTimeline(record.io_timeout_ms / 1000, record.watchdog_ms / 1000)
        if self.silent_s >= line.dead_s:
            return OnDisk.DEAD
        if not self.proven:
            return OnDisk.UNPROVEN
        return OnDisk.SLOW if self.silent_s >= line.warn_s else OnDisk.ALIVE


class DiskWatch:
    """What one LUN's slots say of every member. looked_s: when the latest read began, on our clock."""

    def __init__(self) -> None:
        self.sights: dict[int, Sight] = {}
        self.looked_s = -math.inf

    def looked(self, began_s: float, ended_s: float, slots: Iterable[tuple[int, Slot]]) -> None:
        """A read of slots began and ended then."""
        self.looked_s = began_s
        for member, slot in slots:
            before = self.sights.get(member)
            self.sights[member] = _seen(before, slot.record, began_s, ended_s)


def _seen(before: Sight | None, pair: Pair[MemberRecord], began_s: float, ended_s: float) -> Sight:
    found = pair.record
    if before is None or before.record is None:
        proven = before is not None and found is not None
        return Sight(pair.sequence, found, ended_s, began_s, proven, pair.flaws)
    known = before.record
    same_life = found is not None and (found.boot_id, found.incarnation) == (
        known.boot_id,
        known.incarnation,
    )
    if found is None or (same_life and pair.sequence < before.sequence):
        return replace(before, read_s=began_s, flaws=(*pair.flaws, Flaw.STALE))
    if same_life and pair.sequence == before.sequence:
        return replace(before, read_s=began_s, flaws=pair.flaws)
    return Sight(pair.sequence, found, ended_s, began_s, True, pair.flaws)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A member as disk and network show it. heard: by us; heard_by: by which others, as their records say."""

    member: int
    on_disk: OnDisk
    heard: bool
    heard_by: frozenset[int] = frozenset()

    @property
    def words(self) -> str:
        """Both together, for a person: what each alone would not tell."""
        lives = self.on_disk in (OnDisk.ALIVE, OnDisk.SLOW)
        if self.heard:
            gone = self.on_disk in (OnDisk.DEAD, OnDisk.ABSENT, OnDisk.ENDED)
            return f"heard on the network, {self.on_disk} on disk" if gone else str(self.on_disk)
        if lives and self.heard_by:
            return f"unheard on the network by us alone, {self.on_disk} on disk"
        return f"unheard on the network, {self.on_disk} on disk"


class Witness(Protocol):
    """What is known of a member's slot: a Sight, or what was told of one."""

    @property
    def on_disk(self) -> OnDisk:
        """What follows from it."""

    @property
    def hears(self) -> frozenset[int]:
        """Whom the member hears on the network, as it says."""


def neighbours(
    luns: Iterable[Mapping[int, Witness]], members: Iterable[int], heard: frozenset[int]
) -> dict[int, Neighbour]:
    """Every one of `members`, from what all LUNs say that can be read, and whom we hear on the network."""
    known = list(luns)
    states = {member: _best(member, known) for member in members}
    hearing = {
        member: witnesses[member].hears
        for witnesses in known
        for member, state in states.items()
        if state in (OnDisk.ALIVE, OnDisk.SLOW) and member in witnesses
    }
    return {
        member: Neighbour(
            member,
            state,
            member in heard,
            frozenset(one for one, hears in hearing.items() if one != member and member in hears),
        )
        for member, state in states.items()
    }


def _best(member: int, luns: Iterable[Mapping[int, Witness]]) -> OnDisk:
    said = {witnesses[member].on_disk for witnesses in luns if member in witnesses}
    return next((state for state in _HOPE if state in said), OnDisk.ABSENT)
