"""Seeds: members that crash, are cut off, come back, and are fenced, while owners ask at random."""

from __future__ import annotations

import os

import pytest

from clufs.dlm.interface import Asked
from tests.dlm.cluster import make_eager
from tests.dlm.cluster_of_one import Person
from tests.dlm.test_cluster_at_random import NAMES, Crowd
from tests.dlm.views import Views, small_steps

MEMBERS = ("provolone", "polishham", "pepicelli", "prosciutto", "pastrami")
SEEDS = range(int(os.environ.get("VIEW_SEEDS", "60")))


class Comers(Crowd):
    """A crowd in a cluster whose members come and go."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        count = self.random.choice((2, 3, 3, 4, 5))
        self.cluster: Views = Views(seed, MEMBERS[:count])
        self.cluster.gone = self.gone  # type: ignore[method-assign]
        for member in self.cluster.names:
            self.cluster.start(member)
        self.cluster.install()
        self.troubles = self.random.choice((0.02, 0.05, 0.1))

    def gone(self, people: dict[str, Person]) -> None:
        names = {person.name for person in people.values()}
        for client in [key for key, owner in self.asked.items() if owner in names]:
            del self.asked[client]

    def step(self) -> None:
        pick = self.random.random()
        for member in list(self.cluster.left):
            if len(self.cluster.lives) > 1:
                self.cluster.goes(member)
                self.cluster.install()
        if pick < self.troubles:
            self.trouble()
        elif pick < 0.4:
            self.ask_something()
        else:
            self.cluster.some_time()

    def trouble(self) -> None:
        cluster, choice = self.cluster, self.random.choice
        here, away = list(cluster.lives), [m for m in cluster.names if m not in cluster.lives]
        what = choice(
            ("lose", "lose", "start", "start", "install", "fence", "fence", "suspend", "leave")
        )
        if what == "lose" and len(set(here) - cluster.leaving) > 1:
            cluster.loses(choice(here), self.random.random() < 0.5)
            if self.random.random() < 0.8:
                cluster.install()
        elif what == "start" and away:
            cluster.start(choice(away))
            if self.random.random() < 0.8:
                cluster.install()
        elif what == "leave" and len(here) > 1 + len(cluster.leaving):
            staying = [
                member
                for member in here
                if self.cluster.nodes[member].view and member not in cluster.leaving
            ]
            if staying:
                self.leave(choice(staying))
        elif what == "install":
            cluster.install()
        elif what == "fence" and cluster.unfenced:
            cluster.fence(choice(sorted(cluster.unfenced)))
        elif what == "suspend" and here:
            member = choice(here)
            cluster.suspend(member)
            cluster.install()

    def leave(self, member: str) -> None:
        for home, who in list(self.cluster.people):
            if home == member:
                self.die(member, who, False)
                self.hear()
        self.cluster.leaves(member)

    def ask_something(self) -> None:
        zombies = [
            life
            for life, acts in self.cluster.acting.items()
            if acts and life in self.cluster.zombies
        ]
        if zombies and self.random.random() < 0.2:
            self.haunt(self.random.choice(zombies))
            return
        self.members = [m for m in self.cluster.lives if m not in self.cluster.leaving]
        if self.members:
            self.act()

    def haunt(self, life: object) -> None:
        """A life that is cut off: one of its owners does something."""
        cluster = self.cluster
        _, people = cluster.zombies[life]  # type: ignore[index]
        if not people:
            return
        person = self.random.choice(list(people.values()))
        name = self.random.choice(NAMES)
        self.count += 1
        client = f"{person.name} {self.count}"
        request = self.request()
        if request.verb.value == "LOCK":
            self.asked[client] = person.name
        cluster.zombie_step(life, Asked(person, name, request, person.name, client))  # type: ignore[arg-type]

    def finish(self) -> None:
        cluster = self.cluster
        cluster.finish(self.hear)
        waiting = {
            lock.client
            for person in cluster.people.values()
            for lock in person.locks.values()
            if lock.wanted is not None
        }
        assert waiting == set(self.asked), "every request is answered or waits"
        for member, who in list(cluster.people):
            self.die(member, who, False)
            self.hear()
        while cluster.some_time():
            cluster.check()
        for node in cluster.nodes.values():
            assert not node.blocks and not node.copies and not node.guests and not node.phantoms
            assert not node.open_requests()
            assert not node.parties.waits


@pytest.mark.parametrize(
    ("idle", "locks", "eager"),
    [(0, 500, 16), (10_000, 500, 16), (10_000, 1, 16), (10_000, 500, 3), (10_000, 1, 1)],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_granted_twice_or_lost_whoever_comes_and_goes(
    seed: int, idle: int, locks: int, eager: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clufs.dlm.seeking.IDLE_NAMES_KEPT", idle)
    small_steps(monkeypatch, locks)
    make_eager(monkeypatch, eager)
    run(seed)


def run(seed: int, steps: int = 250) -> None:
    crowd = Comers(seed)
    for _ in range(steps):
        crowd.step()
        crowd.cluster.check()
        crowd.hear()
    crowd.finish()
