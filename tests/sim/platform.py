"""Whole members on simulated machines: the core of a member, its lock manager, engine and disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clufs.cluster import formation as f
from clufs.cluster import gate as g
from clufs.cluster.formation import Self
from clufs.cluster.gate import COMMAND, AgentPlan
from clufs.cluster.interface import Peer, Report
from clufs.dlm.interface import Event, Fenced, Life, Resumed, Send, Suspended, ViewInstalled
from clufs.dlm.node import Node
from clufs.errors import InvalidRequest, NoQuorum
from clufs.member import core as c
from clufs.member.core import Core, Start
from clufs.registry import messages as r
from clufs.registry.commands import DropNamespace, PutNamespace
from clufs.registry.log import Write
from clufs.registry.state import State
from clufs.timeouts import KEEPALIVE_S, LEASE_S, PEER_DEAD_S
from tests.sim.clock import Violation
from tests.sim.disk import Disk
from tests.sim.disk_edge import DiskEdge
from tests.sim.engine import Engine
from tests.sim.host import Host
from tests.sim.quorum_disk import QuorumDisk

if TYPE_CHECKING:
    from tests.sim.world import World

AGENT = (AgentPlan(COMMAND, ("off",)),)


@dataclass(eq=False)
class Machine:
    """What of a member survives its daemon. boot: how often it was turned on."""

    peer: Peer
    disk: Disk
    boot: int = 1
    cleared: int = 0


class Member(Host):
    """One life of one member, all of it."""

    def __init__(self, world: World, machine: Machine, life: Life, pid: int) -> None:
        super().__init__(world, life, Node(life.member, 0, (), life.incarnation))
        self.machine, self.pid = machine, pid
        platform = world.service
        assert isinstance(platform, Platform)
        self.platform = platform
        me = Self(machine.peer, life.incarnation, 7788)
        start = Start(
            machine.disk.view,
            machine.disk.stored,
            f"boot {machine.boot}",
            life.member,
            machine.cleared,
        )
        votes = world.story.disk_votes
        self.core = Core(me, platform.peers, platform.agents, start, votes)
        self.edge = DiskEdge(self, platform.disk) if votes else None
        self.stood: ViewInstalled | None = None
        self.silent_since: dict[int, float] = {}
        self.asked: set[Any] = set()
        self._deeds = {
            f.Multicast: lambda effect: platform.engine.multicast(machine.peer.id, effect.data),
            f.Store: lambda effect: machine.disk.put(effect.number, self._kept),
            Write: lambda effect: machine.disk.put(effect, self._kept),
            f.Expelled: lambda effect: platform.expelled(self, effect.why),
            c.SetView: self._set_view,
            c.Step: lambda effect: self._step(effect.event),
            c.Happened: lambda effect: world.clock.note("event", life, effect.what, effect.facts),
            c.Finished: lambda effect: platform.finished(self),
            r.Applied: self._applied,
            r.Restored: lambda effect: None,
            r.Answered: self._answered,
            r.GaveUp: lambda effect: self.asked.discard(effect.id),
            g.RunAgent: lambda effect: platform.run_agent(self, effect),
            g.StopAgent: lambda effect: None,
            g.OrderEnded: lambda effect: None,
            g.Told: lambda effect: world.clock.note("gate", life, effect),
            g.At: self._gate_at,
            **(self.edge.deeds if self.edge is not None else {}),
        }
        world.clock.after(world.clock.random.random() * KEEPALIVE_S, self._tick)

    # ------------------------------------------------------------ events

    def report(self, report: Report) -> None:
        if not self.dead:
            self.carry(self.core.report(report))

    def carry(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            if self.dead or self.crashes_now():
                return
            self._deeds[type(effect)](effect)

    def _kept(self, what: int | Write, kept: bool) -> None:
        self.world.when_awake(self, self._written, what, kept)

    def _written(self, what: int | Write, kept: bool) -> None:
        if self.dead:
            return
        if not isinstance(what, Write):
            self.carry(self.core.view_stored(what))
        elif kept:
            self.carry(self.core.log_stored(what.ticket))
        else:
            self.carry(self.core.log_failed(what.ticket, "no space left"))

    def _tick(self) -> None:
        if self.dead:
            return
        if not self.paused:
            now = self.world.clock.now
            self.carry(self.core.tick(now, self._silent(now)))
        if not self.dead:
            self.world.clock.after(KEEPALIVE_S, self._tick)

    def _silent(self, now: float) -> list[int]:
        """Who has not been heard on the streams for long."""
        view, found = self.core.view, []
        for one, incarnation in view.members if view else ():
            other = self.core.name(one)
            if other == self.life.member:
                continue
            host = self.world.lives.get(Life(other, incarnation))
            heard = host is not None and not host.absent() and self._connected(other)
            if heard:
                self.silent_since.pop(one, None)
            elif now - self.silent_since.setdefault(one, now) >= PEER_DEAD_S:
                found.append(one)
        return found

    def _connected(self, other: str) -> bool:
        network, me = self.world.wires, self.life.member
        return network.hears(me, other) and network.hears(other, me)

    def _gate_at(self, effect: g.At) -> None:
        delay = max(0.0, effect.time_s - self.world.clock.now)
        self.world.clock.after(delay, self.world.when_awake, self, self._gate_tick)

    def _gate_tick(self) -> None:
        if not self.dead:
            self.carry(self.core.gate_tick(self.world.clock.now))

    def wakes(self, slept: float) -> None:
        """Its daemon finds out that it stood still, before it does anything else."""
        if self.edge is not None:
            self.edge.wakes()
        if slept > LEASE_S and self.view is not None and len(self.view.members) > 1:
            self._step(Suspended())
            self.carry(self.core.probe())

    # ------------------------------------------------------------ what follows

    def left(self) -> None:
        self.world.claims.ended(self.life)  # its owners are gone, and none may come
        self.carry(self.core.left())

    def awaited(self) -> str:
        return self.core.waits_for() or self.node.waits_for()

    def listens_to(self, sender: Life) -> bool:
        return sender in self.behind or self.peers.get(sender.member) == sender

    def unsent(self, effect: Send) -> None:
        """The mesh drops what is for nobody that it serves."""

    def _set_view(self, effect: c.SetView) -> None:
        view = effect.view
        lives = tuple(Life(self.core.name(one), number) for one, number in view.members)
        self.platform.check_view(view.number, lives)
        self.world.streams.installed(self.life, lives, self.install(lives))

    def _step(self, event: Event) -> None:
        clock, claims = self.world.clock, self.world.claims
        clock.note("step", self.life, event)
        if isinstance(event, ViewInstalled):
            self.view = self.stood = self.platform.group(event)
            for life in sorted(event.lost):
                if life not in claims.doomed:
                    claims.lost(life)
        elif isinstance(event, Suspended):
            self.view = None
        elif isinstance(event, Resumed):
            self.view = self.stood
        elif isinstance(event, Fenced) and event.life not in claims.over:
            raise Violation(f"{self.life} hears that {event.life} is fenced, and it is not")
        self.step(event)

    def _applied(self, effect: r.Applied) -> None:
        self.platform.check_applied(effect)

    def propose(self, command: Any) -> None:
        id, effects = self.core.propose(command)
        self.asked.add(id)
        self.carry(effects)

    def _answered(self, effect: r.Answered) -> None:
        self.asked.discard(effect.id)
        self.platform.check_answered(effect)


class Platform:
    """All machines. applied: what every member must have applied at each index of the registry."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock, self.random = world.clock, world.clock.random
        names = world.story.members
        self.peers = tuple(Peer(at, name, f"10.0.0.{at}", 1) for at, name in enumerate(names, 1))
        disk_s = world.story.disk_s
        self.machines = {peer.name: Machine(peer, Disk(self.clock, disk_s)) for peer in self.peers}
        self.agents = AGENT if world.story.has_agent else ()
        votes = world.story.disk_votes
        self.engine = Engine(self.clock, world.network, self.peers, self._report, votes)
        self.disk = QuorumDisk(self.clock, world.story.lun_s, tuple(one.id for one in self.peers))
        self.calm = False
        self.pids = 100
        self.shots = 0  # agents that run now
        self.views: dict[int, tuple[Life, ...]] = {}
        self.groups: dict[int, ViewInstalled] = {}
        self.applied: dict[int, tuple[Any, ...]] = {}
        self.known: set[Any] = set()
        self.answered: dict[Any, str | None] = {}
        self._due: dict[tuple[int, type], float] = {}

    # ------------------------------------------------------------ lives

    def start(self, member: str, incarnation: int) -> None:
        machine = self.machines[member]
        self.engine.start(machine.peer.id)
        self.pids += 1
        host = Member(self.world, machine, Life(member, incarnation), self.pids)
        self.world.adopt(host)
        self.clock.after(0.0, self.engine.join, machine.peer.id, self.pids)

    def begin(self) -> None:
        """Those start who are there beside the members."""
        self.clock.after(self.clock.about(self.world.story.fence_s * 3), self.person)
        self.clock.after(self.clock.about(self.world.story.clerk_s), self.clerk)

    def commit_out(self, life: Life) -> None:
        """The next life of the member sees to that when it comes in."""

    def crashed(self, host: Host) -> None:
        assert isinstance(host, Member)
        host.machine.disk.crash()
        self.clock.after(
            self.world.network.latency, self.engine.leave, host.machine.peer.id, host.pid
        )

    def off(self, member: str) -> None:
        """The machine itself is off."""
        machine = self.machines[member]
        machine.boot += 1
        machine.cleared = 0
        self.engine.stop(machine.peer.id)

    def cleared(self, life: Life) -> None:
        """The daemon that starts next has seen the holders of this life gone."""
        self.machines[life.member].cleared = life.incarnation

    def expelled(self, host: Member, why: str) -> None:
        self.clock.note("expelled", host.life, why)
        self.world.restart(host.life.member)

    def finished(self, host: Member) -> None:
        """Its goodbye is on record."""
        self.clock.note("finished", host.life)
        self.world.end_holders(host.life)

    def changed(self) -> None:
        self.engine.changed()

    def form_again(self) -> None:
        self.engine.form_again()

    def blink(self) -> None:
        self.engine.blink()

    # ------------------------------------------------------------ the engine's reports

    def _report(self, id: int, pid: int, report: Report) -> None:
        """Through the engine's sockets: what comes one way comes in its order."""
        host = self.world.hosts.get(self.peers[id - 1].name)
        if not isinstance(host, Member) or host.pid != pid:
            return
        key = (pid, type(report).__name__ == "QuorumChanged")
        delay = self.random.random() * self.world.network.latency
        due = self._due[key] = max(self._due.get(key, 0.0), self.clock.now + delay)
        self.clock.after(due - self.clock.now, self.world.when_awake, host, host.report, report)

    # ------------------------------------------------------------ fencing

    def run_agent(self, host: Member, effect: g.RunAgent) -> None:
        self.clock.note("agent", host.life, "against", effect.life)
        self.shots += 1
        self.clock.after(self.clock.about(self.world.story.fence_s), self._shoot, host, effect)

    def _shoot(self, host: Member, effect: g.RunAgent) -> None:
        self.shots -= 1
        ok = self.calm or self.random.random() >= self.world.story.fence_fails
        if ok:
            self.world.turn_off(effect.life)
        if not host.dead:
            self.world.when_awake(host, self._shot, host, effect, ok)

    def _shot(self, host: Member, effect: g.RunAgent, ok: bool) -> None:
        if not host.dead:
            now = self.clock.now
            host.carry(host.core.agent_done(now, effect.life, effect.agent, ok, "as it is"))

    def person(self) -> None:
        """Somebody looks after what no agent does: turns a lost machine off and says so."""
        if not self.agents or self.random.random() < 0.3:
            for host in list(self.world.hosts.values()):
                if isinstance(host, Member) and host.core.standing and not host.absent():
                    self._confirm(host)
                    break
        self.clock.after(self.clock.about(self.world.story.fence_s * 3), self.person)

    def _confirm(self, host: Member) -> None:
        for life in sorted(host.core.gate.lost):
            there = self.world.hosts[life.member]
            if there.life.incarnation <= life.incarnation:
                self.world.turn_off(life)
            self.world.claims.ended(life)
            self.clock.note("confirms", life, "at", host.life)
            try:
                effects = host.core.confirm(life.member)
            except (NoQuorum, InvalidRequest):
                return
            host.carry(effects)
            if host.absent():
                return

    # ------------------------------------------------------------ the registry's clients

    def clerk(self) -> None:
        """Somebody makes and removes namespaces."""
        hosts = [host for host in self.world.hosts.values() if isinstance(host, Member)]
        standing = [host for host in hosts if host.core.standing and not host.absent()]
        if standing and not self.world.closing:
            host = self.random.choice(standing)
            name = b"ns%d" % self.random.randrange(6)
            new = self.random.random() < 0.5
            command = PutNamespace(name, self.random.randrange(9), 0, 0o700, new)
            drop = self.random.random() < 0.3
            host.propose(DropNamespace(name) if drop else command)
        if not self.world.closing:
            self.clock.after(self.clock.about(self.world.story.clerk_s), self.clerk)

    # ------------------------------------------------------------ what must hold

    def check_view(self, number: int, lives: tuple[Life, ...]) -> None:
        if self.views.setdefault(number, lives) != lives:
            raise Violation(f"view {number} is {lives} and {self.views[number]}")

    def group(self, event: ViewInstalled) -> ViewInstalled:
        found = self.groups.setdefault(event.view, event)
        if found.members != event.members:
            raise Violation(f"view {event.view} is {event.members} and {found.members}")
        return found

    def check_applied(self, effect: r.Applied) -> None:
        what = (effect.id, effect.command, effect.refusal)
        self.known.add(effect.id)
        before = self.applied.setdefault(effect.index, what)
        if before != what:
            raise Violation(f"entry {effect.index} of the registry is {what} and {before}")

    def check_answered(self, effect: r.Answered) -> None:
        """It is committed: it is in the log for ever, where check_applied has its index."""
        self.answered[effect.id] = effect.refusal
        if effect.id not in self.known:
            raise Violation(f"{effect.id} is acknowledged and nowhere applied")

    def check_registry(self) -> None:
        """All members have the same registry, and it is what all that was applied makes of it."""
        expected = State()
        for index in sorted(self.applied):
            id, command, _ = self.applied[index]
            expected.take(id, command)
        for host in self.world.hosts.values():
            assert isinstance(host, Member)
            state = host.core.replica.state
            if state.namespaces != expected.namespaces:
                raise Violation(f"{host.life} has {state.namespaces}, not {expected.namespaces}")
            if host.asked:
                raise Violation(f"{host.life} was never answered: {host.asked}")
