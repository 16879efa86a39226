"""Fencing agents: what makes sure that a member is off.

An agent is asked about one member and answers with a certificate or with a failure. It may be
asked again at any time, also about a member that is off already: then it must say so again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from dataclasses import dataclass
from typing import Protocol

import trio

from clufs.cluster.gate import COMMAND, AgentPlan
from clufs.dlm.interface import Life
from clufs.limits import AGENT_LINES_KEPT, AGENT_OUTPUT_BYTES

_PIPE_BYTES = 65536  # all that a pipe can hold


@dataclass(frozen=True, slots=True)
class Verdict:
    """ok: the member is surely off, and was off at some moment after the agent was asked.

    said: one line for the log.
    """

    ok: bool
    said: str


class Agent(Protocol):
    """One way of fencing."""

    async def fence(self, life: Life) -> Verdict:
        """Make sure that this life of a member is off; cancelled, nothing of it goes on."""


class NoAgent:
    """`none`: nothing is certain until a person says so."""

    async def fence(self, life: Life) -> Verdict:
        """Fails."""
        return Verdict(False, "a person has to confirm")


class CommandAgent:
    """`command`: a program, with the member's name as its last argument.

    Exit status 0 means that the member is surely off. Whatever else happens (another status, a
    signal, no such program, no end within the timeout) means that nothing is known. It runs in a
    process group of its own; when its time is up or nobody wants its answer any more, all of the
    group is killed, so that no late shot comes from it.
    """

    def __init__(self, command: tuple[str, ...], timeout_s: float) -> None:
        self.command = command
        self.timeout_s = timeout_s

    async def fence(self, life: Life) -> Verdict:
        """Run the program once."""
        output, write_end = os.pipe()
        os.set_blocking(output, False)
        try:
            try:
                program = self._start(life.member, write_end)
            except (OSError, ValueError) as error:
                return Verdict(False, f"{self.command[0]} cannot be run: {error}")
            finally:
                os.close(write_end)
            tail = _Tail(output)
            status = await self._ended(program, tail)
        finally:
            os.close(output)
        if status is None:
            return Verdict(False, tail.line(f"killed: no answer within {self.timeout_s:g} s"))
        how = f"exit status {status}" if status >= 0 else f"died of {_signal_name(-status)}"
        return Verdict(status == 0, tail.line(how))

    def _start(self, member: str, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.command, member],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )

    async def _ended(self, program: subprocess.Popen[bytes], tail: _Tail) -> int | None:
        """The exit status, None if the time was up first."""
        in_time = False
        pidfd = os.pidfd_open(program.pid)
        try:
            with trio.move_on_after(self.timeout_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tail.read)
                    await trio.lowlevel.wait_readable(pidfd)
                    in_time = True
                    nursery.cancel_scope.cancel()
            tail.take_rest()
        finally:
            os.close(pidfd)
            if not in_time:
                # Not reaped yet, so nobody else can have this process group's number.
                os.killpg(program.pid, signal.SIGKILL)
                # A thread waits: who is stuck in the kernel does not die at once.
                threading.Thread(target=program.wait, daemon=True).start()
        return program.wait() if in_time else None


class _Tail:
    """The last of what is written into a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = b""

    def _take(self) -> bool:
        """Take once what is there; False at the end."""
        more = os.read(self._fd, _PIPE_BYTES)
        self._kept = (self._kept + more)[-AGENT_OUTPUT_BYTES:]
        return bool(more)

    async def read(self) -> None:
        """Take all that comes, so that the writer never waits."""
        await trio.lowlevel.wait_readable(self._fd)
        while self._take():
            await trio.lowlevel.wait_readable(self._fd)

    def take_rest(self) -> None:
        """Take what is there now; a child of the program may go on writing."""
        with contextlib.suppress(BlockingIOError):
            self._take()

    def line(self, how: str) -> str:
        """How it ended, and the last lines, as one."""
        text = self._kept.decode(errors="backslashreplace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return ": ".join(filter(None, (how, " | ".join(lines[-AGENT_LINES_KEPT:]))))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def agent_of(plan: AgentPlan) -> Agent:
    """The agent that is planned, where no LUN is needed for it."""
    if plan.kind == COMMAND:
        return CommandAgent(plan.command, plan.timeout_s)
    return NoAgent()
