"""Fencing by LUN in this daemon: each life enters the data LUNs before it begins, and ends when it is fenced there."""

from __future__ import annotations

from clufs.cluster.agents import Agent, agent_of
from clufs.cluster.gate import LUN, AgentPlan
from clufs.config import Config, LunAgent
from clufs.daemon.membership import Membership
from clufs.errors import NotFenced
from clufs.storage import lun_agent
from clufs.storage.certificate import MemberKey
from clufs.storage.disk_header import cluster_number
from clufs.storage.guard import Guard
from clufs.storage.holding import Holding
from clufs.storage.inventory import SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.lease import OnDisk
from clufs.storage.lease_wire import Seen, boottime
from clufs.storage.method import Method, Surroundings, Traits, choose, none
from clufs.storage.paths import initiator_name
from clufs.storage.probe import Report
from clufs.storage.records import LeaseState
from clufs.storage.time_rule import silence
from clufs.storage.tombstones import Tombstones
from clufs.storage.trials import Trials
from clufs.timeouts import QuorumTimeline
from clufs.tree.journals import Events


class LunFencing:
    """Where the agent `lun` is configured; without it nothing is registered anywhere, and no path is held."""

    def __init__(self, config: Config, luns: Luns, membership: Membership, events: Events) -> None:
        self._config = config
        self._luns = luns
        self._membership = membership
        self._disk_lease = membership.disk_lease
        self._tombstones = Tombstones(luns, membership.cluster_name)
        initiator = config.storage.initiator or initiator_name(membership.name)
        self._trials = Trials(initiator, self._tried_out)
        self._events = events
        self._guard: Guard | None = None
        self._holding: Holding | None = None
        self._confirmed: set[MemberKey] = set()
        membership.agent_of = self._agent_of
        if any(isinstance(agent, LunAgent) for agent in config.fencing.agents):
            self._guard = Guard(luns, self._tombstones, self._trials)
            self._holding = self._guard.holding = Holding(self._is_off, events.add)
            membership.live = self._live

    async def serve(self) -> None:
        """Carry out what is asked of the LUNs, until cancelled."""
        if self._guard is not None:
            await self._guard.serve()

    async def leave(self) -> None:
        """This member ends in good order."""
        if self._guard is not None:
            await self._guard.leave()

    async def _live(self) -> None:
        """One life, from before it may hold a lock to its end."""
        assert self._guard is not None
        runtime = self._membership.runtime
        me = runtime.engine.me
        key = MemberKey(
            cluster_number(self._membership.cluster_name), me.id, self._membership.incarnation
        )
        async with self._guard.life(key, lambda why: runtime.end(f"it is fenced: {why}")):
            if runtime.ended is None:
                await runtime.run()

    def _tried_out(self, lun: str, report: Report) -> None:
        for one in report.findings:
            self._events.add("lun-finding", lun=lun, what=one.what, therefore=one.therefore)

    def method(self, lun: SharedLun) -> str:
        """/clu/luns/<wwid>/method, from what is known without asking the LUN."""
        if lun.role != "data":
            return none(lun.role).text()
        return self._choose(lun).text() + self._kept(lun)

    def _kept(self, lun: SharedLun) -> str:
        """A line for each life that this member keeps from a LUN by its own reservation."""
        held = self._holding.held.get(lun.wwid) if self._holding is not None else None
        if held is None:
            return ""
        names = {peer.id: peer.name for peer in self._membership.runtime.engine.peers}
        return "".join(
            f"HELD={held.path.name} alone until {names.get(victim.member, victim.member)} (incarnation"
            f" {victim.incarnation}) is off\n"
            for victim in sorted(held.out)
        )

    def _choose(self, lun: SharedLun) -> Method:
        """Of a LUN for data."""
        is_file = any(p.opened is not None and p.opened.lun is None for p in lun.paths.values())
        registers: bool | None = False if is_file else None
        aborts: bool | None = None
        if self._guard is not None and lun.wwid in self._guard.entered:
            registers = lun.wwid not in self._guard.keyless
            aborts = self._guard.aborts.get(lun.wwid)
        reserves = self._guard is not None and lun.wwid in self._guard.lockable
        traits = Traits(registers, aborts, reserves=reserves)
        report = self._trials.reports.get(lun.wwid)
        if report is not None:
            traits = Traits(registers, report.aborts, tuple(report.findings))
        return choose(traits, self._surroundings())

    def _surroundings(self) -> Surroundings:
        config, peers = self._config, self._membership.runtime.engine.peers
        # corosync's defaults: corosync.conf(5), token and token_coefficient.
        token_s = 3.0 + 0.65 * max(0, len(peers) - 2)
        line = QuorumTimeline(token_s, 1.2 * token_s, config.engine.peer_dead_ms / 1000)
        unguarded = self._unguarded()
        agents = [one for one in config.fencing.agents if isinstance(one, LunAgent)]
        return Surroundings(
            bool(agents),
            max(line.view_s, line.standing_view_s),
            max((agent.timeout_s for agent in agents), default=0.0),
            self._tombstones.lease() if self._tombstones.disks else None,
            watchdog=unguarded is not None and not unguarded,
            unguarded=unguarded or (),
        )

    def _is_off(self, victim: MemberKey) -> bool:
        """Is a life that was kept from a LUN by its reservation alone known to be finished?"""
        seen = self._disk_lease.heartbeats(victim.member)
        if victim in self._confirmed or any(_is_later_in(victim, one) for one in seen.values()):
            return True
        try:
            return bool(silence(victim, seen, boottime()))
        except NotFenced:
            return False

    def confirm(self, member: str) -> bool:
        """A person's word that what this member keeps from its LUNs by a reservation of its own is finished.

        False if it keeps nothing of that member out.
        """
        kept = {
            victim
            for held in (self._holding.held.values() if self._holding is not None else ())
            for victim in held.out
            if victim.member == self._number_of(member)
        }
        self._confirmed |= kept
        return bool(kept)

    def _unguarded(self) -> tuple[str, ...] | None:
        """The members whose records do not name a hardware watchdog; None while nothing is known of any."""
        known = {
            peer.name: [one for one in self._disk_lease.heartbeats(peer.id).values() if one]
            for peer in self._membership.runtime.engine.peers
        }
        live = {
            name: [one for one in seen if one.on_disk not in (OnDisk.ABSENT, OnDisk.ENDED)]
            for name, seen in known.items()
        }
        if not any(live.values()):
            return None
        return tuple(name for name, seen in live.items() if not all(one.guarded for one in seen))

    def _agent_of(self, plan: AgentPlan) -> Agent:
        if plan.kind != LUN or self._guard is None:
            return agent_of(plan)
        return lun_agent.LunAgent(
            self._luns,
            self._tombstones,
            self._guard,
            lun_agent.Around(
                self._number_of,
                self._view,
                lambda lun: self._choose(lun).kind,
                self._disk_lease.heartbeats,
            ),
            plan.timeout_s,
        )

    def _number_of(self, member: str) -> int:
        """The nodeid. Raises NotFenced for who is not configured."""
        for peer in self._membership.runtime.engine.peers:
            if peer.name == member:
                return peer.id
        raise NotFenced(f"{member} is not a configured member: its number is not known")

    def _view(self) -> int:
        view = self._membership.runtime.core.view
        return view.number if view is not None else 0


def _is_later_in(victim: MemberKey, seen: Seen | None) -> bool:
    """Is its member back as a later life, which has ended all that this one had, and has new sessions at the LUNs?"""
    if seen is None or seen.incarnation <= victim.incarnation:
        return False
    return seen.state == LeaseState.IN
