"""The processes of a lab. Only its own are ever looked at: reading in /proc about a stranger can hang
for as long as that one waits for a file system (its command line, its namespaces).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from clufs.errors import ProgramError

INIT = "clufs.lab.init"
KEEPER = "clufs.lab.keeper"
ARRAY = "clufs.lab.array"
PID_SUFFIX = ".init"
KEEPER_PID = "keeper.pid"


class Record(NamedTuple):
    """A process as it wrote itself down; only both together name one."""

    pid: int
    started: str


def write_down(path: Path) -> None:
    """Leave who this process is, as /proc sees it: its namespace may call it by another number."""
    pid = int(os.readlink("/proc/self"))
    new = path.with_suffix(".new")
    new.write_text(f"{pid} {start_time(pid)}\n")
    new.rename(path)


def record(path: Path) -> Record | None:
    """Read what a process wrote down; None if there is none."""
    try:
        pid, started = path.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return Record(int(pid), started)


def start_time(pid: int) -> str:
    """The start time of a process in clock ticks since boot; empty if it is gone."""
    return _stat(pid)[19] if _stat(pid) else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which, in parentheses, may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return _stat(pid)[0] if _stat(pid) else ""


def living(path: Path) -> int | None:
    """The process that wrote itself down there, if it lives."""
    found = record(path)
    if found is None or start_time(found.pid) != found.started or _state(found.pid) in ("Z", ""):
        return None
    return found.pid


def inits(directory: Path) -> dict[str, int]:
    """Process 1 of each living member of the lab in `directory`, by name."""
    found = {
        path.name.removesuffix(PID_SUFFIX): living(path)
        for path in directory.glob(f"*{PID_SUFFIX}")
    }
    return {name: pid for name, pid in found.items() if pid is not None}


def is_init(pid: int) -> bool:
    """Whether a process is number 1 of a namespace below ours: with it all in there end."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return False
    numbers = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
    return bool(numbers) and len(numbers[0]) > 1 and numbers[0][-1] == "1"


def start(module: str, words: list[str], prefix: list[str], environment: dict[str, str]) -> None:
    """Start one of the lab's own processes, in a session of its own; returns when it said `ready`.

    Raises ProgramError with what it said instead.
    """
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", module, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        if process.stdout.readline() != b"ready\n":
            words = process.stderr.read().decode(errors="replace").splitlines()
            raise ProgramError(f"{module}: {' / '.join(words) or 'it ended without a word'}")
    # It is left to itself, and is no zombie of ours that anybody would have to await.
    process.returncode = 0


def service(init: int, command: list[str]) -> int | None:
    """The process below `init` that was started with `command`, or None."""
    try:
        children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    except OSError:
        return None
    for pid in children:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            if [os.fsdecode(word) for word in words] == command:
                return int(pid)
    return None


def is_stopped(pid: int) -> bool:
    """Whether a process is paused."""
    return _state(pid) == "T"


def signal_member(init: int, number: signal.Signals) -> None:
    """Signal every process of a member, process 1 included."""
    # -1 is everybody in the sender's pid namespace but process 1 and the sender.
    program = f"import os; os.kill(-1, {int(number)})"
    inside = ["nsenter", "-t", str(init), "--pid", "--", sys.executable, "-S", "-E", "-c", program]
    subprocess.run(inside, stderr=subprocess.DEVNULL, check=False)
    send(init, number)


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process; if it is gone, it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def kill(pids: list[int], timeout_s: float) -> None:
    """SIGKILL and wait until all are gone. Raises ProgramError after `timeout_s`.

    Process 1 is gone only after everybody else in its namespace: the kernel sees to it.
    """
    handles = []
    for pid in pids:
        with suppress(ProcessLookupError):
            handles.append((pid, os.pidfd_open(pid)))
    for _, handle in handles:
        kill_handle(handle)
    deadline = time.monotonic() + timeout_s
    left = [pid for pid, handle in handles if not ended(handle, deadline)]
    for _, handle in handles:
        os.close(handle)
    if left:
        raise ProgramError(f"processes {left} do not end")


def end(pid: int, patience_s: float, timeout_s: float) -> None:
    """SIGTERM, and SIGKILL for who is paused or not gone after `patience_s`. Raises as kill()."""
    if not is_stopped(pid):
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            gone = ended(handle, time.monotonic() + patience_s)
            os.close(handle)
            if gone:
                return
    kill([pid], timeout_s)


def kill_handle(handle: int) -> None:
    """SIGKILL a process by its pidfd; if it is gone, it is gone."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)


def ended(handle: int, deadline: float) -> bool:
    """Whether the process of a pidfd ends by then."""
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(max(0, (deadline - time.monotonic()) * 1000)))
