"""What only looks like a deadlock to a search is left alone."""

from __future__ import annotations

import pytest

from clufs.dlm.interface import FoundCycle, Received
from clufs.dlm.survey_messages import Break, WhatWaits, WhoBlocks
from tests.dlm.cluster import Cluster
from tests.dlm.searches import (
    SEEDS,
    A,
    B,
    C,
    X,
    Y,
    Z,
    deliver_until,
    drain,
    on_the_wires,
    second_round,
    settled,
    two_members,
    victims,
    without,
)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_phantom_of_old_and_new_answers_breaks_nothing(seed: int) -> None:
    """The answers together show a cycle; it never stood at any moment."""
    cluster = Cluster(seed)
    settled(cluster, (A, "p", "EX", X), (B, "q", "EX", Y), (B, "q", "EX", X))
    deliver_until(cluster, WhoBlocks, 1)
    settled(cluster, (A, "p", "EX", Y))
    cluster.withdraws(B, "q", X)
    cluster.settle()
    cluster.heard.clear()
    cluster.pass_time(3.0)
    assert not victims(cluster)
    assert cluster.lock(A, "p", Y).wanted is not None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_phantom_in_one_round_breaks_nothing(seed: int) -> None:
    """B tells that q waits for p; then q gives up, p waits for q, and C tells that."""
    cluster = Cluster(seed)
    settled(cluster, (B, "p", "EX", X), (C, "q", "EX", Y), (A, "t", "EX", Y), (C, "q", "EX", X))
    deliver_until(cluster, WhatWaits, 2)
    drain(cluster, (A, B))
    cluster.withdraws(C, "q", X)
    drain(cluster, (C, B))
    cluster.says(B, "p", "EX", Y)
    drain(cluster, (B, C))
    cluster.settle()
    cluster.pass_time(2.0)
    assert cluster.lock(B, "p", Y).wanted is not None
    assert not victims(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_phantom_in_the_last_round_breaks_nothing(seed: int) -> None:
    """There was a deadlock; it is over. What waits now only looks like it."""
    cluster = Cluster(seed)
    settled(cluster, (B, "p", "EX", X), (C, "q", "EX", Y), (C, "q", "EX", X), (B, "p", "EX", Y))
    second_round(cluster)
    cluster.withdraws(B, "p", Y)
    drain(cluster, (B, C), (C, B))
    drain(cluster, (A, B))
    cluster.withdraws(C, "q", X)
    drain(cluster, (C, B))
    cluster.says(B, "p", "EX", Y)
    drain(cluster, (B, C))
    cluster.settle()
    cluster.pass_time(2.0)
    assert cluster.lock(B, "p", Y).wanted is not None
    assert not victims(cluster)


@pytest.mark.parametrize("gone", ["withdrawn", "ended", "released", "elder gave up"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cycle_that_ends_between_two_rounds_is_left_alone(seed: int, gone: str) -> None:
    """The last round finds everything as it was but for one thing."""
    cluster = Cluster(seed)
    settled(cluster, (B, "p", "EX", X), (C, "q", "EX", Y), (B, "p", "EX", Y), (C, "q", "EX", X))
    cluster.heard.clear()
    second_round(cluster)
    if gone == "withdrawn":
        cluster.withdraws(C, "q", X)
    elif gone == "released":
        cluster.says(B, "p", "UN", X)
    elif gone == "ended":
        cluster.dies(C, "q")
    else:
        cluster.withdraws(B, "p", Y)
    drain(cluster, (B, C), (C, B))
    cluster.settle()
    cluster.pass_time(2.0)
    assert not victims(cluster)
    assert not [effect for _, effect in cluster.heard if isinstance(effect, FoundCycle)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_that_gets_a_free_process_between_two_rounds_is_not_stuck(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.group(C, "g", "p")
    cluster.says(C, "g", "EX", X)
    settled(cluster, (B, "q", "EX", Y), (B, "q", "EX", X), (C, "p", "EX", Y))
    cluster.heard.clear()
    second_round(cluster)
    cluster.group(C, "g", "p", "free")
    cluster.settle()
    cluster.pass_time(2.0)
    assert not victims(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_its_home_has_given_up_does_not_count(seed: int) -> None:
    """The elder's master does not know yet: the word is under way all the time of the search."""
    cluster = Cluster(seed, members=(A, B))
    two_members(cluster)
    cluster.heard.clear()
    cluster.pace = 0.0
    cluster.withdraws(A, "p", Y)
    late = cluster.wires[A, B].pop()
    for _ in range(20):
        cluster.tick()
        while any(cluster.wires.values()):
            cluster.deliver()
    assert not victims(cluster)
    cluster.step(B, Received(A, late))
    cluster.settle()
    cluster.pass_time(1.0)
    assert not victims(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_silent_home_may_have_given_up_does_not_count(seed: int) -> None:
    """r lives at C, which masters nothing, gives up and is not heard any more."""
    cluster = Cluster(seed)
    settled(cluster, (A, "m", "NL", Z), (C, "r", "EX", Z), (B, "q", "EX", Y))
    settled(cluster, (C, "r", "EX", Y), (B, "q", "EX", Z))
    second_round(cluster)
    cluster.withdraws(C, "r", Y)
    without(cluster, C, 2.0)
    assert not victims(cluster)
    cluster.settle()
    cluster.pass_time(1.0)
    assert not victims(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_order_that_comes_too_late_breaks_nothing(seed: int) -> None:
    cluster = Cluster(seed)
    settled(cluster, (B, "q", "EX", Y), (C, "r", "EX", Z), (B, "q", "EX", Z), (C, "r", "EX", Y))
    cluster.heard.clear()
    deliver_until(cluster, Break, 1)
    assert on_the_wires(cluster, Break) == [(A, B)]
    cluster.withdraws(C, "r", Y)
    drain(cluster, (C, B))
    cluster.settle()
    cluster.pass_time(1.0)
    assert not victims(cluster)
    assert not [effect for _, effect in cluster.heard if isinstance(effect, FoundCycle)]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_order_for_an_earlier_request_on_the_same_lock_breaks_nothing(seed: int) -> None:
    cluster = Cluster(seed)
    settled(cluster, (B, "q", "CR", Y), (C, "r", "NL", Y), (C, "r", "EX", Z), (B, "q", "EX", Z))
    settled(cluster, (C, "r", "EX", Y))
    cluster.heard.clear()
    deliver_until(cluster, Break, 1)
    assert on_the_wires(cluster, Break) == [(A, B)]
    cluster.withdraws(C, "r", Y)
    cluster.withdraws(B, "q", Z)
    cluster.pace = 0.001
    cluster.says(C, "r", "EX", Y)
    drain(cluster, (C, B), (B, C))
    cluster.settle()
    cluster.pass_time(1.0)
    assert cluster.lock(C, "r", Y).wanted is not None
    assert not victims(cluster)
