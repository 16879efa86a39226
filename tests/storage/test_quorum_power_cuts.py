"""Power fails at any write to the quorum disk: every prefix of what was written holds all that was acknowledged."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from clufs.storage.sealing import BLOCK_BYTES
from clufs.storage.shelf import Io, Read, Write
from tests.storage.quorum_model import Medium, decoded
from tests.storage.test_quorum_interleavings import World


class Moment(NamedTuple):
    """A block that was written, and what was acknowledged before. lun: by its place in the array."""

    lun: int
    lba: int
    block: bytes
    sure: tuple[int, ...]


class Recorder:
    """Writes down what reaches the LUNs of a world, block by block: a longer write may be cut anywhere."""

    def __init__(self, world: World) -> None:
        self.log: list[Moment] = []
        self._world = world
        for at, lun in enumerate(world.luns):
            self._watch(at, lun)

    def _watch(self, at: int, lun: Medium) -> None:
        do = lun.do

        def recorded(io: Io, blocks: int | None = None) -> bytes:
            if isinstance(io, Write):
                for block in range(len(io.data) // BLOCK_BYTES):
                    data = io.data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
                    sure = tuple(self._world.ledger.sure)
                    self.log.append(Moment(at, io.lba + block, data, sure))
            return do(io, blocks)

        lun.do = recorded  # type: ignore[method-assign]


def life_of_a_disk(luns: int) -> list[Moment]:
    """Takes, records, checkpoints, a LUN that comes later: what was written, in order."""
    world = World(luns)
    recorder = Recorder(world)
    a, b = world.members
    world.all_do(a, "take", "append", "append", "checkpoint", "append", "beat")
    if luns > 1:
        world.online(*range(2, luns + 1))
    world.all_do(a, "append", "checkpoint", "append", "append", "let_go")
    world.online(*range(1, luns + 1))
    world.all_do(b, "take", "append", "beat", "level", "beat")
    world.seems_dead_to(a)
    world.all_do(a, "take", "append", "checkpoint", "append", "append", "append", "append")
    world.crash(a)
    world.all_do(a, "take", "append")
    assert len(world.ledger.sure) == 13
    return recorder.log


def taken_after(before: World, member: int, sure: tuple[int, ...]) -> list[int]:
    """What a member in a new life finds on LUNs as these are; the ledger sees to it that nothing is missing."""
    after = World(len(before.luns))
    for lun, known in zip(after.luns, before.luns, strict=True):
        lun.blocks = dict(known.blocks)
    after.ledger.sure = list(sure)
    taker = after.members[member]
    taker.incarnation = 10
    taker.begin()
    after.seems_dead_to(taker)
    after.all_do(taker, "take")
    assert taker.tenure is not None, taker.errors
    return decoded(taker.tenure.data)


@pytest.mark.parametrize("luns", [1, 3])
def test_every_prefix_of_what_was_written_holds_all_that_was_acknowledged(luns: int) -> None:
    log = life_of_a_disk(luns)
    assert len(log) > 50 * luns
    world = World(luns)
    for number, moment in enumerate(log):
        taken_after(world, number % 2, moment.sure)
        world.luns[moment.lun].do(Write(moment.lba, moment.block))
    taken_after(world, 0, tuple(range(1, 14)))


def test_a_ballot_that_was_torn_leaves_the_one_before() -> None:
    """Also where an array tears within a sector."""
    world, torn = World(), 0
    lun = world.luns[0]
    geometry = lun.header.geometry
    for moment in life_of_a_disk(1):
        if geometry.ballots_lba <= moment.lba < geometry.log_lba:
            before = lun.do(Read(moment.lba, 1))
            lun.do(Write(moment.lba, moment.block[:90] + before[90:]))
            taken_after(world, torn % 2, moment.sure)
            torn += 1
        lun.do(Write(moment.lba, moment.block))
    assert torn > 20
