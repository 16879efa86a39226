"""/clu/resources/NAME: what is known of a registered resource, and what makes it move."""

from __future__ import annotations

import abc
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from operator import is_not
from typing import Protocol

import trio

from clufs.caa.records import ONLINE, ResourceRecord, state_text
from clufs.errors import ActionFailed, ClufsError, HostDown, NoSuchName
from clufs.tree.control import Order, parse_control, parse_host, parse_maintenance, parse_target
from clufs.tree.files import Registry
from clufs.tree.items import Attributes, Caller, File, StaticDirectory
from clufs.tree.journals import timestamp
from clufs.tree.profiles import CAP, RESOURCES, Profiles

Say = Callable[[str], None]


class Caa(Protocol):
    """What carries out orders: the planner, wherever it is. Each raises HostDown if there is none."""

    async def order(self, order: Order, say: Say) -> int:
        """Carry out; say: gets each line of progress as it comes. Returns the exit status, 0 for success.

        It goes on, whatever becomes of who awaits this. Raises ClufsErrors.
        """

    async def output(self, resource: str) -> bytes:
        """The last of what the resource's action script printed, where it ran last."""

    async def candidates(self, resource: str) -> str:
        """A line for each member, best first: whether it may run the resource, and why not."""


class Job:
    """An order under way. lines: what was said so far; exit: None while it is not done.

    error: why it has none.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.lines: list[str] = []
        self.exit: int | None = None
        self.error: ClufsError | None = None
        self.over = trio.Event()
        self.listeners: set[Callable[[], None]] = set()

    def say(self, line: str) -> None:
        """A line of progress came."""
        self.lines.append(line)
        self._tell()

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    async def run(self, caa: Caa) -> None:
        """Have it carried out. Raises ClufsErrors, and is over then too."""
        try:
            self.exit = await caa.order(self.order, self.say)
        except ClufsError as error:
            self.error = error
            raise
        finally:
            self.over.set()
            self._tell()


class Orders:
    """The orders that were given on this member and are under way."""

    def __init__(self, caa: Caa) -> None:
        self.caa = caa
        self._under_way: list[Job] = []

    async def carry_out(self, order: Order) -> None:
        """Have it done, or wait for the same one under way. Raises ActionFailed with what was said last."""
        same = [job for job in self._under_way if job.order == order]
        if same:
            job = same[0]
            await job.over.wait()
        else:
            job = Job(order)
            await self._carry_out(job)
        if job.error is not None:
            raise job.error
        if job.exit != 0:
            raise ActionFailed(job.lines[-1] if job.lines else f"{order.verb} failed")

    async def _carry_out(self, job: Job) -> None:
        self._under_way.append(job)
        try:
            await job.run(self.caa)
        finally:
            self._under_way.remove(job)


class ResourceFile(File):
    """A file of a resource. Its time is that of the last transition."""

    __slots__ = ("_directory", "_show")

    def __init__(
        self,
        directory: ResourceDirectory,
        name: bytes,
        show: Callable[[ResourceRecord], str],
    ) -> None:
        super().__init__(directory.path + b"/" + name)
        self._directory = directory
        self._show = show

    @property
    def resource(self) -> ResourceDirectory:
        """Whose it is."""
        return self._directory

    def attributes(self, caller: Caller) -> Attributes:
        return self._directory.file_attributes(0, len(self.show(caller)))

    def show(self, caller: Caller) -> bytes:
        return self._show(self._directory.record).encode()


class OrderFile(ResourceFile):
    """One that gives an order when it is written to: the write returns when that is done."""

    __slots__ = ("_parse",)

    def __init__(
        self,
        directory: ResourceDirectory,
        name: bytes,
        show: Callable[[ResourceRecord], str],
        parse: Callable[[str, bytes], Order],
    ) -> None:
        super().__init__(directory, name, show)
        self._parse = parse

    def attributes(self, caller: Caller) -> Attributes:
        return self._directory.file_attributes(0o222, len(self.show(caller)))

    def parse(self, data: bytes) -> Order:
        """The order in what was written. Raises InvalidRequest, NoSuchName."""
        return self._directory.complete(self._parse(self._directory.name, data))

    def store(self, data: bytes, caller: Caller) -> Awaitable[None]:
        return self._directory.orders.carry_out(self.parse(data))


class SpokenFile(File):
    """Opened read-write, what an order says can be read while it is carried out."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def caa(self) -> Caa:
        """What carries out its orders."""

    @abc.abstractmethod
    def parse(self, data: bytes) -> Order:
        """The order in what was written. Raises InvalidRequest, NoSuchName."""


class ControlFile(OrderFile, SpokenFile):
    """`control`: all that can be ordered."""

    __slots__ = ()

    @property
    def caa(self) -> Caa:
        return self._directory.orders.caa


class MaintenanceFile(OrderFile):
    """`maintenance`: opened read-write, it ends with the last close of who has written 1."""

    __slots__ = ("_holder",)

    def __init__(self, directory: ResourceDirectory, holder: int = 0) -> None:
        super().__init__(directory, b"maintenance", _maintenance, parse_maintenance)
        self._holder = holder

    def held(self, holder: int) -> MaintenanceFile:
        """The same file, as it is opened read-write. holder: a number of that open alone."""
        return MaintenanceFile(self._directory, holder)

    def parse(self, data: bytes) -> Order:
        order = super().parse(data)
        return replace(order, holder=self._holder) if order.on else order

    async def end(self) -> None:
        """The descriptor that held it is closed: it does so no more. Raises HostDown."""
        order = Order("maintain", self._directory.name, on=False, holder=self._holder)
        await self._directory.orders.carry_out(order)


class AskedFile(ResourceFile):
    """One whose text only the planner, or the member where the resource ran, knows."""

    __slots__ = ("_ask",)

    def __init__(
        self, directory: ResourceDirectory, name: bytes, ask: Callable[[str], Awaitable[bytes]]
    ) -> None:
        super().__init__(directory, name, lambda record: "")
        self._ask = ask

    @property
    def elsewhere(self) -> bool:
        return True

    async def ask_attributes(self, caller: Caller) -> Attributes:
        """Where nobody can tell it has no size; who opens it hears why."""
        try:
            size = len(await self.ask_show(caller))
        except HostDown:
            size = 0
        return self._directory.file_attributes(0, size)

    async def ask_show(self, caller: Caller) -> bytes:
        return await self._ask(self._directory.name)


class ResourceDirectory(StaticDirectory):
    """The directory of one registered resource."""

    __slots__ = ("_profiles", "_registry", "name", "orders")

    def __init__(self, registry: Registry, profiles: Profiles, orders: Orders, name: str) -> None:
        super().__init__(RESOURCES + b"/" + name.encode())
        self.name = name
        self.orders = orders
        self._registry = registry
        self._profiles = profiles
        self.add(OrderFile(self, b"target", _target, parse_target))
        self.add(OrderFile(self, b"host", _host, parse_host))
        self.add(ControlFile(self, b"control", lambda record: "", parse_control))
        self.add(MaintenanceFile(self))
        for key, show in FACTS.items():
            self.add(ResourceFile(self, key, show))
        self.add(AskedFile(self, b"output", orders.caa.output))
        self.add(AskedFile(self, b"candidates", self._candidates))

    async def _candidates(self, resource: str) -> bytes:
        return (await self.orders.caa.candidates(resource)).encode()

    @property
    def record(self) -> ResourceRecord:
        """What is known of it. Raises NoSuchName when it is registered no more."""
        record = self._registry.state.resources.get(self.name)
        if record is None:
            raise NoSuchName(f"{self.name} is not registered any more")
        return record

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | 0o555, mtime_ns=self.record.changed_ns, nlink=2)

    def file_attributes(self, write: int, size: int) -> Attributes:
        """Who may write the profile may also give orders. write: of these bits, what it has."""
        cap = self._registry.state.files.get(self.path + CAP)
        mode = 0o444 | ((cap.mode if cap is not None else 0o644) & write)
        uid, gid = (cap.uid, cap.gid) if cap is not None else (0, 0)
        return Attributes(stat.S_IFREG | mode, uid, gid, size, self.record.changed_ns)

    def complete(self, order: Order) -> Order:
        """Add what an update registers. Raises what `Profiles.to_register` does."""
        if order.verb != "update":
            return order
        return replace(order, profile=self._profiles.to_register(self.name).text())


def _target(record: ResourceRecord) -> str:
    if record.monitors:
        return "".join(f"{one.target} on {one.member}\n" for one in record.monitors)
    return f"{record.target}\n"


def _state(record: ResourceRecord) -> str:
    if record.monitors:
        return "".join(f"{one.state} on {one.member}\n" for one in record.monitors)
    return f"{state_text(record.state, record.member)}\n"


def _host(record: ResourceRecord) -> str:
    if record.monitors:
        return "".join(f"{one.member}\n" for one in record.monitors if one.state == ONLINE)
    return f"{record.member or '-'}\n"


def _failure_count(record: ResourceRecord) -> str:
    if record.monitors:
        return "".join(f"{one.failure_count} on {one.member}\n" for one in record.monitors)
    return f"{record.failure_count}\n"


def _maintenance(record: ResourceRecord) -> str:
    return f"{int(record.maintenance)}\n"


def _history(record: ResourceRecord) -> str:
    return "".join(
        f"{timestamp(one.time_s)} {one.before} -> {one.after}: {one.reason}\n"
        for one in record.history
    )


def _uptime(record: ResourceRecord) -> str:
    return "".join(
        f"{timestamp(one.time_s)} {one.what} on {one.member}\n" for one in record.starts_and_stops
    )


FACTS: dict[bytes, Callable[[ResourceRecord], str]] = {
    b"state": _state,
    b"profile": lambda record: record.profile,
    b"restart_count": lambda record: f"{record.restart_count}\n",
    b"failure_count": _failure_count,
    b"history": _history,
    b"uptime": _uptime,
}


class ResourceReport:
    """/clu/status/resources: what `caa_stat -v` says of each."""

    def __init__(self, registry: Registry, profiles: Profiles) -> None:
        self._registry = registry
        self._profiles = profiles
        self._of: list[ResourceRecord] = []
        self._text = b""

    def show(self, caller: Caller) -> bytes:
        """The text, made anew where a record is another."""
        records = list(self._registry.state.resources.values())
        if len(records) != len(self._of) or any(map(is_not, records, self._of)):
            self._of, self._text = records, self._made()
        return self._text

    def _made(self) -> bytes:
        records = self._registry.state.resources
        profiles = sorted(self._profiles.registered().items())
        blocks = (_block(records[name], one.type, one.values()) for name, one in profiles)
        return "\n".join(blocks).encode()


def _block(record: ResourceRecord, kind: str, values: dict[str, str]) -> str:
    head = f"NAME={record.name}\nTYPE={kind}\n"
    threshold = f"FAILURE_THRESHOLD={values['FAILURE_THRESHOLD']}\n"
    if kind != "application":
        counts = "".join(
            f"FAILURE_COUNT={m.failure_count} on {m.member}\n" for m in record.monitors
        )
        targets = "".join(f"TARGET={m.target} on {m.member}\n" for m in record.monitors)
        states = "".join(f"STATE={m.state} on {m.member}\n" for m in record.monitors)
        return head + threshold + counts + targets + states
    return (
        f"{head}RESTART_ATTEMPTS={values['RESTART_ATTEMPTS']}\nRESTART_COUNT={record.restart_count}\n"
        f"{threshold}FAILURE_COUNT={record.failure_count}\n"
        f"TARGET={record.target}\nSTATE={state_text(record.state, record.member)}\n"
    )
