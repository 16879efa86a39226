"""A cluster on virtual time: hosts, wires, clients, and the oracle that watches them."""

from __future__ import annotations

from collections import Counter

from clufs.dlm.interface import Life
from clufs.dlm.node import Node
from tests.sim.claims import Claims
from tests.sim.clients import Client
from tests.sim.clock import Clock
from tests.sim.host import Host
from tests.sim.network import Network, Streams
from tests.sim.story import Story


class World:
    """Everything of one run. hosts: the life that each member has now."""

    def __init__(self, seed: int, story: Story, trace: bool = False) -> None:
        self.clock = Clock(seed, trace)
        self.story = story
        self.habits = story.habits
        self.network = Network(self.clock, story.latency, story.jitter)
        self.streams = Streams(self.network, self._takes, self._arrive)
        self.claims = Claims(self.clock)
        self.hosts: dict[str, Host] = {}
        self.lives: dict[Life, Host] = {}
        self.refusals: Counter[str] = Counter()
        self.notified = self.cycles = 0
        self.closing = False

    # ------------------------------------------------------------ lives

    def add(self, life: Life, node: Node) -> Host:
        host = Host(self, life, node)
        self.hosts[life.member] = self.lives[life] = host
        for at in range(self.story.clients):
            self.add_client(host, f"p{at}")
        return host

    def add_client(self, host: Host, name: str) -> None:
        random = self.clock.random
        party = f"{name}@{host.life.member}"
        if host.clients and random.random() < self.habits.groups:
            party = random.choice(host.clients).party
        client = Client(host, name, party)
        host.clients.append(client)
        self.clock.after(self.clock.about(self.habits.think), self._act, client)

    def _act(self, client: Client) -> None:
        host = client.host
        if host.dead or self.closing:
            return
        if not host.paused:
            client.act(self.habits, self.clock.random)
            if client.ended:
                host.clients.remove(client)
                self.add_client(host, f"p{self.clock.random.randrange(10**6)}")
                return
        self.clock.after(self.clock.about(self.habits.think), self._act, client)

    def crash(self, host: Host) -> None:
        """The daemon is gone at once; what its holders hold, they go on holding."""
        if host.dead:
            return
        self.clock.note("crash", host.life)
        host.dead = True
        self.claims.lost(host.life)
        self.streams.ended(host.life)

    # ------------------------------------------------------------ wires

    def _takes(self, life: Life) -> bool:
        host = self.lives[life]
        return host.dead or not host.paused

    def _arrive(self, receiver: Life, sender: Life, message: object) -> None:
        self.lives[receiver].arrives(sender, message)
