"""The planner under commands, failures and losses in any order: what must hold after every step.

One seed replays one life. `python -m tests.caa.test_at_random FIRST COUNT STEPS` lives others.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from clufs.caa.interface import (
    Balance,
    CheckFailed,
    Command,
    Drain,
    Effect,
    Ended,
    EndJob,
    Maintain,
    MonitorChanged,
    Ordered,
    Registered,
    Relocate,
    Start,
    Stop,
    Unregistered,
    Update,
    WhatIf,
)
from clufs.caa.placement import best
from clufs.caa.resources import Resource, is_down
from tests.caa.world import World, profile

MEMBERS = ("a", "b", "c")
APPLICATIONS = {
    "db": {"REQUIRED_RESOURCES": "net"},
    "web": {"REQUIRED_RESOURCES": "db", "RESTART_ATTEMPTS": "0"},
    "mail": {"REQUIRED_RESOURCES": "db spool", "ACTIVE_PLACEMENT": "1"},
    "spool": {"PLACEMENT": "favored", "HOSTING_MEMBERS": "c a", "OPTIONAL_RESOURCES": "net"},
    "batch": {"PLACEMENT": "restricted", "HOSTING_MEMBERS": "a b", "FAILOVER_DELAY": "7"},
    "solo": {
        "FAILURE_THRESHOLD": "2",
        "FAILURE_INTERVAL": "100",
        "ACTIVE_PLACEMENT": "1",
        "REBALANCE": "t:*:*:5",
    },
}
PROFILES = {
    "net": profile("network", "net", {"FAILURE_THRESHOLD": "3", "FAILURE_INTERVAL": "60"}),
    **{name: profile("application", name, values) for name, values in APPLICATIONS.items()},
}


class Life:
    """Three members, six applications that lean on each other, and everything that happens to them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = World(MEMBERS)
        self.jobs = 0
        self.waiting: set[int] = set()
        for made in PROFILES.values():
            self.world.add(made)
        self.world.online = {
            ("net", member): True for member in MEMBERS if self.dice.random() < 0.8
        }
        self.hear(self.world.plan(booted=self.dice.random() < 0.3))
        self.moves: list[tuple[int, Callable[[], None]]] = [
            (40, self.action_ends),
            (12, self.start),
            (6, self.stop),
            (6, self.relocate),
            (2, self.balance),
            (3, self.maintain),
            (2, self.drain),
            (1, self.what_if),
            (1, self.watch_again),
            (1, self.update),
            (1, self.register_anew),
            (4, self.lose),
            (6, self.join),
            (6, self.monitor),
            (8, self.check_fails),
            (3, self.ends),
            (6, self.wait),
            (2, self.take_over),
            (3, self.be_heard),
        ]

    def live(self, steps: int) -> None:
        """Have things happen, and look after each."""
        weights, moves = zip(*self.moves, strict=True)
        for _ in range(steps):
            self.dice.choices(moves, weights)[0]()
            self.look()
        self.come_to_rest()

    def name(self) -> str:
        return self.dice.choice(sorted(APPLICATIONS))

    def member(self) -> str:
        return self.dice.choice(MEMBERS)

    def somewhere(self) -> str:
        return self.dice.choice(("", "", *MEMBERS))

    def flip(self, chance: float = 0.5) -> bool:
        return self.dice.random() < chance

    def hear(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, EndJob):
                self.waiting.remove(effect.job)

    def order(self, command: Command) -> None:
        self.jobs += 1
        self.waiting.add(self.jobs)
        self.world.now_s += 0.5
        self.hear(self.world.step(Ordered(self.jobs, command)))

    # What people order.

    def start(self) -> None:
        self.order(Start(self.name(), self.somewhere(), self.flip(), dry_run=self.flip(0.1)))

    def stop(self) -> None:
        self.order(Stop(self.name(), self.flip(), dry_run=self.flip(0.1)))

    def relocate(self) -> None:
        self.order(Relocate(self.name(), self.somewhere(), self.flip(), dry_run=self.flip(0.1)))

    def balance(self) -> None:
        self.order(Balance(self.name()))

    def maintain(self) -> None:
        self.order(Maintain(self.name(), self.flip(0.15)))

    def drain(self) -> None:
        self.order(Drain(self.member(), self.flip(0.4), dry_run=self.flip(0.1)))

    def what_if(self) -> None:
        self.order(WhatIf(self.member()))

    def watch_again(self) -> None:
        self.order(Start("net"))

    def update(self) -> None:
        hosts = self.dice.choice(("a b", "b c", "c"))
        made = profile("application", "batch", APPLICATIONS["batch"] | {"HOSTING_MEMBERS": hosts})
        self.world.profiles["batch"] = made
        self.order(Update("batch", made))

    def register_anew(self) -> None:
        if self.world.planner.why_not_unregister("mail") == "":
            self.hear(self.world.step(Unregistered("mail")))
            self.world.add(PROFILES["mail"])
            self.hear(self.world.step(Registered(self.world.records["mail"], PROFILES["mail"])))

    # What happens.

    def action_ends(self) -> None:
        if self.world.actions:
            number = self.dice.choice(sorted(self.world.actions))
            self.world.now_s += 1.0
            ok = self.flip(0.8)
            self.hear(self.world.end(self.world.actions[number], ok, "" if ok else "exit 1"))

    def lose(self) -> None:
        if len(self.world.up) > 1:
            count = 1 if self.flip(0.8) else len(self.world.up) - 1
            self.hear(self.world.lose(self.dice.sample(self.world.up, count)))

    def join(self) -> None:
        absent = [member for member in MEMBERS if member not in self.world.up]
        self.hear(self.world.join(self.dice.choice(absent) if absent else self.member()))

    def monitor(self) -> None:
        member = self.dice.choice(self.world.up)
        online = self.flip(0.7)
        self.world.online["net", member] = online
        self.hear(self.world.step(MonitorChanged("net", member, online)))

    def check_fails(self) -> None:
        name = self.name()
        self.hear(self.world.step(CheckFailed(name, self.world.records[name].member)))

    def ends(self) -> None:
        """Its executor ended it, as one does that lost quorum for a moment."""
        name = self.name()
        if any(one.resource == name for one in self.world.actions.values()):
            return
        for member in sorted(self.world.holds.get(name, ())):
            self.world.holds[name].discard(member)
            self.hear(self.world.step(Ended(name, member)))

    def wait(self) -> None:
        seconds = self.dice.choice((1.0, 30.0, 700.0, 3700.0))
        self.hear(self.world.wait_until(self.world.now_s + seconds))

    def take_over(self) -> None:
        """Another member plans: nobody hears of the old one's jobs any more. Some member may be silent."""
        self.waiting.clear()
        self.world.silent.clear()
        if len(self.world.up) > 1 and self.flip(0.3):
            self.world.silent.add(self.dice.choice(self.world.up))
        self.hear(self.world.plan())

    def be_heard(self) -> None:
        """A silent member answers; what it had been told to do before has ended by then."""
        for member in sorted(self.world.silent):
            for number in [n for n, one in self.world.actions.items() if one.member == member]:
                self.world.end(self.world.actions[number], self.flip())
            self.hear(self.world.heard_of(member))

    # What must hold.

    def look(self) -> None:
        self.nobody_who_could_run_is_left_down()
        self.states_are_what_executors_hold()
        self.what_is_saved_is_so()
        self.who_runs_may_run()
        self.seats_are_counted()

    def applications(self) -> list[Resource]:
        found = self.world.planner.table.resources.values()
        return [one for one in found if one.is_application]

    def nobody_who_could_run_is_left_down(self) -> None:
        for one in self.applications():
            planner = self.world.planner
            if one.busy or not is_down(one) or one.name in planner.waiting_for():
                continue
            if one.name in planner.timers():
                assert self.world.wake_s is not None
                assert self.world.wake_s <= planner.timers()[one.name]
            else:
                assert not best(planner.table.ranked(one)), f"{one.name} is left down"

    def states_are_what_executors_hold(self) -> None:
        for one in self.applications():
            if not one.busy:
                # One that was found while it was started elsewhere is still being stopped.
                strays = {a.member for a in self.world.actions.values() if a.resource == one.name}
                held = self.world.holds.get(one.name, set()) - self.world.silent - strays
                assert held == ({one.member} if one.member else set()), one.name

    def what_is_saved_is_so(self) -> None:
        for one in self.applications():
            kept = self.world.records[one.name]
            assert (kept.state, kept.member, kept.target) == (one.state, one.member, one.target)
            assert kept.restart_count == one.restart_count

    def who_runs_may_run(self) -> None:
        for one in self.applications():
            if one.state != "ONLINE" or one.busy or one.maintenance:
                continue
            if one.name in self.world.planner.waiting_for():
                continue
            table = self.world.planner.table
            assert one.target == "ONLINE"
            assert all(table.online(name, one.member) for name in one.profile.required), one.name
            if one.profile.placement == "restricted":
                assert one.member in one.profile.hosting_members

    def seats_are_counted(self) -> None:
        for one in self.applications():
            assert one.busy or one.seat == one.member, one.name
        seats = Counter(one.seat for one in self.applications() if one.seat)
        table = self.world.planner.table
        assert {m: table.applications(m, "") for m in MEMBERS} == {m: seats[m] for m in MEMBERS}

    def come_to_rest(self) -> None:
        """Whatever is under way comes to its end, and then nobody waits."""
        for _ in range(1000):
            if not self.world.actions:
                break
            action = self.world.actions[min(self.world.actions)]
            self.hear(self.world.end(action, True))
            self.look()
        assert not self.world.actions
        assert not self.waiting
        assert not self.world.planner.busy()


@pytest.mark.parametrize("seed", range(30))
def test_a_life(seed: int) -> None:
    Life(seed).live(400)


if __name__ == "__main__":
    first, count, steps = (int(word) for word in sys.argv[1:])
    for number in range(first, first + count):
        try:
            Life(number).live(steps)
        except AssertionError:
            print(f"seed {number}")
            raise
