"""What lock managers tell each other to find deadlocks over several members."""

from __future__ import annotations

from typing import NamedTuple

from clufs.dlm.interface import CycleLock
from clufs.dlm.modes import Mode
from clufs.dlm.ranges import Ranges
from clufs.dlm.said import Id, Said


class Group(NamedTuple):
    """A party behind which others stand, at its home. formed: never the same for two memberships."""

    party: Id
    formed: int
    members: tuple[Id, ...]


class Part(NamedTuple):
    """A lock in the survey, as its master has it: the same as long as nothing happens to it.

    since: when it was granted or, while it waits, asked, by the master's clock.
    asked: the request that waits, where its home is another member. ranges: the bytes it is on.
    """

    lock: Id
    number: int
    granted: Mode | None
    wanted: Mode | None
    place: int
    since: float
    nodeadlock: bool
    party: Id
    waiter: Id | None
    asked: Id | None
    ranges: Ranges | None = None


class Check(NamedTuple):
    """Does nothing happen to this lock, as far as its home knows? asked: the request that waits."""

    lock: Id
    number: int
    asked: Id | None


class InCycle(NamedTuple):
    """A lock of a deadlock as it was found."""

    lock: Id
    name: bytes
    granted: Mode | None
    wanted: Mode | None


class Overdue(Said, frozen=True, tag=14):
    """A request has waited for long: look for a deadlock."""

    view: int


class WhoBlocks(Said, frozen=True, tag=15):
    """Whose locks stand in somebody's way at your blocks?"""

    view: int
    number: int


class Blockers(Said, frozen=True, tag=16):
    """parties: those asked for. groups: of the sender's own parties, those that may be stuck."""

    view: int
    number: int
    parties: tuple[Id, ...]
    groups: tuple[Group, ...]


class WhatWaits(Said, frozen=True, tag=17):
    """In which requests at your blocks are these parties stuck? And are these locks at rest?"""

    view: int
    number: int
    parties: tuple[Id, ...]
    checks: tuple[Check, ...]


class Waits(Said, frozen=True, tag=18):
    """blocks: those where the parties wait, each with the locks that matter to them.

    now: the sender's clock. groups: as in Blockers. moving: the locks not at rest.
    is_partial: somebody stands in the way who was not asked for, or there was too much to tell.
    """

    view: int
    number: int
    now: float
    blocks: tuple[tuple[bytes, tuple[Part, ...]], ...]
    groups: tuple[Group, ...]
    moving: tuple[Id, ...]
    is_partial: bool


class Break(Said, frozen=True, tag=19):
    """Refuse the request of the first of these locks, if it still waits at this place since then."""

    view: int
    kind: str
    locks: tuple[InCycle, ...]
    place: int
    since: float


class Describe(Said, frozen=True, tag=20):
    """Whose are these locks of yours? They are named with their blocks."""

    view: int
    asker: str
    number: int
    locks: tuple[tuple[Id, bytes], ...]


class Described(Said, frozen=True, tag=21):
    """Process and command of each owner, in the order of the question."""

    view: int
    number: int
    owners: tuple[tuple[int, str], ...]


class Found(Said, frozen=True, tag=22):
    """A deadlock was found and is broken."""

    view: int
    kind: str
    locks: tuple[CycleLock, ...]
