"""A command run inside a lab's member for somebody outside, with the terminal and descriptors of that one."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from clufs.errors import MissingPart, ProgramError

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_NAMESPACES = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET
_PR_SET_PDEATHSIG = 1

# What a terminal sends to all of a foreground group: for the command to judge.
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


def run(init: int, command: list[str]) -> int:
    """Run a command in the member of process 1 `init`, in the same directory if it is there too.

    Returns its exit status; a signal that ended it ends this process too. SIGTERM and SIGHUP are
    passed on to it, and it gets SIGTERM if this process is killed. Raises ProgramError if the
    member is gone.

    Its parent is not this process but one between that never stops. The kernel keeps the dead of a
    member until their parent has seen them, and process 1 with them: a parent that was stopped,
    with Ctrl-Z say, would keep a killed member from being surely dead.
    """
    try:
        member = os.pidfd_open(init)
    except ProcessLookupError:
        raise ProgramError("the member died meanwhile") from None
    between = os.fork()
    if between == 0:
        _in_a_fork(lambda: _be_between(member, command))
    os.close(member)
    return _end_as(_outcome(between))


def _in_a_fork(work: Callable[[], int]) -> None:
    """End with what `work` returns: a fork never goes back into its caller's stack."""
    try:
        os._exit(work())
    except OSError as error:
        print(f"clufs lab: {error.strerror}", file=sys.stderr)
    finally:
        os._exit(MissingPart.exit_code)


def _be_between(member: int, command: list[str]) -> int:
    _signal_at_parents_death(signal.SIGTERM)
    here = os.getcwd()
    _join(member)
    child = os.fork()
    if child == 0:
        _in_a_fork(lambda: _become(here, command))
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    return _end_as(_outcome(child))


def _become(here: str, command: list[str]) -> int:
    """Turn into the command, or return what a shell would."""
    _signal_at_parents_death(signal.SIGTERM)
    # Python ignores it, and who ignores a signal passes that on.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # caa_stat and the others of this clufs, installed or not.
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', os.defpath)}"
    try:
        os.chdir(here)
    except OSError:
        os.chdir("/")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


def _outcome(child: int) -> int:
    """Wait for a child; what os.waitstatus_to_exitcode() makes of its end."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _end_as(outcome: int) -> int:
    """Return an exit status, or die of the signal that a child died of."""
    if outcome < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -outcome not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-outcome, signal.SIG_DFL)
        os.kill(os.getpid(), -outcome)
    return outcome


def _join(member: int) -> None:
    """Enter all namespaces of a process, given its pidfd; children are born into its pid namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(member, _NAMESPACES) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"its namespaces: {os.strerror(error)}")


def _signal_at_parents_death(number: signal.Signals) -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
