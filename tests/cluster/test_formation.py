"""Formation: a view needs everybody's hello, a number on a majority's disks, and one ring."""

import random
from collections import defaultdict

import pytest

from clufs.cluster import formation as f
from clufs.cluster.interface import (
    Delivered,
    EngineLost,
    GroupChanged,
    Peer,
    QuorumChanged,
    Report,
    RingId,
    View,
)

NAMES = ("provolone", "polishham", "pepicelli", "m4", "m5")


def peers(count: int) -> tuple[Peer, ...]:
    return tuple(Peer(at, NAMES[at - 1], f"10.77.0.{at}") for at in range(1, count + 1))


class Bus:
    """N formations over one totally ordered bus per ring; a disk each; partitions and crashes."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.peers = peers(count)
        self.disks = dict.fromkeys(range(1, count + 1), 0)
        self.incarnations = dict.fromkeys(self.disks, 0)
        self.pids = dict.fromkeys(self.disks, 0)
        self.living: dict[int, f.Formation] = {}
        self.rings: dict[int, tuple[RingId, tuple[int, ...]]] = {}
        self.queues: dict[int, list[Report]] = defaultdict(list)
        self.writes: dict[int, list[int]] = defaultdict(list)
        self.installed: dict[int, set[View]] = defaultdict(set)
        self.effects: dict[int, list[f.Effect]] = defaultdict(list)
        self.sequence = 0

    def start(self, one: int) -> None:
        self.incarnations[one] += 1
        self.pids[one] += 1
        me = f.Self(self.peers[one - 1], self.incarnations[one], 7000 + one)
        self.living[one] = f.Formation(me, self.peers, self.disks[one])

    def crash(self, one: int) -> None:
        """Its process is gone; what it had multicast stays on its way."""
        del self.living[one]
        self.queues.pop(one, None)
        self.writes.pop(one, None)

    def part(self, *parts: set[int]) -> None:
        """Give each part a ring of its own; what was on its way to a part comes before it."""
        for part in parts:
            self.sequence += 4
            ring = (min(part), self.sequence)
            nodes = tuple(sorted(part))
            quorate = 2 * len(part) > len(self.peers)
            group = tuple((one, self.pids[one]) for one in nodes if one in self.living)
            for one in nodes:
                self.rings[one] = (ring, nodes)
                changes: list[Report] = [GroupChanged(ring, group)]
                at = self.random.randint(0, 1)
                changes.insert(at, QuorumChanged(ring, quorate, nodes))
                if one in self.living:
                    self.queues[one] += changes

    def step(self) -> bool:
        """Deliver one report or finish one write; False if all is quiet."""
        ready = [one for one in self.living if self.queues[one] or self.writes[one]]
        if not ready:
            return False
        one = self.random.choice(ready)
        if self.writes[one] and (not self.queues[one] or self.random.random() < 0.5):
            number = self.writes[one].pop(0)
            self.disks[one] = max(self.disks[one], number)
            self.carry_out(one, self.living[one].stored(number))
        else:
            self.carry_out(one, self.living[one].report(self.queues[one].pop(0)))
        return True

    def settle(self) -> None:
        while self.step():
            pass

    def carry_out(self, one: int, effects: list[f.Effect]) -> None:
        for effect in effects:
            self.effects[one].append(effect)
            match effect:
                case f.Multicast():
                    for other in self.rings[one][1]:
                        if other in self.living:
                            self.queues[other].append(Delivered(one, effect.data))
                case f.Store():
                    self.writes[one].append(effect.number)
                case f.Install():
                    self.installed[effect.view.number].add(effect.view)

    def views(self) -> dict[int, View | None]:
        return {one: formation.view for one, formation in self.living.items()}


def up(count: int) -> Bus:
    bus = Bus(count)
    for one in bus.disks:
        bus.start(one)
    bus.part(set(bus.disks))
    bus.settle()
    return bus


def test_three_agree_on_a_view() -> None:
    bus = up(3)
    view = View(1, ((1, 1), (2, 1), (3, 1)), quorate=True)
    assert bus.views() == {1: view, 2: view, 3: view}
    assert bus.disks == {1: 1, 2: 1, 3: 1}
    installs = [effect for effect in bus.effects[2] if isinstance(effect, f.Install)]
    assert installs[0].streams[3] == ("10.77.0.3", 7003)


def test_the_minority_suspends_and_the_majority_goes_on() -> None:
    bus = up(3)
    bus.part({1}, {2, 3})
    bus.settle()
    assert bus.living[1].view is None
    assert "majority" in bus.living[1].waits_for()
    assert bus.living[2].view == View(2, ((2, 1), (3, 1)), quorate=True)
    assert f.Lost((1, 1)) in bus.effects[2]
    bus.part({1, 2, 3})
    bus.settle()
    assert {view and view.number for view in bus.views().values()} == {3}


def test_numbers_grow_when_all_were_off() -> None:
    bus = up(3)
    for one in (1, 2, 3):
        bus.crash(one)
    for one in (2, 3):
        bus.start(one)
    bus.part({2, 3})
    bus.settle()
    assert bus.living[2].view == View(2, ((2, 2), (3, 2)), quorate=True)


def test_a_goodbye_is_no_loss() -> None:
    bus = up(3)
    bus.carry_out(3, bus.living[3].goodbye())
    bus.settle()
    bus.crash(3)
    bus.part({1, 2, 3})
    bus.settle()
    assert bus.living[1].view == View(2, ((1, 1), (2, 1)), quorate=True)
    assert not [effect for effect in bus.effects[1] if isinstance(effect, f.Lost)]


def test_what_is_said_is_heard_in_its_view_only() -> None:
    bus = up(3)
    bus.carry_out(1, bus.living[1].say(b"now"))
    (late,) = bus.living[1].say(b"late")
    bus.settle()
    assert f.Say(1, b"now") in bus.effects[3]
    bus.part({1, 2, 3})
    bus.settle()
    bus.carry_out(1, [late])
    bus.settle()
    assert f.Say(1, b"late") not in bus.effects[3]
    assert bus.living[3].dropped == 1


def test_without_a_view_nothing_can_be_said() -> None:
    with pytest.raises(ValueError, match="no view"):
        f.Formation(f.Self(peers(1)[0], 1, 0), peers(1), 0).say(b"x")


def test_garbage_is_counted_and_changes_nothing() -> None:
    bus = up(1)
    assert bus.living[1].report(Delivered(1, b"\xc1garbage")) == []
    assert bus.living[1].dropped == 1


def test_no_view_with_another_version() -> None:
    one = f.Formation(f.Self(peers(1)[0], 1, 0), peers(1), 0)
    one.report(QuorumChanged((1, 4), True, (1,)))
    one.report(GroupChanged((1, 4), ((1, 9),)))
    hello = f.Hello(2, ((1, 4), ((1, 9),)), "provolone", 1, 0, "", 0)
    assert one.report(Delivered(1, f.msgspec.msgpack.encode(hello))) == []
    assert "version" in one.waits_for()


def test_two_daemons_on_one_machine_form_no_view() -> None:
    one = f.Formation(f.Self(peers(1)[0], 1, 0), peers(1), 0)
    (hello,) = one.report(GroupChanged((1, 4), ((1, 8), (1, 9))))
    assert isinstance(hello, f.Multicast)
    assert one.report(Delivered(1, hello.data)) == []
    assert "second clufsd" in one.waits_for()


def test_a_quorum_of_another_ring_installs_nothing() -> None:
    bus = up(3)
    view = bus.living[1].view
    assert view is not None
    effects = bus.living[1].report(QuorumChanged((1, 99), True, (1, 2, 3)))
    assert [type(effect) for effect in effects] == [f.Suspend]


def test_the_end_of_the_engine_is_the_end() -> None:
    bus = up(3)
    effects = bus.living[1].report(EngineLost("gone"))
    assert effects == [f.Suspend("gone"), f.Expelled("gone")]
    assert bus.living[1].report(GroupChanged((1, 99), ((1, 1),))) == []


@pytest.mark.parametrize("seed", range(200))
def test_numbers_never_repeat(seed: int) -> None:
    bus = Bus(random.Random(seed).choice((3, 4, 5)), seed)
    everybody = set(bus.disks)
    for _ in range(25):
        for one in everybody:
            if one in bus.living and bus.random.random() < 0.15:
                bus.crash(one)
            elif one not in bus.living and bus.random.random() < 0.5:
                bus.start(one)
        here = {one for one in everybody if bus.random.random() < 0.6}
        bus.part(*(part for part in (here, everybody - here) if part))
        for _ in range(bus.random.choice((0, 5, 20, 60, 200))):
            bus.step()
    assert all(len(views) == 1 for views in bus.installed.values())
    for one in everybody - bus.living.keys():
        bus.start(one)
    bus.part(everybody)
    bus.settle()
    numbers = {view and view.number for view in bus.views().values()}
    assert len(numbers) == 1 and numbers == {max(bus.installed)}
