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

from clufs.errors import ProgramError

INIT = "clufs.lab.init"
PID_SUFFIX = ".init"


def start_time(pid: int) -> str:
    """The start time of a process in clock ticks since boot; empty if it is gone."""
    try:
        # The name, in parentheses, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def inits(directory: Path) -> dict[str, int]:
    """Process 1 of each living member of the lab in `directory`, by name, as they wrote themselves down."""
    found = {}
    for path in directory.glob(f"*{PID_SUFFIX}"):
        pid, _, started = path.read_text().strip().partition(" ")
        if started and start_time(int(pid)) == started and _state(int(pid)) not in ("Z", ""):
            found[path.name.removesuffix(PID_SUFFIX)] = int(pid)
    return found


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


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
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    left = [pid for pid, handle in handles if not _ended(handle, deadline)]
    for _, handle in handles:
        os.close(handle)
    if left:
        raise ProgramError(f"processes {left} do not end")


def _ended(handle: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(max(0, (deadline - time.monotonic()) * 1000)))
