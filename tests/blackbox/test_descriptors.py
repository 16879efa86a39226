"""Opened read-write, the open descriptor owns the lock, as with flock(2) (contract 2.2)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]


@pytest.fixture
def witness(clu: Clu, name: str, program: Programs) -> Program:
    """Holds NL, so that the value block outlives the others."""
    one = program(clu.public)
    one.ask("NL", name)
    return one


def until_only_the_witness_is_left(clu: Clu, name: str) -> None:
    until(lambda: len(clu.queue(name, "GRANTED")) == 1, "the release")


# ------------------------------------------------------- close, clean or not


@pytest.mark.parametrize("kind", SHELLS)
def test_a_lock_lives_until_its_descriptor_is_closed(
    clu: Clu, name: str, shell: Shells, kind: str, witness: Program
) -> None:
    someone = shell(kind, cwd=clu.public)
    assert someone.ask(f"exec 9<> {name}; echo EX >&9; echo 'EX value=clean' >&9") == (0, "")
    assert f" {someone.pid} " in clu.queue(name, "GRANTED")[1]
    assert someone.ask(f"echo EX nowait > {name}")[0] == 1
    assert someone.ask("exec 9>&-") == (0, "")
    until_only_the_witness_is_left(clu, name)
    assert "VALID=1" in clu.report(name)
    assert (clu.public / name).read_text() == "clean\n"


@pytest.mark.parametrize("kind", SHELLS)
def test_un_and_conversions_by_the_descriptor(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    someone = shell(kind, cwd=clu.public)
    assert someone.ask(f"exec 9<> {name}; echo NL >&9; echo PW >&9; echo 'CR value=v' >&9")[0] == 0
    assert someone.ask("cat <&9") == (0, "v\n")
    assert someone.ask("echo UN >&9; exec 9>&-") == (0, "")
    assert clu.report(name) == ""


@pytest.mark.parametrize("kind", SHELLS)
@pytest.mark.parametrize("end", ["exit 0", "kill -TERM $$", "kill -KILL $$"])
def test_the_exit_of_the_asker_is_abnormal(
    clu: Clu, name: str, shell: Shells, kind: str, end: str, witness: Program
) -> None:
    someone = shell(kind, cwd=clu.public)
    someone.ask(f"exec 9<> {name}; echo EX >&9; echo 'EX value=half' >&9")
    someone.tell(end)
    until_only_the_witness_is_left(clu, name)
    assert "VALID=0" in clu.report(name)


@pytest.mark.parametrize("end", ["exit 0", "kill -KILL $$"])
def test_a_child_keeps_the_lock_of_a_dead_asker_and_its_close_is_abnormal(
    clu: Clu, name: str, shell: Shells, end: str, witness: Program
) -> None:
    asker, other = shell("bash", cwd=clu.public), shell(cwd=clu.public)
    asker.ask(f"exec 9<> {name}; echo EX >&9; echo 'EX value=half' >&9")
    asker.ask("sleep 1000 > /dev/null 2>&1 & child=$!")
    child = int(asker.ask("echo $child")[1])
    asker.tell(end)
    asker.process.wait(20)
    assert other.ask(f"echo EX nowait > {name}")[0] == 1
    assert "VALID=1" in clu.report(name)
    os.kill(child, signal.SIGKILL)
    until_only_the_witness_is_left(clu, name)
    assert "VALID=0" in clu.report(name)


def test_a_child_that_asks_anew_makes_the_lock_its_own(
    clu: Clu, name: str, program: Programs, witness: Program
) -> None:
    """The asker is who asked last; that one still lives at the last close: a clean release."""
    asker = program(clu.public)
    asker.run(f"fd = own({name!r}); say(fd, 'EX'); heard, told = os.pipe(); go, start = os.pipe()")
    asker.run(
        "def child(): os.close(start); os.read(go, 1); say(fd, 'EX value=taken over'); "
        "os.write(told, b'x'); os.close(fd); os.write(told, b'y'); time.sleep(1000)"
    )
    asker.run("pid = os.fork() or child()")
    asker.run("os.close(fd); os.close(told)")
    asker.run("os.write(start, b'x')")
    assert asker.run("len(os.read(heard, 1))") == 1
    until_only_the_witness_is_left(clu, name)
    assert "VALID=1" in clu.report(name)
    assert (clu.public / name).read_text() == "taken over\n"


# ----------------------------------------------------- inherited, dup, exec


@pytest.mark.parametrize("kind", SHELLS)
def test_children_share_the_descriptors_lock(clu: Clu, name: str, shell: Shells, kind: str) -> None:
    parent = shell(kind, cwd=clu.public)
    parent.ask(f"exec 9<> {name}; echo EX >&9")
    assert parent.ask("( echo CR >&9 ); /bin/echo PR >&9") == (0, "")
    assert "GRANTED PR " in clu.report(name)
    assert parent.ask("sh -c 'echo UN >&9'") == (0, "")
    assert clu.report(name) == ""


def test_a_descriptor_locked_by_a_child_that_has_gone_stays_locked(
    clu: Clu, name: str, shell: Shells, witness: Program
) -> None:
    """`/bin/echo EX >&9` is the way to lock from a program that is gone at once."""
    parent = shell(cwd=clu.public)
    assert parent.ask(f"exec 9<> {name}; /bin/echo EX >&9") == (0, "")
    assert len(clu.queue(name, "GRANTED")) == 2
    assert parent.ask("echo 'EX value=mine' >&9; exec 9>&-") == (0, "")
    until_only_the_witness_is_left(clu, name)
    assert "VALID=1" in clu.report(name)


def test_the_last_close_counts_not_the_first(clu: Clu, name: str, program: Programs) -> None:
    someone, other = program(clu.public), program(clu.public)
    someone.run(f"fd = own({name!r}); copy = os.dup(fd); say(fd, 'EX'); os.close(fd)")
    assert other.ask("EX nowait", name) == "EAGAIN"
    assert someone.run("say(copy, 'PR')") is None
    assert someone.run("os.close(copy)") is None
    assert other.ask("EX", name) is None


def test_a_double_close_is_ebadf_and_hurts_nobody(clu: Clu, name: str, program: Programs) -> None:
    someone, other = program(clu.public), program(clu.public)
    someone.run(f"fd = own({name!r}); say(fd, 'EX'); os.close(fd)")
    assert someone.run("os.close(fd)") == "EBADF"
    assert other.ask("EX", name) is None
    assert someone.run("os.close(fd)") == "EBADF"
    assert f" {other.pid} " in clu.queue(name, "GRANTED")[0]


def test_a_fork_alone_changes_nothing(clu: Clu, name: str, program: Programs) -> None:
    someone, other = program(clu.public), program(clu.public)
    someone.run(f"fd = own({name!r}); say(fd, 'EX')")
    someone.run("pid = os.fork() or os._exit(0)")
    someone.run("os.waitpid(pid, 0) and None")
    assert other.ask("EX nowait", name) == "EAGAIN"


def test_a_fork_in_the_middle_of_a_wait(clu: Clu, name: str, program: Programs) -> None:
    """One thread waits, another forks: the child has the descriptor, and so the lock, too."""
    holder, someone = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    someone.run(f"fd = own({name!r}); outcome = aside(say, fd, 'EX')")
    clu.until_queued(name)
    someone.run("pid = os.fork() or time.sleep(1000)")
    holder.ask("UN", name)
    assert someone.run("outcome()") is None
    someone.run("os.close(fd)")
    assert holder.ask("EX nowait", name) == "EAGAIN"
    someone.run("os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)")
    assert holder.ask("EX", name) is None


@pytest.mark.parametrize("kept", [True, False])
def test_an_exec_keeps_what_is_not_close_on_exec(
    clu: Clu, name: str, program: Programs, kept: bool, witness: Program
) -> None:
    someone = program(clu.public)
    someone.run(f"fd = own({name!r}); os.set_inheritable(fd, {kept}); say(fd, 'EX')")
    someone.run("say(fd, 'EX value=before exec')")
    someone.begin("os.execvp('sleep', ['sleep', '1000'])")
    if kept:
        until(lambda: " sleep " in clu.report(name), "sleep in place of python")
        assert len(clu.queue(name, "GRANTED")) == 2
    else:
        until_only_the_witness_is_left(clu, name)
        assert "VALID=1" in clu.report(name)


def test_a_descriptor_goes_to_another_process_over_a_socket(
    clu: Clu, name: str, program: Programs, tmp_path: object
) -> None:
    giver, taker, other = (program(clu.public) for _ in range(3))
    path = f"{tmp_path}/socket"
    taker.run(f"listener = socket.socket(socket.AF_UNIX); listener.bind({path!r})")
    taker.run("listener.listen()")
    taker.begin("peer = listener.accept()[0]; got = socket.recv_fds(peer, 1, 1)[1][0]")
    giver.run(f"fd = own({name!r}); say(fd, 'PR')")
    giver.run(f"peer = socket.socket(socket.AF_UNIX); peer.connect({path!r})")
    giver.run("socket.send_fds(peer, [b'x'], [fd]); os.close(fd)")
    assert taker.hear() is None
    giver.close()
    assert other.ask("EX nowait", name) == "EAGAIN"
    assert taker.run("say(got, 'EX')") is None
    assert f" {taker.pid} " in clu.queue(name, "GRANTED")[0]
    assert taker.run("os.close(got)") is None
    assert other.ask("EX", name) is None


def test_a_descriptor_on_its_way_in_a_socket_is_still_open(
    clu: Clu, name: str, program: Programs
) -> None:
    giver, other = program(clu.public), program(clu.public)
    giver.run(f"fd = own({name!r}); say(fd, 'EX'); one, two = socket.socketpair()")
    giver.run("socket.send_fds(one, [b'x'], [fd]); os.close(fd)")
    assert other.ask("EX nowait", name) == "EAGAIN"
    giver.run("one.close(); two.close()")
    assert other.ask("EX", name) is None


# ------------------------------------------------------------------- threads


def test_a_close_by_another_thread_while_one_waits_comes_after_the_grant(
    clu: Clu, name: str, program: Programs
) -> None:
    """As with any system call: the write goes on with the open file; the lock goes with it."""
    holder, someone = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    someone.run(f"fd = own({name!r}); outcome = aside(say, fd, 'EX')")
    clu.until_queued(name)
    assert someone.run("os.close(fd)") is None
    assert len(clu.queue(name, "WAITING")) == 1
    holder.ask("UN", name)
    assert someone.run("outcome()") is None
    until(lambda: clu.report(name) == "", "the release")


def test_another_descriptor_cancels_nothing_but_another_thread_can(
    clu: Clu, name: str, program: Programs
) -> None:
    """While a write waits, its own open file is busy; a process's request is withdrawn by path."""
    holder, someone = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    someone.run(f"fd = own({name!r}); outcome = aside(say, fd, 'EX')")
    clu.until_queued(name)
    assert someone.ask("CANCEL", name) == "EPERM"
    assert someone.run(f"os.unlink({name!r})") is None
    assert someone.run("outcome()") == "ECANCELED"


# --------------------------------------------------- two descriptors, two locks


@pytest.mark.parametrize("kind", SHELLS)
def test_two_descriptors_are_two_locks_in_one_process(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    someone = shell(kind, cwd=clu.public)
    assert someone.ask(f"exec 8<> {name} 9<> {name}; echo PR >&8; echo PR >&9") == (0, "")
    assert len(clu.queue(name, "GRANTED")) == 2
    assert someone.ask("echo EX nowait >&8")[0] == 1
    assert someone.ask("exec 9>&-; echo EX >&8") == (0, "")
    assert someone.ask(f"echo CR nowait > {name}")[0] == 1
    assert someone.ask(f"echo NL > {name}")[0] == 0
    assert [line.split()[1] for line in clu.queue(name, "GRANTED")] == ["EX", "NL"]


def test_each_descriptor_says_what_it_holds(clu: Clu, name: str, program: Programs) -> None:
    someone = program(clu.public)
    someone.run(f"one, two = own({name!r}), own({name!r}); say(one, 'CR'); say(two, 'PW')")
    assert someone.run("os.getxattr(one, 'user.clu.mode').decode()") == "CR"
    assert someone.run("os.getxattr(two, 'user.clu.mode').decode()") == "PW"
