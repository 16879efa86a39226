"""This member in the cluster: one life after the other, each from joining to its end."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from time import monotonic

import trio

from clufs import __version__
from clufs.cluster.agents import Agent, agent_of
from clufs.cluster.corosync import CorosyncEngine
from clufs.cluster.corosync_config import refuse_votes_without_disk
from clufs.cluster.embedded import EmbeddedEngine
from clufs.cluster.formation import Self
from clufs.cluster.gate import COMMAND, LUN, AgentPlan
from clufs.cluster.interface import Engine
from clufs.cluster.keys import Keys
from clufs.cluster.linger import Linger
from clufs.cluster.mesh import Mesh
from clufs.config import CommandAgent, Config
from clufs.daemon.disk_lease import DiskLease
from clufs.errors import ConfigError, MissingPart, StateError
from clufs.member.core import Start
from clufs.member.runtime import Hooks, Runtime
from clufs.registry.commands import Command, DropNamespace, PutNamespace
from clufs.registry.state import State
from clufs.registry.store import RegistryStore
from clufs.storage.paths import initiator_name
from clufs.storage.quorum import QuorumDisk
from clufs.storage.quorum_disk import open_quorum_disk
from clufs.timeouts import DISK_AGAIN_S, REJOIN_CALM_S, REJOIN_MAX_S, REJOIN_S

log = logging.getLogger("clufsd")


def engine_of(config: Config) -> Engine:
    """The configured engine. Raises MissingPart or ConfigError."""
    if config.engine.kind == "embedded":
        return EmbeddedEngine(config.member.name)
    engine = CorosyncEngine()
    refuse_votes_without_disk(engine.disk_votes, len(config.own_luns))
    return engine


def _agents(config: Config) -> tuple[AgentPlan, ...]:
    return tuple(
        AgentPlan(COMMAND, agent.command, agent.timeout_s, agent.name)
        if isinstance(agent, CommandAgent)
        else AgentPlan(LUN, (), agent.timeout_s, agent.name)
        for agent in config.fencing.agents
    )


def next_pause_s(before_s: float, lived_s: float) -> float:
    """How long to wait after a life of `lived_s`, where the pause before it was `before_s` (0: none)."""
    doubled_s = 0.0 if lived_s > REJOIN_CALM_S else 2 * before_s
    return min(max(REJOIN_S, doubled_s), REJOIN_MAX_S)


class Membership:
    """Makes the lives of this member. runtime: the present one.

    expelled: called when a life is over, with why; all lock owners of it are gone when it returns.
    reborn: called when the next one has its number; it begins as soon as there is an engine for it.
    live: runs the present life, from its beginning to its end. agent_of: what carries a fencing out.
    """

    def __init__(self, config: Config, store: RegistryStore, disk_lease: DiskLease) -> None:
        """A daemon that starts has seen the lock owners of the life before gone when it calls `run`.

        Raises MissingPart or ConfigError.
        """
        self.config = config
        self.store = store
        self.disk_lease = disk_lease
        self.linger = Linger()
        self._cleared = store.incarnation
        self._at_least = 1
        self.recovery_waits_for: Callable[[], str] = str
        engine = engine_of(config)
        self.name = engine.me.name
        self.cluster_name = engine.cluster_name
        self.hooks: Hooks
        self.expelled: Callable[[str], Awaitable[None]]
        self.reborn: Callable[[], None]
        self._engine: Engine | None = engine
        self.incarnation = 0
        self.runtime: Runtime
        self.live: Callable[[], Awaitable[None]] = lambda: self.runtime.run()
        self.agent_of: Callable[[AgentPlan], Agent] = agent_of

    def begin(self) -> None:
        """Make the next life; it does nothing before `run`. Raises MissingPart, ConfigError, StateError."""
        engine, self._engine = self._engine or engine_of(self.config), None
        if not self.incarnation:
            self._be_born()
        start = Start(
            self.store.view,
            self.store.stored,
            _first_line("/proc/sys/kernel/random/boot_id"),
            _machine(),
            self._cleared,
            __version__,
        )
        port = self.config.engine.port
        me = Self(engine.me, self.incarnation, port)
        self.runtime = Runtime(engine, me, _agents(self.config), start, self.store, self.hooks)
        self.runtime.agent_of = lambda plan: self.agent_of(plan)
        if engine.disk_votes:
            self.runtime.opened_disk = self._quorum_disk(engine)
        if self.config.engine.kind == "corosync":
            self.runtime.mesh = Mesh(
                engine.me,
                engine.peers,
                Keys.in_directory(self.config.engine.keys),
                self.runtime.heard,
                cluster=engine.cluster_name,
                incarnation=self.incarnation,
                port=port,
                peer_dead_s=self.config.engine.peer_dead_ms / 1000,
                linger=self.linger,
            )

    def _quorum_disk(self, engine: Engine) -> AbstractAsyncContextManager[QuorumDisk]:
        luns = [lun.urls for lun in self.config.own_luns]
        initiator = self.config.storage.initiator or initiator_name(engine.me.name)
        return open_quorum_disk(
            luns, initiator, engine.cluster_name, engine.me.id, self.incarnation
        )

    def _be_born(self) -> None:
        self.incarnation = self.store.next_incarnation(self._at_least)

    async def run(self) -> None:
        """Live, and if expelled live again, until cancelled. Raises StateError, ConfigError."""
        pause_s = 0.0
        while True:
            began_s = monotonic()
            async with self.disk_lease.held(self) as why:
                if not why:
                    await self.live()
                pause_s = next_pause_s(pause_s, monotonic() - began_s)
                why = why or self.runtime.ended or ""
                log.warning("expelled: %s", why)
                await self.expelled(why)
                self.disk_lease.let_go()
            self._cleared = self.incarnation
            self._at_least = self._known_incarnation() + 1
            await self._be_born_again()
            # From here on requests wait, as in every member without quorum.
            self.reborn()
            await self._begin_again(pause_s)

    async def _be_born_again(self) -> None:
        """As soon as there is room on the disk for the number of a new life."""
        said = ""
        while True:
            try:
                self._be_born()
            except StateError as error:
                if error.errno != errno.ENOSPC:
                    raise
                if str(error) != said:
                    log.warning("cannot rejoin yet: %s", error)
                    said = str(error)
                await trio.sleep(DISK_AGAIN_S)
            else:
                return

    def _known_incarnation(self) -> int:
        """The latest incarnation of this member that the registry has heard of."""
        lives = self.runtime.core.replica.state.lives
        return max((number for member, number in lives if member == self.name), default=0)

    async def _begin_again(self, pause_s: float) -> None:
        """A new life after this pause, as soon as there is an engine for it."""
        said = ""
        while True:
            await trio.sleep(pause_s)
            pause_s = REJOIN_S
            try:
                # corosync may stand still, and answers nothing then.
                self._engine = await trio.to_thread.run_sync(
                    engine_of, self.config, abandon_on_cancel=True
                )
            except (MissingPart, ConfigError) as error:
                if str(error) != said:
                    log.warning("cannot rejoin yet: %s", error)
                    said = str(error)
                continue
            self.begin()
            return


class RegistryAccess:
    """The registry of the present life, for the tree."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    @property
    def state(self) -> State:
        """What is committed, as far as this member knows."""
        return self._membership.runtime.core.replica.state

    async def propose(self, command: Command) -> None:
        """Have a command applied. Raises what its refusal means, NoQuorum, TimedOut, StateError."""
        await self._membership.runtime.propose(command)


class RegistryNamespaces:
    """Namespaces behind the registry: a change is on disk at a quorum when its call returns."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def namespaces(self) -> list[tuple[bytes, int, int, int]]:
        """All of them, as far as this member knows: name, uid, gid, mode."""
        known = self._membership.runtime.core.replica.state.namespaces
        return [(name, record.uid, record.gid, record.mode) for name, record in known.items()]

    async def put_namespace(
        self, name: bytes, uid: int, gid: int, mode: int, *, new: bool = False
    ) -> None:
        """Keep one. Raises NameExists, NoSuchName, NoQuorum, StateError."""
        await self._membership.runtime.propose(PutNamespace(name, uid, gid, mode, new))

    async def drop_namespace(self, name: bytes) -> None:
        """Keep it no longer. Raises NoSuchName, NoQuorum, StateError."""
        await self._membership.runtime.propose(DropNamespace(name))


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().partition("\n")[0].strip()
    except OSError:
        return ""


def _machine() -> str:
    """What tells this system from others: the firmware's UUID or, without one, the installation's id."""
    return _first_line("/sys/class/dmi/id/product_uuid") or _first_line("/etc/machine-id")
