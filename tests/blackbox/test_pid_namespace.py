"""Pid namespaces: who is seen by the daemon, and who is not (contract 2.2)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]


def test_a_process_below_is_seen_by_the_pid_it_has_here(
    clu: Clu, name: str, program: Programs
) -> None:
    below, other = (
        program(clu.public, "unshare", "-pf", "--kill-child", "--mount-proc"),
        program(clu.public),
    )
    assert below.run("os.getpid()") == 1
    assert below.ask("EX", name) is None
    pid = int(clu.queue(name, "GRANTED")[0].split()[4])
    assert Path(f"/proc/{pid}/comm").read_text() == "python\n"
    assert other.ask("EX nowait", name) == "EAGAIN"
    below.close()
    assert other.ask("EX", name) is None


class CluBelow(Clu):
    """A clufsd in a pid namespace below ours: the kernel tells it pid 0 for us."""

    program = ("unshare", "--pid", "--fork", "--kill-child", *Clu.program)

    def close(self) -> None:
        """unshare passes no signal on: umount(8) ends the daemon."""
        subprocess.run(["umount", "-l", str(self.root)], check=False)
        super().close()


@pytest.fixture
def unseen(tmp_path: Path) -> Iterator[Clu]:
    """A /clu that sees no process of ours."""
    clu = CluBelow(tmp_path)
    try:
        yield clu
    finally:
        clu.close()


def test_who_is_not_seen_locks_by_descriptor_only(
    unseen: Clu, name: str, shell: Shells, program: Programs
) -> None:
    someone, other = shell("bash", cwd=unseen.public), program(unseen.public)
    status, said = someone.ask(f"echo EX > {name}")
    assert status == 1 and "Operation not supported" in said
    assert unseen.why(name).startswith("EOPNOTSUPP ")
    assert "read-write" in unseen.why(name)
    assert someone.ask(f"exec 9<> {name}; echo EX >&9; echo 'EX value=seen' >&9") == (0, "")
    assert other.ask("EX nowait", name) == "EOPNOTSUPP"
    other.run(f"fd = own({name!r})")
    assert other.run("say(fd, 'EX nowait')") == "EAGAIN"
    assert other.run("say(fd, 'EX signal=USR1')") == "EOPNOTSUPP"
    other.begin("say(fd, 'EX')")
    unseen.until_queued(name)
    assert someone.ask("exec 9>&-") == (0, "")
    assert other.hear() is None
    assert (unseen.public / name).read_text() == "seen\n"
    assert other.run("say(fd, 'UN')") is None


def test_who_is_not_seen_can_be_interrupted_too(unseen: Clu, name: str, program: Programs) -> None:
    holder, waiter = program(unseen.public), program(unseen.public)
    holder.run(f"fd = own({name!r}); say(fd, 'EX')")
    waiter.begin(f"say(own({name!r}), 'EX')")
    unseen.until_queued(name)
    waiter.close()
    until(lambda: not unseen.queue(name, "WAITING"), "an empty queue")
