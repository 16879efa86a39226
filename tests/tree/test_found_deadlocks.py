"""Deadlocks found anywhere in the cluster read the same on every member."""

from __future__ import annotations

from clufs.dlm.interface import Cycle, CycleLock, FoundCycle
from clufs.dlm.modes import Mode
from clufs.tree.member import Journals, Member
from tests.dlm.cluster_of_one import Story

LOCKS = (
    CycleLock(b"db/x y", None, Mode.EX, "polishham", 7, "sh -c", True),
    CycleLock(b"db/x y", Mode.PR, Mode.PW, "pepicelli", 9, "vi", False),
    CycleLock(b"db/z", Mode.EX, None, "polishham", 0, "-", False),
)


def test_a_cycle_over_several_members() -> None:
    journals = Journals(Member("provolone", 1, "0"))
    journals.found_deadlock(FoundCycle("multi-resource", LOCKS))
    head, *lines = journals.deadlocks.show().decode().splitlines()
    assert head.endswith(" multi-resource")
    assert lines == [
        "locks/db/x\\040y WAITING - EX polishham 7 sh\\040-c VICTIM",
        "locks/db/x\\040y CONVERTING PR PW pepicelli 9 vi",
        "locks/db/z GRANTED EX - polishham 0 -",
    ]
    (event,) = journals.events.read(0, 4096).decode().splitlines()
    assert event.endswith(
        "deadlock kind=multi-resource locks=3 victim=locks/db/x\\040y member=polishham pid=7"
    )


def test_a_cycle_at_a_member_alone() -> None:
    story = Story()
    for who in "ab":
        story.says(who, "PR")
    for who in "ab":
        story.says(who, "EX")
    journals = Journals(Member("provolone", 1, "0"))
    (cycle,) = story.all(Cycle)
    journals.deadlock(cycle)
    assert journals.deadlocks.show().decode().splitlines()[1:] == [
        "locks/db/x CONVERTING PR EX provolone 0 - VICTIM",
        "locks/db/x CONVERTING PR EX provolone 0 -",
    ]
