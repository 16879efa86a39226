"""Opened write-only, the process that wrote owns the lock, until it says UN or exits (contract 2.2)."""

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


# ------------------------------------------------------------------------ exits


@pytest.mark.parametrize("kind", SHELLS)
@pytest.mark.parametrize(
    "end", ["exit 0", "exit 3", "kill -TERM $$", "kill -KILL $$", "kill -ABRT $$"]
)
def test_an_exit_releases_and_what_was_protected_is_invalid(
    clu: Clu, name: str, shell: Shells, witness: Program, kind: str, end: str
) -> None:
    someone = shell(kind, cwd=clu.public)
    someone.ask(f"ulimit -c 0; echo PW > {name}; echo 'PW value=half done' > {name}")
    someone.tell(end)
    until(lambda: len(clu.queue(name, "GRANTED")) == 1, "the release")
    assert "VALID=0" in clu.report(name)
    assert (clu.public / name).read_text() == "half done\n"


@pytest.mark.parametrize("kind", SHELLS)
def test_a_script_with_a_trap_leaves_the_value_valid(
    clu: Clu, name: str, shell: Shells, witness: Program, kind: str
) -> None:
    someone = shell(kind, cwd=clu.public)
    script = f"trap 'echo UN > {name}' EXIT; echo EX > {name}; echo 'EX value=done' > {name}"
    assert someone.ask(f'{kind} -c "{script}"')[0] == 0
    assert "VALID=1" in clu.report(name)
    assert (clu.public / name).read_text() == "done\n"


@pytest.mark.parametrize("mode", ["NL", "CR", "CW", "PR"])
def test_an_exit_with_less_than_pw_leaves_the_value_valid(
    clu: Clu, name: str, shell: Shells, witness: Program, mode: str
) -> None:
    someone = shell(cwd=clu.public)
    someone.ask(f"echo EX > {name}; echo '{mode} value=kept' > {name}")
    someone.tell("exit")
    until(lambda: len(clu.queue(name, "GRANTED")) == 1, "the release")
    assert "VALID=1" in clu.report(name)


def test_the_release_by_exit_goes_to_the_next_who_waits(clu: Clu, name: str, shell: Shells) -> None:
    holder, waiter = shell(cwd=clu.public), shell("bash", cwd=clu.public)
    holder.ask(f"echo EX > {name}")
    waiter.begin(f"echo EX > {name}")
    clu.until_queued(name)
    os.kill(holder.pid, signal.SIGKILL)
    assert waiter.hear() == (0, "")


def test_a_zombie_holds_nothing(clu: Clu, name: str, program: Programs) -> None:
    parent, other = program(clu.public), program(clu.public)
    parent.run("go, ready = os.pipe(), os.pipe()")
    parent.run(
        f"child = os.fork() or (ask('EX', {name!r}), os.write(ready[1], b'x'), os.read(go[0], 1), os._exit(0))"
    )
    assert parent.run("len(os.read(ready[0], 1))") == 1
    assert other.ask("EX nowait", name) == "EAGAIN"
    other.begin_to_ask("EX", name)
    parent.run("os.write(go[1], b'x')")
    assert other.hear() is None
    parent.run("os.waitpid(child, 0)")


def test_a_thread_that_ends_takes_nothing_with_it(clu: Clu, name: str, program: Programs) -> None:
    """Any thread asks for its process, and any releases."""
    someone, other = program(clu.public), program(clu.public)
    someone.run(f"outcome = aside(ask, 'EX', {name!r})")
    assert someone.run("outcome()") is None
    assert f" {someone.pid} " in clu.queue(name, "GRANTED")[0]
    assert other.ask("EX nowait", name) == "EAGAIN"
    assert someone.run(f"aside(ask, 'UN', {name!r})()") is None


def test_a_process_whose_first_thread_has_ended_still_holds(
    clu: Clu, name: str, program: Programs
) -> None:
    someone, other = program(clu.public), program(clu.public)
    someone.run("import ctypes; go = os.pipe()")
    someone.run(
        f"def on_alone(): ask('EX', {name!r}); os.read(go[0], 1); ask('UN', {name!r}); os._exit(0)"
    )
    someone.begin("aside(on_alone); time.sleep(0) or ctypes.CDLL(None).syscall(60, 0)")
    until(lambda: clu.queue(name, "GRANTED"), "the grant")
    assert other.ask("EX nowait", name) == "EAGAIN"
    os.kill(someone.pid, signal.SIGKILL)
    assert other.ask("EX", name) is None


# ------------------------------------------------------------------- fork, exec


def test_a_child_inherits_nothing(clu: Clu, name: str, shell: Shells) -> None:
    parent = shell(cwd=clu.public)
    parent.ask(f"echo EX > {name}")
    assert parent.ask(f"( echo EX nowait > {name} )")[0] == 1
    assert parent.ask(f"( echo UN > {name} )")[0] == 1
    assert clu.why(name).startswith("EPERM ")
    assert f" {parent.pid} " in clu.queue(name, "GRANTED")[0]


def test_a_lock_stays_across_exec(clu: Clu, name: str, shell: Shells) -> None:
    someone = shell(cwd=clu.public)
    someone.ask(f"echo EX > {name}")
    someone.tell("exec bash")
    until(lambda: " bash " in clu.queue(name, "GRANTED")[0], "bash in place of dash")
    assert someone.ask(f"echo UN > {name}") == (0, "")


def test_an_exec_by_another_thread_ends_a_wait(clu: Clu, name: str, program: Programs) -> None:
    """exec(2) kills the other threads: one that waits leaves the queue; the process stays."""
    holder, someone = program(clu.public), program(clu.public)
    holder.ask("EX", name)
    someone.ask("EX", f"{name}_kept")
    someone.run(f"aside(ask, 'EX', {name!r}) and None")
    clu.until_queued(name)
    someone.begin("os.execvp('sleep', ['sleep', '100'])")
    until(lambda: not clu.queue(name, "WAITING"), "the end of the wait")
    until(lambda: " sleep " in clu.queue(f"{name}_kept", "GRANTED")[0], "its new name")


# ------------------------------------------------- a writer that is gone at once


@pytest.mark.parametrize("kind", SHELLS)
@pytest.mark.parametrize(
    "line",
    [
        "/bin/echo EX > {}",
        "echo EX | tee {} > /dev/null",
        "( echo EX > {} )",
        "echo EX | cp /dev/stdin {}",
    ],
)
def test_a_writer_that_is_gone_at_once_holds_nothing(
    clu: Clu, name: str, shell: Shells, kind: str, line: str
) -> None:
    someone = shell(kind, cwd=clu.public)
    assert someone.ask(line.format("gone"))[0] == 0
    until(lambda: clu.report("gone") == "", "the release")


@pytest.mark.parametrize(
    "line", ["/bin/echo EX > {}", "echo EX | tee {} > /dev/null", "( echo EX > {} )"]
)
def test_who_waits_for_its_own_ancestor_is_told_so(
    clu: Clu, name: str, shell: Shells, line: str
) -> None:
    someone = shell(cwd=clu.public)
    someone.ask(f"echo EX > {name}")
    someone.begin(line.format(name))
    clu.until_queued(name)
    assert "its own ancestor" in clu.queue(name, "WAITING")[0]
    until(lambda: "its own ancestor" in clu.why(name), "the sentence in status/errors")
    assert f"{someone.pid} (dash)" in clu.why(name)


def test_also_when_descriptors_are_in_play(clu: Clu, name: str, shell: Shells) -> None:
    someone = shell(cwd=clu.public)
    someone.ask(f"exec 9<> {name}; echo EX >&9")
    someone.begin(f"( exec 8<> {name}; echo PR >&8 )")
    clu.until_queued(name)
    assert "its own ancestor" in clu.queue(name, "WAITING")[0]
    until(lambda: "its own ancestor" in clu.why(name), "the sentence in status/errors")


# --------------------------------------------------------------- rm and getfattr


@pytest.mark.parametrize("kind", SHELLS)
def test_rm_releases_for_the_script_that_calls_it(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    someone, other = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    someone.ask(f"echo PR > {name}")
    other.ask(f"echo PR > {name}")
    assert someone.ask(f"rm {name}") == (0, "")
    assert len(clu.queue(name, "GRANTED")) == 1
    assert other.ask(f"ls {name}") == (0, f"{name}\n")
    assert someone.ask(f"/bin/rm {name}")[0] == 1
    assert clu.why(name).startswith("EPERM ")
    assert other.ask(f"( rm {name} )") == (0, "")
    assert not (clu.public / name).exists()


def test_rm_takes_the_own_lock_before_an_ancestors(clu: Clu, name: str, shell: Shells) -> None:
    parent = shell(cwd=clu.public)
    parent.ask(f"echo CR > {name}")
    assert parent.ask(f"sh -c 'echo CR > {name}; rm {name}; exit $?'")[0] == 0
    assert f" {parent.pid} " in clu.queue(name, "GRANTED")[0]
    assert parent.ask(f"unlink {name}") == (0, "")
    assert clu.report(name) == ""


def test_rm_releases_what_a_descriptor_of_the_script_holds(
    clu: Clu, name: str, shell: Shells
) -> None:
    someone = shell(cwd=clu.public)
    someone.ask(f"exec 9<> {name}; echo EX >&9")
    assert someone.ask(f"rm {name}") == (0, "")
    assert clu.report(name) == ""
    assert someone.ask("echo UN >&9")[0] == 1
    assert someone.ask("echo EX >&9")[0] == 0


def test_rm_of_a_strangers_lock_is_refused_and_the_file_stays(
    clu: Clu, name: str, shell: Shells
) -> None:
    holder, other, waiter = (shell(cwd=clu.public) for _ in range(3))
    holder.ask(f"echo 'EX value=' > {name}; echo EX > {name}")
    waiter.begin(f"echo EX > {name}")
    clu.until_queued(name)
    assert other.ask(f"rm -f {name} 2> /dev/null; ls {name}") == (0, f"{name}\n")
    assert clu.why(name).startswith("EPERM ")
    assert holder.ask(f"rm {name}; ls {name}") == (0, f"{name}\n")
    assert waiter.hear() == (0, "")


@pytest.mark.parametrize("kind", SHELLS)
def test_getfattr_tells_what_the_script_holds(
    clu: Clu, name: str, shell: Shells, kind: str
) -> None:
    someone, other = shell(kind, cwd=clu.public), shell(kind, cwd=clu.public)
    someone.ask(f"echo CW > {name}")
    other.ask(f"echo CR > {name}")
    get = f"getfattr --only-values -n user.clu.mode {name}; echo"
    assert someone.ask(get) == (0, "CW\n")
    assert other.ask(get) == (0, "CR\n")
    assert other.ask(f"( {get} )") == (0, "CR\n")
    other.ask(f"echo UN > {name}")
    assert other.ask(f"getfattr -n user.clu.mode {name} 2> /dev/null")[0] == 1
    assert other.ask(f"getfattr --only-values -n user.clu.grantmode {name}; echo")[1] == "CW\n"
