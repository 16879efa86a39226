"""What one member tells another of a resource block."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from clufs.dlm.interface import Request, Verb
from clufs.dlm.lock import Lock
from clufs.dlm.modes import Mode
from clufs.dlm.ranges import LAST_BYTE, Ranges, first_met
from clufs.dlm.rsb import ResourceBlock


class BlockFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A resource block as its master sees it.

    written_s: the last value write or, before there was one, the creation, by the wall clock there.
    group_mode: "-" without grants. quorum: whether who says so had quorum (0, 1).
    """

    value: bytes
    valid: bool
    valseq: int
    written_s: float
    group_mode: str
    granted: int
    converting: int
    waiting: int
    master: str
    quorum: int


def facts_of(
    block: ResourceBlock, master: str, quorum: int, wall_s: Callable[[float], float]
) -> BlockFacts:
    """The facts of `block`; wall_s turns a time of the lock manager into wall clock."""
    mode = block.group_mode()
    return BlockFacts(
        value=block.value,
        valid=block.valid,
        valseq=block.valseq,
        written_s=wall_s(block.created_at if block.value_at is None else block.value_at),
        group_mode="-" if mode is None else mode.name,
        granted=block.size,
        converting=len(block.converting),
        waiting=len(block.waiting),
        master=master,
        quorum=quorum,
    )


def holds(block: ResourceBlock, mode: str, number: int) -> bool:
    """Whether a lock of this block is granted in this mode with this number."""
    lock = block.holder_of(number)
    return lock is not None and lock.granted is not None and lock.granted.name == mode


class Obstacle(NamedTuple):
    """A range that is held and keeps another from being locked: its mode, first and last byte."""

    mode: Mode
    first: int
    last: int


def first_obstacle(
    block: ResourceBlock, mode: Mode, ranges: Ranges | None
) -> tuple[Obstacle, Lock] | None:
    """What stands in the way of these ranges in this mode, the lowest byte first, and by which lock."""
    request = Request(Verb.LOCK, mode, ranges=ranges)
    found = [(_part(lock, ranges), lock) for lock in block.in_the_way(request)]
    return min(found, key=lambda one: one[0].first, default=None)


def _part(lock: Lock, ranges: Ranges | None) -> Obstacle:
    """The range of the lock that is in the way; what a lost member might hold is everything."""
    assert lock.granted is not None
    if lock.ranges is None or ranges is None:
        return Obstacle(lock.granted, 0, LAST_BYTE)
    met = (first_met(lock.ranges.spans, *span) for span in ranges.spans)
    first, last = min(span for span in met if span is not None)
    return Obstacle(lock.granted, first, last)
