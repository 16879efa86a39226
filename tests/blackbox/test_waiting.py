"""Waiting is harmless: two thousand wait on one lock, and everything else goes on (contract 2.1)."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, SHELLS, Clu, Shell, running, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]

CROWD = 2000
USUAL_SOFT_LIMIT = 1024

FORK_A_CROWD = """
def waiter(line, name):
    pid = os.fork()
    if pid == 0:
        try:
            ask(line, name)
        finally:
            os._exit(0)
    return pid

def crowd(count, line, name):
    return [waiter(line, name) for _ in range(count)]

def ended(pid):
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)
"""


def waiting(clu: Clu, name: str) -> int:
    """How many requests wait."""
    return int(os.getxattr(clu.public / name, "user.clu.waiting"))


@pytest.fixture
def modest_clu(tmp_path: Path) -> Iterator[Clu]:
    """A /clu whose daemon was started with as few open files as is usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(USUAL_SOFT_LIMIT, hard), hard))
    try:
        starting = running(tmp_path)
        clu = next(starting)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield clu
    starting.close()


def test_two_thousand_wait_and_everybody_else_is_served(
    modest_clu: Clu, name: str, shell: Shells, program: Programs
) -> None:
    clu = modest_clu
    holder, onlooker, others = (
        shell(cwd=clu.public),
        shell("bash", cwd=clu.public),
        program(clu.public),
    )
    holder.ask(f"echo EX > {name}; echo 'EX value=all is well' > {name}")
    others.run(FORK_A_CROWD)
    pids = others.run(f"crowd({CROWD}, 'EX', {name!r})")
    assert isinstance(pids, list)
    until(lambda: waiting(clu, name) == CROWD, "the whole crowd in the queue")

    # Nobody of them stands in anybody's way, and none is in uninterruptible sleep.
    assert onlooker.ask(f"ls {name}; cat {name}") == (0, f"{name}\nall is well\n")
    assert onlooker.ask(f"echo EX nowait > {name}_of_others && echo UN > {name}_of_others")[0] == 0
    assert (
        onlooker.ask(f"grep -c '^WAITING ' {clu.root}/status/locks/public/{name}")[1]
        == f"{CROWD}\n"
    )
    assert {_state(pid) for pid in pids} == {"S"}

    # Each dies at once, whatever it is killed with, and leaves nothing.
    deaths = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    for number in deaths:
        victim = pids.pop(len(pids) // 2)
        os.kill(victim, number)
        assert others.run(f"ended({victim})") == -number
    until(lambda: waiting(clu, name) == CROWD - len(deaths), "the queue without the dead")

    # The holder's own release goes through, and the first in the queue has the lock.
    assert holder.ask(f"echo UN > {name}") == (0, "")
    first = pids.pop(0)
    assert others.run(f"ended({first})") == 0

    # What is left serves itself in turn; then the rest is killed in one go.
    assert others.run(f"[ended(pid) for pid in {pids[:50]!r}]") == [0] * 50
    holder.begin(f"echo EX > {name}")
    for pid in pids[50:]:
        os.kill(pid, signal.SIGKILL)
    codes = others.run(f"[ended(pid) for pid in {pids[50:]!r}]")
    assert isinstance(codes, list) and set(codes) <= {0, -signal.SIGKILL}
    assert holder.hear() == (0, "")
    until(lambda: waiting(clu, name) == 0, "an empty queue")
    assert len(clu.queue(name, "GRANTED")) == 1


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_crowd_that_ignored_a_signal_dies_of_the_next(
    clu: Clu, name: str, shell: Shells, program: Programs
) -> None:
    """The kernel announces one signal for each call; the daemon looks for the later ones itself."""
    holder, others = shell(cwd=clu.public), program(clu.public)
    holder.ask(f"echo EX > {name}")
    others.run(FORK_A_CROWD)
    others.run("signal.signal(signal.SIGURG, lambda *_: None)")
    pids = others.run(f"crowd(300, 'EX', {name!r})")
    assert isinstance(pids, list)
    until(lambda: waiting(clu, name) == 300, "the crowd in the queue")
    for pid in pids:
        os.kill(pid, signal.SIGURG)
    until(lambda: {_state(pid) for pid in pids} == {"D"}, "the signals' arrival")
    assert waiting(clu, name) == 300
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert others.run(f"{{ended(pid) for pid in {pids!r}}} == {{-signal.SIGTERM}}") is True
    assert holder.ask(f"echo UN > {name}") == (0, "")


# ------------------------------------------- the kernel's lock on the file's inode


@pytest.mark.parametrize("kind", SHELLS)
@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("echo UN > {}", 0),
        ("echo UN >> {}", 0),
        ("echo NL > {}", 0),
        (": > {}", 0),
        (": >> {}", 0),
        ("echo UN | cp /dev/stdin {} 2> /dev/null", 1),
        ("truncate -s 0 {}", 0),
        ("exec 9<> {}; exec 9>&-", 0),
        ("rm {}", 0),
        ("cat {}; stat {} > /dev/null", 0),
    ],
)
def test_whatever_the_holder_does_to_the_file_the_waiters_do_not_stop_it(
    clu: Clu, name: str, shell: Shells, kind: str, line: str, status: int
) -> None:
    holder, by_path, by_descriptor = (shell(kind, cwd=clu.public) for _ in range(3))
    holder.ask(f"echo EX > {name}")
    by_path.begin(f"echo EX > {name}")
    by_descriptor.begin(f"exec 9<> {name}; echo EX >&9")
    clu.until_queued(name, 2)
    assert holder.ask(line.format(name, name)) == (status, "")
    holder.close()
    first, second = (
        (by_path, by_descriptor) if _holds(clu, name, by_path) else (by_descriptor, by_path)
    )
    assert first.hear() == (0, "")
    first.close()
    assert second.hear() == (0, "")


def _holds(clu: Clu, name: str, one: Shell) -> bool:
    until(lambda: len(clu.queue(name, "WAITING")) == 1, "a grant")
    return any(f" {one.pid} " in line for line in clu.queue(name, "GRANTED"))


# ------------------------------------------------------- a kill and a grant at once

RACE = """
import select

def race(name, how, rounds):
    "How often the lock went on to the second while the first was killed; it must be always."
    passed_on = 0
    for turn in range(rounds):
        ask("EX", name)
        first = forked(how, name, None)
        until_waiting(name, 1)
        heard, told = os.pipe()
        second = forked("by process", name, told)
        until_waiting(name, 2)
        os.close(told)
        steps = [lambda: os.kill(first, signal.SIGKILL), lambda: ask("UN", name)]
        for step in steps if turn % 2 else reversed(steps):
            step()
            for _ in range(turn % 50 * 20):
                pass
        passed_on += bool(select.select([heard], [], [], 20)[0]) and os.read(heard, 1) == b"x"
        os.close(heard)
        os.waitpid(first, 0)
        os.waitpid(second, 0)
    return passed_on

def forked(how, name, told):
    pid = os.fork()
    if pid:
        return pid
    if how == "by process":
        ask("EX", name)
    else:
        fd = own(name)
        say(fd, "EX")
    if told is None:
        time.sleep(100)
    os.write(told, b"x")
    os._exit(0)

def until_waiting(name, count):
    while int(os.getxattr(name, "user.clu.waiting")) < count:
        time.sleep(0.0005)
"""


@pytest.mark.parametrize("how", ["by process", "by descriptor"])
def test_a_grant_in_the_instant_of_the_kill_goes_to_the_next(
    clu: Clu, name: str, program: Programs, how: str
) -> None:
    racer = program(clu.public)
    racer.run(RACE)
    assert racer.run(f"race({name!r}, {how!r}, 200)") == 200
    until(lambda: clu.report(name) == "", "nothing left")


def test_a_cat_of_an_own_waiting_descriptor_may_wait_but_others_read(
    clu: Clu, name: str, shell: Shells
) -> None:
    holder, waiter = shell(cwd=clu.public), shell(cwd=clu.public)
    holder.ask(f"echo EX > {name}; echo 'EX value=seen' > {name}")
    waiter.begin(f"exec 9<> {name}; echo PR >&9")
    clu.until_queued(name)
    read = subprocess.run(
        ["cat", str(clu.public / name)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert read.stdout == "seen\n"
    holder.ask(f"echo UN > {name}")
    assert waiter.hear() == (0, "")
