"""The tests of the protocol find what they are for: each of its rules, left out, is missed by one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clufs.storage import arbitration, shelf
from clufs.storage.arbitration import Candidate, Tenure
from clufs.storage.ballots import BallotRecord, Ballots
from clufs.storage.journal import Frame, Name, _Head
from clufs.storage.sealing import LABEL_BYTES
from tests.storage import test_quorum_interleavings as known
from tests.storage.quorum_model import Violation
from tests.storage.test_quorum_at_random import Story

Patch = pytest.MonkeyPatch
RUNS = 30


def no_look_after_an_append(patch: Patch) -> None:
    patch.setattr(Tenure, "_judge", lambda self, tables: None)


def one_lun_is_enough(patch: Patch) -> None:
    patch.setattr(arbitration, "majorities", lambda sets, luns: bool(luns))


def a_lun_formatted_anew_is_a_witness(patch: Patch) -> None:
    def witnesses(self: Candidate, tables: dict[object, object]) -> bool:
        return 2 * len(tables) > self.life.luns

    patch.setattr(Candidate, "_witnesses", witnesses)


def one_area_for_all_journals(patch: Patch) -> None:
    patch.setattr(shelf, "AREAS", 1)


def the_dead_are_not_looked_at_again(patch: Patch) -> None:
    patch.setattr(Candidate, "_check_rivals", lambda *_: None)


def promises_in_one_block(patch: Patch) -> None:
    patch.setattr(arbitration, "PAIR_BLOCKS", 1)


def areas_are_begun_anew_at_once(patch: Patch) -> None:
    patch.setattr(shelf, "QUEUED_WRITE_S", 0.0)


def whatever_was_ever_accepted_counts(patch: Patch) -> None:
    def base(self: Ballots) -> BallotRecord | None:
        found = [one for one in self._all if one.accepted]
        return max(found, key=lambda one: one.accepted, default=None)

    patch.setattr(Ballots, "base", property(base))


def other_luns_without_those_of_before(patch: Patch) -> None:
    on = BallotRecord.on
    patch.setattr(BallotRecord, "on", lambda self, luns, old=frozenset(): on(self, luns))


def frames_of_other_journals(patch: Patch) -> None:
    decode = Frame.decode.__func__  # type: ignore[attr-defined]

    def of_any(cls: type[Frame], name: Name, number: int, place: object, data: memoryview) -> Frame:
        head = _Head.unpack(bytes(data[LABEL_BYTES : LABEL_BYTES + _Head.LENGTH]))
        found: Frame = decode(cls, Name(head.ballot, head.generation), number, place, data)
        return found

    patch.setattr(Frame, "decode", classmethod(of_any))


def dead_before_it_knows(patch: Patch) -> None:
    patch.setattr(arbitration, "QUORUM_DISK_DEAD_S", 0.5)


def stories(luns: int) -> Callable[[], None]:
    def tell() -> None:
        for seed in range(RUNS):
            Story(seed, luns).run()

    return tell


def late_ballots() -> None:
    for beats in (0, 1):
        known.test_a_ballot_of_a_former_life_that_lands_late_unsays_no_promise(beats)


def beats() -> None:
    known.test_a_holder_that_was_thought_dead_and_who_takes_the_disk("beat", 2, 1)


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (no_look_after_an_append, stories(1)),
    (one_lun_is_enough, stories(3)),
    (a_lun_formatted_anew_is_a_witness, stories(3)),
    (one_area_for_all_journals, stories(1)),
    (frames_of_other_journals, stories(1)),
    (dead_before_it_knows, stories(1)),
    (the_dead_are_not_looked_at_again, beats),
    (promises_in_one_block, late_ballots),
    (areas_are_begun_anew_at_once, known.test_a_frame_that_lands_late_spoils_no_later_journal),
    (
        whatever_was_ever_accepted_counts,
        known.test_what_was_accepted_by_one_lun_alone_binds_nobody_once_its_member_has_gone_on,
    ),
    (
        other_luns_without_those_of_before,
        known.test_what_was_said_on_new_luns_alone_is_not_enough_to_go_on,
    ),
]


@pytest.mark.parametrize(("mutant", "story"), MUTANTS)
def test_a_rule_left_out_is_missed(
    mutant: Callable[[Patch], None], story: Callable[[], None], monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    with pytest.raises((Violation, AssertionError)):
        story()
