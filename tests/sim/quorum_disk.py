"""The quorum disk on virtual time: what `clufs.storage.quorum` promises, and no more.

A take and an append are several commands each, in order, and anything may come between them; those of
a member that died or stands still may arrive all the same. Who cannot reach the LUNs learns only that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clufs.storage.quorum import Share
from tests.sim.clock import Clock

MEMBERS = 1000
"""Ballots are counts of takes times this, and the member's id."""
RECORDS = 12
"""A journal is full then."""

Done = Callable[..., None]


@dataclass(eq=False)
class Place:
    """What one member has written: as on the LUNs."""

    promised: int = 0
    accepted: int = 0
    beat: int = 0
    free: bool = False
    checkpoint: bytes = b""
    records: list[bytes] = field(default_factory=list)


class QuorumDisk:
    """away: the ids of the members that do not reach it. slow: how many times slower it is."""

    def __init__(self, clock: Clock, io_s: float, members: tuple[int, ...]) -> None:
        self.clock, self.io_s = clock, io_s
        self.places = {one: Place() for one in members}
        self.away: set[int] = set()
        self.slow = 1.0
        self.takes = self.appends = self.checkpoints = 0

    def top(self) -> int:
        return max(place.promised for place in self.places.values())

    def look(self) -> tuple[int, int, bool]:
        """Ballot and beat of who holds it or began to take it last, and whether it let go."""
        place = max(self.places.values(), key=lambda place: place.promised)
        return place.promised, place.beat, place.free

    def _command(self, one: int, done: Done, *words: Any) -> None:
        """Some time later; `done` hears first whether the LUNs were reached."""
        delay = self.clock.about(self.io_s * self.slow)
        self.clock.after(delay, lambda: done(one not in self.away, *words))

    # ------------------------------------------------------------ what a member does

    def take(self, one: int, taken: Callable[[int, Share], None], refused: Done) -> None:
        """taken(ballot, what is there) or refused()."""
        place = self.places[one]

        def promise(reached: bool) -> None:
            if not reached:
                return refused()
            place.promised = (self.top() // MEMBERS + 1) * MEMBERS + one
            place.free = False
            place.beat += 1
            self._command(one, read, place.promised)

        def read(reached: bool, ballot: int) -> None:
            if not reached or self.top() > ballot:
                return refused()
            best = max(self.places.values(), key=lambda place: place.accepted)
            self._command(one, copy, ballot, best.checkpoint, list(best.records))

        def copy(reached: bool, ballot: int, checkpoint: bytes, records: list[bytes]) -> None:
            if not reached or place.promised != ballot:
                return refused()
            place.checkpoint, place.records, place.accepted = checkpoint, list(records), ballot
            self._command(one, see, ballot, checkpoint, records)

        def see(reached: bool, ballot: int, checkpoint: bytes, records: list[bytes]) -> None:
            if not reached or self.top() > ballot:
                return refused()
            self.takes += 1
            taken(ballot, Share(checkpoint, tuple(records)))

        self._command(one, promise)

    def write(
        self, one: int, ballot: int, done: Done, record: bytes, is_whole: bool = False
    ) -> None:
        """Append, or put a checkpoint; done(whether it is there and the disk was still held)."""
        place = self.places[one]

        def put(reached: bool) -> None:
            if reached and place.accepted == place.promised == ballot:
                if is_whole:
                    place.checkpoint, place.records = record, []
                    self.checkpoints += 1
                else:
                    place.records.append(record)
                    self.appends += 1
            self._command(one, see, reached)

        def see(reached: bool, was_reached: bool) -> None:
            done(reached and was_reached and self.top() == ballot)

        self._command(one, put)

    def is_full(self, one: int) -> bool:
        return len(self.places[one].records) >= RECORDS

    def beat(self, one: int, ballot: int, done: Done) -> None:
        """done(reached, still held)"""

        def put(reached: bool) -> None:
            if reached and self.places[one].promised == ballot:
                self.places[one].beat += 1
            done(reached, self.top() == ballot)

        self._command(one, put)

    def let_go(self, one: int, ballot: int) -> None:
        def put(reached: bool) -> None:
            if reached and self.places[one].promised == ballot:
                self.places[one].free = True

        self._command(one, put)
