"""What requests and recoveries cost: python -m tests.sim.scale [--members M ...] [--locks N ...]

Messages and bytes are counted as they would go over the streams; times are those of this machine,
of all members one after the other, and of the busiest one alone.
"""

from __future__ import annotations

import argparse
import gc
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Any

from clufs.dlm import wire
from clufs.dlm.directory import directory_member
from clufs.dlm.interface import (
    Asked,
    Fenced,
    Life,
    Owner,
    Received,
    Recovered,
    Request,
    Send,
    Suspended,
    TurnCame,
    Verb,
    ViewInstalled,
)
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from tests.sim.story import NAMES

EX, NL, UN = Request(Verb.LOCK, Mode.EX), Request(Verb.LOCK, Mode.NL), Request(Verb.UNLOCK)
REMOTE_EVERY = 4
"""Of the locks in a recovery one in so many is mastered by another member than its owner's."""


@dataclass
class Cost:
    """Messages and bytes between members; seconds by member; longest: the longest step of anybody."""

    messages: int = 0
    bytes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0


class Cluster:
    """Lock managers whose messages arrive at once, each stream in its order."""

    def __init__(self, members: int) -> None:
        self.lives = {name: Life(name, 1) for name in NAMES[:members]}
        everybody = tuple(sorted(self.lives.values()))
        self.nodes = {name: Node(name, 1, everybody, 1) for name in self.lives}
        self.queue: deque[tuple[str, Received]] = deque()
        self.cost = Cost()
        self.recovered: list[Recovered] = []

    def step(self, member: str, event: Any) -> None:
        began = perf_counter()
        effects = self.nodes[member].step(0.0, event)
        for effect in effects:
            if type(effect) is Send:
                data = wire.encode(effect.message)
                self.cost.messages += 1
                self.cost.bytes += len(data)
                self.cost.kinds[type(effect.message).__name__] += 1
                self.queue.append((effect.member, Received(member, effect.message)))
            elif type(effect) is Recovered:
                self.recovered.append(effect)
        took = perf_counter() - began
        self.cost.seconds[member] += took
        self.cost.longest = max(self.cost.longest, took)

    def settle(self) -> None:
        while self.queue or self._turns():
            while self.queue:
                member, event = self.queue.popleft()
                if member in self.nodes:
                    self.step(member, event)

    def _turns(self) -> bool:
        """Whoever has more to do goes on by a step; whether anybody had."""
        wanting = [member for member, node in self.nodes.items() if node.wants_turn()]
        for member in wanting:
            self.step(member, TurnCame())
        return bool(wanting)

    def ask(self, member: str, owner: Owner, name: bytes, request: Request) -> None:
        self.step(member, Asked(owner, name, request, owner))
        self.settle()

    def counted(self) -> Cost:
        """What it has cost since this was asked last."""
        cost, self.cost = self.cost, Cost()
        return cost


def operations() -> list[tuple[str, Cost]]:
    """The cost of each kind of request among three members."""
    cluster = Cluster(3)
    a, b, c = NAMES[:3]
    names = (b"db/%d" % at for at in range(99))
    name = next(name for name in names if directory_member(name, sorted(cluster.lives)) == c)
    p, q, r = Owner(), Owner(), Owner()
    found: list[tuple[str, Cost]] = []

    def count(what: str, *asks: tuple[str, Owner, Request]) -> None:
        for member, owner, request in asks:
            cluster.ask(member, owner, name, request)
        found.append((what, cluster.counted()))

    value = Request(Verb.LOCK, Mode.NL, value=b"17")
    count("first lock on a name: look-up", (a, p, EX))
    count("release and lock again where it is mastered", (a, p, UN), (a, p, EX))
    cluster.ask(a, p, name, NL)
    cluster.counted()
    count("first lock of another member: look-up and request", (b, q, EX))
    count("conversion of another member, with a value", (b, q, value))
    count("release of another member", (b, q, UN))
    count("new lock of another member, master known", (b, q, EX))
    cluster.ask(c, r, name, EX)
    cluster.counted()
    count("hand-over between two members, the master a third", (b, q, UN))
    return found


def recovery(members: int, locks: int) -> tuple[Cost, float, list[Recovered]]:
    """One of the members is lost, and fenced: the cost, the busiest member's seconds, what was rebuilt."""
    cluster = Cluster(members)
    names = list(cluster.lives)
    random = Random(members)
    for at in range(locks):
        home, master = random.sample(names, 2)
        name = b"db/%d" % at
        if at % REMOTE_EVERY == 0:
            cluster.ask(master, Owner(), name, NL)
        cluster.ask(home, Owner(), name, EX)
    cluster.counted()
    gc.collect()
    gc.freeze()
    lost = cluster.lives.pop(names[-1])
    del cluster.nodes[lost.member]
    left = tuple(sorted(cluster.lives.values()))
    for member in cluster.nodes:
        cluster.step(member, Suspended())
    for member in cluster.nodes:
        cluster.step(member, ViewInstalled(2, left, frozenset({lost})))
    cluster.settle()
    cost = cluster.counted()
    for member in cluster.nodes:
        cluster.step(member, Fenced(lost))
    cluster.settle()
    fenced = cluster.counted()
    busiest = max(cost.seconds[one] + fenced.seconds[one] for one in cluster.nodes)
    cost.longest = max(cost.longest, fenced.longest)
    cost.messages += fenced.messages
    cost.bytes += fenced.bytes
    gc.unfreeze()
    return cost, busiest, cluster.recovered


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.scale", description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[3, 8, 16, 64])
    parser.add_argument("--locks", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    arguments = parser.parse_args()
    print(f"{'request, three members':55} messages  bytes")
    for what, cost in operations():
        print(f"{what:55} {cost.messages:8} {cost.bytes:6}")
    print("\nrecovery after one member is lost and fenced")
    print(
        "members    locks  messages   MB sent  rebuilt blocks/locks   all s  busiest s  longest step, ms"
    )
    for members in arguments.members:
        for locks in arguments.locks:
            cost, busiest, recovered = recovery(members, locks)
            blocks = sum(one.blocks for one in recovered)
            rebuilt = f"{blocks}/{sum(one.locks for one in recovered)}"
            total = sum(cost.seconds.values())
            print(
                f"{members:7} {locks:8} {cost.messages:9} {cost.bytes / 1e6:9.2f} {rebuilt:>21}"
                f" {total:7.2f} {busiest:10.2f} {cost.longest * 1000:17.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
