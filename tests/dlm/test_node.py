"""Queues, conversions and releases, told as stories (Tru64 manual, 9.3 to 9.5)."""

from __future__ import annotations

from clufs.dlm.interface import BlockEnded, Done, Grant, Queue, Refuse, Released
from clufs.errors import Cancelled
from tests.dlm.cluster_of_one import Story


def test_the_first_lock_makes_the_block_and_the_last_one_ends_it() -> None:
    story = Story()
    (effect,) = story.says("a", "EX")
    assert effect == Grant(story.lock("a"), sync=True)
    assert story.queues() == "a:EX |  |"
    story.says("a", "UN")
    assert [type(effect) for effect in story.effects] == [Done, Released, BlockEnded]
    assert story.node.blocks == {}
    assert story.person("a").locks == {}


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
