"""Byte ranges: the arithmetic beside sets of bytes, and what locks on ranges do to each other."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from clufs.dlm import wire
from clufs.dlm.interface import Cycle, Grant, Refuse, Request, Verb
from clufs.dlm.messages import Ask, Id
from clufs.dlm.modes import Mode
from clufs.dlm.ranges import (
    LAST_BYTE,
    WHOLE,
    Ranges,
    Spans,
    covers,
    exclude,
    first_met,
    meet,
    union,
    without,
)
from clufs.errors import AwaitsFencing
from tests.dlm.cluster import Cluster
from tests.dlm.cluster_of_one import Story
from tests.dlm.oracle import check
from tests.dlm.searches import A, B, victims
from tests.dlm.test_recovery import cluster_of, lose, settle

SEEDS = range(10)
SIZE = 24
X = b"db\0x"

a_byte = some.integers(0, SIZE - 1)
a_span = some.tuples(a_byte, a_byte).map(lambda pair: (min(pair), max(pair)))
any_spans = some.lists(a_span, max_size=5).map(union)


def bytes_of(spans: Spans) -> set[int]:
    return {byte for first, last in spans for byte in range(first, last + 1)}


def in_order(spans: Spans) -> bool:
    """Disjoint, ascending, and no two of them touch."""
    return all(one[1] + 1 < other[0] for one, other in pairwise(spans))


# ---------------------------------------------------------------- arithmetic


@given(any_spans, any_spans)
def test_union_and_meeting_are_those_of_sets(one: Spans, other: Spans) -> None:
    both = union(one, other)
    assert bytes_of(both) == bytes_of(one) | bytes_of(other)
    assert in_order(both)
    assert meet(one, other) is meet(other, one) is bool(bytes_of(one) & bytes_of(other))


@given(any_spans, a_span)
def test_what_is_taken_away_or_looked_for(spans: Spans, span: tuple[int, int]) -> None:
    first, last = span
    less = without(spans, first, last)
    assert bytes_of(less) == bytes_of(spans) - bytes_of((span,))
    assert in_order(less)
    assert covers(spans, first, last) is (bytes_of((span,)) <= bytes_of(spans))
    met = first_met(spans, first, last)
    assert (met is not None) is meet(spans, (span,))
    assert met is None or (met in spans and meet((met,), (span,)))


def test_a_range_may_go_to_the_end_whatever_is_appended() -> None:
    assert without(WHOLE, 10, 19) == ((0, 9), (20, LAST_BYTE))
    assert union(((20, LAST_BYTE),), ((0, 19),)) == WHOLE


def test_one_side_never_excludes_itself() -> None:
    one, other = Ranges("p", ((0, 9),)), Ranges("q", ((9, 9),))
    assert exclude(one, other) and not exclude(one, one._replace(spans=WHOLE))
    assert exclude(None, other) and exclude(one, None)


def test_a_request_for_ranges_travels() -> None:
    ranges = Ranges("provolone.7.1", ((0, 0), (1 << 40, LAST_BYTE)))
    lock = Id("polishham", 7, 41)
    ask = Ask(5, lock, lock, X, Request(Verb.LOCK, Mode.EX, ranges=ranges), True)
    assert wire.decode(wire.encode(ask)) == ask


# ------------------------------------------------------------ on one member


def test_only_what_meets_waits() -> None:
    story = Story()
    story.says("a", "EX bytes=0-9", X)
    story.says("b", "EX bytes=10-19", X)
    assert story.outcome() == "GRANTED"
    story.says("c", "PR bytes=5-12", X)
    assert story.outcome() == "QUEUED"
    assert story.block(X).why(story.lock("c", X)) == [story.lock("a", X), story.lock("b", X)]
    story.says("a", "UN", X)
    assert story.granted() == []
    story.says("b", "UN", X)
    assert story.granted() == ["c"]


def test_readers_share_and_nowait_is_refused() -> None:
    story = Story()
    story.says("a", "PR bytes=0-9", X)
    story.says("b", "PR bytes=0-9", X)
    story.says("c", "EX bytes=9-9 nowait", X)
    assert story.outcome() == "NotQueued"
    story.says("c", "EX bytes=10-10 nowait", X)
    assert story.outcome() == "GRANTED"


def test_nobody_waits_behind_those_who_wait() -> None:
    """fcntl(2) promises no order, and who is granted past a waiter may be what that one waits for."""
    story = Story()
    story.says("a", "PR bytes=0-9", X)
    story.says("b", "EX bytes=0-9", X)
    story.says("c", "PR bytes=0-9", X)
    assert story.outcome() == "GRANTED"


def test_each_that_fits_is_granted_in_the_order_of_asking() -> None:
    story = Story()
    story.says("a", "EX bytes=0-9", X)
    for who, asked in (("b", "5-14"), ("c", "0-4"), ("d", "4-5"), ("e", "9-9")):
        story.says(who, f"EX bytes={asked}", X)
    story.says("a", "UN", X)
    assert story.granted() == ["b", "c"]
    check(story.node, list(story.people.values()))
    story.says("c", "UN", X)
    assert story.granted() == []
    story.says("b", "UN", X)
    assert story.granted() == ["d", "e"]


def test_bytes_are_given_up_one_by_one() -> None:
    story = Story()
    story.says("a", "EX bytes=0-9", X)
    story.says("b", "EX bytes=4-5", X)
    story.says("a", "EX bytes=0-3,6-9", X)
    assert story.granted() == ["a", "b"]
    story.says("c", "PR bytes=3-3 nowait", X)
    assert story.outcome() == "NotQueued"


@pytest.mark.parametrize("line", ["EX bytes=0-10", "PR bytes=0-5", "EX", "NL bytes=0-9"])
def test_a_conversion_takes_nothing(line: str) -> None:
    story = Story()
    story.says("a", "EX bytes=0-9", X)
    story.says("a", line, X)
    assert story.outcome() == "InvalidRequest"
    assert story.lock("a", X).ranges == Ranges("a", ((0, 9),))


def test_one_side_upgrades_under_its_own_lock() -> None:
    """What a process has is replaced without a moment in which it has nothing."""
    story = Story()
    story.says("a1", "PR bytes=0-9", X)
    story.says("b", "PR bytes=0-3", X)
    story.says("a2", "EX bytes=0-9", X)
    assert story.outcome() == "QUEUED"
    story.says("b", "UN", X)
    assert story.granted() == ["a2"]
    story.says("a1", "UN", X)
    story.says("b", "PR bytes=0-3 nowait", X)
    assert story.outcome() == "NotQueued"


def test_a_crowd_that_waits_for_the_same_byte_gets_it_in_turn() -> None:
    story = Story()
    story.says("~", "EX bytes=0-0", X)
    crowd = [chr(code) for code in range(ord("a"), ord("z"))]
    for who in crowd:
        story.says(who, "EX bytes=0-0", X)
    last = "~"
    for who in crowd:
        story.says(last, "UN", X)
        assert story.granted() == [who]
        last = who


def test_threads_of_one_side_are_not_forgotten_behind_others_who_want_the_same() -> None:
    story = Story()
    story.says("a1", "PR bytes=0-9", X)
    story.says("b1", "PR bytes=0-9", X)
    story.says("c", "EX bytes=0-9", X)
    story.says("a2", "EX bytes=0-9", X)
    story.says("b1", "UN", X)
    assert story.granted() == ["a2"]


def test_a_deadlock_over_bytes_and_none_where_they_do_not_meet() -> None:
    story = Story()
    for who, asked in (("a", "0-0"), ("b", "1-1"), ("c", "2-2")):
        story.says(f"{who}1", f"EX bytes={asked}", X, party=who)
    story.says("a2", "EX bytes=1-1", X, party="a")
    story.says("b2", "EX bytes=2-2", X, party="b")
    assert story.outcome() == "QUEUED"
    story.says("b3", "EX bytes=0-0", X, party="b")
    assert story.refusal() == "Deadlock"
    (found,) = story.all(Cycle)
    assert [str(lock.owner) for lock in found.locks] == ["b3", "a1", "a2", "b1"]


# --------------------------------------------------------- on several members


@pytest.mark.parametrize("seed", SEEDS)
def test_members_hold_bytes_of_one_name(seed: int) -> None:
    cluster = Cluster(seed)
    for member, asked in ((A, "0-9"), (B, "10-19")):
        cluster.says(member, "p", f"EX bytes={asked}", X)
        cluster.settle()
    assert cluster.granted() == [f"p@{A}", f"p@{B}"]
    cluster.says(A, "q", "EX bytes=15-15", X)
    cluster.settle()
    assert cluster.granted() == []
    cluster.says(B, "p", "EX bytes=10-14", X)
    cluster.settle()
    assert sorted(cluster.granted()) == sorted([f"p@{B}", f"q@{A}"])


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_given_up_stay_given_up_whoever_thinks_better_of_it(seed: int) -> None:
    cluster = Cluster(seed)
    for member in (A, B):
        cluster.says(member, "p", "EX bytes=0-9" if member == A else "EX bytes=20-29", X)
        cluster.settle()
    cluster.says(B, "p", "EX bytes=20-24", X)
    cluster.withdraws(B, "p", X)
    cluster.settle()
    assert cluster.lock(B, "p", X).ranges == Ranges(f"p@{B}", ((20, 24),))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_deadlock_over_members(seed: int) -> None:
    cluster = Cluster(seed, members=(A, B))
    cluster.pace = 0.001
    for member, who, asked in ((A, "p1", 0), (B, "q1", 1), (A, "p2", 1), (B, "q2", 0)):
        cluster.says(member, who, f"EX bytes={asked}-{asked}", X, party=f"{who[0]}@{member}")
        cluster.settle()
    cluster.says(B, "r", "EX bytes=2-2", X)
    cluster.pass_time(3.0)
    assert victims(cluster) == ["q2: EX bytes=0-0"]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_lost_member_holds_stays_held_until_it_is_fenced(seed: int) -> None:
    views = cluster_of(seed)
    one, other, third = sorted(views.lives)
    for member, asked in ((one, "0-9"), (other, "10-19"), (third, "20-29")):
        views.says(member, "p", f"EX bytes={asked}", X)
        settle(views)
    lost = views.lives[third]
    lose(views, third)
    views.heard.clear()
    views.says(other, "q", "EX bytes=20-20 nowait", X)
    settle(views)
    (refuse,) = [effect for _, effect in views.heard if isinstance(effect, Refuse)]
    assert isinstance(refuse.error, AwaitsFencing)
    views.says(one, "r", "EX bytes=10-29", X)
    views.says(other, "p", "EX bytes=15-19", X)
    settle(views)
    views.says(other, "p", "UN", X)
    settle(views)
    assert views.lock(one, "r", X).granted is None, "a lost member may still use bytes 20 to 29"
    views.fence(lost)
    settle(views)
    assert views.lock(one, "r", X).granted is Mode.EX
    assert any(isinstance(effect, Grant) for _, effect in views.heard)
