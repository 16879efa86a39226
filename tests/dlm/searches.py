"""Cycles over several members and the searches for them, told step by step."""

from __future__ import annotations

from clufs.dlm.interface import Fenced, FoundCycle, Life, Refuse, Ticked, ViewInstalled
from clufs.dlm.survey_messages import WhatWaits
from clufs.errors import Deadlock
from clufs.timeouts import TICK_S
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


def drain(cluster: Cluster, *pairs: tuple[str, str]) -> None:
    """Everything on these wires arrives, and nothing else."""
    while ready := [pair for pair in pairs if cluster.wires.get(pair)]:
        cluster.deliver(ready[0])


def second_round(cluster: Cluster) -> None:
    """Until the leader has put what waits together and asks whether it is still so."""
    cluster.pace = 0.0
    while not cluster.nodes[A].survey._leader._first:
        if any(cluster.wires.values()):
            cluster.deliver()
        else:
            cluster.tick()
    assert len(on_the_wires(cluster, WhatWaits)) == 2


def sent_while(cluster: Cluster, seconds: float) -> int:
    before = cluster.sent
    cluster.pass_time(seconds)
    return cluster.sent - before


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


def install(cluster: Cluster, view: int, lost: str) -> None:
    """One member is lost, at once fenced; the others go on in a new view."""
    del cluster.nodes[lost]
    for pair in [pair for pair in cluster.wires if lost in pair]:
        del cluster.wires[pair]
    lives = tuple(Life(member, 7) for member in sorted(cluster.nodes))
    gone = Life(lost, 7)
    for member in cluster.nodes:
        cluster.step(member, ViewInstalled(view, lives, frozenset((gone,))))
    for member in cluster.nodes:
        cluster.step(member, Fenced(gone))
    cluster.settle()
