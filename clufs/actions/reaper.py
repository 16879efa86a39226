"""The process above one action: it starts the script, sees it end, and stays as long as anything of it lives.

Whoever descends from an action and loses its parent becomes a child of this process (it is a
subreaper), also after a double fork and setsid. So the descendants of the reaper are all that
is left of the action, and when there are none, the reaper ends.

The functions here run in forks of the keeper, which has one thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clufs.actions import cgroup
from clufs.actions.record import Process

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

OUTCOME = struct.Struct("<iii")
"""What the keeper reads once from a reaper: the script's wait status, the errno that kept it from being run, and
whether anything that it had started was left when it ended."""

_SHELL = "/bin/sh"
_DESCRIPTORS_MAX = 2**31 - 1
# What Python ignores, and the reaper; a script finds them as anybody does.
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Plan:
    """One action as a reaper needs it. output: the pipe that it prints into. outcome: where OUTCOME goes."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    output: int
    outcome: int
    record: Path
    cgroup: Path | None
    descriptors: int
    """The soft limit of open descriptors that it gets: the daemon's own is raised."""


_libc = ctypes.CDLL(None)


def _prctl(option: int, value: int) -> None:
    _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of all descendants that lose theirs."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def start(plan: Plan) -> int:
    """Start the reaper of an action; its pid. Raises OSError if nothing can be forked."""
    keeper = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = _reap(plan, keeper)
    except OSError as error:
        os.write(plan.output, f"clufs: {error.filename}: {error.strerror}\n".encode())
    finally:
        # A fork never goes back into its caller's stack.
        os._exit(status)


def _reap(plan: Plan, keeper: int) -> int:
    # Until it is on record, nobody would find it if the keeper were killed: then it dies as well.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        return 1
    os.setsid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    Process.own().write(plan.record)
    if plan.cgroup is not None:
        cgroup.join(plan.cgroup)
    _prctl(_PR_SET_PDEATHSIG, 0)
    _be_ordinary(plan)
    script, failed = _start_script(plan)
    if failed:
        os.write(plan.outcome, OUTCOME.pack(0, failed, 0))
    _close_all_but(plan.outcome)
    _wait_for_all(script, plan.outcome)
    plan.record.unlink(missing_ok=True)
    return 0


def _be_ordinary(plan: Plan) -> None:
    """Give up what the daemon has for itself: its limits, and its place in the kernel's choice of victims."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("0")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(plan.descriptors, hard), hard))
    os.umask(0o022)


def _start_script(plan: Plan) -> tuple[int, int]:
    """Its pid and 0, or 0 and the errno that kept it from being run."""
    words = list(plan.argv)
    # A script without a first line that names its shell is run as execvp(3) does.
    for attempt in (words, [_SHELL, *words]):
        try:
            return _spawn(plan, attempt), 0
        except ValueError:
            return 0, errno.EINVAL  # an environment that cannot be one
        except OSError as error:
            failed = error.errno or errno.EIO
        if failed != errno.ENOEXEC:
            break
    return 0, failed


def _spawn(plan: Plan, words: list[str]) -> int:
    return os.posix_spawn(
        words[0],
        words,
        plan.environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, plan.output, 1),
            (os.POSIX_SPAWN_DUP2, plan.output, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[*_IGNORED, *_IGNORED_BY_PYTHON],
    )


def _wait_for_all(script: int, outcome: int) -> None:
    """Returns when no descendant is left; tells how the script ended, and whether anything was left then."""
    status: int | None = None
    while True:
        try:
            pid, how = os.waitpid(-1, os.WNOHANG if status is not None else 0)
        except ChildProcessError:
            _tell(outcome, status, False)
            return
        if pid == script:
            status = how
        elif pid == 0:
            _tell(outcome, status, True)
            break
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _tell(outcome: int, status: int | None, left: bool) -> None:
    # The keeper may be gone.
    if status is not None:
        with suppress(OSError):
            os.write(outcome, OUTCOME.pack(status, 0, left))


def _close_all_but(kept: int) -> None:
    """Keep no descriptor of the keeper, nor the action's output: its end must be seen."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.closerange(3, kept)
    os.closerange(kept + 1, _DESCRIPTORS_MAX)
