"""The daemon's side of actions: asks the keeper, keeps what applications print, and replaces a keeper that died."""

from __future__ import annotations

import logging
import os
import resource as limits_of_process
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

import clufs
from clufs.actions import wire
from clufs.actions.commands import Command, Machine, command_of, is_success, outcome
from clufs.actions.interface import ActionResult, ActionSpec, OnLine
from clufs.actions.leftovers import unit_end_commands
from clufs.actions.record import Record
from clufs.caa.output import Lines, Tail
from clufs.errors import GarbageReceived, RequestError
from clufs.timeouts import ACTION_KILL_S, KEEPER_AGAIN_S, UNIT_END_S

log = logging.getLogger(__name__)

_READ_BYTES = 2**16
_ORDINARY_DESCRIPTORS = 1024

Lost = Callable[[list[str]], None]
"""Gets the applications that were ended because the keeper, or an earlier daemon, had died."""


@dataclass(slots=True)
class _UnderWay:
    """An action that somebody waits for."""

    on_line: OnLine | None
    ended: trio.Event = field(default_factory=trio.Event)
    status: int = -1
    error: int = -1
    keeper_died: bool = False
    tail: Tail = field(default_factory=Tail)
    lines: Lines = field(default_factory=Lines)

    def print(self, data: bytes) -> None:
        self.tail.add(data)
        self._tell(self.lines.add(data))

    def end(self, status: int, error: int) -> None:
        self.status, self.error = status, error
        self._tell(self.lines.end())
        self.ended.set()

    def _tell(self, lines: list[str]) -> None:
        if self.on_line is not None:
            for line in lines:
                self.on_line(line)


class _KeeperGone(Exception):
    """The keeper died, and with it every answer that was waited for."""


class _Connection:
    """One keeper, as long as it lives."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.ready = trio.Event()
        self.gone = trio.Event()
        self.emptied: dict[int, trio.Event] = {}
        self.left: list[tuple[trio.Event, list[wire.Left]]] = []
        self._sending = trio.StrictFIFOLock()

    async def send(self, message: wire.ToKeeper) -> None:
        """Raises _KeeperGone; a cancelled one is sent whole all the same."""
        data = wire.frame(message)
        with trio.CancelScope(shield=True):
            async with self._sending:
                try:
                    await self.stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    raise _KeeperGone from None

    async def wait(self, event: trio.Event) -> None:
        """Wait for an answer. Raises _KeeperGone if there will be none."""
        await event.wait()
        if self.gone.is_set():
            raise _KeeperGone

    def lose(self) -> None:
        """Let nobody wait any longer."""
        self.gone.set()
        for event in (self.ready, *self.emptied.values(), *(event for event, _ in self.left)):
            event.set()


class Runner:
    """Runs actions; implements `clufs.actions.interface.ActionRunner`.

    lost: hears which applications were ended without anybody's order, and are not running here any more.
    """

    def __init__(
        self, state: Path, lost: Lost = lambda resources: None, machine: Machine | None = None
    ) -> None:
        self._record = Record(state.absolute())
        self._lost = lost
        self._machine = machine or Machine()
        self._connection: _Connection | None = None
        self._changed = trio.Event()
        self._under_way: dict[int, _UnderWay] = {}
        self._outputs: dict[str, Tail] = {}
        self._number = 0
        soft, _ = limits_of_process.getrlimit(limits_of_process.RLIMIT_NOFILE)
        self._descriptors = min(soft, _ORDINARY_DESCRIPTORS)

    # ----------------------------------------------------------------- the keeper

    @property
    def is_clean(self) -> bool:
        """Whether the keeper before this one has ended all: nothing of it can be left."""
        return not self._record.keeper.exists()

    async def serve(self) -> None:
        """Run the keeper. Raises StateError when the state directory cannot be used."""
        await trio.to_thread.run_sync(self._record.prepare)
        while True:
            await self._serve_one_keeper()
            log.warning("the keeper died: it is replaced, and all applications here are ended")
            await trio.sleep(KEEPER_AGAIN_S)

    async def _serve_one_keeper(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, trio.CancelScope(shield=True):
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            process = await trio.to_thread.run_sync(self._start_keeper, theirs)
        connection = self._connection = _Connection(stream)
        try:
            async with stream:
                await self._listen(connection)
        finally:
            self._lose(connection)
            with trio.move_on_after(ACTION_KILL_S, shield=True):
                await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)

    def _start_keeper(self, its_end: socket.socket) -> subprocess.Popen[bytes]:
        fd = its_end.fileno()
        words = [str(fd), str(self._record.place.parent), self._machine.systemctl_path()]
        words += [str(self._descriptors), "cgroups" if self._machine.cgroups else "ancestry"]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "clufs.actions.keeper", *words],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(Path(clufs.__file__).parent.parent)},
            start_new_session=True,
        )

    async def _listen(self, connection: _Connection) -> None:
        frames = wire.Frames()
        try:
            async for data in connection.stream:
                for body in frames.add(bytes(data)):
                    self._hear(connection, wire.to_daemon.decode(body))
        except trio.BrokenResourceError:
            return
        except GarbageReceived as error:
            log.error("the keeper sent %s", error)

    def _lose(self, connection: _Connection) -> None:
        connection.lose()
        self._connection = None
        for action in list(self._under_way.values()):
            action.keeper_died = True
            action.end(-1, -1)

    def _hear(self, connection: _Connection, message: wire.ToDaemon) -> None:
        match message:
            case wire.Ready(found=found):
                connection.ready.set()
                self._changed.set()
                self._changed = trio.Event()
                if found:
                    log.warning("left behind and ended: %s", " ".join(found))
                    self._lost(found)
            case wire.Printed(action=number, resource=resource, data=data):
                self._outputs.setdefault(resource, Tail()).add(data)
                if number in self._under_way:
                    self._under_way[number].print(data)
            case wire.Ended(action=number, status=status, error=error):
                if number in self._under_way:
                    self._under_way[number].end(status, error)
            case wire.Emptied(order=number):
                connection.emptied.pop(number).set()
            case wire.Left():
                event, answer = connection.left.pop(0)
                answer.append(message)
                event.set()

    async def _ready(self) -> _Connection:
        """The keeper that has cleared what was left, once there is one."""
        while True:
            connection = self._connection
            if connection is not None and connection.ready.is_set():
                return connection
            await self._changed.wait()

    # -------------------------------------------------------------------- actions

    async def run(self, spec: ActionSpec, on_line: OnLine | None = None) -> ActionResult:
        """Run one action; see the interface."""
        try:
            command = await trio.to_thread.run_sync(command_of, spec, self._machine)
        except RequestError as error:
            return ActionResult(False, str(error), None, False, b"")
        connection = await self._ready()
        action = _UnderWay(on_line)
        in_time = await self._carry_out(connection, spec.resource, command, spec.timeout_s, action)
        return self._result(spec, action, in_time)

    async def _carry_out(
        self,
        connection: _Connection,
        resource: str,
        command: Command,
        timeout_s: float,
        action: _UnderWay,
    ) -> bool:
        """Run a command to its end; False if its time was up first: then it is killed."""
        self._number = number = self._number + 1
        self._under_way[number] = action
        ask = wire.Run(
            number,
            resource,
            list(command.argv),
            command.environment,
            command.name,
            command.script,
            command.unit,
        )
        try:
            with suppress(_KeeperGone):
                with trio.move_on_after(timeout_s):
                    await connection.send(ask)
                    await action.ended.wait()
                    return True
                await connection.send(wire.Kill(number))
                with trio.move_on_after(ACTION_KILL_S):
                    await action.ended.wait()
                return False
            action.keeper_died = True
            return True
        finally:
            if not action.ended.is_set():
                with suppress(_KeeperGone):
                    await connection.send(wire.Kill(number))
            del self._under_way[number]

    def _result(self, spec: ActionSpec, action: _UnderWay, in_time: bool) -> ActionResult:
        output = bytes(action.tail)
        what = f"the {spec.entry} entry of {spec.action_script}"
        if not in_time:
            why = f"{what} did not end within {spec.timeout_s:g} s (SCRIPT_TIMEOUT) and was killed"
            return ActionResult(False, why, None, True, output)
        if action.error > 0:
            why = f"{what} cannot be run: {os.strerror(action.error)}"
            return ActionResult(False, why, None, False, output)
        if action.error < 0:
            why = f"{what} was killed from outside"
            return ActionResult(False, why, None, False, output, action.keeper_died)
        status = os.waitstatus_to_exitcode(action.status)
        return ActionResult(is_success(spec, status), outcome(spec, status), status, False, output)

    # --------------------------------------------------------------------- ending

    async def end(self, resource: str) -> None:
        """Kill all of an application; see the interface."""
        while True:
            connection = await self._ready()
            with suppress(_KeeperGone):
                unit = (await self._left(connection)).units.get(resource)
                if unit is not None:
                    await self._end_unit(connection, resource, unit)
                self._number = number = self._number + 1
                connection.emptied[number] = event = trio.Event()
                await connection.send(wire.End(number, resource, unit is not None))
                await connection.wait(event)
                return

    async def _end_unit(self, connection: _Connection, resource: str, unit: str) -> None:
        for argv in unit_end_commands(self._machine.systemctl_path(), unit):
            command = Command(tuple(argv), dict(os.environ))
            await self._carry_out(connection, resource, command, UNIT_END_S, _UnderWay(None))

    async def _left(self, connection: _Connection) -> wire.Left:
        event = trio.Event()
        answer: list[wire.Left] = []
        connection.left.append((event, answer))
        await connection.send(wire.Ask())
        await connection.wait(event)
        return answer[0]

    async def is_empty(self, resource: str) -> bool:
        """Whether nothing of it is left; see the interface."""
        return resource not in await self.running()

    async def running(self) -> list[str]:
        """The applications of which something is left."""
        while True:
            connection = await self._ready()
            with suppress(_KeeperGone):
                left = await self._left(connection)
                return sorted({*left.resources, *left.units})

    # --------------------------------------------------------------------- output

    def output(self, resource: str) -> bytes:
        """The last that it printed."""
        return bytes(self._outputs.get(resource, b""))

    def forget(self, resource: str) -> None:
        """Drop what is kept of it."""
        self._outputs.pop(resource, None)
        shutil.rmtree(self._record.scripts(resource), ignore_errors=True)
