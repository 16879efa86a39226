"""What befalls a cluster, and when it ends."""

from __future__ import annotations

from itertools import permutations

from tests.sim.host import Host
from tests.sim.platform import Machine, Platform
from tests.sim.world import World


class Faults:
    """Strikes again and again until `stop`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.story = world.story
        self.clock = world.clock
        self.random = world.clock.random
        self.stopped = False
        self.count = 0

    def start(self) -> None:
        if self.story.faults:
            self.clock.after(self.clock.about(self.story.fault_every), self._strike)

    def _strike(self) -> None:
        if self.stopped:
            return
        kind = self.random.choices(list(self.story.faults), list(self.story.faults.values()))[0]
        self.count += 1
        self.clock.note("fault", kind)
        getattr(self, "_" + kind.replace(" ", "_"))()
        self.clock.after(self.clock.about(self.story.fault_every), self._strike)

    def _later(self) -> float:
        """How long a fault lasts: sometimes too short to be noticed."""
        return self.clock.about(self.story.detect_s * self.random.choice((0.3, 3, 10)))

    def _somebody(self) -> Host | None:
        there = [host for host in self.world.hosts.values() if not host.absent()]
        return self.random.choice(there) if there else None

    def _pair(self) -> tuple[str, str]:
        one, other = self.random.sample(self.story.members, 2)
        return one, other

    # ------------------------------------------------------------ the kinds

    def _crash(self) -> None:
        host = self._somebody()
        if host is not None:
            host.crash_in = self.random.choice((0, 0, 1, 2, 5, 12))
            self.clock.after(self._later(), self._crash_now, host)

    def _crash_now(self, host: Host) -> None:
        """At the latest now; and some time after it the daemon is started again."""
        if not host.dead:
            self.world.crash(host)
        self.clock.after(self._later(), self._start_again, host)

    def _start_again(self, host: Host) -> None:
        if self.world.hosts[host.life.member] is host:
            self.world.restart(host.life.member)

    def _pause(self) -> None:
        host = self._somebody()
        if host is not None:
            self.world.pause(host)
            self.world.service.changed()
            self.clock.after(self._later(), self._resume, host)

    def _resume(self, host: Host) -> None:
        self.world.resume(host)
        self.world.service.changed()
        if host.dead:
            self._start_again(host)

    def _power_cut(self) -> None:
        for host in list(self.world.hosts.values()):
            self.world.power_off(host.life)
            self.clock.after(self._later(), self._start_again, host)

    def _leave(self) -> None:
        host = self._somebody()
        if host is not None and host.view is not None and not host.leaving:
            self.world.leave(host)
            self.clock.after(self._later() * 3, self._gone_by_now, host)

    def _gone_by_now(self, host: Host) -> None:
        """A goodbye that takes too long ends without one."""
        if not host.dead:
            self.world.crash(host)
        self._start_again(host)

    def _cut(self) -> None:
        one, other = self._pair()
        self._sever([(one, other), (other, one)])

    def _cut_one_way(self) -> None:
        self._sever([self._pair()])

    def _isolate(self) -> None:
        members = self.story.members
        inside = set(self.random.sample(members, self.random.randint(1, len(members) - 1)))
        self._sever(
            [
                pair
                for pair in permutations(members, 2)
                if (pair[0] in inside) != (pair[1] in inside)
            ]
        )

    def _sever(self, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            self.world.network.sever(*pair)
        self.world.service.changed()
        self.clock.after(self._later(), self._mend, pairs)

    def _mend(self, pairs: list[tuple[str, str]]) -> None:
        self.world.network.mend(pairs)
        self.world.service.changed()

    def _slow_link(self) -> None:
        pair = self._pair()
        self.world.network.slow[pair] = self.story.latency * self.random.choice((3, 30))

    def _blink(self) -> None:
        self.world.service.blink()

    def _ring_again(self) -> None:
        self.world.service.form_again()

    # ------------------------------------------------------------ the kinds of whole members

    def _platform(self) -> Platform:
        assert isinstance(self.world.service, Platform)
        return self.world.service

    def _machine(self) -> Machine:
        return self._platform().machines[self.random.choice(self.story.members)]

    def _off(self) -> None:
        host = self._somebody()
        if host is not None:
            self.world.power_off(host.life)
            self.clock.after(self._later(), self._start_again, host)

    def _freeze(self) -> None:
        """The whole machine stands still, corosync and all."""
        host = self._somebody()
        if host is not None:
            self.world.pause(host)
            id = self._platform().machines[host.life.member].peer.id
            self._platform().engine.freeze(id, True)
            self.clock.after(self._later(), self._thaw, host, id)

    def _thaw(self, host: Host, id: int) -> None:
        self._platform().engine.freeze(id, False)
        self._resume(host)

    def _engine_killed(self) -> None:
        machine = self._machine()
        self._platform().engine.stop(machine.peer.id, "corosync is gone")
        self.clock.after(self._later(), self._platform().engine.start, machine.peer.id)

    def _slow_disk(self) -> None:
        machine = self._machine()
        machine.disk.write_s = self.story.disk_s * 50
        self.clock.after(self._later(), self._good_disk, machine)

    def _full_disk(self) -> None:
        machine = self._machine()
        machine.disk.full = True
        self.clock.after(self._later() * 3, self._good_disk, machine)

    def _good_disk(self, machine: Machine) -> None:
        machine.disk.write_s, machine.disk.full = self.story.disk_s, False

    def _dead_path(self) -> None:
        """corosync has a network of its own, and that of the streams is broken."""
        pairs = [self._pair()]
        self.world.wires.cut.update(pairs)
        self.clock.after(self._later(), self.world.wires.mend, pairs)

    # ------------------------------------------------------------ the quorum disk

    def _disk_away(self) -> None:
        """A member does not reach the LUNs."""
        away = self._platform().disk.away
        one = self._machine().peer.id
        away.add(one)
        self.clock.after(self._later(), away.discard, one)

    def _disk_gone(self) -> None:
        away = self._platform().disk.away
        away.update(peer.id for peer in self._platform().peers)
        self.clock.after(self._later(), away.clear)

    def _slow_LUNs(self) -> None:
        self._platform().disk.slow = self.random.choice((3.0, 30.0))
        self.clock.after(self._later(), self._good_luns)

    def _good_luns(self) -> None:
        self._platform().disk.slow = 1.0

    # ------------------------------------------------------------ the end of it

    def stop(self) -> None:
        """Everything is repaired: links, machines, fencing."""
        self.stopped = True
        self.clock.note("faults end")
        world = self.world
        world.service.calm = True
        world.network.heal()
        world.wires.heal()
        if isinstance(world.service, Platform):
            world.service.disk.away.clear()
            self._good_luns()
            for machine in world.service.machines.values():
                world.service.engine.start(machine.peer.id)
                world.service.engine.freeze(machine.peer.id, False)
                self._good_disk(machine)
        for host in list(world.hosts.values()):
            host.crash_in = None
            if host.paused:
                world.resume(host)
            if host.dead and world.hosts[host.life.member] is host:
                world.restart(host.life.member)
        world.service.changed()
