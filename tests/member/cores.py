"""Several members' cores around one bus, in virtual time: what corosync, disks and streams do at their best."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from clufs.cluster import formation as f
from clufs.cluster import gate as g
from clufs.cluster.formation import Self
from clufs.cluster.gate import COMMAND, AgentPlan
from clufs.cluster.interface import Delivered, GroupChanged, Peer, QuorumChanged
from clufs.dlm.interface import Event, Life
from clufs.member import core as c
from clufs.member.core import Core, Start
from clufs.registry import messages as r
from clufs.registry.log import Stored, Write

NAMES = ("provolone", "polishham", "pepicelli")
PEERS = tuple(Peer(number, name, f"10.0.0.{number}") for number, name in enumerate(NAMES, 1))
AGENT = (AgentPlan(COMMAND, ("off",)),)


@dataclass
class Machine:
    """What of a member survives its daemon."""

    peer: Peer
    boot_id: str = "boot"
    view: int = 0
    stored: Stored = field(default_factory=Stored)
    incarnation: int = 0
    is_full: bool = False


@dataclass
class Running:
    """One life of a member, and what came of it."""

    machine: Machine
    core: Core
    pid: int
    steps: list[Event] = field(default_factory=list)
    answers: dict[Any, str | None] = field(default_factory=dict)
    told: list[g.Told] = field(default_factory=list)
    shots: list[g.RunAgent] = field(default_factory=list)
    events: list[c.Happened] = field(default_factory=list)
    expelled: str = ""
    finished: bool = False

    def last(self, kind: type) -> Any:
        """The last event of this kind that the lock manager was given."""
        return next(event for event in reversed(self.steps) if type(event) is kind)


class Cores:
    """The cluster. running: the lives that go on, by name."""

    def __init__(self, agents: tuple[AgentPlan, ...] = ()) -> None:
        self.agents = agents
        self.machines = {peer.name: Machine(peer) for peer in PEERS}
        self.running: dict[str, Running] = {}
        self.ring = 0
        self.pids = 100
        self.now = 0.0
        self.mute = ""  # the member whose proposals get lost
        self._bus: deque[tuple[int, bytes]] = deque()

    def start(self, *names: str, cleared: bool = False) -> None:
        """Daemons start on these machines."""
        for name in names:
            machine = self.machines[name]
            before, machine.incarnation = machine.incarnation, machine.incarnation + 1
            me = Self(machine.peer, machine.incarnation, 7788)
            start = Start(
                machine.view, machine.stored, machine.boot_id, name, before if cleared else 0
            )
            self.pids += 1
            core = Core(me, PEERS, self.agents, start)
            self.running[name] = Running(machine, core, self.pids)
        self.change()

    def kill(self, *names: str) -> None:
        """Their machines lose power."""
        for name in names:
            del self.running[name]
        self.change()

    def change(self) -> None:
        """corosync forms a ring of those that run."""
        self.ring += 1
        self._bus.clear()
        ids = tuple(sorted(one.machine.peer.id for one in self.running.values()))
        ring = (min(ids, default=0), self.ring)
        group = tuple(sorted((one.machine.peer.id, one.pid) for one in self.running.values()))
        for one in list(self.running.values()):
            self.do(one, one.core.report(GroupChanged(ring, group)))
            self.do(one, one.core.report(QuorumChanged(ring, len(ids) > 1, ids)))
        self.settle()

    def settle(self) -> None:
        """Deliver all there is."""
        while self._bus:
            sender, data = self._bus.popleft()
            for one in list(self.running.values()):
                self.do(one, one.core.report(Delivered(sender, data)))

    def do(self, one: Running, effects: list[c.Effect]) -> None:
        """Carry out effects of a life."""
        for effect in effects:
            self._deed(one, effect)

    def _deed(self, one: Running, effect: c.Effect) -> None:
        match effect:
            case f.Multicast():
                if one.machine.peer.name == self.mute and b"proposal" in effect.data:
                    return
                self._bus.append((one.machine.peer.id, effect.data))
            case f.Store() if one.machine.is_full:
                self.do(one, one.core.view_failed("no room for a view"))
            case Write() if one.machine.is_full:
                self.do(one, one.core.log_failed(effect.ticket, "no room for the log"))
            case f.Store():
                one.machine.view = effect.number
                self.do(one, one.core.view_stored(effect.number))
            case Write():
                one.machine.stored = one.machine.stored.after(effect)
                self.do(one, one.core.log_stored(effect.ticket))
            case c.Step():
                one.steps.append(effect.event)
            case r.Answered():
                one.answers[effect.id] = effect.refusal
            case g.Told():
                one.told.append(effect)
            case c.Happened():
                one.events.append(effect)
            case g.RunAgent():
                one.shots.append(effect)
            case f.Expelled():
                one.expelled = effect.why
            case c.Finished():
                one.finished = True

    def life(self, name: str) -> Life:
        """The present life of a member."""
        return self.running[name].core.life
