"""Parent locks and sublocks (Tru64 manual, 9.6.5)."""

from __future__ import annotations

from clufs.dlm.interface import Refuse, Released
from clufs.limits import SUBLOCK_DEPTH_MAX
from tests.dlm.cluster_of_one import Story

X, Y, Z = b"db/x", b"db/x.sub/y", b"db/x.sub/y.sub/z"


def tree() -> Story:
    story = Story()
    story.says("a", "CW", X)
    story.says("a", "CW", Y, parent=story.lock("a", X))
    story.says("a", "EX", Z, parent=story.lock("a", Y))
    return story


def test_a_lock_with_sublocks_is_not_released_before_them() -> None:
    story = tree()
    assert story.lock("a", X).sublocks == story.lock("a", Y).sublocks == 1
    story.says("a", "UN", Y)
    assert story.refusal() == "HasSublocks"
    assert story.queues(Y) == "a:CW |  |"
    for name in (Z, Y, X):
        story.says("a", "UN", name)
        assert story.outcome() == "DONE"
    assert story.node.blocks == {}


def test_the_parent_must_be_granted() -> None:
    story = Story()
    story.says("b", "EX", X)
    story.says("a", "EX", X)
    story.says("a", "EX", Y, parent=story.lock("a", X))
    assert story.refusal() == "NotHeld"
    gone = story.lock("b", X)
    story.says("b", "UN", X)
    story.says("b", "EX", Y, parent=gone)
    assert story.refusal() == "NotHeld"
    assert list(story.node.blocks) == [X]


def test_a_parent_that_converts_is_granted() -> None:
    story = Story()
    story.says("b", "PR", X)
    story.says("a", "CR", X)
    story.says("a", "EX", X)
    story.says("a", "EX", Y, parent=story.lock("a", X))
    assert story.granted() == ["a"]


def test_un_all_takes_the_subtree_and_leaves_the_parent() -> None:
    story = tree()
    y, z = story.lock("a", Y), story.lock("a", Z)
    story.says("b", "CW", X)
    story.says("b", "PW", Z, parent=story.lock("b", X))
    story.says("a", "UN all", X)
    assert story.all(Released)[0].lock is z and story.all(Released)[1].lock is y
    assert story.granted() == ["b"]
    assert set(story.person("a").locks) == {X}
    assert story.lock("a", X).sublocks == 0


def test_a_sublock_that_waits_goes_too_and_its_caller_hears_of_it() -> None:
    story = tree()
    story.says("b", "CW", X)
    story.says("b", "EX", Z, parent=story.lock("b", X), client="b waits")
    story.says("b", "UN all", X)
    (refuse,) = story.all(Refuse)
    assert (refuse.client, type(refuse.error).__name__) == ("b waits", "Cancelled")
    assert set(story.person("b").locks) == {X}


def test_the_end_of_an_owner_takes_sublocks_first_whoever_has_them() -> None:
    story = tree()
    under = story.lock("a", Y)
    story.says("b", "EX", b"db/x.sub/y.sub/w", parent=under)
    story.says("c", "NL", b"db/x.sub/y.sub/w")
    story.dies("a")
    order = [released.lock.rsb.name for released in story.all(Released)]
    assert order.index(Z) < order.index(Y) < order.index(X)
    assert order.index(b"db/x.sub/y.sub/w") < order.index(Y)
    assert story.person("b").locks == {}
    assert not story.block(b"db/x.sub/y.sub/w").valid


def test_trees_have_a_deepest_level() -> None:
    story = Story()
    story.says("a", "NL", b"n0")
    for i in range(1, SUBLOCK_DEPTH_MAX + 1):
        story.says("a", "NL", b"n%d" % i, parent=story.lock("a", b"n%d" % (i - 1)))
        assert story.outcome() == ("GRANTED" if i < SUBLOCK_DEPTH_MAX else "InvalidRequest")
