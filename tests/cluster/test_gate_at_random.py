"""Seeds: members come, go, split and lie dead; agents work, fail or never end; people confirm.

Every member has a gate; one registry orders what they propose. Nothing is proposed without a
proof, and once agents work and the view stands, nobody stays lost.
"""

from __future__ import annotations

from random import Random

import pytest

from clufs.cluster.gate import (
    AgentPlan,
    At,
    Effect,
    Gate,
    OrderEnded,
    ProposeOut,
    RunAgent,
    StopAgent,
    Told,
)
from clufs.dlm.interface import Life
from clufs.errors import InvalidRequest, NoQuorum

NAMES = ("a", "b", "c", "d", "e")
AGENTS = tuple(AgentPlan("command", (f"/sbin/{name}",)) for name in ("one", "two"))
STEPS = 300
CALM_STEPS = 400


class World:
    """What is really so: who lives, who sees whom, what the registry says.

    running: (gate's member, life, agent) -> whether it is still wanted.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.number = 0
        self.serial = 0
        self.lives: dict[str, Life] = {}
        self.gates: dict[str, Gate] = {}
        self.ins: frozenset[Life] = frozenset()
        self.seen: dict[str, frozenset[Life]] = {}
        self.view: tuple[Life, ...] = ()
        self.expelled: set[Life] = set()
        self.running: dict[tuple[str, Life, int], None] = {}
        self.due: list[tuple[float, str]] = []
        self.proved: dict[str, set[Life]] = {name: set() for name in NAMES}
        self.orders: dict[tuple[str, Life], bool] = {}
        self.proposals: list[Life] = []
        for name in NAMES:
            self.start(name)

    # ------------------------------------------------- what happens

    def start(self, name: str) -> None:
        self.serial += 1
        self.lives[name] = Life(name, self.serial)
        self.gates[name] = Gate(name, AGENTS)
        self.seen[name] = self.ins
        self.proved[name] = set()

    def end(self, name: str) -> None:
        """Its daemon is gone, and its agents with it, as far as anybody can tell."""
        self.lives.pop(name, None)
        self.gates.pop(name, None)
        self.running = {key: None for key in self.running if key[0] != name}
        self.orders = {key: ok for key, ok in self.orders.items() if key[0] != name}

    def split(self, part: set[str]) -> None:
        """`part` forms a view if it is a majority; those left out without one are suspended."""
        for name in sorted(self.gates):
            self.carry_out(name, self.gates[name].suspended())
        lives = tuple(sorted(self.lives[name] for name in part))
        if 2 * len(part) <= len(NAMES):
            self.view = ()
            return
        self.number += 1
        for life in self.view:
            if life not in lives and life in self.lives.values():
                self.expelled.add(life)
        self.view = lives
        self.proposals.clear()  # what was under way is lost with the view before
        self.ins |= set(lives)
        for life in lives:
            name = life.member
            self.seen[name] = self.ins
            self.carry_out(name, self.gates[name].installed(self.number, lives, self.ins))

    def settle(self) -> None:
        """An expelled daemon comes back as a new life; its holders are dead by then."""
        for life in sorted(self.expelled):
            if self.lives.get(life.member) == life:
                self.end(life.member)
                self.start(life.member)
        self.expelled.clear()

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        gate = self.gates[name]
        for effect in effects:
            match effect:
                case RunAgent(life, agent):
                    assert life.member != name
                    assert self.in_view(name)
                    assert gate.is_fencing(life)
                    assert not [key for key in self.running if key[:2] == (name, life)]
                    lost = life in gate.lost
                    ordered = (name, life) in self.orders
                    first = min(self.view).member == name
                    assert ordered or (lost and first)
                    self.running[name, life, agent] = None
                case StopAgent(life):
                    self.running = {key: None for key in self.running if key[:2] != (name, life)}
                case ProposeOut(life, why):
                    assert self.in_view(name)
                    assert life in gate.lost
                    assert life not in self.view
                    assert life in self.proved[name]
                    assert why
                    self.proposals.append(life)
                case OrderEnded(life):
                    del self.orders[name, life]
                case At(time_s):
                    assert time_s > self.now
                    self.due.append((time_s, name))
                case Told():
                    pass

    def in_view(self, name: str) -> bool:
        return self.lives.get(name) in self.view

    def agents_end(self, chance: float) -> None:
        for key in list(self.running):
            if key in self.running and self.random.random() < 0.5:
                name, life, agent = key
                del self.running[key]
                ok = self.random.random() < chance
                if ok:
                    self.certified(name, life)
                said = "yes" if ok else "no"
                self.carry_out(name, self.gates[name].agent_done(self.now, life, agent, ok, said))

    def certified(self, name: str, life: Life) -> None:
        """The machine is off: whatever life of that member ran on it is finished."""
        now = self.lives.get(life.member)
        if now is not None:
            self.end(life.member)
        self.proved[name] |= {one for one in self.all_lives(life)}

    def all_lives(self, life: Life) -> list[Life]:
        return [Life(life.member, n) for n in range(life.incarnation + 1)]

    def person(self) -> None:
        if not self.gates:
            return
        name = self.random.choice(sorted(self.gates))
        member = self.random.choice(NAMES)
        gate = self.gates[name]
        lost = sorted(life for life in gate.lost if life.member == member)
        if self.random.random() < 0.3:
            lives = sorted(one for one in {*gate.lost, *self.view} if one.member == member)
            if lives and (name, lives[-1]) in self.orders:
                return
            try:
                if lives:
                    self.orders[name, lives[-1]] = True
                self.carry_out(name, gate.fence(member))
            except (InvalidRequest, NoQuorum):
                if lives:
                    del self.orders[name, lives[-1]]
        elif lost and self.lives.get(member) not in lost:
            try:
                effects = gate.confirm(member)
            except NoQuorum:
                return
            self.proved[name] |= set(self.all_lives(lost[-1]))
            self.carry_out(name, effects)

    def commit(self) -> None:
        """The registry decides in the view and tells its members, each a little later."""
        if self.view and self.proposals:
            self.ins -= {self.proposals.pop(0)}
        for life in self.view:
            name = life.member
            if name in self.gates and self.seen[name] != self.ins and self.random.random() < 0.7:
                self.seen[name] = self.ins
                self.carry_out(name, self.gates[name].changed(self.ins, {}))

    def ticks(self) -> None:
        self.now += self.random.choice((0.1, 1.0, 30.0))
        for when, name in [one for one in self.due if one[0] <= self.now]:
            self.due.remove((when, name))
            if name in self.gates:
                self.carry_out(name, self.gates[name].tick(self.now))

    # ------------------------------------------------- the story

    def step(self, chance: float) -> None:
        self.agents_end(chance)
        self.commit()
        self.ticks()
        for name, gate in self.gates.items():
            for key in self.orders:
                if key[0] == name:
                    assert gate.is_fencing(key[1])
            if self.in_view(name):
                assert bool(gate.waits_for()) == bool(gate.lost)

    def trouble(self) -> None:
        pick = self.random.random()
        if pick < 0.2 and self.lives:
            self.end(self.random.choice(sorted(self.lives)))
        elif pick < 0.4:
            name = self.random.choice(NAMES)
            if name not in self.lives:
                self.start(name)
        elif pick < 0.6:
            self.person()
        self.settle()
        self.split({name for name in self.lives if self.random.random() < 0.8})


@pytest.mark.parametrize("seed", range(150))
def test_nothing_is_proposed_without_a_proof_and_nobody_stays_lost(seed: int) -> None:
    world = World(seed)
    chance = world.random.choice((0.0, 0.1, 0.9))
    world.split(set(NAMES))
    for _ in range(STEPS):
        if world.random.random() < 0.15:
            world.trouble()
        if world.random.random() < 0.1:
            world.person()
        world.step(chance)
        if world.view and any(world.lives.get(life.member) != life for life in world.view):
            world.settle()
            world.split(set(world.lives))
    world.settle()
    for name in NAMES:
        if name not in world.lives:
            world.start(name)
    world.settle()
    # Two machines stay off for good; the others stand, and after a while their agents work.
    for name in world.random.sample(NAMES, 2):
        world.end(name)
    world.settle()
    world.split(set(world.lives))
    for step in range(CALM_STEPS):
        world.step(1.0 if step > 20 else 0.0)
    back = {life.member for life in world.view}
    for name, gate in world.gates.items():
        if world.in_view(name):
            assert {life for life in gate.lost if life.member not in back} == set()
