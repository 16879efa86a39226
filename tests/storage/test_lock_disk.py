"""Fencer and victim at a LUN without persistent reservations, in thousands of stories: while the reservation of a
certificate stands, nothing of the victim is let in, and where commands were ended, nothing lands. When it stands no
more, a victim that has heard of the reset writes nothing all the same. Each rule is broken once, to see that it is
needed and that this test would notice."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from clufs.errors import LunError, NotFenced
from clufs.storage import entering
from clufs.storage.carrier import Management
from clufs.storage.entering import Entrance
from clufs.storage.fencing import PathId
from clufs.storage.lock_disk import Effect, LockCertificate, Manage, Reserve, Taking, Witness
from tests.array.defects import Defect
from tests.storage.lock_model import FENCER, VICTIM, Shape, World

STORIES, SEARCHED = 150, 3000
SHAPES = {
    "two paths": Shape(),
    "one path": Shape(paths=1),
    "no CLEAR TASK SET": Shape(clears=False),
    "the reservation is lost afterwards": Shape(lapses=True),
    "much trouble": Shape(trouble=0.6),
}


def stories(shape: Shape) -> Iterable[World]:
    """Worlds at their end."""
    return (World(seed, shape).run() for seed in range(STORIES))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_certificate_holds_as_long_as_its_reservation_and_says_no_more(shape: Shape) -> None:
    certified = written = 0
    for seed, world in enumerate(stories(shape)):
        assert not world.broken, f"seed {seed}: {world.broken}"
        assert world.taking.end is not None, f"seed {seed}"
        certified += isinstance(world.taking.end, LockCertificate)
        written += world.written
    assert certified > STORIES / (3 if shape.trouble < 0.5 else 10)
    assert written > STORIES


def test_without_trouble_the_lun_is_always_taken_and_the_victim_finds_out() -> None:
    for world in stories(Shape(trouble=0)):
        end = world.taking.end
        assert isinstance(end, LockCertificate) and end.cleared
        assert end.witnesses == ("path1", "path2")


# ------------------------------------------------------- every rule is needed


class NoReset(Taking):
    """Only reserves."""

    def _reset(self, path: str) -> object:  # type: ignore[override]
        yield from ()


class ClaimsToClear(Taking):
    """Ends nothing after it has reserved."""

    def _clear(self, path: str) -> object:  # type: ignore[override]
        yield from ()
        return True


class LooksOnce(Taking):
    """Does not ask whether the LUN was reset since it was reserved."""

    def _look(self, path: str, resets: int) -> object:  # type: ignore[override]
        yield from ()


class BelievesIt(Taking):
    """Asks no witness."""

    def _ask_witnesses(self) -> object:  # type: ignore[override]
        yield from ()
        return ("path1",), ()


class HearsNothing(Entrance):
    """A reset is no reason to look for a tombstone."""

    def reset(self, at: PathId) -> list[entering.Effect]:
        return self.look(at)


def found(shape: Shape, **broken: object) -> bool:
    """Does one of many stories show what is wrong?"""
    return any(World(seed, shape, **broken).run().broken for seed in range(SEARCHED))  # type: ignore[arg-type]


def test_a_fencer_that_does_not_reset_is_found() -> None:
    assert found(Shape(clears=False), taking_of=NoReset)


def test_a_fencer_that_claims_what_it_has_not_ended_is_found() -> None:
    assert found(Shape(clears=False), taking_of=ClaimsToClear)


def test_a_fencer_that_does_not_look_whether_it_was_reset_is_found() -> None:
    assert found(Shape(trouble=0.6), taking_of=LooksOnce)


def test_an_array_that_reserves_in_words_only_is_found_by_the_witness_alone() -> None:
    wrong = Shape(defects=frozenset({Defect.DOES_NOT_RESERVE}))
    for world in stories(wrong):
        assert isinstance(world.taking.end, NotFenced)
    assert found(wrong, taking_of=BelievesIt)


@pytest.mark.parametrize("shape", [Shape(lapses=True)])
def test_a_victim_that_does_not_mind_a_reset_is_found(shape: Shape) -> None:
    assert found(shape, entrance_of=HearsNothing)


def test_a_write_that_is_sent_again_after_a_reset_is_found() -> None:
    assert found(Shape(lapses=True, paths=1), resends=True)


def test_a_tombstone_that_comes_later_is_found() -> None:
    class Late(World):
        def bury(self) -> None:
            self.fence(self.taking.buried("disk", None))

    shape = Shape(lapses=True)
    assert any(Late(seed, shape).run().broken for seed in range(SEARCHED))


# --------------------------------------------------------------------- words


def taking(*paths: str, disks: tuple[str, ...] = ("disk",)) -> Taking:
    return Taking(FENCER, VICTIM, disks, "naa.1", paths, lambda: 5)


def test_the_certificate_names_what_was_done_and_how_long_it_holds() -> None:
    one = taking("a", "b")
    (reset,) = one.buried("disk", None)
    assert reset == Manage("a", Management.RESET)
    (reserve,) = one.answered(reset, None)
    assert reserve == Reserve("a")
    (clear,) = one.answered(reserve, 1)
    (first,) = one.answered(clear, None)
    assert first == Witness("a")
    (second,) = one.answered(first, True)
    (again,) = one.answered(second, LunError("no answer"))
    assert again == Reserve("a") and one.answered(again, 1) == []
    assert isinstance(one.end, LockCertificate)
    assert one.end.line() == (
        "LUN=naa.1 VICTIM=0x0007000200000009 BY=0x0007000100000003 TIME_NS=5 HOW=reset and reserved, commands ended;"
        " holds until that session, the power or a reset ends it RESERVED_BY=a REFUSED_BY=a PATH=b no answer: no answer"
    )


def carried_out(one: Taking, effects: list[Effect], answer: object) -> None:
    """Everything has this answer."""
    while effects:
        effects = one.answered(effects[0], answer)


def test_where_no_path_answers_or_no_tombstone_stands_nothing_is_certified() -> None:
    for one, why in ((taking("a"), "naa.1: a: broken"), (taking(), "there is no path to it")):
        carried_out(one, one.buried("disk", None), LunError("broken"))
        assert isinstance(one.end, NotFenced) and why in str(one.end)
    one = taking("a", disks=("x", "y", "z"))
    assert one.buried("x", None) == one.buried("y", LunError("full")) == []
    assert one.waits_for == "naa.1: the tombstone" and one.end is None
    assert one.buried("z", LunError("full")) == []
    assert "no tombstone could be written" in str(one.end)
