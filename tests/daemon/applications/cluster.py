"""Members with their applications in one process: all is real but locks, disks, streams and machines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio

from clufs.actions.interface import Tell
from clufs.caa.profile import read, validate
from clufs.caa.records import ResourceRecord
from clufs.daemon.applications.messages import Ask
from clufs.daemon.applications.service import Applications
from clufs.dlm.interface import Life
from clufs.errors import NoQuorum, OldPlanner
from clufs.registry.commands import Command
from clufs.registry.resources import Register
from clufs.registry.state import State
from tests.daemon.applications.fakes import LockSpace, Machine, MemberLocks, Plugs, Script, until

NAMES = ("provolone", "polishham", "pepicelli")
PROFILE = "TYPE=application\nNAME={name}\nACTION_SCRIPT={name}.scr\n"


class _Runtime:
    """What Applications wants of a life: the view, the registry, a way to the others."""

    def __init__(self, cluster: Cluster, member: Member) -> None:
        self._cluster = cluster
        self._member = member
        self.silent_s: dict[str, float] = {}
        self.quorate = True
        self.core: Any = SimpleNamespace(
            standing=False,
            members=(),
            replica=SimpleNamespace(state=cluster.state, applied=cluster.applied),
        )
        self.missed: list[Command] | None = None

    async def propose(self, command: Command) -> None:
        await trio.sleep(self._cluster.disk_s)
        if not self.core.standing:
            raise NoQuorum("no view")
        self._cluster.apply(command)

    def send_application(self, member: str, body: bytes) -> None:
        receiver = self._cluster.members.get(member)
        if receiver is None or not receiver.lives or receiver.is_cut or self._member.is_cut:
            return
        life = receiver.incarnation
        token = trio.lowlevel.current_trio_token()
        token.run_sync_soon(self._bring, receiver, life, body)

    def _bring(self, receiver: Member, life: int, body: bytes) -> None:
        if receiver.lives and receiver.incarnation == life and receiver.service is not None:
            receiver.service.received(self._member.name, body)


class Member:
    """One member; a new life is a new `service`. machine: outlives its daemons."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.incarnation = 0
        self.lives = self.is_cut = False
        self.machine = Machine(name, cluster.log, cluster.scripts)
        self.runtime: _Runtime
        self.locks: MemberLocks
        self.plugs: Plugs
        self.service: Applications | None = None
        self.scope = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One life of its daemon, from here to `die`."""
        self.incarnation += 1
        self.lives, self.is_cut = True, False
        self.runtime = _Runtime(self.cluster, self)
        self.locks = MemberLocks(self.cluster.space)
        clocks = {"wall": self.cluster.wall, "since_boot": trio.current_time}
        self.service = mine = Applications(self, self.locks, self.machine, self._plugs, **clocks)  # type: ignore[arg-type]
        with trio.CancelScope() as self.scope:
            for left in await self.machine.running():
                await self.machine.end(left)
            async with trio.open_nursery() as nursery:
                await nursery.start(self.service.run)
                task_status.started()
        if self.service is mine:
            self.service = None

    def apply(self, command: Command) -> None:
        """A command of the registry comes; who lags does not apply it yet."""
        if self.runtime.missed is not None:
            self.runtime.missed.append(command)
        elif self.service is not None:
            self.runtime.core.replica.applied = self.cluster.applied
            self.service.applied(command)
            self.service.moved()

    def lag(self) -> None:
        """From now on this member applies nothing of the registry."""
        self.runtime.missed = []
        replica = self.runtime.core.replica
        replica.state = State.restore(replica.state.snapshot())

    def catch_up(self) -> None:
        """It applies all at once."""
        missed, self.runtime.missed = self.runtime.missed or [], None
        self.runtime.core.replica.state = self.cluster.state
        for command in missed:
            self.apply(command)

    def _plugs(self, tell: Tell) -> Plugs:
        self.plugs = Plugs(tell)
        return self.plugs

    @property
    def up(self) -> Applications:
        assert self.service is not None
        return self.service

    async def ask(self, verb: str, resource: str, **more: Any) -> tuple[int, list[str]]:
        """A command of a user at this member: its exit and what it says."""
        lines: list[str] = []
        return await self.up.asking.ask(Ask(0, verb, resource, **more), lines.append), lines


class Cluster:
    """log: which entry ran where, in order. disk_s: how long a registry's save takes."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.space = LockSpace()
        self.log: list[tuple[str, str, str]] = []
        self.scripts: dict[str, Script] = {}
        self.state = State()
        self.disk_s = 0.005
        self.saves = 0
        self.applied = 0
        self.set_by_s = 0.0
        self.nursery = nursery
        self.members = {name: Member(self, name) for name in NAMES}

    def apply(self, command: Command) -> None:
        state: Any = self.state
        refusal = state.resource_table.apply(command)
        if refusal is not None:
            raise OldPlanner(refusal)
        self.saves += 1
        self.applied += 1
        for member in self.members.values():
            if member.lives:
                member.apply(command)

    def wall(self) -> float:
        """The wall clock goes with the clock of the test, and can be set."""
        return 1_700_000_000 + trio.current_time() + self.set_by_s

    def script(self, name: str) -> Script:
        return self.scripts.setdefault(name, Script())

    def record(self, name: str) -> ResourceRecord:
        return self.state.resources[name]

    def where(self, name: str) -> str:
        record = self.record(name)
        return f"{record.state} on {record.member}" if record.member else record.state

    def register(self, name: str, **attributes: object) -> None:
        text = PROFILE.format(name=name) if "TYPE" not in attributes else f"NAME={name}\n"
        text += "".join(f"{key}={value}\n" for key, value in attributes.items())
        profile = validate(name, text.encode())
        assert read(profile.text()) == profile
        self.apply(Register(name, profile.text(), True))

    # ------------------------------------------------------------- the view

    def view(self, *names: str) -> None:
        """These members see each other, with quorum; the others have no view."""
        lives = tuple(Life(name, self.members[name].incarnation) for name in names)
        for name, member in self.members.items():
            if not member.lives:
                continue
            member.runtime.core.members = lives if name in names else ()
            member.runtime.core.standing = name in names
            member.runtime.quorate = name in names
            if name in names:
                member.up.view_changed()
            else:
                member.up.suspended()
            member.up.moved()

    async def boot(self, *names: str) -> None:
        """Start these members' daemons, all if none is named, and let them form a view."""
        for name in names or NAMES:
            await self.nursery.start(self.members[name].run)
        self._see_each_other()

    def die(self, name: str, *, with_machine: bool = True) -> Callable[[], None]:
        """kill -9 of a member, or of its daemon only; the others get a view. Returns what fences it."""
        member = self.members[name]
        member.lives = False
        member.scope.cancel()
        fence = member.locks.lose()
        if with_machine:
            self.power_off(name)
        self._see_each_other()
        return fence

    def power_off(self, name: str) -> None:
        """Whatever runs on this machine runs no more."""
        machine = self.members[name].machine
        for left in sorted(machine.left):
            self.log.append((name, "power off", left))
        machine.left.clear()

    def cut(self, name: str) -> None:
        """This member sees nobody and has no quorum; nobody hears what it gives up."""
        member = self.members[name]
        member.is_cut = True
        member.locks.cut()
        self._see_each_other()
        member.up.quorum_lost()

    async def expel(self, name: str, away_s: float = 0.0) -> None:
        """The others give this member up, and it comes back as another life of the same daemon."""
        member = self.members[name]
        member.is_cut = True
        fence = member.locks.lose()
        self._see_each_other()
        await member.up.expelled()
        fence()
        await trio.sleep(away_s)
        member.incarnation += 1
        member.is_cut = member.locks.is_cut = False
        self._see_each_other()

    def _see_each_other(self) -> None:
        members = self.members.items()
        self.view(*(name for name, each in members if each.lives and not each.is_cut))

    # ---------------------------------------------------------- what is seen

    def entries(self, resource: str) -> list[str]:
        return [f"{what} {member}" for member, what, name in self.log if name == resource]

    def never_twice(self) -> None:
        """No application was started while it may still have run elsewhere."""
        running: dict[str, str] = {}
        for member, what, name in self.log:
            if what == "start":
                assert running.get(name, member) == member, f"{name} twice: {self.entries(name)}"
                running[name] = member
            elif what in ("stop", "killed", "power off") and running.get(name) == member:
                del running[name]

    async def runs(self, name: str, member: str = "", patience_s: float = 60.0) -> None:
        """Wait until the record says that it runs there, or anywhere."""

        def there() -> bool:
            record = self.record(name)
            return record.state == "ONLINE" and member in ("", record.member)

        await until(there, patience_s)


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """Three members, not started."""
    async with trio.open_nursery() as nursery:
        made = Cluster(nursery)
        yield made
        made.never_twice()
        nursery.cancel_scope.cancel()
