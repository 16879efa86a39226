"""Searches while members are silent, are lost or come back."""

from __future__ import annotations

import pytest

from clufs.dlm.interface import Life, Received, Suspended, Ticked, ViewInstalled
from clufs.dlm.node import Node
from clufs.dlm.survey_messages import Describe, Overdue, WhatWaits, WhoBlocks
from clufs.timeouts import (
    SURVEY_AFTER_S,
    SURVEY_ANSWER_S,
    SURVEY_LEADER_S,
    SURVEY_PAUSE_S,
    TICK_S,
)
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
    install,
    settled,
    shown,
    two_members,
    victims,
    without,
)


def test_a_silent_member_does_not_keep_the_others_in_their_deadlock() -> None:
    cluster = Cluster()
    two_members(cluster)
    cluster.heard.clear()
    without(cluster, C, 1.0)
    assert victims(cluster) == ["q: EX"]
    assert len(cluster.wires[A, C]) <= 3, "one question, not one per search"


def test_a_member_that_answers_late_is_looked_at_then() -> None:
    cluster = Cluster()
    settled(cluster, (A, "p", "EX", X), (C, "q", "EX", Y), (A, "p", "EX", Y), (C, "q", "EX", X))
    cluster.heard.clear()
    without(cluster, C, 3.0)
    assert not victims(cluster)
    cluster.settle()
    cluster.pass_time(SURVEY_PAUSE_S + SURVEY_ANSWER_S + TICK_S)
    assert len(victims(cluster)) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_silent_leader_does_not_keep_the_others_in_their_deadlock(seed: int) -> None:
    """The next member leads; the first may answer late what it was asked, and nothing comes of it."""
    cluster = Cluster(seed)
    settled(
        cluster,
        (B, "p", "EX", Y),
        (C, "q", "EX", Z),
        (B, "r", "NL", Z),
        (C, "s", "NL", Y),
    )
    cluster.heard.clear()
    cluster.says(B, "p", "EX", Z)
    cluster.says(C, "q", "EX", Y)
    without(cluster, A, SURVEY_AFTER_S + SURVEY_LEADER_S + SURVEY_ANSWER_S + 4 * TICK_S)
    assert len(victims(cluster)) == 1
    assert not any(node.wants_tick() for member, node in cluster.nodes.items() if member != A)
    cluster.settle()
    cluster.pass_time(1.0)
    assert len(victims(cluster)) == 1
    assert not any(node.wants_tick() for node in cluster.nodes.values())


def test_messages_of_another_view_are_dropped() -> None:
    cluster = Cluster()
    for message in (Overdue(2), WhoBlocks(2, 1), WhatWaits(0, 1, (), ())):
        assert cluster.step(A, Received(B, message)) == []
    assert not any(cluster.wires.values())


@pytest.mark.parametrize("rounds", [WhoBlocks, WhatWaits, None])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_leader_is_lost_in_the_middle_of_a_search(seed: int, rounds: type | None) -> None:
    cluster = Cluster(seed)
    settled(cluster, (B, "q", "EX", Y), (C, "r", "EX", Z), (B, "q", "EX", Z), (C, "r", "EX", Y))
    cluster.heard.clear()
    if rounds is not None:
        deliver_until(cluster, rounds, 1)
    install(cluster, 2, A)
    cluster.pass_time(1.0)
    assert victims(cluster) == ["r: EX"]
    assert len(shown(cluster)) == 4


def test_a_member_that_comes_back_owes_nothing() -> None:
    """It was silent, was lost, and is there again in another life."""
    cluster = Cluster()
    two_members(cluster)
    without(cluster, C, 1.0)
    install(cluster, 2, C)
    cluster.nodes[C] = Node(C, 0, (), incarnation=8)
    lives = (Life(A, 7), Life(B, 7), Life(C, 8))
    for member in cluster.nodes:
        cluster.step(member, ViewInstalled(3, lives, frozenset()))
    cluster.settle()
    for member, who in [*cluster.people]:
        cluster.dies(member, who)
    cluster.settle()
    settled(cluster, (B, "q", "EX", Y), (C, "r", "EX", Z), (B, "q", "EX", Z), (C, "r", "EX", Y))
    cluster.heard.clear()
    cluster.pass_time(1.0)
    assert victims(cluster) == ["r: EX"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cycle_leads_through_the_blocks_of_a_lost_master(seed: int) -> None:
    cluster = Cluster(seed)
    settled(cluster, (A, "m", "NL", X), (A, "n", "NL", Y))
    settled(cluster, (B, "q", "EX", X), (C, "r", "EX", Z), (B, "q", "EX", Z), (C, "s", "PR", Y))
    settled(cluster, (C, "r", "EX", X))
    install(cluster, 2, A)
    cluster.pass_time(1.0)
    assert victims(cluster) in (["r: EX"], ["q: EX"])
    assert len(shown(cluster)) == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_a_deadlock_that_was_being_told_when_the_view_changed_is_told(seed: int) -> None:
    cluster = Cluster(seed)
    settled(cluster, (B, "q", "EX", Y), (C, "r", "EX", Z), (B, "q", "EX", Z), (C, "r", "EX", Y))
    cluster.heard.clear()
    deliver_until(cluster, Describe, 1)
    install(cluster, 2, A)
    cluster.pass_time(1.0)
    assert victims(cluster) == ["r: EX"]
    assert len(shown(cluster)) == 4


def test_a_suspended_member_seeks_nothing_and_all_of_it_later() -> None:
    cluster = Cluster(members=(A, B))
    two_members(cluster)
    cluster.pace = 0.0
    for member in (A, B):
        cluster.step(member, Suspended())
        assert not cluster.nodes[member].wants_tick()
        cluster.now += 1.0
        assert cluster.step(member, Ticked()) == []
    assert not any(cluster.wires.values())
    lives = (Life(A, 7), Life(B, 7))
    for member in (A, B):
        cluster.step(member, ViewInstalled(2, lives, frozenset()))
    cluster.settle()
    cluster.pass_time(1.0)
    assert victims(cluster) == ["q: EX"]
