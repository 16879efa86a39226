"""Deadlocks over several members: found within a second, shown whole, broken once, for few messages."""

from __future__ import annotations

import pytest

from clufs.dlm.interface import Received, Refuse
from clufs.timeouts import SURVEY_AFTER_S, SURVEY_PAUSE_S, TICK_S
from tests.dlm.cluster import Cluster
from tests.dlm.searches import (
    SEEDS,
    A,
    B,
    C,
    X,
    Y,
    Z,
    sent_while,
    settled,
    shown,
    two_members,
    victims,
)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_members_two_masters(seed: int) -> None:
    cluster = Cluster(seed, members=(A, B))
    two_members(cluster)
    cluster.heard.clear()
    cluster.pass_time(SURVEY_AFTER_S - TICK_S)
    assert not cluster.heard, "most waits end before that"
    cluster.pass_time(2 * TICK_S)
    assert victims(cluster) == ["q: EX"], "it asked last"
    assert shown(cluster) == [
        f"x - EX q@{B}",
        f"x EX - p@{A}",
        f"y - EX p@{A}",
        f"y EX - q@{B}",
    ]
    (refuse,) = [effect for _, effect in cluster.heard if isinstance(effect, Refuse)]
    said = "db/x EX wanted, db/x EX held, db/y EX wanted, db/y EX held"
    for part in said.split(", "):
        assert part in str(refuse.error)
    cluster.heard.clear()
    cluster.says(B, "q", "UN", Y)
    cluster.settle()
    assert cluster.granted() == [f"p@{A}"]


@pytest.mark.parametrize(("size", "seed"), [*((3, seed) for seed in SEEDS), (16, 0), (16, 1)])
def test_a_ring_of_members_each_master_of_what_the_one_before_wants(size: int, seed: int) -> None:
    members = [f"m{i:02}" for i in range(size)]
    cluster = Cluster(seed, members)
    names = [b"db/%d" % i for i in range(size)]
    for member, name in zip(members, names, strict=True):
        settled(cluster, (member, "p", "EX", name))
    for i in cluster.random.sample(range(size), size):
        settled(cluster, (members[i], "p", "PR", names[(i + 1) % size]))
        last = members[i]
    cluster.heard.clear()
    cluster.pass_time(1.0)
    assert [m for m, e in cluster.heard if isinstance(e, Refuse)] == [last]
    assert len(shown(cluster)) == 2 * size


@pytest.mark.parametrize("seed", SEEDS)
def test_all_masters_are_elsewhere(seed: int) -> None:
    """C masters everything: it sees who is who and needs no survey."""
    cluster = Cluster(seed)
    settled(cluster, (C, "m", "NL", X), (C, "m", "NL", Y))
    two_members(cluster)
    assert victims(cluster) == ["q: EX"]
    assert shown(cluster)[0] == f"x - EX q@{B}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_queue_and_a_conversion_in_the_cycle(seed: int) -> None:
    cluster = Cluster(seed)
    settled(
        cluster,
        (A, "h", "PR", X),
        (B, "q", "EX", Y),
        (C, "w", "PR", X),
        (C, "w", "EX", X),
        (B, "q", "PR", X),
        (A, "h", "EX", Y),
    )
    cluster.heard.clear()
    cluster.pass_time(1.0)
    assert victims(cluster) == ["h: EX"], "h waits for q, who waits behind w, who waits for h"
    assert f"x PR EX w@{C}" in shown(cluster)


@pytest.mark.parametrize("where", ["holder", "closer"])
def test_nodeadlock_is_neither_victim_nor_counted(where: str) -> None:
    cluster = Cluster(members=(A, B))
    words = {"holder": ("EX nodeadlock", "EX"), "closer": ("EX", "EX nodeadlock")}[where]
    settled(
        cluster,
        (A, "p", "EX", X),
        (B, "q", "EX", Y),
        (A, "p", words[0], Y),
        (B, "q", words[1], X),
    )
    cluster.heard.clear()
    cluster.pass_time(2.0)
    assert not cluster.heard


@pytest.mark.parametrize("seed", SEEDS)
def test_a_group_is_stuck_when_all_its_processes_are(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.group(A, "g", "p", "r")
    cluster.says(A, "g", "EX", X, waiter=f"p@{A}")
    cluster.settle()
    settled(cluster, (B, "q", "EX", Y), (C, "s", "EX", Z), (B, "q", "EX", X), (C, "s", "EX", X))
    settled(cluster, (A, "p", "EX", Y))
    cluster.heard.clear()
    cluster.pass_time(2.0)
    assert not cluster.heard, "r can still release X"
    settled(cluster, (A, "r", "EX", Z))
    cluster.heard.clear()
    cluster.pass_time(1.0)
    assert victims(cluster) == ["r: EX"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_free_process_of_a_group_goes(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.group(A, "g", "p", "r")
    cluster.says(A, "g", "EX", X, waiter=f"p@{A}")
    cluster.settle()
    settled(cluster, (B, "q", "EX", Y), (B, "q", "EX", X), (A, "p", "EX", Y))
    cluster.pass_time(2.0)
    assert not victims(cluster)
    cluster.group(A, "g", "p")
    cluster.heard.clear()
    cluster.pass_time(1.0)
    assert victims(cluster) == ["p: EX"]


def test_sublocks_wait_for_each_other_like_any_locks() -> None:
    cluster = Cluster(members=(A, B))
    settled(
        cluster,
        (A, "p", "CR", X),
        (B, "q", "CR", Y),
        (A, "p", "CR", Y),
        (B, "q", "CR", X),
    )
    for member, who, over in ((A, "p", X), (B, "q", Y), (A, "p", Y), (B, "q", X)):
        cluster.says(member, who, "EX", over + b".sub/s", parent=cluster.lock(member, who, over))
        cluster.settle()
    cluster.heard.clear()
    cluster.pass_time(1.0)
    assert victims(cluster) == ["q: EX"]


def test_the_victim_is_the_youngest_whoever_masters_it() -> None:
    """q asks first, then p; between them lies half a second."""
    for late in (A, B):
        cluster = Cluster(members=(A, B))
        settled(cluster, (A, "p", "EX", X), (B, "q", "EX", Y))
        first, last = (("p", A, Y), ("q", B, X)) if late == B else (("q", B, X), ("p", A, Y))
        for who, member, name in (first, last):
            settled(cluster, (member, who, "EX", name))
            cluster.pass_time(0.5)
        cluster.pass_time(1.0)
        assert victims(cluster) == [f"{last[0]}: EX"]


def test_a_wait_for_one_who_can_go_on_sends_nothing() -> None:
    cluster = Cluster()
    settled(cluster, (A, "p", "EX", X), (B, "q", "EX", X), (A, "r", "EX", Y), (A, "p", "EX", Y))
    cluster.says(A, "r", "UN", Y)
    cluster.settle()
    assert sent_while(cluster, 5.0) == 0
    assert not any(node.wants_tick() for node in cluster.nodes.values())


def test_whoever_waits_long_in_vain_is_looked_at_once() -> None:
    """A chain over three members, no cycle: one search, then silence for ever."""
    cluster = Cluster()
    settled(
        cluster,
        (A, "p", "EX", X),
        (B, "q", "EX", Y),
        (C, "r", "EX", Z),
        (A, "p", "EX", Y),
        (B, "q", "EX", Z),
    )
    cost = sent_while(cluster, 1.0)
    assert 0 < cost <= 20
    assert sent_while(cluster, 60.0) == 0
    assert not any(node.wants_tick() for node in cluster.nodes.values())


def test_alone_a_member_never_wants_to_know_the_time() -> None:
    cluster = Cluster(members=(A,))
    settled(cluster, (A, "p", "EX", X), (A, "q", "EX", X))
    assert not cluster.nodes[A].wants_tick()


def test_a_hot_block_is_one_party_long() -> None:
    """Forty wait for a lock whose holder waits elsewhere: none of them is told."""
    cluster = Cluster()
    settled(cluster, (A, "p", "EX", X), (B, "q", "EX", Y))
    for i in range(40):
        cluster.says(C, f"w{i}", "EX", X)
    cluster.settle()
    settled(cluster, (A, "p", "EX", Y), (B, "q", "EX", X))
    cluster.heard.clear()
    told = [0]
    real = cluster.step

    def step(member: str, event: object) -> list[object]:
        if isinstance(event, Received) and hasattr(event.message, "blocks"):
            told[0] += sum(len(parts) for _, parts in event.message.blocks)
        return real(member, event)  # type: ignore[return-value]

    cluster.step = step  # type: ignore[method-assign, assignment]
    cluster.pass_time(1.0)
    assert victims(cluster) == ["q: EX"]
    assert told[0] <= 12


def test_a_crowd_of_long_waits_costs_a_search_per_pause() -> None:
    cluster = Cluster()
    settled(cluster, (A, "p", "EX", X), (B, "q", "EX", Y), (A, "p", "EX", Y))
    searches = 0
    for i in range(20):
        cluster.says(C, f"w{i}", "EX", X)
        cluster.says(C, f"w{i}", "NL", Y)
        before = cluster.nodes[A].survey._leader._started_at
        cluster.pass_time(TICK_S)
        searches += cluster.nodes[A].survey._leader._started_at != before
    assert 1 <= searches <= 20 * TICK_S / SURVEY_PAUSE_S + 1


@pytest.mark.parametrize("crowds", [1, 2])
def test_what_was_too_much_to_tell_is_found_when_it_is_less(
    crowds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in ("census", "survey"):
        monkeypatch.setattr(f"clufs.dlm.{where}.SURVEY_PARTIES_MAX", 12)
    cluster = Cluster()
    settled(cluster, (A, "h", "NL", X), *((C, f"r{i}", "PR", X) for i in range(20)))
    settled(cluster, (B, "h", "NL", Y), *((C, f"s{i}", "PR", Y) for i in range(20 * crowds - 20)))
    settled(cluster, (A, "p", "PR", X), (B, "q", "PR", Y), (B, "q", "EX", X), (A, "p", "EX", Y))
    cluster.heard.clear()
    cluster.pass_time(2.0)
    assert not victims(cluster)
    for i in range(20):
        cluster.says(C, f"r{i}", "UN", X)
        if crowds == 2:
            cluster.says(C, f"s{i}", "UN", Y)
    cluster.settle()
    cluster.heard.clear()
    cluster.pass_time(SURVEY_PAUSE_S + TICK_S)
    assert victims(cluster) == ["p: EX"]


def test_a_group_that_waits_as_such_is_stuck_in_nothing() -> None:
    """Its home knows that another of its processes can go on; the master of all does not."""
    cluster = Cluster()
    settled(cluster, (C, "m", "NL", X), (C, "m", "NL", Y), (B, "q", "EX", Y))
    cluster.group(A, "g", "p", "r")
    cluster.says(A, "g", "EX", X)
    cluster.settle()
    settled(cluster, (B, "q", "EX", X))
    cluster.says(A, "g", "EX", Y)
    cluster.settle()
    cluster.pass_time(1.0)
    assert not victims(cluster)
