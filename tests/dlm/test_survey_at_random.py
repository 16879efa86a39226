"""Seeds: crowds that wait for each other over several members, judged by one who sees all of it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from clufs.dlm.grants import Effects
from clufs.dlm.interface import Fenced, Life, ViewInstalled
from clufs.dlm.lock import Lock
from clufs.errors import RequestError
from tests.dlm.cluster import Cluster
from tests.dlm.world import World

PEOPLE = "pqrs"
NAMES = [b"db/%d" % i for i in range(5)]
MODES = ("CR", "CW", "PR", "PW", "EX", "EX", "EX")
WORDS = ("", "", "", "", " nodeadlock", " quecvt", " nowait")
Refusal = Callable[[float, Lock, RequestError], Effects]


class Knot:
    """A cluster whose people ask at random; whenever somebody is refused it is asked why."""

    def __init__(self, seed: int, size: int, groups: bool) -> None:
        self.random = Random(seed)
        self.members = [f"m{i}" for i in range(size)]
        self.cluster = Cluster(seed, self.members)
        self.cluster.pace = 0.001
        self.groups = groups
        self.was_stuck: set[tuple[Lock, float]] = set()
        self.surveyed = 0
        for node in self.cluster.nodes.values():
            node.refuse_waiting = self.judged(node.refuse_waiting)  # type: ignore[method-assign]

    def judged(self, refuse: Refusal) -> Refusal:
        """What a survey has refused was part of a deadlock, with nothing under way about it that
        its home knew of."""

        def judge(now: float, lock: Lock, error: RequestError) -> Effects:
            self.remember()
            assert (lock, lock.since) in self.was_stuck, f"{lock} could go on"
            self.surveyed += 1
            return refuse(now, lock, error)

        return judge

    def remember(self) -> None:
        for lock in World(self.cluster, at_rest=True).deadlocked():
            self.was_stuck.add((lock, lock.since))

    def act(self) -> None:
        pick = self.random
        member, who, name = pick.choice(self.members), pick.choice(PEOPLE), pick.choice(NAMES)
        person = self.cluster.person(member, who)
        lock = person.locks.get(name)
        dice = pick.random()
        if dice < 0.03:
            self.cluster.dies(member, who)
        elif self.groups and dice < 0.08:
            self.cluster.group(member, "g", *pick.sample(PEOPLE, pick.randint(0, 2)))
        elif lock is not None and lock.wanted is not None:
            if dice < 0.3:
                self.cluster.withdraws(member, who, name)
        elif lock is not None and dice < 0.3:
            self.cluster.says(member, who, "UN", name)
        else:
            self.ask(member, who, name)

    def ask(self, member: str, who: str, name: bytes) -> None:
        pick = self.random
        more: dict[str, Any] = {"client": object()}
        if self.groups:
            owner = pick.choice((who, who, "g", "h"))
            if owner != who:
                more |= {"party": f"{owner}@{member}", "waiter": f"{who}@{member}"}
                who = owner
            elif pick.random() < 0.2:
                more["party"] = f"{pick.choice(PEOPLE)}@{member}"
        busy = any(
            lock.wanted is not None for lock in self.cluster.person(member, who).locks.values()
        )
        if busy and pick.random() < 0.8:
            return
        line = pick.choice(MODES) + pick.choice(WORDS)
        self.cluster.says(member, who, line, name, **more)

    def lose(self, view: int) -> None:
        """A member is lost; the others hear of it one by one, while they go on talking, and then,
        as slowly, that it is finished."""
        cluster = self.cluster
        lost = self.random.choice(self.members)
        self.members.remove(lost)
        del cluster.nodes[lost]
        lives = tuple(Life(member, 7) for member in self.members)
        for event in (
            ViewInstalled(view, lives, frozenset((Life(lost, 7),))),
            Fenced(Life(lost, 7)),
        ):
            for member in self.random.sample(self.members, len(self.members)):
                cluster.step(member, event)
                self.run(10)

    def forget_the_lost(self) -> None:
        """What is said to them and by them is not heard."""
        wires = self.cluster.wires
        for pair in [pair for pair in wires if not self.cluster.nodes.keys() >= {*pair}]:
            del wires[pair]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.forget_the_lost()
            dice = self.random.random()
            if dice < 0.35:
                self.act()
            elif dice < 0.4:
                self.cluster.tick()
            elif any(self.cluster.wires.values()):
                self.cluster.deliver()
            self.remember()

    def quiet(self) -> None:
        """From now on nobody does anything; a second later no deadlock of now is left."""
        self.forget_the_lost()
        while any(self.cluster.wires.values()):
            self.cluster.deliver()
            self.remember()
        self.cluster.pass_time(1.0)
        standing = World(self.cluster, at_rest=True).deadlocked()
        assert not standing, "a deadlock is left standing"


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("seed", range(15))
def test_every_deadlock_is_found_and_nothing_else(seed: int, size: int, groups: bool) -> None:
    knot = Knot(seed, size, groups)
    for _ in range(4):
        knot.run(150)
        knot.quiet()


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_the_same_while_members_are_lost(seed: int, groups: bool) -> None:
    knot = Knot(seed, 5, groups)
    for view in (2, 3):
        knot.run(150)
        knot.lose(view)
        knot.run(50)
        knot.quiet()


@pytest.mark.parametrize("seed", range(10))
def test_bounds_and_names_forgotten_make_nothing_look_stuck(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out may hide a deadlock; it never shows one. A name that is forgotten and given
    anew shows none either, and hides none."""
    monkeypatch.setattr("clufs.dlm.party_names._SPARE", 0)
    knot = Knot(seed, 3, groups=True)
    knot.run(150)
    knot.quiet()
    for limit in ("census.SURVEY_PARTIES_MAX", "survey.SURVEY_PARTIES_MAX"):
        monkeypatch.setattr(f"clufs.dlm.{limit}", 4)
    for limit in ("census.SURVEY_LOCKS_MAX", "survey.SURVEY_LOCKS_MAX"):
        monkeypatch.setattr(f"clufs.dlm.{limit}", 6)
    for _ in range(3):
        knot.run(150)
        knot.cluster.pass_time(1.0)


def test_the_knots_are_worth_it() -> None:
    """There are deadlocks that only a survey finds."""
    surveyed = 0
    for seed in range(5):
        knot = Knot(seed, 3, False)
        knot.run(300)
        knot.quiet()
        surveyed += knot.surveyed
    assert surveyed >= 10
