"""A recovery goes in small steps, and between them whoever it does not concern is served."""

from __future__ import annotations

import pytest

from clufs.dlm.directory import directory_member
from clufs.dlm.interface import (
    Done,
    TurnCame,
)
from clufs.dlm.messages import Copies, End
from clufs.dlm.modes import Mode
from tests.dlm.test_recovery import A, B, C, cluster_of, holds, settle
from tests.dlm.views import Views, small_steps

LEFT = (A, B)
COUNT = 10


@pytest.fixture(autouse=True)
def _one_lock_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    small_steps(monkeypatch, 1)


def names_that_move_to(member: str) -> list[bytes]:
    """Names of which this one of the two that are left will be the directory."""
    names = (b"db/%d" % number for number in range(1000))
    found = (name for name in names if directory_member(name, LEFT) == member)
    return [next(found) for _ in range(COUNT)]


def master_lost(names: list[bytes], mode: str = "PR") -> Views:
    """C mastered these, A has a lock on each; A and B have installed the view without C, and have
    heard nothing else yet."""
    views = cluster_of()
    for name in names:
        holds(views, C, "m", "NL", name)
        holds(views, A, "p", mode, name)
    views.loses(C, crashed=True)
    views.unfenced.clear()
    views.zombies.clear()
    views.install()
    for member in LEFT:
        views.learn(member)
    return views


def turn(views: Views, member: str) -> None:
    assert views.nodes[member].wants_turn()
    views.step(member, TurnCame())


def sent(views: Views, sender: str, receiver: str, kind: type) -> list[object]:
    wire = views.post.get((sender, receiver), ())
    return [message for _, _, message in wire if type(message) is kind]


def test_one_step_tells_no_more_than_its_bound() -> None:
    views = master_lost(names_that_move_to(B))
    told = len(sent(views, A, B, Copies))
    assert told == 1
    while views.nodes[A].wants_turn():
        turn(views, A)
        before, told = told, len(sent(views, A, B, Copies))
        assert told - before <= 1
    assert told == COUNT
    assert len(sent(views, A, B, End)) == 1


def test_one_step_rebuilds_no_more_than_its_bound() -> None:
    views = master_lost(names_that_move_to(B))
    while views.nodes[A].wants_turn():
        turn(views, A)
    while views.nodes[B].wants_turn():
        turn(views, B)
    while sent(views, A, B, End):
        views.deliver((A, B))
    assert "its own part" in views.nodes[B].waits_for()
    for built in range(1, COUNT + 1):
        assert len(views.nodes[B].blocks) == built
        turn(views, B)
    settle(views)
    assert views.nodes[B].waits_for() == ""


def test_a_tree_is_used_as_soon_as_it_is_rebuilt() -> None:
    names = names_that_move_to(A)
    views = master_lost(names, "EX")
    while not views.nodes[A].blocks:
        if views.nodes[A].wants_turn():
            turn(views, A)
        elif views.nodes[B].wants_turn():
            turn(views, B)
        else:
            views.deliver((B, A))
    (built,) = views.nodes[A].blocks
    views.granted()
    views.says(A, "p", "NL", built)
    views.says(A, "q", "EX", built)
    assert views.granted() == ["p@pepicelli1", "q@pepicelli1"]
    settle(views)


def test_a_lock_whose_master_survives_is_granted_between_steps() -> None:
    names = names_that_move_to(B)
    views = cluster_of()
    x = b"db/x"
    holds(views, B, "m", "NL", x)
    holds(views, A, "q", "NL", x)
    for name in names:
        holds(views, C, "m", "NL", name)
        holds(views, A, "p", "PR", name)
    views.loses(C, crashed=True)
    views.install()
    for member in LEFT:
        views.learn(member)
    views.granted()
    views.says(A, "q", "EX", x)
    while views.under_way():
        views.deliver()
    assert views.granted() == ["q@pepicelli1"]
    assert views.nodes[A].wants_turn()
    settle(views)


@pytest.mark.parametrize("directory", LEFT)
def test_a_name_is_found_as_soon_as_its_master_has_said_that_it_masters_it(directory: str) -> None:
    views = cluster_of()
    x = next(b"x/%d" % n for n in range(99) if directory_member(b"x/%d" % n, LEFT) == directory)
    holds(views, B, "m", "NL", x)
    for name in names_that_move_to(B):
        holds(views, C, "m", "NL", name)
        holds(views, A, "p", "PR", name)
    views.loses(C, crashed=True)
    views.install()
    for member in LEFT:
        views.learn(member)
    views.granted()
    views.says(A, "q", "EX", x)
    while views.under_way() or views.nodes[B].wants_turn():
        if views.under_way():
            views.deliver()
        else:
            turn(views, B)
    assert views.granted() == ["q@pepicelli1"]
    assert views.nodes[A].wants_turn()
    settle(views)


def test_what_is_asked_before_the_new_master_is_told_waits_and_proves_the_value() -> None:
    names = names_that_move_to(B)
    views = master_lost(names, "EX")
    name = names[-1]
    assert views.says(A, "p", "NL value=new", name) == []
    assert not [message for message in views.post[A, B] if "Ask" in repr(message)]
    settle(views)
    block = views.nodes[B].blocks[name]
    assert (block.value, block.valid) == (b"new", True)
    assert views.lock(A, "p", name).granted is Mode.NL
    for other in names[:-1]:
        assert views.nodes[B].blocks[other].valid


def alone_in_recovery(names: list[bytes]) -> Views:
    """A has PR on each, was told so by C, and is the only one left; it has not built all yet."""
    views = cluster_of()
    for name in names:
        holds(views, C, "m", "NL", name)
        holds(views, A, "p", "PR", name)
    for member in (B, C):
        views.loses(member, crashed=True)
    views.unfenced.clear()
    views.zombies.clear()
    views.install()
    views.learn(A)
    views.granted()
    assert views.nodes[A].wants_turn()
    return views


def test_who_is_left_alone_grants_nothing_in_a_tree_that_is_not_built() -> None:
    names = names_that_move_to(A)
    views = alone_in_recovery(names)
    views.says(A, "q", "EX", names[-1])
    assert views.granted() == []
    settle(views)
    assert views.lock(A, "q", names[-1]).granted is None
    views.says(A, "p", "UN", names[-1])
    assert views.granted() == [f"q@{A}1"]


def test_who_is_left_alone_has_sublocks_where_the_lock_above_is() -> None:
    names = names_that_move_to(A)
    views = alone_in_recovery(names)
    below = names[-1] + b".sub/s"
    views.says(A, "p", "EX", below, parent=views.lock(A, "p", names[-1]))
    settle(views)
    assert views.lock(A, "p", below).granted is Mode.EX
    node = views.nodes[A]
    views.dies(A, "p", abnormal=False)
    assert not node.blocks and not node.copies and not node.shared


def test_what_is_given_up_before_the_new_master_is_told_was_never_asked() -> None:
    names = names_that_move_to(B)
    views = master_lost(names, "CR")
    views.says(A, "p", "EX", names[-1])
    views.withdraws(A, "p", names[-1])
    views.says(A, "new", "PR", names[-2])
    views.withdraws(A, "new", names[-2])
    assert not views.nodes[A].open_requests()
    settle(views)
    assert views.lock(A, "p", names[-1]).granted is Mode.CR


def test_who_ends_before_the_new_master_is_told_is_not_told() -> None:
    names = names_that_move_to(B)
    views = master_lost(names)
    views.says(A, "p", "UN", names[-1])
    views.dies(A, "p", abnormal=False)
    settle(views)
    assert not views.nodes[B].guests


def test_a_release_without_a_view_ends_what_was_to_be_told() -> None:
    names = names_that_move_to(B)
    views = master_lost(names)
    views.suspend(A)
    assert not views.nodes[A].wants_turn()
    assert views.step(A, TurnCame()) == []
    (done, *_) = views.says(A, "p", "UN", names[-1])
    assert isinstance(done, Done)
    views.install()
    settle(views)
    assert len(views.nodes[B].guests) == COUNT - 1


def test_a_view_that_comes_between_two_steps_finds_all_again() -> None:
    """Some trees are rebuilt, of which nobody else knows, and others are not."""
    names = names_that_move_to(B)
    views = master_lost(names, "EX")
    while len(views.nodes[B].blocks) < COUNT // 2:
        for member in LEFT:
            if views.nodes[member].wants_turn():
                turn(views, member)
        if views.post.get((A, B)):
            views.deliver((A, B))
    views.install()
    settle(views)
    assert set(names) <= views.nodes[B].blocks.keys()
    assert all(views.lock(A, "p", name).granted is Mode.EX for name in names)


def test_what_a_fenced_life_held_is_released_in_steps() -> None:
    views = cluster_of()
    names = [b"db/%d" % number for number in range(COUNT)]
    for name in names:
        holds(views, A, "m", "NL", name)
        holds(views, C, "p", "EX", name)
    life = views.lives[C]
    views.loses(C, crashed=True)
    views.install()
    settle(views)
    views.fence(life)
    views.learn(A)
    for left in range(COUNT - 1, 0, -1):
        assert len(views.nodes[A].guests) == left
        turn(views, A)
    settle(views)
    assert not any(views.nodes[A].blocks[name].valid for name in names)


def test_phantoms_go_in_steps() -> None:
    views = cluster_of()
    names = names_that_move_to(B)
    for name in names:
        holds(views, C, "m", "EX", name)
    life = views.lives[C]
    views.loses(C, crashed=True)
    views.install()
    settle(views)
    views.granted()
    for name in names:
        views.says(B, "p", "EX", name)
    settle(views)
    assert views.granted() == []
    views.fence(life)
    views.learn(B)
    assert len(views.nodes[B].phantoms) == 1
    assert 0 < len(views.granted()) < COUNT
    settle(views)
    assert not views.nodes[B].phantoms
    assert all(views.lock(B, "p", name).granted is Mode.EX for name in names)


@pytest.mark.parametrize("directory", LEFT)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_conversion_given_up_after_its_master_was_lost_may_have_been_granted(
    directory: str, steps: int
) -> None:
    """And then others have what goes with the new mode only."""
    (x, *_) = names_that_move_to(directory)
    views = cluster_of()
    holds(views, C, "m", "NL", x)
    holds(views, A, "p", "EX", x)
    holds(views, B, "q", "EX", x)
    views.says(A, "p", "NL", x)
    views.deliver((A, C))
    views.deliver((C, B))
    assert views.lock(B, "q", x).granted is Mode.EX
    views.post[C, A].clear()
    views.loses(C, crashed=True)
    views.unfenced.clear()
    views.zombies.clear()
    views.install()
    for member in LEFT:
        views.learn(member)
    for _ in range(steps):
        if views.nodes[A].wants_turn():
            turn(views, A)
    if views.lock(A, "p", x).wanted is not None:
        views.withdraws(A, "p", x)
    settle(views)
    assert views.lock(B, "q", x).granted is Mode.EX
    assert views.lock(A, "p", x).granted is Mode.NL
