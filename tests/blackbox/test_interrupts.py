"""Signals that reach one who waits: which end the wait, which do not (contract 2.1, EINTR)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]
HARMLESS = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)
DEADLY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


def state(pid: int) -> str:
    """The state of a process as ps(1) shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def order(clu: Clu, name: str) -> list[int]:
    """The pids that wait, first come first."""
    return [int(line.split()[4]) for line in clu.queue(name, "WAITING")]


@pytest.fixture
def held(clu: Clu, name: str, shell: Shells) -> Shell:
    """A shell that holds the lock of the test."""
    holder = shell(cwd=clu.public)
    holder.ask(f"echo EX > {name}")
    return holder


# ------------------------------------------------------------------- who dies


@pytest.mark.parametrize("kind", SHELLS)
@pytest.mark.parametrize("number", DEADLY)
@pytest.mark.parametrize("how", ["echo EX > {}", "exec 9<> {}; echo EX >&9", "( echo EX > {} )"])
def test_a_waiter_dies_at_once_and_leaves_nothing(
    clu: Clu, name: str, shell: Shells, held: Shell, kind: str, number: int, how: str
) -> None:
    waiter = shell(kind, cwd=clu.public)
    waiter.tell(how.format(name))
    clu.until_queued(name)
    os.killpg(waiter.pid, number)
    assert waiter.process.wait(20) == -number
    until(lambda: not clu.queue(name, "WAITING"), "an empty queue")
    assert held.ask(f"echo UN > {name}") == (0, "")


@pytest.mark.parametrize("number", DEADLY)
def test_a_wait_for_a_conversion_dies_and_so_does_the_granted_lock(
    clu: Clu, name: str, shell: Shells, number: int
) -> None:
    other, waiter = shell(cwd=clu.public), shell("bash", cwd=clu.public)
    other.ask(f"echo PR > {name}")
    waiter.ask(f"echo PR > {name}")
    waiter.tell(f"echo EX > {name}")
    clu.until_queued(name, queue="CONVERTING")
    os.kill(waiter.pid, number)
    assert waiter.process.wait(20) == -number
    until(lambda: len(clu.report(name).splitlines()) == 8, "one lock left")
    assert f" {other.pid} " in clu.queue(name, "GRANTED")[0]


# ---------------------------------------------------------- what does not disturb


@pytest.mark.parametrize("kind", SHELLS)
def test_the_end_of_a_background_job_does_not_end_a_wait(
    clu: Clu, name: str, shell: Shells, held: Shell, kind: str
) -> None:
    waiter = shell(kind, cwd=clu.public)
    waiter.ask("trap : CHLD; read line < /dev/null; sleep 100 & job=$!")
    job = int(waiter.ask("echo $job")[1])
    waiter.begin(f"echo EX > {name}")
    clu.until_queued(name)
    os.kill(job, signal.SIGKILL)
    until(lambda: state(job) == "Z", "the end of the job")
    held.ask(f"echo UN > {name}")
    assert waiter.hear()[0] == 0


@pytest.mark.parametrize("last", DEADLY)
def test_a_bash_that_waits_ignores_what_is_harmless_and_still_can_be_killed(
    clu: Clu, name: str, shell: Shells, held: Shell, last: int
) -> None:
    waiter = shell("bash", cwd=clu.public)
    waiter.ask("trap : CHLD WINCH URG CONT")
    waiter.begin(f"echo EX > {name}")
    clu.until_queued(name)
    for number in HARMLESS:
        os.kill(waiter.pid, number)
    # The kernel has announced a signal, and waits for the answer: it will announce no other.
    until(lambda: state(waiter.pid) == "D", "the first signal's arrival")
    assert order(clu, name) == [waiter.pid]
    os.kill(waiter.pid, last)
    assert waiter.process.wait(20) == -last
    until(lambda: not clu.queue(name, "WAITING"), "an empty queue")


@pytest.mark.parametrize("number", HARMLESS)
def test_each_harmless_signal_leaves_the_wait_to_be_granted(
    clu: Clu, name: str, shell: Shells, held: Shell, number: int
) -> None:
    waiter = shell("bash", cwd=clu.public)
    waiter.ask("trap : CHLD; trap 'seen=1' WINCH URG CONT")
    waiter.begin(f"echo EX > {name}")
    clu.until_queued(name)
    os.kill(waiter.pid, number)
    until(lambda: state(waiter.pid) == "D", "the signal's arrival")
    held.ask(f"echo UN > {name}")
    assert waiter.hear() == (0, "")
    if number != signal.SIGCHLD:  # its trap is for children that are there
        assert waiter.ask("echo $seen") == (0, "1\n")


def test_a_blocked_or_ignored_signal_is_none(
    clu: Clu, name: str, program: Programs, held: Shell
) -> None:
    waiter = program(clu.public)
    waiter.run("signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    waiter.run("signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})")
    waiter.begin_to_ask("EX", name)
    clu.until_queued(name)
    os.kill(waiter.pid, signal.SIGHUP)
    os.kill(waiter.pid, signal.SIGTERM)
    assert order(clu, name) == [waiter.pid]
    held.ask(f"echo UN > {name}")
    assert waiter.hear() is None


# --------------------------------------------------------------- EINTR, and again


def test_bash_fails_with_eintr_and_runs_its_trap(
    clu: Clu, name: str, shell: Shells, held: Shell
) -> None:
    waiter = shell("bash", cwd=clu.public)
    waiter.ask("trap 'seen=1' USR1")
    waiter.begin(f"echo EX > {name}")
    clu.until_queued(name)
    os.kill(waiter.pid, signal.SIGUSR1)
    status, said = waiter.hear()
    assert status == 1 and "Interrupted system call" in said
    assert waiter.ask("echo $seen") == (0, "1\n")
    assert not clu.queue(name, "WAITING")


@pytest.mark.parametrize("kind", ["dash", "busybox sh"])
def test_dash_and_busybox_write_again_and_take_the_old_place(
    clu: Clu, name: str, shell: Shells, held: Shell, kind: str
) -> None:
    first, second = shell(kind, cwd=clu.public), shell("bash", cwd=clu.public)
    first.ask("trap 'seen=1' USR1")
    first.begin(f"echo EX > {name}")
    clu.until_queued(name)
    second.begin(f"echo EX > {name}")
    clu.until_queued(name, 2)
    before = refusals(clu)
    os.kill(first.pid, signal.SIGUSR1)
    until(lambda: refusals(clu) > before, "the interruption")
    until(lambda: order(clu, name) == [first.pid, second.pid], "the old order")
    held.ask(f"echo UN > {name}")
    assert first.hear() == (0, "")
    assert first.ask("echo $seen") == (0, "1\n")
    first.ask(f"echo UN > {name}")
    assert second.hear() == (0, "")


def refusals(clu: Clu) -> float:
    """How many requests were refused or withdrawn, as the metrics count them."""
    lines = (clu.root / "status" / "metrics").read_text().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("clufs_refusals"))


def test_another_request_has_no_claim_to_the_old_place(
    clu: Clu, name: str, shell: Shells, held: Shell
) -> None:
    first, second = shell("bash", cwd=clu.public), shell("bash", cwd=clu.public)
    first.ask("trap : USR1")
    first.begin(f"echo EX > {name}")
    clu.until_queued(name)
    second.begin(f"echo EX > {name}")
    clu.until_queued(name, 2)
    os.kill(first.pid, signal.SIGUSR1)
    assert first.hear()[0] == 1
    first.begin(f"echo PW > {name}")
    clu.until_queued(name, 2)
    assert order(clu, name) == [second.pid, first.pid]


# ------------------------------------------------------------------ stop and go on


def test_a_stopped_bash_leaves_the_queue_and_fails_when_it_goes_on(
    clu: Clu, name: str, shell: Shells, held: Shell
) -> None:
    waiter = shell("bash", cwd=clu.public)
    waiter.begin(f"echo EX > {name}")
    clu.until_queued(name)
    os.kill(waiter.pid, signal.SIGSTOP)
    until(lambda: state(waiter.pid) == "T", "the stop")
    assert not clu.queue(name, "WAITING")
    os.kill(waiter.pid, signal.SIGCONT)
    status, said = waiter.hear()
    assert status == 1 and "Interrupted system call" in said


@pytest.mark.parametrize("kind", ["dash", "busybox sh"])
def test_a_stopped_dash_takes_its_old_place_when_it_goes_on(
    clu: Clu, name: str, shell: Shells, held: Shell, kind: str
) -> None:
    first, second = shell(kind, cwd=clu.public), shell("bash", cwd=clu.public)
    first.begin(f"echo EX > {name}")
    clu.until_queued(name)
    second.begin(f"echo EX > {name}")
    clu.until_queued(name, 2)
    os.kill(first.pid, signal.SIGSTOP)
    until(lambda: order(clu, name) == [second.pid], "the place of the stopped free")
    os.kill(first.pid, signal.SIGCONT)
    until(lambda: order(clu, name) == [first.pid, second.pid], "the old order")
    held.ask(f"echo UN > {name}")
    assert first.hear() == (0, "")


def test_the_lock_does_not_wait_for_a_stopped_waiter(
    clu: Clu, name: str, shell: Shells, held: Shell
) -> None:
    first, second = shell(cwd=clu.public), shell(cwd=clu.public)
    first.begin(f"echo EX > {name}")
    clu.until_queued(name)
    second.begin(f"echo EX > {name}")
    clu.until_queued(name, 2)
    os.kill(first.pid, signal.SIGSTOP)
    until(lambda: state(first.pid) == "T", "the stop")
    held.ask(f"echo UN > {name}")
    assert second.hear() == (0, "")
    os.kill(first.pid, signal.SIGCONT)
    clu.until_queued(name)
    second.ask(f"echo UN > {name}")
    assert first.hear() == (0, "")


def test_a_wait_by_way_of_WAIT_is_interrupted_too(
    clu: Clu, name: str, shell: Shells, held: Shell
) -> None:
    waiter = shell("bash", cwd=clu.public)
    waiter.ask(f"trap : USR1; echo EX async > {name}")
    waiter.begin(f"echo WAIT > {name}")
    until(lambda: blocked_calls(clu) == 1, "WAIT under way")
    os.kill(waiter.pid, signal.SIGUSR1)
    assert waiter.hear()[0] == 1
    assert order(clu, name) == [waiter.pid]
    held.ask(f"echo UN > {name}")
    assert waiter.ask(f"echo WAIT > {name}") == (0, "")


def blocked_calls(clu: Clu) -> int:
    """How many system calls the daemon has not answered yet, WAIT among them."""
    metrics = (clu.root / "status" / "metrics").read_text()
    (line,) = [line for line in metrics.splitlines() if line.startswith("clufs_waiting ")]
    return int(float(line.split()[1]))


# ----------------------------------------------------------------------- threads


def test_a_signal_for_one_thread_ends_its_wait_alone(
    clu: Clu, name: str, program: Programs, held: Shell
) -> None:
    waiter = program(clu.public)
    waiter.run("signal.signal(signal.SIGUSR1, lambda *_: None); tids = []")
    waiter.run("def wait_as(fd): tids.append(threading.get_native_id()); say(fd, 'EX nodeadlock')")
    waiter.run(f"one, other = own({name!r}), own({name!r})")
    waiter.run("first = aside(wait_as, one)")
    clu.until_queued(name)
    waiter.run("second = aside(wait_as, other)")
    clu.until_queued(name, 2)
    held.ask(f"echo UN > {name}")
    assert waiter.run("first()") is None
    assert waiter.run("say(one, 'UN')") is None
    assert waiter.run("second()") is None
