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
from clufs.storage.keeping import Luns
from clufs.storage.tombstones import Tombstones


class LunFencing:
    """Where the agent `lun` is configured; without it nothing is registered anywhere, and no path is held."""

    def __init__(self, config: Config, luns: Luns, membership: Membership) -> None:
        self._luns = luns
        self._membership = membership
        self._tombstones = Tombstones(luns, membership.cluster_name)
        self._guard: Guard | None = None
        membership.agent_of = self._agent_of
        if any(isinstance(agent, LunAgent) for agent in config.fencing.agents):
            self._guard = Guard(luns, self._tombstones)
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

    def _agent_of(self, plan: AgentPlan) -> Agent:
        if plan.kind != LUN or self._guard is None:
            return agent_of(plan)
        return lun_agent.LunAgent(
            self._luns,
            self._tombstones,
            self._guard,
            self._number_of,
            self._view,
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
