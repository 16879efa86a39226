"""A life of a member among others: joins the pure core to corosync, streams, disk, agents and clock."""

from __future__ import annotations

import errno
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import trio

from clufs.cluster import formation as f
from clufs.cluster import gate as g
from clufs.cluster.agents import Agent, agent_of
from clufs.cluster.formation import Self
from clufs.cluster.gate import AgentPlan
from clufs.cluster.interface import Engine, QuorumChanged, Report
from clufs.cluster.mesh import Mesh
from clufs.dlm import wire
from clufs.dlm.interface import Event, Life, Received, Resumed, ViewInstalled
from clufs.dlm.messages import Message
from clufs.errors import ClufsError, FencingFailed, GarbageReceived, NoQuorum, StateError, TimedOut
from clufs.member import core as c
from clufs.member import disk_keeper as k
from clufs.member.core import Core, Effect, Start
from clufs.member.disk_edge import DiskEdge
from clufs.member.shown import Shown, told
from clufs.registry import messages as r
from clufs.registry.commands import Command, CommandId, MemberIn, MemberOut, error_of
from clufs.registry.inode_commands import INODE_COMMANDS
from clufs.registry.log import Write
from clufs.storage.quorum import QuorumDisk
from clufs.timeouts import DISK_AGAIN_S, KEEPALIVE_S, LEASE_S, PROPOSE_S, SHOWN_S

log = logging.getLogger("clufsd")

_LOCKS, _QUERIES, _APPLICATIONS, _SHOWN, _BLOCKS = b"L", b"Q", b"A", b"S", b"B"
_REPORTS_AT_ONCE = 64


class Disk(Protocol):
    """Where a member keeps what must outlive it. Both block until it is on disk."""

    def keep_view(self, number: int) -> None:
        """Keep the highest view number. Raises StateError."""

    def write(self, write: Write) -> None:
        """Change the registry's log. Raises StateError; with ENOSPC nothing has changed."""


@dataclass(slots=True)
class Hooks:
    """Whom a life tells. step: the lock manager's events. query: another member's, by its name.
    application: what another member says about applications, by its name. blocks: about LUNs.

    drains: something that was begun in a view before the one of this number (None: before now) is not done yet, and
    nothing is said to the group meanwhile: no view comes to be with this member. `say` when that may have changed.
    applied: a command of the registry took effect. restored: all of the registry may have changed.
    happened: a line for /clu/events. fencing: a line for the fencing log.
    changed: who is in the view, or what is awaited, may have changed.
    ticked: called every KEEPALIVE_S; with True, this member has stood still for longer than LEASE_S.
    """

    step: Callable[[Event], None]
    query: Callable[[str, bytes], None]
    application: Callable[[str, bytes], None]
    blocks: Callable[[str, bytes], None]
    drains: Callable[[int | None], bool]
    applied: Callable[[Command], None]
    restored: Callable[[], None]
    happened: Callable[[c.Happened], None]
    fencing: Callable[[g.Told], None]
    changed: Callable[[], None]
    ticked: Callable[[bool], None]


class _Answer:
    """A proposal or an order that somebody waits for. made, index: see Answered."""

    __slots__ = ("done", "error", "index", "made")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: ClufsError | None = None
        self.made = self.index = 0

    def give(self, error: ClufsError | None) -> None:
        self.error = error
        self.done.set()


class Runtime:
    """Runs one life. Everything but `run`, `propose` and `fence` answers at once.

    ended: why this life is over, None while it is not.
    """

    def __init__(
        self,
        engine: Engine,
        me: Self,
        agents: tuple[AgentPlan, ...],
        start: Start,
        disk: Disk,
        hooks: Hooks,
    ) -> None:
        self.engine = engine
        self.core = Core(me, engine.peers, agents, start, engine.disk_votes)
        self.opened_disk: AbstractAsyncContextManager[QuorumDisk] | None = None
        """The quorum disk, if there is one; it is opened by `run`."""
        self._edge = DiskEdge(self.core.keeper, lambda found: self.carry_out(self.core.keep(found)))
        self.mesh: Mesh | None = None
        self.ended: str | None = None
        self.seen: tuple[int, ...] = ()
        """The ids of the members that the engine sees."""
        self.quorate = False
        """Whether these have quorum, as the engine says."""
        self.silent_s: dict[str, float] = {}
        """How long nothing had been heard of each member that a view did without, when that was installed."""
        self._disk = disk
        self._hooks = hooks
        self._ids = {peer.name: peer.id for peer in engine.peers}
        self._names = {peer.id: peer.name for peer in engine.peers}
        self._writes, self._to_write = trio.open_memory_channel[Write | f.Store](math.inf)
        self._proposals: dict[CommandId, tuple[Command, _Answer]] = {}
        self._orders: dict[Life, list[_Answer]] = {}
        self._agents: dict[Life, trio.CancelScope] = {}
        self._nursery: trio.Nursery
        self._over = trio.Event()
        self._lives_changed = trio.Event()
        self._shown = Shown()
        self._unsaid: deque[bytes] = deque()
        self._news: trio.Event | None = None
        self.agent_of: Callable[[AgentPlan], Agent] = agent_of
        self.finished = trio.Event()
        """The goodbye is on record."""
        self._deeds: dict[type, Callable[..., None]] = {
            f.Multicast: self._multicast,
            f.Store: self._writes.send_nowait,
            Write: self._writes.send_nowait,
            f.Expelled: lambda effect: self.end(effect.why),
            c.SetView: self._set_view,
            c.Step: self._step,
            c.Happened: hooks.happened,
            c.Finished: lambda effect: self.finished.set(),
            r.Applied: self._applied,
            r.Restored: lambda effect: hooks.restored(),
            r.Answered: self._answered,
            r.GaveUp: self._gave_up,
            g.RunAgent: self._start_agent,
            g.StopAgent: self._stop_agent,
            g.OrderEnded: self._order_ended,
            g.Told: hooks.fencing,
            g.At: lambda effect: self._nursery.start_soon(self._gate_at, effect.time_s),
            k.TakeDisk: self._edge.take,
            k.DropDisk: self._edge.drop,
            k.DiskWrite: self._edge.write,
            k.Vote: lambda effect: self.engine.vote(effect.ring, effect.cast),
        }

    # ------------------------------------------------- life

    async def run(self) -> None:
        """Be a member until this life is over. Raises StateError if the disk can no longer be trusted."""
        try:
            async with trio.open_nursery() as self._nursery:
                if self.mesh is not None:
                    await self._nursery.start(self.mesh.run)
                self._nursery.start_soon(self._write)
                self._nursery.start_soon(self._tick)
                if self.opened_disk is not None:
                    self._nursery.start_soon(self._edge.run, self.opened_disk)
                self._nursery.start_soon(self.engine.run, self._report)
                await self._over.wait()
                self._nursery.cancel_scope.cancel()
        finally:
            lost = NoQuorum(f"this member was expelled: {self.ended}")
            waiting = [answer for _, answer in self._proposals.values()]
            for answer in waiting + [one for orders in self._orders.values() for one in orders]:
                answer.give(lost)

    def end(self, why: str) -> None:
        """This life is over, whatever the others think of it."""
        if self.ended is None:
            self.ended = why
            self._over.set()
            self._tell_lives()
            self._tell_news()

    def leave(self) -> None:
        """Give the masterships away and say goodbye; `finished` tells that it is done."""
        self.carry_out(self.core.leave())

    def probe(self) -> None:
        """The lock manager is suspended until it is sure that the view still holds."""
        self.carry_out(self.core.probe())

    def left(self) -> None:
        """The lock manager has given everything away."""
        self.carry_out(self.core.left())

    # ------------------------------------------------- events from outside

    def _report(self, report: Report) -> None:
        self._edge.end_unsure()
        if isinstance(report, QuorumChanged):
            self.seen, self.quorate = report.nodes, report.quorate
        self.carry_out(self.core.report(report))

    async def _tick(self) -> None:
        last = time.clock_gettime(time.CLOCK_BOOTTIME)
        while True:
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            late, last = now - last > LEASE_S, now
            self._edge.end_unsure()
            self._hooks.ticked(late)
            self.carry_out(self.core.tick(monotonic(), self._silent()))
            await trio.sleep(KEEPALIVE_S)

    def _silent(self) -> list[int]:
        mesh, view = self.mesh, self.core.view
        if mesh is None or view is None:
            return []
        me = self.core.formation.me.peer.id
        others = [one for one, _ in view.members if one != me]
        return [one for one in others if mesh.silent_since(one) is not None]

    async def _write(self) -> None:
        """One write after the other, in a thread: the disk may be slow, the locks must not be."""
        async for wanted in self._to_write:
            if isinstance(wanted, f.Store):
                await self._write_view(wanted)
            else:
                await self._write_log(wanted)

    async def _write_view(self, store: f.Store) -> None:
        try:
            await trio.to_thread.run_sync(self._disk.keep_view, store.number)
        except StateError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.carry_out(self.core.view_failed(str(error)))
            self._nursery.start_soon(self._write_again, store)
        else:
            self.carry_out(self.core.view_stored(store.number))

    async def _write_again(self, store: f.Store) -> None:
        await trio.sleep(DISK_AGAIN_S)
        self._writes.send_nowait(store)

    async def _write_log(self, write: Write) -> None:
        try:
            await trio.to_thread.run_sync(self._disk.write, write)
        except StateError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.carry_out(self.core.log_failed(write.ticket, str(error)))
        else:
            self.carry_out(self.core.log_stored(write.ticket))

    async def _gate_at(self, time_s: float) -> None:
        await trio.sleep(max(0.0, time_s - monotonic()))
        self.carry_out(self.core.gate_tick(monotonic()))

    # ------------------------------------------------- messages

    def heard(self, peer_id: int, data: bytes) -> None:
        """A message came on a stream. Raises GarbageReceived, and nothing has changed."""
        kind, body = data[:1], data[1:]
        if kind == _LOCKS:
            self._hooks.step(Received(self._names[peer_id], wire.decode(body)))
        elif kind == _QUERIES:
            self._hooks.query(self._names[peer_id], body)
        elif kind == _APPLICATIONS:
            self._hooks.application(self._names[peer_id], body)
        elif kind == _BLOCKS:
            self._hooks.blocks(self._names[peer_id], body)
        elif kind == _SHOWN:
            self._shown.heard(peer_id, body)
            self._tell_news()
        else:
            raise GarbageReceived("a message of no kind")

    def send(self, member: str, message: Message) -> None:
        """Send a message of the lock manager; it leaves with the next `flush`."""
        if self.mesh is not None:
            self.mesh.post(self._ids[member], _LOCKS + wire.encode(message))

    def send_query(self, member: str, body: bytes) -> None:
        """Send a query or its answer, at once."""
        self._send_at_once(member, _QUERIES + body)

    def send_application(self, member: str, body: bytes) -> None:
        """Send what concerns applications, at once."""
        self._send_at_once(member, _APPLICATIONS + body)

    def send_blocks(self, member: str, body: bytes) -> None:
        """Send what concerns LUNs, at once."""
        self._send_at_once(member, _BLOCKS + body)

    def _send_at_once(self, member: str, data: bytes) -> None:
        if self.mesh is not None:
            self.mesh.post(self._ids[member], data)
            self.mesh.flush()

    def flush(self) -> None:
        """Let go what was sent."""
        if self.mesh is not None:
            self.mesh.flush()

    # ------------------------------------------------- effects

    def carry_out(self, effects: Iterable[Effect]) -> None:
        """Do what follows, in its order."""
        for effect in effects:
            if self.ended is not None:
                return
            self._deeds[type(effect)](effect)
        self._hooks.changed()
        self._tell_news()

    def _multicast(self, effect: f.Multicast) -> None:
        self._unsaid.append(effect.data)
        self.say()

    def say(self) -> None:
        """Multicast what was held back, if it need not be any more."""
        view = self.core.view
        while self._unsaid and not self._hooks.drains(view.number if view is not None else None):
            self.engine.multicast(self._unsaid.popleft())

    def _step(self, effect: c.Step) -> None:
        self._hooks.step(effect.event)
        if isinstance(effect.event, ViewInstalled | Resumed):
            for one in self._others():
                self._send_at_once(self._names[one], _SHOWN + told(self.core.replica.applied))

    def _set_view(self, effect: c.SetView) -> None:
        if self.mesh is not None:
            for peer_id, silent_s in self.mesh.lost_by(effect.view, trio.current_time()):
                self.silent_s[self.core.name(peer_id)] = silent_s
            self.mesh.set_addresses(effect.streams)
            self.mesh.set_view(effect.view)
        self.say()  # a view that comes back after quorum went is none of before

    def _applied(self, effect: r.Applied) -> None:
        if effect.refusal is None:
            self._hooks.applied(effect.command)
        if isinstance(effect.command, MemberIn | MemberOut):
            self._tell_lives()
        if isinstance(effect.command, INODE_COMMANDS) and effect.id.member in self._others():
            self._send_at_once(self._names[effect.id.member], _SHOWN + told(effect.index))

    def _others(self) -> list[int]:
        """The ids of the other members of the view."""
        view, me = self.core.view, self.core.formation.me.peer.id
        return [one for one, _ in view.members if one != me] if view is not None else []

    def _tell_news(self) -> None:
        """Anything may be otherwise than it was: whoever waits for something looks again."""
        news, self._news = self._news, None
        if news is not None:
            news.set()

    async def news(self) -> None:
        """Wait until something may have changed. Raises NoQuorum when this life is over."""
        self._need_life()
        if self._news is None:
            self._news = trio.Event()
        await self._news.wait()
        self._need_life()

    def _tell_lives(self) -> None:
        self._lives_changed.set()
        self._lives_changed = trio.Event()

    # ------------------------------------------------- what is waited for

    async def propose(self, command: Command) -> int:
        """Have the registry apply a command; returns when a quorum has it on disk.

        One of /clu/lockfiles is then shown by all members of the view; what is returned is the inode
        that it made, or 0 if it made none or that is not known here. Raises what the refusal means,
        NoQuorum, or TimedOut: then nobody knows what becomes of it.
        """
        self._need_life()
        if not self.core.standing:
            raise NoQuorum(f"this member waits for {self.core.waits_for()}")
        id, effects = self.core.propose(command)
        answer = _Answer()
        self._proposals[id] = (command, answer)
        self.carry_out(effects)
        with trio.move_on_after(PROPOSE_S):
            await answer.done.wait()
        if not answer.done.is_set():
            raise TimedOut(
                f"not on record at a quorum within {PROPOSE_S:g} s, as corosync or a disk stands"
                " still; it may still come to be"
            )
        if answer.error is not None:
            raise answer.error
        if answer.index and isinstance(command, INODE_COMMANDS):
            await self._shown_by_all(answer.index)
        return answer.made

    async def _shown_by_all(self, index: int) -> None:
        with trio.move_on_after(SHOWN_S):
            while self.core.view is None or not self._shown.by_all(self._others(), index):
                await self.news()

    def _answered(self, effect: r.Answered) -> None:
        found = self._proposals.pop(effect.id, None)
        if found is not None:
            command, answer = found
            answer.made, answer.index = effect.made, effect.index
            answer.give(error_of(command, effect.refusal) if effect.refusal is not None else None)

    def _gave_up(self, effect: r.GaveUp) -> None:
        found = self._proposals.pop(effect.id, None)
        if found is not None:
            full = StateError(effect.why)
            full.errno = errno.ENOSPC
            found[1].give(full)

    async def fence(self, member: str, by: str) -> None:
        """Order a member off. Raises NoQuorum, InvalidRequest, or FencingFailed if no agent could."""
        self._need_life()
        effects = self.core.fence(member, by)
        answer = _Answer()
        known = self.core.ins() | set(self.core.members)
        life = max(life for life in known if life.member == member)
        self._orders.setdefault(life, []).append(answer)
        self.carry_out(effects)
        await answer.done.wait()
        if answer.error is not None:
            raise answer.error

    async def confirm(self, member: str, by: str) -> None:
        """A person's word that the lost life of a member is finished; returns when it is on record.

        Raises NoQuorum, InvalidRequest.
        """
        self._need_life()
        self.carry_out(self.core.confirm(member, by))
        while any(life.member == member for life in self.core.gate.lost):
            await self._lives_changed.wait()
            self._need_life()

    def _need_life(self) -> None:
        if self.ended is not None:
            raise NoQuorum(f"this member was expelled: {self.ended}")

    def _order_ended(self, effect: g.OrderEnded) -> None:
        for answer in self._orders.pop(effect.life, []):
            answer.give(None if effect.ok else FencingFailed(effect.why))

    # ------------------------------------------------- agents

    def _start_agent(self, effect: g.RunAgent) -> None:
        scope = self._agents[effect.life] = trio.CancelScope()
        self._nursery.start_soon(self._run_agent, effect, scope)

    async def _run_agent(self, effect: g.RunAgent, scope: trio.CancelScope) -> None:
        life = effect.life
        agent = self.agent_of(self.core.gate.plans[effect.agent])
        with scope:
            verdict = await agent.fence(life)
        if self._agents.get(life) is scope:
            del self._agents[life]
        if not scope.cancelled_caught:
            self.carry_out(
                self.core.agent_done(monotonic(), life, effect.agent, verdict.ok, verdict.said)
            )

    def _stop_agent(self, effect: g.StopAgent) -> None:
        scope = self._agents.pop(effect.life, None)
        if scope is not None:
            scope.cancel()
