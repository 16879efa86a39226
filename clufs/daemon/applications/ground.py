"""What a planner of applications stands on: the clock, the view, the registry, and a way to the members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from clufs.caa.records import ResourceRecord
from clufs.daemon.applications.messages import Message


class Ground(Protocol):
    """What a planner stands on."""

    def wall(self) -> float:
        """The time by the wall clock, seconds since 1970."""

    def since_boot(self) -> float:
        """Seconds that nobody can set."""

    def lives(self) -> Mapping[str, int]:
        """The members of the view and their incarnations, in the order in which equals are preferred."""

    def silent_s(self) -> Mapping[str, float]:
        """Of each member that was lost, how long nothing had been heard of it then."""

    async def stands(self) -> None:
        """Wait until there is a view with quorum: without one nothing is decided."""

    def resources(self) -> Mapping[str, ResourceRecord]:
        """The registry's records, as applied here."""

    def saved_by(self) -> int:
        """The number of the planner that was the last to save anything."""

    def drained(self) -> Iterable[str]:
        """The members that a person has drained."""

    def send(self, member: str, message: Message) -> None:
        """Bring a message to a member, this one included."""

    async def save(self, planner: int, records: Sequence[ResourceRecord]) -> None:
        """Have them on record at a quorum. Raises OldPlanner, NoQuorum, TimedOut, StateError."""

    async def save_drained(self, planner: int, members: Sequence[str]) -> None:
        """The same for the drained members."""
