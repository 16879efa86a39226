"""Blocking notifications: once per grant, and again after a conversion (Tru64 manual, 9.6.3)."""

from __future__ import annotations

from clufs.dlm.interface import Notify
from clufs.dlm.modes import Mode
from tests.dlm.cluster_of_one import Story


def notices(story: Story) -> list[tuple[object, str, int]]:
    return [(found.lock.owner, found.mode.name, found.hint) for found in story.all(Notify)]


def test_a_holder_is_told_of_the_first_request_it_blocks_and_of_no_other() -> None:
    story = Story()
    story.says("a", "EX notify")
    story.says("b", "PR hint=5")
    assert notices(story) == [(story.person("a"), "PR", 5)]
    assert story.lock("a").notified
    story.says("c", "EX hint=6")
    assert notices(story) == []


def test_a_conversion_makes_it_ready_to_be_told_again() -> None:
    story = Story()
    story.says("a", "EX notify")
    story.says("b", "PR hint=5")
    story.says("a", "EX notify")
    assert notices(story) == [(story.person("a"), "PR", 5)], "b still waits"
    story.says("a", "PR notify")
    assert story.granted() == ["a", "b"]
    assert notices(story) == []
    story.says("c", "EX hint=6")
    assert notices(story) == [(story.person("a"), "EX", 6)]


def test_only_those_who_asked_and_are_in_the_way_are_told() -> None:
    story = Story()
    story.says("a", "PR notify")
    story.says("b", "PR")
    story.says("c", "NL notify")
    story.says("d", "EX")
    assert notices(story) == [(story.person("a"), "EX", 0)]
    assert not story.lock("b").notified and not story.lock("c").notified


def test_a_holder_that_is_converting_is_told_too() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "PR notify")
    story.says("b", "PW notify")
    assert notices(story) == []
    story.says("c", "CW hint=9")
    assert notices(story) == [(story.person("b"), "CW", 9)]


def test_who_is_granted_before_others_is_told_at_once() -> None:
    story = Story()
    story.says("a", "EX")
    story.says("b", "PR notify")
    story.says("c", "PR hint=1")
    story.says("d", "EX hint=2")
    story.says("a", "UN")
    assert story.granted() == ["b", "c"]
    assert notices(story) == [(story.person("b"), "EX", 2)]


def test_nobody_is_told_of_a_request_that_only_waits_its_turn() -> None:
    story = Story()
    story.says("a", "CR notify")
    story.says("b", "PW")
    story.says("c", "PR")
    assert story.outcome() == "QUEUED"
    assert notices(story) == []


def test_a_cancelled_conversion_puts_the_old_routine_back() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "CR notify")
    story.says("b", "EX")
    story.says("b", "CANCEL")
    story.says("c", "EX hint=3")
    assert notices(story) == [(story.person("b"), "EX", 3)]


def test_a_new_routine_replaces_the_old_one() -> None:
    story = Story()
    story.says("a", "PR notify")
    story.says("a", "PR")
    story.says("b", "EX")
    assert notices(story) == []


def test_the_victim_of_a_deadlock_disturbs_nobody() -> None:
    story = Story()
    story.says("a", "PR notify")
    story.says("b", "PR notify")
    story.says("a", "EX notify")
    assert notices(story) == [(story.person("b"), "EX", 0)]
    story.says("b", "EX notify")
    assert story.refusal() == "Deadlock"
    assert notices(story) == []
    assert story.lock("b").granted is Mode.PR


def test_a_conversion_granted_after_waiting_makes_it_ready_to_be_told_again() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "PR notify")
    story.says("c", "CW")
    assert story.lock("b").notified
    story.says("b", "EX notify")
    story.says("a", "UN")
    assert story.granted() == ["b"]
    assert notices(story) == [(story.person("b"), "CW", 0)], "c still waits, now for the EX"
