"""A membership service that tells lock managers of views, suspension and fencing.

It stands for the engine, the formation of views, the registry and the fencing gate together, and
promises what they promise: view numbers grow; a view has a majority; its members hear of it at
different times, some never; a life that an installed view left behind comes back as another life;
`Fenced` comes when the machine is off, and everybody hears of fencings in one order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clufs.dlm.interface import Fenced, Life, Resumed, Suspended, ViewInstalled
from clufs.dlm.node import Node
from tests.sim.host import Host

if TYPE_CHECKING:
    from tests.sim.world import World


@dataclass(eq=False)
class Group:
    """Those who hear each other now, until something changes."""

    members: tuple[Life, ...]
    view: int = 0
    hellos: int = 0


class Membership:
    """registered: lives that may hold locks. out: lives known to be finished, in order.

    installed: the newest view that any member has installed.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = world.clock
        self.random = world.clock.random
        self.registered: dict[Life, None] = {}
        self.out: list[Life] = []
        self.number = 0
        self.installed: Group | None = None
        self.left_behind: set[Life] = set()
        self.fencing: set[Life] = set()
        self.groups: dict[Life, Group] = {}
        self.calm = False  # the faults are over: fencing works

    # ------------------------------------------------------------ who hears whom

    def changed(self) -> None:
        """Machines, links or lives changed: the engine will notice."""
        delay = self.world.story.detect_s * (0.5 + self.random.random())
        self.clock.after(delay, self._notice)

    def form_again(self) -> None:
        """The ring is formed again, though nobody came or went."""
        self.groups.clear()
        self._notice()

    def _notice(self) -> None:
        hosts = [host for host in self.world.hosts.values() if not host.absent()]
        self.random.shuffle(hosts)
        while hosts:
            first = hosts.pop(0)
            found = [first]
            for host in list(hosts):
                if all(self._both_hear(host, other) for other in found):
                    found.append(host)
                    hosts.remove(host)
            self._form(found)

    def _both_hear(self, one: Host, other: Host) -> bool:
        a, b = one.life.member, other.life.member
        return self.world.network.hears(a, b) and self.world.network.hears(b, a)

    def _form(self, hosts: list[Host]) -> None:
        lives = tuple(sorted(host.life for host in hosts))
        if all(self._group_of(life).members == lives for life in lives):
            return
        group = Group(lives)
        for host in hosts:
            self.groups[host.life] = group
            self._tell(host, self._suspend, host, group)

    def _group_of(self, life: Life) -> Group:
        return self.groups.get(life) or Group(())

    def _tell(self, host: Host, action: Callable[..., None], *words: Any) -> None:
        """In a moment, or when it is awake again."""
        self.clock.after(self._moment(), self.world.when_awake, host, action, *words)

    def _moment(self) -> float:
        return self.random.random() * self.world.story.latency * 4

    # ------------------------------------------------------------ one group's view

    def _current(self, host: Host, group: Group) -> bool:
        return not host.dead and self.groups.get(host.life) is group

    def _suspend(self, host: Host, group: Group) -> None:
        if not self._current(host, group):
            return
        if host.life in self.left_behind:
            self._tell(host, self._expel, host)
            return
        if host.view is not None:
            host.view = None
            self.clock.note("suspended", host.life)
            host.step(Suspended())
        group.hellos += 1
        majority = 2 * len(group.members) > len(self.world.story.members)
        if group.hellos == len(group.members) and majority:
            self.number += 1
            group.view = self.number
            for life in group.members:
                one = self.world.lives[life]
                self._tell(one, self._install, one, group)

    def _expel(self, host: Host) -> None:
        """A view went on without it: its holders are killed, and it starts anew."""
        if not host.dead:
            self.clock.note("expelled", host.life)
            self.world.restart(host.life.member)

    def _install(self, host: Host, group: Group) -> None:
        if not self._current(host, group) or host.view is group:
            return
        if self.installed is None or self.installed.view < group.view:
            self._first_install(group)
        if host.peers and self.random.random() < 0.5:
            self._catch_up(host, len(self.out))
        host.outs_told = len(self.out)
        host.view = group
        self.world.streams.installed(host.life, group.members, host.install(group.members))
        gone = {*group.members, *self.out}
        lost = frozenset(life for life in self.registered if life not in gone)
        self.clock.note("installs", host.life, group.view, *group.members, "lost", *sorted(lost))
        host.step(ViewInstalled(group.view, group.members, lost))

    def _first_install(self, group: Group) -> None:
        before = self.installed.members if self.installed else ()
        self.installed = group
        self.registered.update(dict.fromkeys(group.members))
        self.left_behind.update(life for life in before if life not in group.members)
        self.left_behind.update(
            life for life in self.registered if life not in group.members and life not in self.out
        )
        for life in self.registered:
            if life not in group.members and life not in self.out:
                self.world.claims.lost(life)
                if life in self.world.claims.over:
                    self.clock.after(self._moment(), self.commit_out, life)
                elif life not in self.fencing:
                    self.fencing.add(life)
                    self.clock.after(self.clock.about(self.world.story.fence_s), self._fence, life)

    def blink(self) -> None:
        """Some lose quorum and get it back, and the view stays what it was."""
        for host in self.world.hosts.values():
            group = host.view
            if group is not None and not host.absent() and self.random.random() < 0.5:
                host.view = None
                self.clock.note("blinks", host.life)
                host.step(Suspended())
                delay = self.clock.about(self.world.story.detect_s)
                self.clock.after(delay, self.world.when_awake, host, self._unblink, host, group)

    def _unblink(self, host: Host, group: Group) -> None:
        if self._current(host, group) and host.view is None:
            host.view = group
            host.step(Resumed())
            self._catch_up(host, len(self.out))

    # ------------------------------------------------------------ fencing

    def _fence(self, life: Life) -> None:
        """An agent, or a person, turns the machine off; both may fail at first."""
        if life in self.out:
            return
        failed = self.random.random() < self.world.story.fence_fails and not self.calm
        if failed or not self._somebody_governs():
            self.clock.after(self.clock.about(self.world.story.fence_s), self._fence, life)
            return
        self.clock.note("fenced", life)
        if self.world.hosts[life.member].life == life:
            self.world.turn_off(life)
        self.commit_out(life)

    def _somebody_governs(self) -> bool:
        return any(
            not host.absent() and host.view is not None and host.view is self.installed
            for host in self.world.hosts.values()
        )

    def commit_out(self, life: Life) -> None:
        """The registry knows that this life is finished, as soon as there is a registry."""
        if life in self.out or life not in self.registered:
            return
        if not self._somebody_governs():
            self.clock.after(self.world.story.detect_s, self.commit_out, life)
            return
        self.out.append(life)
        count = len(self.out)
        for host in self.world.hosts.values():
            if host.view is self.installed:
                self._tell(host, self._hear_out, host, host.view, count)

    def _hear_out(self, host: Host, group: Group, count: int) -> None:
        if not host.dead and host.view is group:
            self._catch_up(host, count)

    def _catch_up(self, host: Host, count: int) -> None:
        while host.outs_told < count:
            life = self.out[host.outs_told]
            host.outs_told += 1
            self.clock.note("hears", host.life, "fenced", life)
            host.step(Fenced(life))

    # ------------------------------------------------------------ lives

    def start(self, member: str, incarnation: int) -> None:
        """A life begins; it holds nothing before a view has it."""
        life = Life(member, incarnation)
        self.world.adopt(Follower(self.world, life, Node(member, 0, (), incarnation)))
        self.changed()

    def begin(self) -> None:
        """Nobody else is there."""

    def crashed(self, host: Host) -> None:
        self.changed()

    def off(self, member: str) -> None:
        """It was said already that its process is gone."""

    def cleared(self, life: Life) -> None:
        self.commit_out(life)


class Follower(Host):
    """A life that this service tells of views. It does not look at its clock when it wakes."""

    def wakes(self, slept: float) -> None:
        """It goes on in its view, whatever the others have done meanwhile."""

    def left(self) -> None:
        """Everything was let go in order: it is not lost, and there is nothing to fence."""
        self.world.end_holders(self.life)
