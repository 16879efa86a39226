"""Applications on this member: its executor, its turn at planning, its users' commands, and their ends."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from clufs.actions.interface import ActionRunner, Monitors, Tell
from clufs.actions.monitors import MachineMonitors
from clufs.actions.runner import Runner
from clufs.caa.records import ResourceRecord
from clufs.daemon.applications.asking import Asking, Planning
from clufs.daemon.applications.commands import dependents_first
from clufs.daemon.applications.early import Early, Spoken
from clufs.daemon.applications.executor import Executor
from clufs.daemon.applications.messages import (
    Ask,
    CheckFailed,
    Done,
    Inquiry,
    JobOver,
    Message,
    Order,
    Printed,
    Report,
    Said,
    Watched,
    decode,
    encode,
)
from clufs.daemon.applications.reign import Reign
from clufs.daemon.applications.specs import RegistrySpecs
from clufs.daemon.applications.watching import Watching
from clufs.errors import ClufsError, NoQuorum
from clufs.fuse.internal import InternalLocks
from clufs.fuse.lock_service import LockService
from clufs.member.runtime import Runtime
from clufs.registry.commands import GOODBYE, Command, MemberOut
from clufs.registry.resources import Register, SaveDrained, SaveResources, Unregister, saves
from clufs.registry.state import State
from clufs.timeouts import (
    APPLICATION_PATIENCE_S,
    APPLICATION_STOP_S,
    LEAVING_S,
    PROPOSE_S,
    REJOIN_S,
    killing_begins_s,
)
from clufs.tree.reserved import PLANNER

log = logging.getLogger("clufsd")


class Lives(Protocol):
    """Whose present life is looked at: `daemon.membership.Membership`."""

    name: str
    runtime: Runtime


class Applications:
    """within_s: how long stop entries have when this member has lost quorum or was expelled.

    patience_s: how long a view may be awaited while the engine calls this member quorate before that counts as lost.
    """

    def __init__(
        self,
        lives: Lives,
        locks: InternalLocks,
        runner: ActionRunner,
        make_monitors: Callable[[Tell], Monitors],
        within_s: float = APPLICATION_STOP_S,
        patience_s: float = APPLICATION_PATIENCE_S,
        wall: Callable[[], float] = time.time,
        since_boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._lives_of = lives
        self.name = lives.name
        self._locks = locks
        self.runner = runner
        self._within_s, self._patience_s = within_s, patience_s
        self.wall, self.since_boot = wall, since_boot
        self._reign: Reign | None = None
        self._put, self._to_me = trio.open_memory_channel[Message](math.inf)
        specs = RegistrySpecs(lambda: self._state().files, self.resources)
        self.executor = Executor(locks, runner, specs, self.send)
        self._watching = Watching(
            make_monitors(self.executor.watched),
            self.resources,
            self.executor.forget_monitor,
        )
        self.asking = Asking(self.send, self.planner, self.lives)
        self._early = Early(self.applied_index, self._hear)
        self._last_lives: dict[str, int] = {}
        self._stands = trio.Event()
        self._quorate = trio.Event()
        self._moved = trio.Event()
        self._was_expelled = False
        self._planning = trio.CancelScope()
        self._nursery: trio.Nursery

    # ------------------------------------------------------------------ life

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be there for applications until cancelled; then none that runs here is left.

        It has started when nothing is left of what a daemon before this one ran.
        """
        async with trio.open_nursery() as self._nursery:
            is_clean = self.runner.is_clean
            self._nursery.start_soon(self.runner.serve)
            if not is_clean:
                await self.runner.running()
            await self._nursery.start(self.executor.run)
            self._watching.compare_all()
            self._nursery.start_soon(self._watching.serve)
            self._nursery.start_soon(self._hear_myself)
            self._nursery.start_soon(self._plan)
            task_status.started()

    async def _plan(self) -> None:
        """Wait for the planner's lock, plan, and again when that time is over."""
        with self._planning:
            while True:
                lock = self._locks.ask(PLANNER)
                try:
                    number = await lock.granted()
                    with trio.CancelScope() as scope:
                        lock.on_lost = scope.cancel
                        self._reign = Reign(number, self)
                        await self._reign.run()
                except NoQuorum:
                    pass
                except Exception:
                    log.exception("this member's time as planner ends with an error")
                finally:
                    self._reign = None
                    self._locks.release(lock)
                await trio.sleep(REJOIN_S)

    async def leave(self) -> None:
        """Before a goodbye: have the applications relocated, stop what is left, and plan no more."""
        with trio.move_on_after(LEAVING_S):
            await self._ask_to_leave()
        why = "this member leaves"
        for names in dependents_first(self.executor.running(), self.resources()):
            await self.executor.stop_all(why, LEAVING_S, names)
        await self.executor.stop_all(why, LEAVING_S)
        self.executor.report()
        self.executor.leaving = True
        with trio.move_on_after(PROPOSE_S):
            await self._ask_to_leave()  # it is answered when all that was said before is on record
        self._planning.cancel()

    async def _ask_to_leave(self) -> None:
        if self.planner() is None:
            return
        try:
            await self.asking.ask(Ask(0, "leave"), lambda line: log.debug("leaving: %s", line))
        except ClufsError as error:
            log.warning("the applications cannot be relocated: %s", error)

    async def expelled(self) -> None:
        """This life is over: returns when nothing that ran here is left."""
        self._was_expelled = True
        await self.executor.stop_all("this member was expelled", self._within_s)

    def quorum_lost(self) -> None:
        """Quorum is gone: what runs here is stopped, at once if the engine says so, too."""
        if self._quorate.is_set() and self.executor.is_open:
            self._quorate = trio.Event()
            self._nursery.start_soon(self._stop_without_quorum, self._quorate)

    async def _stop_without_quorum(self, back: trio.Event) -> None:
        with trio.move_on_after(self._patience_s):
            while self._lives_of.runtime.quorate and not back.is_set():
                await self._moved.wait()
        if back.is_set():
            return
        stopped = await self.executor.stop_all("this member has lost quorum", self._within_s)
        for name in stopped:
            log.warning("stopped %s: quorum is gone", name)
        await back.wait()
        self.executor.reopen()

    def view_changed(self) -> None:
        """There is a view, with quorum."""
        self._stands.set()
        self._quorate.set()
        self._last_lives = self._members()
        self._early.forget(self._last_lives)
        if self._was_expelled:
            self._was_expelled = False
            self.executor.reopen()
        if self._reign is not None:
            self._reign.view_changed()
        self.asking.planner_changed()

    def suspended(self) -> None:
        """There is none for the moment."""
        self._stands = trio.Event()

    # -------------------------------------------------------------- messages

    def send(self, member: str, message: Message) -> None:
        """Bring a message to a member, this one included."""
        if isinstance(message, Spoken):
            message = msgspec.structs.replace(message, applied=self.applied_index())
        if member == self._lives_of.name:
            self._put.send_nowait(message)
        else:
            self._lives_of.runtime.send_application(member, encode(message))

    async def _hear_myself(self) -> None:
        async for message in self._to_me:
            self._hear(self._lives_of.name, message)

    def received(self, sender: str, data: bytes) -> None:
        """A message came from another member. Raises GarbageReceived."""
        message = decode(data)
        if message is not None:
            lives = self._members() or self._last_lives
            self._early.take(sender, lives.get(sender, 0), message)

    def _hear(self, sender: str, message: Message) -> None:
        match message:
            case Order():
                self.executor.ordered(sender, message)
            case Inquiry():
                self.executor.inquired(sender, message)
                self.asking.planner_changed()
            case Said() | JobOver():
                self.asking.heard(sender, message)
            case Done() | Printed() | Report() | CheckFailed() | Watched() | Ask():
                if isinstance(message, Ask) and message.verb == "output":
                    output = self.runner.output(message.resource)
                    self.send(sender, JobOver(message.job, 0, data=output))
                elif self._reign is not None:
                    self._reign.heard(sender, message)
                elif isinstance(message, Ask):
                    self.send(sender, JobOver(message.job, 1, taken=False))

    def planner(self) -> Planning | None:
        """Who plans, if this member is in touch with it."""
        executor, lives = self.executor, self.lives()
        if executor.planner_member not in lives:
            return None
        return Planning(executor.planner, executor.planner_member, lives.get(self.name, 0))

    # -------------------------------------------------------------- registry

    def _state(self) -> State:
        return self._lives_of.runtime.core.replica.state

    def applied_index(self) -> int:
        """The index of the last command of the registry that is applied here."""
        return self._lives_of.runtime.core.replica.applied

    def moved(self) -> None:
        """The registry, the view or the votes may have changed."""
        self._early.reached()
        self._moved.set()
        self._moved = trio.Event()

    def applied(self, command: Command) -> None:
        """The registry has applied a command."""
        match command:
            case MemberOut() if command.why != GOODBYE:
                self.executor.fenced()
            case Register() | Unregister():
                if self._reign is not None:
                    self._reign.registered(command)
                self._watching.compare(command.name)
                if isinstance(command, Unregister):
                    self.runner.forget(command.name)
            case SaveResources():
                for record in command.records:
                    if record.profile:
                        self._watching.compare(record.name)

    def restored(self) -> None:
        """All of the registry may have changed."""
        self._watching.compare_all()
        if self._reign is not None:
            self._reign.restored()

    # ------------------------------------------ what a planner stands on

    def lives(self) -> Mapping[str, int]:
        """The members of the view and their incarnations, by id; none while there is no view."""
        return self._members() if self._lives_of.runtime.core.standing else {}

    def _members(self) -> dict[str, int]:
        return {life.member: life.incarnation for life in self._lives_of.runtime.core.members}

    def silent_s(self) -> Mapping[str, float]:
        """Of each member that was lost, how long nothing had been heard of it then."""
        return self._lives_of.runtime.silent_s

    async def stands(self) -> None:
        """Wait until there is a view with quorum."""
        while not self._stands.is_set():
            await self._stands.wait()

    def resources(self) -> Mapping[str, ResourceRecord]:
        """The registry's records, as applied here."""
        return self._state().resources

    def saved_by(self) -> int:
        """The number of the planner that was the last to save anything."""
        return self._state().resource_table.planner

    def drained(self) -> Sequence[str]:
        """The members that a person has drained."""
        return self._state().resource_table.drained

    async def save(self, planner: int, records: Sequence[ResourceRecord]) -> None:
        """Have them on record at a quorum. Raises OldPlanner, NoQuorum, TimedOut, StateError."""
        for command in saves(planner, records):
            await self._lives_of.runtime.propose(command)

    async def save_drained(self, planner: int, members: Sequence[str]) -> None:
        """The same for the drained members."""
        await self._lives_of.runtime.propose(SaveDrained(planner, list(members)))


def applications_of(
    lives: Lives, service: LockService, state: Path, kill_within_s: float | None
) -> Applications:
    """The applications of a daemon. state: its directory. kill_within_s: quorum_kill_ms, where it counts.

    Raises StateError if what the daemon before this left on record cannot be read.
    """
    within_s, patience_s = APPLICATION_STOP_S, APPLICATION_PATIENCE_S
    if kill_within_s is not None:
        within_s, patience_s = min(within_s, killing_begins_s(kill_within_s)), 0.0

    def lost(names: list[str]) -> None:
        made.executor.ended_by_themselves(names)

    made = Applications(
        lives, InternalLocks(service), Runner(state, lost), MachineMonitors, within_s, patience_s
    )
    events = service.journals.events
    made.executor.on_planner = lambda member, number: events.add(
        "planner", member=member, number=number
    )
    return made
