"""Queues, conversions and releases, told as stories (Tru64 manual, 9.3 to 9.5)."""

from __future__ import annotations

import pytest

from clufs.dlm.interface import BlockEnded, Done, Grant, Queue, Refuse, Released
from clufs.dlm.modes import Mode
from clufs.errors import Cancelled
from tests.dlm.cluster_of_one import Story


def test_the_first_lock_makes_the_block_and_the_last_one_ends_it() -> None:
    story = Story()
    (effect,) = story.says("a", "EX")
    lock = story.lock("a")
    assert effect == Grant(lock, sync=True)
    assert story.queues() == "a:EX |  |"
    story.says("a", "UN")
    assert [type(effect) for effect in story.effects] == [Done, Released, BlockEnded]
    assert story.all(Released) == [Released(lock, Mode.EX, False)]
    assert story.node.blocks == {}
    assert story.person("a").locks == {}
    assert lock.queue == "GONE"


def test_waiters_are_served_first_come_first() -> None:
    story = Story()
    story.says("a", "EX")
    for who in ("b", "c", "d"):
        assert story.says(who, "PR" if who != "d" else "EX") == [Queue(story.lock(who))]
    story.says("e", "PR")
    assert story.queues() == "a:EX |  | b:PR c:PR d:EX e:PR"
    story.says("a", "UN")
    assert story.granted() == ["b", "c"]
    assert [grant.sync for grant in story.all(Grant)] == [False, False]
    assert story.queues() == "b:PR c:PR |  | d:EX e:PR"


def test_a_compatible_newcomer_does_not_pass_those_who_wait() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "EX")
    story.says("c", "PR")
    assert story.outcome() == "QUEUED"
    story.says("d", "PR nowait")
    assert story.refusal() == "NotQueued"
    assert "d" not in story.queues()
    story.says("e", "NL")
    assert story.granted() == ["e"]


def test_a_conversion_passes_those_who_wait_for_a_new_lock() -> None:
    story = Story()
    story.says("a", "CR")
    story.says("b", "NL")
    story.says("c", "EX")
    story.says("b", "PR")
    assert story.granted() == ["b"]


def test_a_conversion_that_does_not_fit_keeps_its_granted_mode_and_goes_before_waiters() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "PR")
    story.says("c", "EX")
    story.says("b", "EX")
    assert story.queues() == "a:PR | b:PR>EX | c:EX"
    assert story.lock("b").queue == "CONVERTING"
    story.says("a", "UN")
    assert story.granted() == ["b"]
    assert story.queues() == "b:EX |  | c:EX"


def test_waiters_are_not_looked_at_while_a_conversion_waits() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "CR")
    story.says("b", "EX")
    story.says("c", "PR")
    assert story.queues() == "a:PR | b:CR>EX | c:PR"
    story.says("d", "PR")
    story.says("a", "CR")
    assert story.granted() == ["a"], "c fits beside CR, but b is looked at first"


def test_the_sweep_stops_at_the_first_conversion_that_does_not_fit() -> None:
    story = Story()
    story.says("a", "EX")
    for who in "bcd":
        story.says(who, "NL")
    story.says("b", "PR")
    story.says("c", "EX")
    story.says("d", "PR")
    story.says("a", "UN")
    assert story.granted() == ["b"]
    story.says("b", "NL")
    assert story.granted() == ["b", "c"]
    story.says("c", "NL")
    assert story.granted() == ["c", "d"]


def test_a_conversion_between_cw_and_pr_makes_way_for_some_and_blocks_others() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "CW")
    story.says("a", "CW")
    assert story.granted() == ["a", "b"]


def test_quecvt_gives_those_who_converted_before_their_turn() -> None:
    story = Story()
    for who, mode in (("a", "PR"), ("b", "NL"), ("c", "NL")):
        story.says(who, mode)
    story.says("b", "EX")
    story.says("c", "PR quecvt")
    assert story.queues() == "a:PR | b:NL>EX c:NL>PR |"
    story.says("c", "CANCEL")
    story.says("c", "PR")
    assert story.granted() == ["c"], "without quecvt it passes"


def test_quecvt_is_for_conversions() -> None:
    story = Story()
    story.says("a", "EX quecvt")
    assert story.refusal() == "InvalidRequest"
    assert story.node.blocks == {}


def test_nowait_leaves_a_conversion_as_it_was() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "PR")
    number = story.lock("b").number
    story.says("b", "EX nowait")
    assert story.refusal() == "NotQueued"
    assert story.queues() == "a:PR b:PR |  |"
    assert story.lock("b").number == number


def test_one_request_at_a_time() -> None:
    story = Story()
    story.says("a", "EX")
    story.says("b", "EX")
    story.says("b", "PR")
    assert story.refusal() == "RequestPending"
    assert story.queues() == "a:EX |  | b:EX"


@pytest.mark.parametrize("line", ["UN", "UN all", "CANCEL"])
def test_nothing_is_released_where_nothing_is_held(line: str) -> None:
    story = Story()
    story.says("a", "EX")
    story.says("b", line)
    assert story.refusal() == "NotHeld"


def test_a_conversion_between_modes_of_equal_level_makes_way_too() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "CW")
    story.says("a", "CW")
    assert story.granted() == ["a", "b"]
    assert story.queues() == "a:CW b:CW |  |"


def test_cancel_of_a_conversion_puts_back_what_was_granted() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "CR hint=7", client="first")
    granted_at = story.lock("b").since
    story.says("b", "EX hint=8", client="second")
    assert story.lock("b").since > granted_at
    story.says("c", "PR")
    story.says("b", "CANCEL")
    refuse = story.all(Refuse)[0]
    assert isinstance(refuse.error, Cancelled)
    assert (refuse.client, refuse.lock) == ("second", story.lock("b"))
    lock = story.lock("b")
    assert (lock.granted, lock.wanted, lock.since) == (Mode.CR, None, granted_at)
    assert (lock.client, lock.request.hint) == ("first", 7)
    assert story.granted() == ["c"]
    assert story.queues() == "a:PR b:CR c:PR |  |"


def test_cancel_of_a_new_lock_takes_it_away() -> None:
    story = Story()
    story.says("a", "EX")
    story.says("b", "EX")
    lock = story.lock("b")
    story.says("b", "CANCEL")
    assert story.all(Released) == [Released(lock, None, False)]
    assert story.queues() == "a:EX |  |"
    story.says("b", "CANCEL")
    assert story.refusal() == "NotHeld"
    story.says("a", "CANCEL")
    assert story.refusal() == "NotHeld", "it is granted, nothing waits"


def test_an_unlock_ends_the_waiting_request_of_the_same_lock() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "PR")
    story.says("b", "EX")
    story.says("b", "UN")
    (refuse,) = story.all(Refuse)
    assert isinstance(refuse.error, Cancelled)
    assert refuse.client == "b: EX"
    assert story.queues() == "a:PR |  |"


def test_a_request_given_up_makes_way_and_answers_nobody() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "EX")
    story.says("c", "PR")
    story.withdraws("b")
    assert story.all(Refuse) == []
    assert story.granted() == ["c"]
    story.withdraws("c")
    assert story.effects == [], "granted in the meantime: nothing waits"


def test_a_repeated_request_takes_its_old_place() -> None:
    story = Story()
    story.says("a", "EX")
    for who in "bcd":
        story.says(who, "EX")
    place = story.lock("c").place
    story.withdraws("c")
    story.says("e", "EX")
    story.says("c", "EX", place=place)
    assert story.queues() == "a:EX |  | b:EX c:EX d:EX e:EX"


def test_an_old_place_at_the_head_is_granted_when_it_fits() -> None:
    story = Story()
    story.says("a", "EX")
    story.says("b", "PR")
    place = story.lock("b").place
    story.says("c", "EX")
    story.withdraws("b")
    story.says("a", "PR")
    story.says("b", "PR", place=place)
    assert story.granted() == ["b"]
    story.says("d", "PR", place=story.lock("c").place + 1)
    assert story.queues() == "a:PR b:PR |  | c:EX d:PR"


def test_an_old_place_on_the_converting_queue() -> None:
    story = Story()
    for who in "abcd":
        story.says(who, "NL")
    story.says("a", "EX")
    for who in "bcd":
        story.says(who, "EX")
    place = story.lock("b").place
    story.withdraws("b")
    story.says("b", "PR", place=place)
    assert story.queues() == "a:EX | b:NL>PR c:NL>EX d:NL>EX |"


def test_numbers_change_with_the_granted_mode_and_only_grow() -> None:
    story = Story(view=3)
    story.says("a", "NL")
    first = story.lock("a").number
    assert first >> 40 == 3
    story.says("a", "EX")
    second = story.lock("a").number
    story.says("a", "EX value=v")
    assert story.lock("a").number == second
    assert story.block().holder_of(second) is story.lock("a")
    assert story.block().holder_of(first) is None
    story.says("a", "UN")
    story.says("b", "EX")
    assert first < second < story.lock("b").number


def test_reports_say_what_stands_in_the_way() -> None:
    story = Story()
    story.says("a", "PR")
    story.says("b", "CR")
    story.says("c", "EX")
    story.says("d", "PR")
    block = story.block()
    a, b, c, d = (story.lock(who) for who in "abcd")
    assert block.why(c) == [a, b]
    assert block.why(d) == [c], "nothing granted is in its way, but c is ahead"
    assert block.why(a) == []
    assert (block.blocks(a), block.blocks(d)) == (c, None)
    assert block.group_mode() is Mode.PR


def test_the_group_mode_is_the_highest_granted() -> None:
    story = Story()
    for i, mode in enumerate(("NL", "CR", "PW")):
        story.says(str(i), mode)
        assert story.block().group_mode() is Mode[mode]
    story.says("2", "UN")
    assert story.block().group_mode() is Mode.CR


def test_the_end_of_an_owner_releases_all_it_has() -> None:
    story = Story()
    story.says("a", "EX", b"db/x")
    story.says("a", "PR", b"db/y")
    story.says("b", "EX", b"db/x")
    story.says("b", "EX", b"db/z")
    story.says("a", "EX", b"db/z")
    story.dies("a")
    assert story.all(Refuse) == [], "its own waiting request answers nobody"
    assert story.granted() == ["b"]
    assert story.person("a").locks == {}
    assert story.node.find(b"db/y") is None
    assert story.queues(b"db/z") == "b:EX |  |"


def test_a_thousand_readers_come_and_go_without_being_looked_at() -> None:
    story = Story()
    for i in range(1000):
        story.says(f"r{i}", "PR")
    story.says("w", "EX")
    for i in range(1000):
        assert story.granted() == []
        story.says(f"r{i}", "UN")
    assert story.granted() == ["w"]
