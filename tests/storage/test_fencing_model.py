"""Fencer and victim against each other, in thousands of stories: after the certificate no write of the victim
is let in, and where the array aborts, none reaches the medium. Each rule that the sequences keep is broken once, to
see that it is needed and that this test would notice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from clufs.storage import entering, fencing, steps
from clufs.storage.certificate import MemberKey
from clufs.storage.entering import Entrance
from clufs.storage.fencing import Fencing
from clufs.storage.reservation_data import Keys
from tests.array.defects import Defect
from tests.storage.fencing_model import VICTIM, Shape, World

STORIES = 200
SEARCHED = 4000
NARROW = Shape(paths=1, loss=0, writes=30)
SHAPES = {
    "two paths": Shape(),
    "registrations that end with their session": Shape(by_session=True),
    "no abort": Shape(defects=frozenset({Defect.NO_PREEMPT_AND_ABORT})),
    "two LUNs, three of clufs": Shape(luns=2, disks=3),
    "answers are often lost": Shape(disks=3, loss=0.2, by_session=True),
}


def stories(shape: Shape, count: int = STORIES) -> Iterable[World]:
    """Worlds at their end."""
    return (World(seed, shape).run() for seed in range(count))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_fenced_life_never_writes_after_the_certificate(shape: Shape) -> None:
    certified = written = 0
    for seed, world in enumerate(stories(shape)):
        assert not world.broken(), f"seed {seed}: {world.broken()}"
        assert world.fencing.done, f"seed {seed}"
        certified += len(world.fencing.certificates)
        written += sum(len(lun.landed) for lun in world.luns.values())
    assert certified > STORIES / 3
    assert written > STORIES


def test_most_fencings_are_proved_though_answers_are_lost() -> None:
    proved = sum(bool(world.fencing.certificates) for world in stories(Shape()))
    assert proved > 0.8 * STORIES


def test_a_victim_that_looks_finds_itself_fenced_and_comes_back_as_another_life() -> None:
    for world in stories(Shape(loss=0)):
        world.look()
        assert world.entrance.key > VICTIM
        keys = world.luns["lun0"].reservations.keys.values()
        assert VICTIM.number not in keys and world.entrance.key.number in keys


# ------------------------------------------------------- every rule is needed


class NoTombstoneFirst(Fencing):
    """Does not wait for the tombstone."""

    _stands = True


class NoReadBack(Fencing):
    """Takes the keys for what they should be."""

    def _left(self, lun: object) -> list[int]:
        return []


class DoesNotLook(Entrance):
    """Writes as soon as it has registered."""

    def __init__(self, key: MemberKey, disks: Sequence[str]) -> None:
        super().__init__(key, ())


class LooksFirst(Entrance):
    """Looks for a tombstone, then registers."""

    def _enter(self, lun: str) -> entering._Steps:
        yield entering._Await.DRAINED
        buried = yield entering._Await.TOMBSTONES
        if isinstance(buried, int) and buried >= self.key.incarnation:
            raise entering._Over("a tombstone")
        yield from steps.register(self.key.number)


class TakesAnyKey(Entrance):
    """Registers again whatever became of its key, and never looks."""

    def _enter(self, lun: str) -> entering._Steps:
        yield entering._Await.DRAINED
        yield from steps.register(self.key.number)

    def _judge(self, lun: str, keys: Keys) -> None:
        pass


def found(world_of: object, shape: Shape) -> bool:
    """Does one of many stories show what is wrong?"""
    return any(world_of(seed, shape).run().broken() for seed in range(SEARCHED))  # type: ignore[operator]


def test_a_fencer_that_writes_no_tombstone_first_is_found() -> None:
    assert found(lambda seed, shape: World(seed, shape, fencing_of=NoTombstoneFirst), NARROW)


def test_a_fencer_that_does_not_read_the_keys_back_is_found() -> None:
    """An array that takes registrations away at one port only, and a path that fails."""
    wrong = Shape(defects=frozenset({Defect.ONE_PORT_ONLY}))
    assert found(lambda seed, shape: World(seed, shape, fencing_of=NoReadBack), wrong)


@pytest.mark.parametrize("broken", [DoesNotLook, LooksFirst, TakesAnyKey])
def test_a_member_that_leaves_something_out_is_found(broken: type[Entrance]) -> None:
    assert found(lambda seed, shape: World(seed, shape, entrance_of=broken), Shape())


def test_a_member_that_registers_while_its_writes_are_under_way_is_found() -> None:
    assert found(lambda seed, shape: World(seed, shape, drains=False), Shape())


def test_a_tombstone_on_one_of_three_luns_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fencing, entering):
        monkeypatch.setattr(module, "majority", lambda disks: 1)
    assert found(World, replace(NARROW, disks=3))


def test_a_holder_that_gives_its_key_back_lets_the_fenced_in() -> None:
    assert found(World, replace(NARROW, leaves=1.0))
