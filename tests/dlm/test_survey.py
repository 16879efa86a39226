"""Deadlocks over several members: found within a second, shown whole, broken once."""

from __future__ import annotations

import pytest

from clufs.dlm.interface import FoundCycle, Received, Refuse, Ticked
from clufs.dlm.messages import Break, Overdue, WhatWaits, WhoBlocks
from clufs.errors import Deadlock
from clufs.timeouts import SURVEY_AFTER_S, SURVEY_ANSWER_S, SURVEY_PAUSE_S, TICK_S
from tests.dlm.cluster import MEMBERS, Cluster
from tests.dlm.cluster_of_one import Person

A, B, C = sorted(MEMBERS)  # A leads the searches
X, Y, Z = b"db/x", b"db/y", b"db/z"
SEEDS = range(10)


class Named(Person):
    """Whose command is its name."""

    @property
    def command(self) -> str:
        return self.name


def settled(cluster: Cluster, *requests: tuple[str, str, str, bytes]) -> None:
    cluster.pace = 0.001
    for member, who, line, name in requests:
        cluster.people.setdefault((member, who), Named(f"{who}@{member}"))
        cluster.says(member, who, line, name)
        cluster.settle()


def victims(cluster: Cluster) -> list[str]:
    return [
        str(effect.client)
        for _, effect in cluster.heard
        if isinstance(effect, Refuse) and isinstance(effect.error, Deadlock)
    ]


def shown(cluster: Cluster) -> list[str]:
    """The one cycle that every member was shown, a lock per line, from the victim on."""
    found = [(member, effect) for member, effect in cluster.heard if isinstance(effect, FoundCycle)]
    assert sorted(member for member, _ in found) == sorted(cluster.nodes)
    cycles = {effect.locks for _, effect in found}
    assert len(cycles) == 1
    (locks,) = cycles
    first = next(i for i, lock in enumerate(locks) if lock.is_victim)
    assert sum(lock.is_victim for lock in locks) == 1
    return [
        f"{lock.name.decode()[-1]} {lock.granted.name if lock.granted is not None else '-'}"
        f" {lock.wanted.name if lock.wanted is not None else '-'} {lock.command}"
        for lock in locks[first:] + locks[:first]
    ]


def two_members(cluster: Cluster) -> None:
    settled(cluster, (A, "p", "EX", X), (B, "q", "EX", Y), (A, "p", "EX", Y), (B, "q", "EX", X))


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


# ------------------------------------------------------------------- phantoms


def deliver_until(cluster: Cluster, kind: type, count: int) -> None:
    """Ticks and messages until so many messages of this kind wait on the wires."""
    cluster.pace = 0.0
    for _ in range(1000):
        on_the_way = [m for wire in cluster.wires.values() for m in wire if type(m) is kind]
        if len(on_the_way) >= count:
            return
        if any(cluster.wires.values()):
            cluster.deliver()
        else:
            cluster.tick()
    raise AssertionError(f"no {kind.__name__}")


def on_the_wires(cluster: Cluster, kind: type) -> list[tuple[str, str]]:
    return [pair for pair, wire in cluster.wires.items() if any(type(m) is kind for m in wire)]


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


@pytest.mark.parametrize("gone", ["withdrawn", "released", "ended"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cycle_that_ends_between_two_rounds_is_left_alone(seed: int, gone: str) -> None:
    """The second round finds everything as it was but for one thing."""
    cluster = Cluster(seed)
    two_members(cluster)
    cluster.heard.clear()
    deliver_until(cluster, WhatWaits, 1)
    while not cluster.nodes[A].survey._leader._first:
        cluster.deliver()
    assert on_the_wires(cluster, WhatWaits)
    if gone == "withdrawn":
        cluster.withdraws(B, "q", X)
    elif gone == "released":
        cluster.says(A, "p", "UN", X)
    else:
        cluster.dies(B, "q")
    cluster.settle()
    cluster.pass_time(2.0)
    assert not victims(cluster)
    assert not [effect for _, effect in cluster.heard if isinstance(effect, FoundCycle)]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_its_home_has_given_up_does_not_count(seed: int) -> None:
    """The master does not know yet: the word is under way all the time of the search."""
    cluster = Cluster(seed, members=(A, B))
    two_members(cluster)
    cluster.heard.clear()
    cluster.pace = 0.0
    cluster.withdraws(B, "q", X)
    late = cluster.wires[B, A].pop()
    for _ in range(20):
        cluster.tick()
        while any(cluster.wires.values()):
            cluster.deliver()
    assert not victims(cluster)
    cluster.step(A, Received(B, late))
    cluster.settle()
    cluster.pass_time(1.0)
    assert not victims(cluster)


def test_an_order_that_comes_too_late_breaks_nothing() -> None:
    for seed in SEEDS:
        cluster = Cluster(seed)
        settled(cluster, (B, "q", "EX", Y), (C, "r", "EX", Z), (B, "q", "EX", Z), (C, "r", "EX", Y))
        cluster.heard.clear()
        deliver_until(cluster, Break, 1)
        (order,) = [m for wire in cluster.wires.values() for m in wire if type(m) is Break]
        victim = order.locks[0].lock.member
        (pair,) = on_the_wires(cluster, Break)
        cluster.withdraws(victim, "q" if victim == B else "r", order.locks[0].name)
        while cluster.wires[victim, pair[1]]:
            cluster.deliver((victim, pair[1]))
        cluster.settle()
        cluster.pass_time(1.0)
        assert not victims(cluster)
        assert not [effect for _, effect in cluster.heard if isinstance(effect, FoundCycle)]


# ----------------------------------------------------------------------- cost


def sent_while(cluster: Cluster, seconds: float) -> int:
    before = cluster.sent
    cluster.pass_time(seconds)
    return cluster.sent - before


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


# ------------------------------------------------------------- silent members


def without(cluster: Cluster, silent: str, seconds: float) -> None:
    """Time passes; what is sent to one member stays on the wire."""
    cluster.pace = 0.0
    for _ in range(round(seconds / TICK_S)):
        cluster.now += TICK_S
        for member, node in cluster.nodes.items():
            if member != silent and node.wants_tick():
                cluster.step(member, Ticked())
        while pairs := reachable(cluster, silent):
            cluster.deliver(pairs[0])


def reachable(cluster: Cluster, silent: str) -> list[tuple[str, str]]:
    return [pair for pair, wire in cluster.wires.items() if wire and silent not in pair]


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


def test_messages_of_another_view_are_dropped() -> None:
    cluster = Cluster()
    for message in (Overdue(2), WhoBlocks(2, 1), WhatWaits(0, 1, (), ())):
        assert cluster.step(A, Received(B, message)) == []
    assert not any(cluster.wires.values())


def test_what_was_too_much_to_tell_is_found_when_it_is_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for where in ("census", "survey"):
        monkeypatch.setattr(f"clufs.dlm.{where}.SURVEY_PARTIES_MAX", 12)
    cluster = Cluster()
    settled(cluster, (A, "h", "NL", X), *((C, f"r{i}", "PR", X) for i in range(20)))
    settled(cluster, (A, "p", "PR", X))
    settled(cluster, (B, "q", "EX", Y), (B, "q", "EX", X), (A, "p", "EX", Y))
    cluster.heard.clear()
    cluster.pass_time(2.0)
    assert not victims(cluster)
    for i in range(20):
        cluster.says(C, f"r{i}", "UN", X)
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
    cluster.heard.clear()
    cluster.pass_time(1.0)
    assert not victims(cluster)
