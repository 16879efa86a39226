"""What one member tells another of a resource block."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

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
