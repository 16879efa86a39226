"""`signal=`, `hint=` and `lost=`: holders are told, and whom (contract 2.1)."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]
NOBODY = 65534

SIGNALFD = """
import ctypes, struct
_libc = ctypes.CDLL(None, use_errno=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
_mask = (ctypes.c_ulong * 16)((1 << signal.SIGUSR1 - 1) | (1 << signal.SIGUSR2 - 1))
_signals = _libc.signalfd(-1, _mask, os.O_NONBLOCK)

def signals():
    "The signals that have come, each with its si_value and si_code."
    found = []
    while True:
        try:
            info = os.read(_signals, 128)
        except BlockingIOError:
            return found
        number, code = struct.unpack_from("<I4xi", info)
        found.append((signal.Signals(number).name, struct.unpack_from("<Q", info, 48)[0], code))

def a_signal():
    "Wait until one has come."
    select.select([_signals], [], [])
    return signals()
"""
QUEUED = -1
"""si_code of a signal sent with a value (SI_QUEUE)."""


@pytest.fixture
def listener(clu: Clu, program: Programs) -> Program:
    """A program that collects its signals."""
    one = program(clu.public)
    one.run(SIGNALFD)
    return one


@pytest.mark.parametrize("kind", SHELLS)
def test_a_shell_gives_way_when_asked(clu: Clu, name: str, shell: Shells, kind: str) -> None:
    """The doorbell: the holder's trap releases when somebody else wants the lock."""
    holder, other = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    holder.ask(f"trap 'echo UN > {name}; rung=1' USR1; echo EX signal=USR1 > {name}")
    other.begin(f"echo EX > {name}")
    holder.ask('while [ -z "$rung" ]; do sleep 0.02; done')
    assert other.hear() == (0, "")


def test_the_hint_arrives_as_the_signals_value(
    clu: Clu, name: str, listener: Program, program: Programs
) -> None:
    listener.ask("EX signal=USR1", name)
    other = program(clu.public)
    other.begin_to_ask("PR hint=0xfedcba9876543210", name)
    assert listener.run("a_signal()") == [["SIGUSR1", 0xFEDCBA9876543210, QUEUED]]
    listener.ask("UN", name)
    assert other.hear() is None


def test_once_per_grant_and_again_after_a_conversion(
    clu: Clu, name: str, listener: Program, program: Programs
) -> None:
    listener.ask("EX signal=USR1", name)
    first, second = program(clu.public), program(clu.public)
    assert first.ask("EX async hint=1", name) is None
    assert second.ask("EX async hint=2", name) is None
    assert listener.run("a_signal()") == [["SIGUSR1", 1, QUEUED]]
    assert listener.ask("EX signal=USR2", name) is None
    assert listener.run("a_signal()") == [["SIGUSR2", 1, QUEUED]]
    assert listener.ask("EX", name) is None
    assert program(clu.public).ask("EX async hint=3", name) is None
    assert listener.run("signals()") == []


def test_who_is_granted_before_others_that_wait_hears_of_them(
    clu: Clu, name: str, listener: Program, program: Programs
) -> None:
    holder, third = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    listener.ask("EX async signal=USR1", name)
    third.ask("EX async hint=3", name)
    assert listener.run("signals()") == []
    holder.ask("UN", name)
    assert listener.run("a_signal()") == [["SIGUSR1", 3, QUEUED]]


def test_no_signal_while_nobody_is_in_the_way(
    clu: Clu, name: str, listener: Program, program: Programs
) -> None:
    listener.ask("PR signal=USR1", name)
    other = program(clu.public)
    assert other.ask("PR", name) is None
    assert other.ask("EX nowait", name) == "EAGAIN"
    assert listener.run("signals()") == []
    assert other.ask("EX async", name) is None
    assert listener.run("a_signal()") == [["SIGUSR1", 0, QUEUED]]


def test_a_descriptors_signal_goes_to_the_process_that_asked(
    clu: Clu, name: str, listener: Program, program: Programs
) -> None:
    listener.run(f"fd = own({name!r}); say(fd, 'EX signal=USR1')")
    listener.run("child = os.fork() or time.sleep(100)")
    try:
        assert program(clu.public).ask("EX async hint=5", name) is None
        assert listener.run("a_signal()") == [["SIGUSR1", 5, QUEUED]]
    finally:
        listener.run("os.kill(child, signal.SIGKILL); os.waitpid(child, 0)")


def test_a_process_that_became_another_user_is_not_signalled(
    clu: Clu, name: str, listener: Program, program: Programs
) -> None:
    listener.ask("EX signal=USR1", name)
    listener.run(f"turn_into({NOBODY})")
    other = program(clu.public)
    assert other.ask("EX async", name) is None
    assert listener.run("signals()") == []
    assert listener.ask("EX signal=USR1", name) is None
    assert listener.run("a_signal()") == [["SIGUSR1", 0, QUEUED]]


def test_signals_by_any_of_their_names(clu: Clu, name: str, listener: Program) -> None:
    for word in ("USR1", "SIGUSR1", "sigio", "RTMIN", "RTMIN+3", "TERM"):
        assert listener.ask(f"NL signal={word}", name) is None
    for word in ("RTMIN+99", "SIG", "0", "64", "USR1+1"):
        assert listener.ask(f"NL signal={word}", name) == "EINVAL"


def test_lost_is_sent_when_the_daemon_ends(
    own_clu: Clu, name: str, program: Programs, shell: Shells
) -> None:
    holder, released = program(own_clu.public), program(own_clu.public)
    for one in (holder, released):
        one.run(SIGNALFD)
        one.ask("EX lost=USR2", f"{name}_{one.pid}")
    released.ask("UN", f"{name}_{released.pid}")
    trapping = shell("bash", cwd=own_clu.public)
    trapping.ask(f"trap 'lost=1' USR1; exec 9<> {name}; echo PR lost=USR1 >&9")
    assert own_clu.stop() == 0
    assert holder.run("a_signal()") == [["SIGUSR2", 0, QUEUED]]
    assert released.run("signals()") == []
    assert trapping.ask('while [ -z "$lost" ]; do sleep 0.02; done; echo $lost') == (0, "1\n")


def test_waiters_hear_that_the_daemon_ends(own_clu: Clu, name: str, program: Programs) -> None:
    holder, waiter = program(own_clu.public), program(own_clu.public)
    holder.ask("EX", name)
    waiter.begin_to_ask("EX", name)
    own_clu.until_queued(name)
    own_clu.daemon.send_signal(signal.SIGTERM)
    assert waiter.hear() == "ESHUTDOWN"
    until(lambda: own_clu.daemon.poll() is not None, "the end of the daemon")
    assert own_clu.daemon.returncode == 0
