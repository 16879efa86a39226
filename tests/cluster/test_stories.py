"""Streams under the views that formation makes: each life hears each other's numbers without a gap."""

from collections import defaultdict

import pytest

from clufs.cluster.interface import View
from clufs.cluster.session import Session
from tests.cluster.bus import Bus, Life, Process
from tests.cluster.test_formation import come_together, disturb


class Streams(Bus):
    """Each process has a session with every other member; connections are made and cut at will."""

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(count, seed)
        self.sessions: dict[Life, dict[int, Session]] = {}
        self.linked: set[frozenset[Life]] = set()
        self.sent: dict[tuple[Life, Life], int] = defaultdict(int)
        self.got: dict[tuple[Life, Life], int] = defaultdict(int)

    def start(self, one: int, *, same_pid: bool = False) -> None:
        super().start(one, same_pid=same_pid)
        life = one, self.living[one].incarnation
        self.sessions[life] = {other: Session(life[1]) for other in self.disks if other != one}

    def installed(self, me: Life, view: View) -> None:
        super().installed(me, view)
        members = dict(view.members)
        for other, session in self.sessions[me].items():
            session.install(members.get(other))

    def life(self, one: int, process: Process) -> Life:
        return one, process.incarnation

    def transmit(self) -> None:
        """Two running members connect, are cut, or one sends the other something."""
        running = self.running()
        if len(running) < 2:
            return
        one, other = self.random.sample(sorted(running), 2)
        here, there = self.life(one, running[one]), self.life(other, running[other])
        ends = self.sessions[here][other], self.sessions[there][one]
        pair = frozenset((here, there))
        if pair not in self.linked or self.random.random() < 0.05:
            # Whoever is connected to an earlier life is so no more.
            self.linked = {old for old in self.linked if {one, other} != {life[0] for life in old}}
            self.reconnect(ends, here, there)
            self.linked.add(pair)
        self.send(ends[0], here, other)
        if self.random.random() < 0.7:
            self.carry(ends[0], ends[1], there, one)

    def reconnect(self, ends: tuple[Session, Session], here: Life, there: Life) -> None:
        hellos = [end.hello_numbers() for end in ends]
        ends[0].connected(there[1], *hellos[1])
        ends[1].connected(here[1], *hellos[0])

    def send(self, session: Session, here: Life, other: int) -> None:
        if session.member is not None:
            key = here, (other, session.member)
            self.sent[key] += 1
            session.send(b"%d" % self.sent[key])

    def carry(self, source: Session, target: Session, there: Life, one: int) -> None:
        for _ in range(self.random.randint(1, 3)):
            if (batch := source.next_batch()) is None:
                return
            target.receive(batch)
            while target.ready:
                assert target.member is not None
                key = (one, target.member), there
                self.got[key] += 1
                assert int(target.ready.popleft()) == self.got[key]

    def end(self) -> None:
        """Between those that are in the view at last, all has arrived."""
        lives = [self.life(one, process) for one, process in self.living.items()]
        for here in lives:
            for there in lives:
                if here != there:
                    ends = self.sessions[here][there[0]], self.sessions[there][here[0]]
                    assert ends[0].member == there[1]
                    self.reconnect(ends, here, there)
                    for _ in range(20):
                        self.carry(ends[0], ends[1], there, here[0])
                        self.carry(ends[1], ends[0], here, there[0])
                    assert self.got[here, there] == self.sent[here, there]

    def step(self) -> bool:
        for _ in range(2):
            self.transmit()
        return super().step()


@pytest.mark.parametrize("block", range(5))
def test_streams_go_on_from_view_to_view(block: int) -> None:
    for seed in range(60 * block, 60 * block + 60):
        bus = Streams(3 + seed % 3, seed)
        bus.part(set(bus.disks))
        for _ in range(12):
            disturb(bus, stops=True)
            for _ in range(bus.random.choice((0, 20, 60, 200))):
                bus.step()
            for _ in range(bus.random.choice((0, 0, 4, 16))):
                bus.tick()
                bus.step()
        come_together(bus, set())
        for _ in range(300):
            bus.transmit()
        bus.end()
        assert sum(bus.got.values()) > 100
