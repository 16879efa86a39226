"""N members' formations and verdicts over one totally ordered bus per ring, all of it from a seed."""

import random
from collections import defaultdict
from dataclasses import dataclass, field

from clufs.cluster import formation as f
from clufs.cluster import verdict as v
from clufs.cluster.interface import (
    Delivered,
    GroupChanged,
    Peer,
    QuorumChanged,
    Report,
    RingId,
    View,
)
from clufs.timeouts import KEEPALIVE_S, PEER_DEAD_S

NAMES = ("provolone", "polishham", "pepicelli", "m4", "m5")
DEAD_TICKS = PEER_DEAD_S / KEEPALIVE_S

Life = tuple[int, int]


def peers(count: int) -> tuple[Peer, ...]:
    return tuple(Peer(at, NAMES[at - 1], f"10.77.0.{at}") for at in range(1, count + 1))


@dataclass
class Process:
    """A clufsd: `queue` is what its engine has for it, `writes` what its disk is to do."""

    pid: int
    incarnation: int
    formation: f.Formation
    verdict: v.Verdict
    stopped: bool = False
    queue: list[Report] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)
    unheard: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # in ticks


class Bus:
    """What is checked at each step: a number has one view; who was dropped does not come back."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.peers = peers(count)
        self.disks = dict.fromkeys(range(1, count + 1), 0)
        self.incarnations = dict.fromkeys(self.disks, 0)
        self.pids = dict.fromkeys(self.disks, 0)
        self.living: dict[int, Process] = {}
        self.rings: dict[int, tuple[RingId, tuple[int, ...]]] = {}
        self.cuts: set[frozenset[int]] = set()  # streams that carry nothing
        self.sequence = 0
        self.now = 0.0
        # What happened.
        self.views: dict[int, View] = {}
        self.effects: dict[int, list[f.Effect]] = defaultdict(list)
        self.expelled: list[tuple[Life, str]] = []
        self.seen: dict[Life, tuple[set[Life], set[Life]]] = defaultdict(lambda: (set(), set()))
        self.heard: dict[int, dict[Life, list[f.Say]]] = defaultdict(lambda: defaultdict(list))

    # ------------------------------------------------- faults

    def start(self, one: int, *, same_pid: bool = False) -> None:
        self.incarnations[one] += 1
        self.pids[one] += not same_pid
        me = f.Self(self.peers[one - 1], self.incarnations[one], 7000 + one)
        formation = f.Formation(me, self.peers, self.disks[one])
        verdict = v.Verdict(one, {peer.id: peer.votes for peer in self.peers})
        self.living[one] = Process(self.pids[one], me.incarnation, formation, verdict)

    def crash(self, one: int) -> None:
        """Its process is gone; what it had multicast stays on its way."""
        del self.living[one]

    def part(self, *parts: set[int]) -> None:
        """Give each part a ring of its own; what was on its way to a part comes before it."""
        for part in parts:
            self.sequence += 4
            ring = (min(part), self.sequence)
            nodes = tuple(sorted(part))
            for one in nodes:
                self.rings[one] = (ring, nodes)
            for one in nodes:
                if one in self.living:
                    changes = [self.group(one), self.quorum(one)]
                    self.random.shuffle(changes)
                    self.living[one].queue += changes

    def group(self, one: int) -> Report:
        ring, nodes = self.rings[one]
        return GroupChanged(ring, tuple((n, self.living[n].pid) for n in nodes if n in self.living))

    def quorum(self, one: int) -> Report:
        ring, nodes = self.rings[one]
        return QuorumChanged(ring, 2 * len(nodes) > len(self.peers), nodes)

    def regroup(self, one: int) -> None:
        """A process of this member has left or joined the group, on the same ring."""
        for node in self.rings[one][1]:
            if node in self.living:
                self.living[node].queue.append(self.group(one))

    def rejoin(self, one: int) -> None:
        """A process that was expelled leaves, and joins as a new incarnation."""
        self.crash(one)
        self.regroup(one)
        self.start(one, same_pid=self.random.random() < 0.5)
        self.living[one].queue.append(self.quorum(one))
        self.regroup(one)

    # ------------------------------------------------- time and what it brings

    def running(self) -> dict[int, Process]:
        return {one: process for one, process in self.living.items() if not process.stopped}

    def step(self) -> bool:
        """Deliver one report or finish one write; False if all is quiet."""
        running = self.running()
        ready = [one for one in running if running[one].queue or running[one].writes]
        if not ready:
            return False
        one = self.random.choice(ready)
        process = running[one]
        if process.writes and (not process.queue or self.random.random() < 0.5):
            number = process.writes.pop(0)
            self.disks[one] = max(self.disks[one], number)
            self.carry_out(one, process.formation.stored(number))
        else:
            self.carry_out(one, process.formation.report(process.queue.pop(0)))
        return True

    def tick(self) -> None:
        """KEEPALIVE_S pass for everybody that is not stopped."""
        self.now += KEEPALIVE_S
        for one, process in list(self.running().items()):
            self.carry_out(one, process.formation.tick(self.now))
            if (view := process.formation.view) is not None and self.living.get(one) is process:
                silent = [other for other, life in view.members if not self.hears(one, other, life)]
                self.judge(one, process.verdict.silent(self.now, silent))

    def hears(self, one: int, other: int, incarnation: int) -> bool:
        """Whether a member has heard another on its stream, in the last PEER_DEAD_S."""
        process = self.living[one]
        found = self.living.get(other)
        speaks = found is not None and not found.stopped and found.incarnation == incarnation
        if speaks and frozenset((one, other)) not in self.cuts:
            process.unheard[other] = 0
        else:
            process.unheard[other] += 1
        return process.unheard[other] < DEAD_TICKS

    def settle(self) -> None:
        while self.step():
            pass

    def pass_time(self, ticks: int) -> None:
        for _ in range(ticks):
            self.settle()
            self.tick()
        self.settle()

    # ------------------------------------------------- effects

    def carry_out(self, one: int, effects: list[f.Effect]) -> None:
        process = self.living[one]
        for effect in effects:
            self.effects[one].append(effect)
            match effect:
                case f.Multicast():
                    for other in self.rings[one][1]:
                        if other in self.living:
                            self.living[other].queue.append(Delivered(one, effect.data))
                case f.Store():
                    process.writes.append(effect.number)
                case f.Install():
                    self.installed((one, process.incarnation), effect.view)
                    process.verdict.installed(effect.view.number, dict(effect.view.members))
                case f.Say():
                    assert process.formation.view is not None
                    said = self.heard[process.formation.view.number]
                    said[one, process.incarnation].append(effect)
                    if effect.body.startswith(b"verdict"):
                        self.judge(one, process.verdict.said(effect.sender, effect.body[7:]))
                case f.Expelled():
                    self.expelled.append(((one, process.incarnation), effect.why))
                    self.rejoin(one)
                    return

    def judge(self, one: int, effects: list[v.Effect]) -> None:
        process = self.living[one]
        for effect in effects:
            if self.living.get(one) is not process:
                return
            match effect:
                case v.Report():
                    self.carry_out(one, process.formation.say(b"verdict" + effect.body))
                case v.Expel():
                    self.carry_out(one, process.formation.expel(effect.member))

    def chat(self, one: int) -> None:
        """A member says something if it can."""
        process = self.living.get(one)
        if process is not None and not process.stopped and process.formation.view is not None:
            self.carry_out(one, process.formation.say(b"%f" % self.random.random()))

    # ------------------------------------------------- what must hold

    def installed(self, me: Life, view: View) -> None:
        assert self.views.setdefault(view.number, view) == view
        assert me in view.members
        seen, gone = self.seen[me]
        assert not gone.intersection(view.members), f"{me} meets again who was dropped"
        gone |= seen - set(view.members)
        seen |= set(view.members)

    def check_what_was_heard(self) -> None:
        """In each view everybody has heard the same, in one order, if not all of it."""
        for said in self.heard.values():
            longest = max(said.values(), key=len)
            assert all(found == longest[: len(found)] for found in said.values())

    def views_now(self) -> dict[int, View | None]:
        return {one: process.formation.view for one, process in self.living.items()}


def up(count: int, seed: int = 0) -> Bus:
    bus = Bus(count, seed)
    for one in bus.disks:
        bus.start(one)
    bus.part(set(bus.disks))
    bus.settle()
    return bus
