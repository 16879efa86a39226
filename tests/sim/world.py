"""A cluster on virtual time: hosts, wires, clients, and the oracle that watches them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from clufs.dlm.interface import Leaving, Life, PartyChanged
from tests.sim.claims import Claims
from tests.sim.clients import Client
from tests.sim.clock import Clock
from tests.sim.host import Host
from tests.sim.membership import Membership
from tests.sim.network import Network, Streams
from tests.sim.platform import Platform
from tests.sim.sessions import SessionStreams
from tests.sim.story import Story

IDLERS_PAUSE = 10
IDLERS_MODES = (6, 4, 1, 2, 0, 1)
"""Those who do not do the work hold on to low modes, mostly, for long."""


class World:
    """Everything of one run. hosts: the life that each member has now."""

    def __init__(self, seed: int, story: Story, trace: bool = False) -> None:
        self.clock = Clock(seed, trace)
        self.story = story
        self.habits = story.habits
        self.idlers = replace(story.habits, modes=IDLERS_MODES)
        self.network = Network(self.clock, story.latency, story.jitter)
        self.wires = Network(self.clock, story.latency, story.jitter, self.network)
        self.streams: Streams | SessionStreams = (
            SessionStreams(self.wires, story.torn_s, self._runs, self._arrive)
            if story.torn_s
            else Streams(self.wires, self._takes, self._arrive)
        )
        self.claims = Claims(self.clock)
        self.service: Membership | Platform = Platform(self) if story.whole else Membership(self)
        self.incarnations: Counter[str] = Counter()
        self.hosts: dict[str, Host] = {}
        self.lives: dict[Life, Host] = {}
        self.refusals: Counter[str] = Counter()
        self.notified = self.cycles = self.moves = 0
        self._parties = 0
        self.closing = False

    # ------------------------------------------------------------ lives

    def adopt(self, host: Host) -> None:
        """A life has begun; its clients come."""
        self.hosts[host.life.member] = self.lives[host.life] = host
        self.streams.begun(host.life)
        if self.habits.groups:
            host.group = self.new_party()
            self._change_group(host)
        for at in range(self.story.clients):
            self.add_client(host, f"p{at}")

    def new_party(self) -> int:
        self._parties += 1
        return self._parties

    def _change_group(self, host: Host) -> None:
        """The processes of the member's lock group are others now, or it is none any more."""
        random = self.clock.random
        if host.dead or self.closing:
            return
        if not host.paused and host.group is not None:
            parties = sorted({client.party for client in host.clients})
            members = random.sample(parties, random.randint(0, min(3, len(parties))))
            host.step(PartyChanged(host.group, frozenset(members)))
        self.clock.after(self.clock.about(self.habits.think * 20), self._change_group, host)

    def add_client(self, host: Host, name: str) -> None:
        random = self.clock.random
        if host.clients and random.random() < self.habits.shared:
            party = random.choice(host.clients).party
        else:
            party = self.new_party()
        client = Client(host, name, party)
        host.clients.append(client)
        self.clock.after(self.clock.about(self.habits.think), self._act, client)

    def _act(self, client: Client) -> None:
        host = client.host
        if host.dead or self.closing or client.ended:
            return
        idles = self._idles(host.life.member)
        if not host.paused:
            client.act(self.idlers if idles else self.habits, self.clock.random)
            if client.ended:
                host.clients.remove(client)
                self.add_client(host, f"p{self.clock.random.randrange(10**6)}")
                return
        pause = self.habits.think * (IDLERS_PAUSE if idles else 1)
        self.clock.after(self.clock.about(pause), self._act, client)

    def _idles(self, member: str) -> bool:
        """Whether others do nearly all the work now."""
        if not self.story.busy_s:
            return False
        turn = int(self.clock.now / self.story.busy_s) % len(self.story.members)
        return member != self.story.members[turn]

    def start(self, member: str) -> None:
        """A new life of this member, if it has none now."""
        host = self.hosts.get(member)
        if host is None or host.dead:
            self.incarnations[member] += 1
            self.service.start(member, self.incarnations[member])

    def restart(self, member: str) -> None:
        """The daemon starts again, and first sees to it that no holder of before is left."""
        self.end_holders(self.hosts[member].life)
        self.clock.after(self.story.detect_s * self.clock.random.random(), self.start, member)

    def end_holders(self, life: Life) -> None:
        """The daemon is gone, and every holder of that life is killed and seen gone."""
        self.crash(self.lives[life])
        if life not in self.claims.over:
            self.clock.note("ended", life)
            self.claims.ended(life)
            self.service.cleared(life)

    def power_off(self, life: Life) -> None:
        """The machine is off, and whatever ran there is surely finished."""
        self.crash(self.lives[life])
        self.service.off(life.member)
        if life not in self.claims.over:
            self.clock.note("off", life)
            self.claims.ended(life)

    def turn_off(self, life: Life) -> None:
        """The machine is turned off by others, whatever runs there, and comes back some time."""
        host = self.hosts[life.member]
        self.power_off(host.life)
        self.clock.after(self.clock.about(self.story.fence_s * 4), self._on_again, host)

    def _on_again(self, host: Host) -> None:
        if self.hosts[host.life.member] is host:
            self.restart(host.life.member)

    def leave(self, host: Host) -> None:
        """Its owners end, and it says goodbye."""
        self.clock.note("leaves", host.life)
        host.leaving = True
        for client in list(host.clients):
            client.exit(False)
            if host.dead:
                return
        host.clients.clear()
        host.step(Leaving())

    def pause(self, host: Host) -> None:
        self.clock.note("pause", host.life)
        host.paused, host.paused_at = True, self.clock.now

    def resume(self, host: Host) -> None:
        if host.dead or not host.paused:
            return
        self.clock.note("resume", host.life)
        host.paused = False
        host.wakes(self.clock.now - host.paused_at)
        while host.deferred and not host.absent():
            action, words = host.deferred.popleft()
            action(*words)
        self.streams.pump_all()

    def when_awake(self, host: Host, action: Callable[..., None], *words: Any) -> None:
        if host.paused:
            host.deferred.append((action, words))
        else:
            action(*words)

    def crash(self, host: Host) -> None:
        """The daemon is gone at once; what its holders hold, they go on holding."""
        if host.dead:
            return
        self.clock.note("crash", host.life)
        host.dead = True
        self.claims.lost(host.life)
        self.streams.ended(host.life)
        self.service.crashed(host)

    # ------------------------------------------------------------ wires

    def _runs(self, life: Life) -> bool:
        return not self.lives[life].absent()

    def _takes(self, receiver: Life, sender: Life) -> bool:
        host = self.lives[receiver]
        return host.dead or (not host.paused and host.listens_to(sender))

    def _arrive(self, receiver: Life, sender: Life, message: object) -> None:
        self.lives[receiver].arrives(sender, message)
