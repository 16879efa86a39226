"""A runner under test, programs that are hard to end, and what shows that they are gone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from clufs.actions import cgroup
from clufs.actions.commands import Machine
from clufs.actions.interface import ActionResult, ActionSpec, Entry, OnLine
from clufs.actions.record import Record
from clufs.actions.runner import Runner
from clufs.caa.environment import action_environment
from clufs.caa.interface import Reason

WAIT_S = 20.0
"""How long anything here may take on a busy machine before a test fails."""

ENVIRONMENT = action_environment({"NAME": "app", "TYPE": "application"}, Reason.USER)


class Actions:
    """A runner, with short ways to ask it."""

    def __init__(self, runner: Runner, state: Path) -> None:
        self.runner = runner
        self.state = state

    async def run(
        self,
        script: str | bytes | None,
        entry: Entry = "start",
        *,
        resource: str = "app",
        timeout_s: float = WAIT_S,
        action_script: str = "app.scr",
        environment: Mapping[str, str] = ENVIRONMENT,
        on_line: OnLine | None = None,
    ) -> ActionResult:
        text = script.encode() if isinstance(script, str) else script
        spec = ActionSpec(resource, entry, action_script, text, environment, timeout_s)
        with trio.fail_after(3 * WAIT_S):
            return await self.runner.run(spec, on_line)

    @property
    def keeper(self) -> int:
        """The keeper's pid."""
        return int(Record(self.state).keeper.read_text().split()[0])


@asynccontextmanager
async def actions(
    state: Path, machine: Machine | None = None, lost: Callable[[list[str]], None] | None = None
) -> AsyncIterator[Actions]:
    """A runner that serves; afterwards nothing of it is left, which is checked."""
    state.mkdir(exist_ok=True)
    runner = Runner(state, lost or (lambda resources: None), machine)
    place = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.serve)
            await runner.running()
            place = Record(state).cgroup()
            yield Actions(runner, state)
            nursery.cancel_scope.cancel()
    finally:
        if place is not None:
            cgroup.kill(place)
    assert place is None or not place.exists()
    assert list((state / "actions" / "reapers").iterdir()) == []
    assert not (state / "actions" / "keeper").exists()


def until(what: Callable[[], object]) -> None:
    """Wait for something that comes true by itself."""
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


async def until_async(what: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(until, what)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in text and "State:\tX" not in text


def pids(directory: Path) -> list[int]:
    """The processes that left a file with their number as its name."""
    return [int(name) for name in os.listdir(directory)]


def python(body: str) -> str:
    """An action script in Python."""
    return f"#!{sys.executable} -IS\nimport os, signal, sys, time, threading\n{body}\n"


LIMIT_S = 60
"""After so long the programs end by themselves, whatever becomes of a test."""


def mark(directory: Path) -> str:
    """A line of Python that leaves the number of the process."""
    return f"open({str(directory)!r} + '/' + str(os.getpid()), 'w').close()"


def daemonised(directory: Path) -> str:
    """A script whose daemon has forked twice, has its own session, and ignores what can be ignored."""
    return python(f"""
{mark(directory)}
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in signal.valid_signals():
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        {mark(directory)}
        time.sleep({LIMIT_S})
    os._exit(0)
os.wait()
""")


def hopping(directory: Path, many: int = 20) -> str:
    """A script that leaves processes which go from pid to pid: each forks another and ends."""
    return python(f"""
end = time.monotonic() + {LIMIT_S}
for _ in range({many}):
    if os.fork() == 0:
        os.setsid()
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            {mark(directory)}
            time.sleep(0.002)
        os._exit(0)
""")


def undead(directory: Path) -> str:
    """A script that leaves zombies with their parent, and a process whose first thread has ended."""
    return python(f"""
if os.fork() == 0:
    os.setsid()
    for _ in range(5):
        if os.fork() == 0:
            os._exit(0)
    {mark(directory)}
    time.sleep({LIMIT_S})
    os._exit(0)
if os.fork() == 0:
    os.setsid()
    import ctypes
    def go_on():
        time.sleep(0.1)
        {mark(directory)}
        time.sleep({LIMIT_S})
    threading.Thread(target=go_on, daemon=True).start()
    ctypes.CDLL(None).syscall(60, 0)
time.sleep(0.2)
""")


def crowd(directory: Path, many: int = 200) -> str:
    """A script that leaves many processes, each in a session of its own."""
    return python(f"""
for _ in range({many}):
    if os.fork() == 0:
        os.setsid()
        {mark(directory)}
        time.sleep({LIMIT_S})
        os._exit(0)
""")


def moved(directory: Path) -> str:
    """A script whose daemon has left its cgroup, as who asks systemd for a session of its own does."""
    out = cgroup.own_place()
    return python(f"""
if {str(out)!r} != 'None':
    open({str(out)!r} + '/cgroup.procs', 'w').write('0')
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {mark(directory)}
        time.sleep({LIMIT_S})
    os._exit(0)
os.wait()
""")


def marks_in(tmp_path: Path) -> Path:
    """A directory where programs leave their pids."""
    marks = tmp_path / "marks"
    marks.mkdir()
    return marks
