"""Process lock groups: a lock of several processes (contract 2.2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.blackbox.clu import SHELLS, Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]
NOBODY = 65534


@pytest.fixture
def group(clu: Clu) -> Iterator[str]:
    """An empty group, whose name is given."""
    directory = clu.root / "groups" / "team"
    directory.mkdir()
    yield "team"

    def is_removed() -> bool:
        try:
            directory.rmdir()
        except OSError:
            return False
        return True

    until(is_removed, "the group without processes")


@pytest.fixture
def members(clu: Clu, group: str, shell: Shells) -> Iterator[tuple[Shell, Shell]]:
    """Two shells in the group."""
    one, two = shell(cwd=clu.public), shell(cwd=clu.public)
    for member in (one, two):
        assert member.ask(f"echo $$ > {clu.root}/groups/team/procs") == (0, "")
    yield one, two
    one.close()
    two.close()


def test_the_members_share_one_lock(
    clu: Clu, name: str, members: tuple[Shell, Shell], shell: Shells
) -> None:
    one, two = members
    stranger = shell(cwd=clu.public)
    pids = sorted((one.pid, two.pid))
    assert (clu.root / "groups/team/procs").read_text() == f"{pids[0]}\n{pids[1]}\n"
    assert one.ask(f"echo EX group=team > {name}") == (0, "")
    assert two.ask(f"echo 'EX group=team value=ours' > {name}") == (0, "")
    assert two.ask(f"echo PR group=team > {name}") == (0, "")
    assert len(clu.queue(name, "GRANTED")) == 1
    assert two.ask(f"echo UN > {name}")[0] == 1
    assert stranger.ask(f"echo UN group=team > {name}")[0] == 1
    assert clu.why(name).startswith("EPERM ")
    assert two.ask(f"echo UN group=team > {name}") == (0, "")
    assert clu.report(name) == ""


def test_the_last_exit_is_an_abnormal_release(
    clu: Clu, name: str, members: tuple[Shell, Shell], program: Programs
) -> None:
    one, two = members
    program(clu.public).ask("NL", name)
    one.ask(f"echo EX group=team > {name}; echo 'EX group=team value=half' > {name}")
    one.close()
    assert two.ask(f"cat {name}; echo NL nowait > {name}; echo UN > {name}") == (0, "half\n")
    assert len(clu.queue(name, "GRANTED")) == 2
    two.tell("exit")
    until(lambda: len(clu.queue(name, "GRANTED")) == 1, "the release")
    assert "VALID=0" in clu.report(name)


def test_children_do_not_join(clu: Clu, name: str, members: tuple[Shell, Shell]) -> None:
    one, _ = members
    assert one.ask(f"( echo EX group=team > {name} )")[0] == 1
    assert clu.why(name).startswith("EPERM ")
    assert one.ask(f"/bin/echo EX group=team > {name}")[0] == 1


def test_the_group_waits_and_cancels_as_one(
    clu: Clu, name: str, members: tuple[Shell, Shell], shell: Shells
) -> None:
    one, two = members
    holder = shell(cwd=clu.public)
    holder.ask(f"echo EX > {name}")
    one.begin(f"echo EX group=team > {name}")
    clu.until_queued(name)
    assert two.ask(f"echo EX group=team > {name}")[0] == 1
    assert clu.why(name).startswith("EBUSY ")
    assert two.ask(f"echo CANCEL group=team > {name}") == (0, "")
    assert one.hear()[0] == 1
    assert one.ask(f"echo EX async group=team > {name}") == (0, "")
    holder.ask(f"echo UN > {name}")
    assert two.ask(f"echo WAIT group=team > {name}") == (0, "")


@pytest.mark.parametrize("kind", SHELLS)
def test_rm_acts_for_the_group_of_the_script(
    clu: Clu, name: str, members: tuple[Shell, Shell], shell: Shells, kind: str
) -> None:
    one, two = members
    one.ask(f"echo EX group=team > {name}")
    assert two.ask(f"rm {name}") == (0, "")
    assert clu.report(name) == ""


def test_who_may_put_whom_into_a_group(clu: Clu, group: str, program: Programs) -> None:
    procs = "../../groups/team/procs"
    root, user = program(clu.public), program(clu.public)
    user.run(f"turn_into({NOBODY})")
    assert user.run(f"open({procs!r}, 'w')") == "EACCES"
    assert user.run("os.mkdir('../../groups/users')") is None
    own = "../../groups/users/procs"
    user.run(f"fd = os.open({own!r}, os.O_WRONLY)")
    assert user.run("say(fd, str(os.getpid()))") is None
    assert user.run(f"say(fd, '{root.pid}')") == "EACCES"
    assert user.run("say(fd, '4000000')") == "ENOENT"
    assert user.run("say(fd, 'me')") == "EINVAL"
    assert root.run("os.rmdir('../../groups/users')") == "ENOTEMPTY"
    user.close()
    until(lambda: not (clu.root / "groups/users/procs").read_text(), "an empty group")
    assert root.run("os.rmdir('../../groups/users')") is None


def test_groups_that_are_there_and_that_are_not(
    clu: Clu, name: str, group: str, program: Programs
) -> None:
    someone = program(clu.public)
    assert someone.run("os.mkdir('../../groups/team')") == "EEXIST"
    assert someone.run("os.rmdir('../../groups/none')") == "ENOENT"
    assert someone.ask("EX group=none", name) == "ENOENT"
    assert someone.ask("EX group=team", name) == "EPERM"
    assert sorted(os.listdir(clu.root / "groups/team")) == ["procs"]
