"""Recovery told as stories: what is kept, what waits for whom, what becomes doubtful."""

from __future__ import annotations

import pytest

from clufs.dlm.directory import directory_member
from clufs.dlm.interface import Grant, Refuse, Suspended
from clufs.dlm.modes import Mode
from clufs.errors import AwaitsFencing, NoQuorum
from clufs.limits import SEQUENCE_COUNT_BITS
from tests.dlm.views import Views

A, B, C = MEMBERS = ("pepicelli", "polishham", "provolone")
SEEDS = range(10)


def cluster_of(seed: int = 0) -> Views:
    views = Views(seed, MEMBERS)
    for member in MEMBERS:
        views.start(member)
    views.install()
    settle(views)
    return views


def settle(views: Views) -> None:
    while views.some_time():
        views.check()
    if not views.unfenced:
        views.check_settled()


def lose(views: Views, member: str) -> None:
    views.loses(member, crashed=True)
    views.install()
    settle(views)


def name_with_directory(member: str, members: tuple[str, ...] = MEMBERS) -> bytes:
    names = (b"db/%d" % i for i in range(100))
    return next(name for name in names if directory_member(name, sorted(members)) == member)


def holds(views: Views, member: str, who: str, line: str, name: bytes) -> None:
    views.says(member, who, line, name)
    settle(views)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_holder_keeps_its_lock_until_it_is_fenced(seed: int) -> None:
    views = cluster_of(seed)
    x = name_with_directory(A)
    holds(views, A, "p", "NL", x)
    holds(views, C, "q", "EX", x)
    holds(views, B, "r", "PR", x)
    lost = views.lives[C]
    lose(views, C)
    assert views.lock(B, "r", x).granted is None
    assert "fencing of provolone" in views.nodes[A].waits_for()
    views.fence(lost)
    settle(views)
    assert views.lock(B, "r", x).granted is Mode.PR
    assert not views.nodes[A].blocks[x].valid
    assert views.nodes[A].waits_for() == ""


@pytest.mark.parametrize("missed", [0, 1, 5])
def test_who_has_missed_views_goes_on_above_what_was_told_in_them(missed: int) -> None:
    """A master that is cut off comes back when those that went on without it are gone."""
    views = cluster_of()
    x = name_with_directory(A)
    holds(views, A, "p", "EX", x)
    holds(views, A, "p", "NL value=1", x)
    before = views.nodes[A].blocks[x].valseq
    views.view += missed
    views.install()
    settle(views)
    block = views.nodes[A].blocks[x]
    assert (block.value, block.valid) == (b"1", True)
    highest = (views.view << SEQUENCE_COUNT_BITS) - 1  # that was told before this view
    assert block.valseq > highest if missed else block.valseq == before


def test_what_ended_is_heard_by_a_new_master_that_missed_its_first_view() -> None:
    """C is new, and masters what its life before did; before it installs the view the next one comes."""
    views = cluster_of()
    x = name_with_directory(C)
    holds(views, C, "m", "NL", x)
    holds(views, A, "p", "EX", x)
    views.loses(C, crashed=True)
    views.unfenced.clear()
    views.zombies.clear()
    views.start(C)
    views.install()
    for member in (A, B):
        views.learn(member)
    views.dies(A, "p", abnormal=False)
    while views.post.get((A, C)):
        views.deliver((A, C))
    views.install()
    views.due[C].popleft()
    settle(views)
    assert views.nodes[A].open_requests() == []


def test_a_value_that_is_proven_rises_above_what_was_told_in_earlier_views() -> None:
    views = cluster_of()
    x = name_with_directory(C)
    holds(views, C, "m", "EX", x)
    holds(views, C, "m", "PR value=1", x)
    holds(views, A, "p", "PR", x)
    lose(views, C)
    (block,) = [node.blocks[x] for node in views.nodes.values() if x in node.blocks]
    assert (block.value, block.valid) == (b"1", True)
    assert block.valseq >= 2 << SEQUENCE_COUNT_BITS


@pytest.mark.parametrize("seed", SEEDS)
def test_queues_survive_the_loss_of_their_master_in_their_order(seed: int) -> None:
    views = cluster_of(seed)
    x = name_with_directory(C)
    holds(views, C, "m", "NL", x)
    holds(views, A, "holder", "EX", x)
    order = [(B, "1"), (A, "2"), (B, "3"), (A, "4")]
    for member, who in order:
        holds(views, member, who, "EX", x)
    lost = views.lives[C]
    lose(views, C)
    views.fence(lost)
    settle(views)
    views.granted()
    views.says(A, "holder", "UN", x)
    for member, who in order:
        settle(views)
        assert views.lock(member, who, x).granted is Mode.EX
        views.says(member, who, "UN", x)


def test_an_unknown_name_waits_for_the_fencing_and_nowait_says_so() -> None:
    views = cluster_of()
    x = name_with_directory(A)
    holds(views, C, "q", "EX", x)
    lost = views.lives[C]
    lose(views, C)
    views.says(A, "p", "PR", x)
    settle(views)
    assert views.lock(A, "p", x).granted is None
    views.heard.clear()
    views.says(B, "r", "PR nowait", x)
    settle(views)
    (refused,) = [effect for _, effect in views.heard if isinstance(effect, Refuse)]
    assert isinstance(refused.error, AwaitsFencing)
    views.fence(lost)
    settle(views)
    assert views.lock(A, "p", x).granted is Mode.PR
    assert views.nodes[A].find(x) is not None


def test_what_a_survivor_holds_says_what_the_lost_one_cannot_hold() -> None:
    views = cluster_of()
    x = name_with_directory(C)
    holds(views, C, "m", "NL", x)
    holds(views, A, "p", "PR", x)
    lose(views, C)
    views.says(A, "p", "NL", x)
    views.says(B, "r", "CR", x)
    settle(views)
    assert views.lock(A, "p", x).granted is Mode.NL
    assert views.lock(B, "r", x).granted is Mode.CR


@pytest.mark.parametrize(("mode", "valid"), [("PR", True), ("CR", False), ("NL", False)])
def test_a_value_is_believed_where_somebody_has_kept_a_lock_on_it(mode: str, valid: bool) -> None:
    views = cluster_of()
    x = name_with_directory(C)
    holds(views, C, "m", "EX", x)
    holds(views, C, "m", "EX value=page", x)
    holds(views, C, "m", "NL", x)
    holds(views, A, "p", mode, x)
    lose(views, C)
    block = views.nodes[A].find(x)
    assert block is not None
    assert (block.value, views.nodes[views.master(x)].blocks[x].valid) == (b"page", valid)


def test_a_release_that_the_lost_master_did_not_answer_is_not_lost_but_doubtful() -> None:
    views = cluster_of()
    x = name_with_directory(C)
    holds(views, C, "m", "NL", x)
    holds(views, A, "p", "EX", x)
    holds(views, B, "r", "NL", x)
    views.says(A, "p", "UN value=last", x)
    lose(views, C)
    block = views.nodes[views.master(x)].blocks[x]
    assert (block.value, block.valid) == (b"last", False)


@pytest.mark.parametrize("mode", ["NL", "CR", "EX"])
def test_a_member_that_leaves_in_order_makes_no_value_doubtful(mode: str) -> None:
    views = cluster_of()
    x = name_with_directory(C)
    holds(views, C, "m", "EX", x)
    holds(views, C, "m", "EX value=page", x)
    holds(views, C, "m", "NL", x)
    holds(views, A, "p", mode, x)
    holds(views, C, "m", "UN", x)
    views.leaves(C)
    settle(views)
    assert views.left == {C}
    views.goes(C)
    views.install()
    settle(views)
    block = views.nodes[views.master(x)].blocks[x]
    assert (block.value, block.valid) == (b"page", True)
    assert views.lock(A, "p", x).granted is Mode[mode]
    assert views.nodes[A].waits_for() == ""


def test_a_member_without_quorum_grants_nothing_and_takes_back_at_once() -> None:
    views = cluster_of()
    x, y = name_with_directory(A), name_with_directory(B)
    holds(views, A, "p", "EX", x)
    holds(views, B, "m", "NL", y)
    holds(views, A, "p", "EX", y)
    views.step(A, Suspended())
    assert views.nodes[A].suspended
    assert views.nodes[A].waits_for() == "a view with quorum"
    views.heard.clear()
    views.says(A, "q", "PR nowait", x)
    (refused,) = [effect for _, effect in views.heard if isinstance(effect, Refuse)]
    assert isinstance(refused.error, NoQuorum)
    views.says(A, "q", "PR", x)
    views.says(A, "p", "UN", x)
    views.says(A, "p", "UN", y)
    assert views.person(A, "p").locks == {}
    assert not any(isinstance(effect, Grant) for _, effect in views.heard)
    views.install()
    settle(views)
    assert views.lock(A, "q", x).granted is Mode.PR
    assert not views.nodes[B].guests


@pytest.mark.parametrize("seed", SEEDS)
def test_a_surviving_master_goes_on_at_once(seed: int) -> None:
    views = cluster_of(seed)
    x = name_with_directory(B)
    holds(views, A, "p", "EX", x)
    views.loses(C, crashed=True)
    views.install()
    views.learn(A)
    views.says(A, "p", "UN", x)
    views.says(A, "q", "EX", x)
    assert views.lock(A, "q", x).granted is Mode.EX


def test_sequencers_grow_over_the_loss_of_a_master() -> None:
    views = cluster_of()
    x = name_with_directory(C)
    holds(views, C, "m", "EX", x)
    before = views.lock(C, "m", x).number
    lost = views.lives[C]
    lose(views, C)
    views.fence(lost)
    holds(views, B, "r", "EX", x)
    assert views.lock(B, "r", x).number > before


@pytest.mark.parametrize("seed", SEEDS)
def test_a_value_released_after_its_master_has_left_is_there_for_who_waits(seed: int) -> None:
    views = cluster_of(seed)
    x = name_with_directory(B, (A, B))
    holds(views, C, "m", "NL", x)
    holds(views, A, "writer", "EX", x)
    holds(views, B, "waiter", "PR", x)
    holds(views, C, "m", "UN", x)
    views.leaves(C)
    settle(views)
    views.goes(C)
    views.says(A, "writer", "UN value=newer", x)
    views.install()
    settle(views)
    assert views.lock(B, "waiter", x).granted is Mode.PR
    block = views.nodes[B].blocks[x]
    assert (block.value, block.valid) == (b"newer", True)
