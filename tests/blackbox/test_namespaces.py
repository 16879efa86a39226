"""Namespaces: directories whose owner, group and mode say who may lock (contract 2)."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import Clu, Shell
from tests.blackbox.people import ALICE, BOB, CAROL, ROOT


@pytest.fixture
def locks(clu: Clu) -> Path:
    return clu.root / "locks"


@pytest.fixture
def space(clu: Clu, locks: Path, name: str) -> Iterator[Path]:
    """A path for a namespace of this test; it is removed afterwards."""
    path = locks / name
    yield path
    if path.exists():
        path.rmdir()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def test_public_is_always_there_and_stays(clu: Clu, locks: Path) -> None:
    assert (mode(clu.public), owner(clu.public)) == (0o777, (0, 0))
    assert mode(locks) == 0o1777
    for line in ("rmdir public", "chmod 0700 public", "chown 1001 public"):
        status, printed = ROOT.runs(line, locks)
        assert status == 1 and "Operation not permitted" in printed, line
    assert "locks/public EPERM" in clu.errors()


@pytest.mark.parametrize(
    ("umask", "made"), [("077", 0o700), ("022", 0o700), ("007", 0o770), ("000", 0o777)]
)
def test_mkdir_belongs_to_its_maker_and_the_umask_says_who_else(
    space: Path, locks: Path, umask: str, made: int
) -> None:
    assert ALICE.runs(f"umask {umask}; mkdir {space.name}", locks) == (0, "")
    assert (mode(space), owner(space)) == (made, (1001, 1001))


@pytest.mark.parametrize(("wanted", "files"), [("0700", 0o600), ("0770", 0o660), ("0777", 0o666)])
def test_a_lock_file_has_owner_group_and_mode_of_its_namespace(
    space: Path, locks: Path, shell: Callable[..., Shell], wanted: str, files: int
) -> None:
    line = f"mkdir {space.name} && chmod {wanted} {space.name} && chown 1001:1001 {space.name}"
    assert ROOT.runs(line, locks) == (0, "")
    holder = shell(cwd=space)
    assert holder.ask("umask 0; echo EX > f") == (0, "")
    assert mode(space) == int(wanted, 8)
    assert (mode(space / "f"), owner(space / "f")) == (files, (1001, 1001))
    holder.ask("echo UN > f")


@pytest.mark.parametrize("wanted", ["0755", "0750", "0", "1777", "4700"])
def test_no_other_mode_means_anything(clu: Clu, space: Path, locks: Path, wanted: str) -> None:
    space.mkdir(0o700)
    status, printed = ROOT.runs(f"chmod {wanted} {space.name}", locks)
    assert (status, "Invalid argument" in printed) == (1, True)
    assert mode(space) == 0o700
    assert f"locks/{space.name} EINVAL a namespace has mode 0700" in clu.errors()


USES = {
    "0700": {ROOT: True, ALICE: True, BOB: False, CAROL: False},
    "0770": {ROOT: True, ALICE: True, BOB: False, CAROL: True},
    "0777": {ROOT: True, ALICE: True, BOB: True, CAROL: True},
}


@pytest.mark.parametrize("wanted", USES)
def test_who_may_lock_read_and_list(space: Path, locks: Path, wanted: str) -> None:
    ALICE.runs(f"mkdir {space.name} && chmod {wanted} {space.name}", locks)
    for person, may in USES[wanted].items():
        for line in ("echo EX > {0}/f && echo UN > {0}/f", "ls {0}", "test -x {0}"):
            status, printed = person.runs(line.format(space.name), locks)
            assert (status == 0) is may, (person, line, printed)


@pytest.mark.parametrize("wanted", USES)
def test_who_may_read_the_report(
    clu: Clu, space: Path, locks: Path, shell: Callable[..., Shell], wanted: str
) -> None:
    ALICE.runs(f"mkdir {space.name} && chmod {wanted} {space.name}", locks)
    holder = shell(cwd=space)
    holder.ask("echo EX > f")
    for person, may in USES[wanted].items():
        status, printed = person.runs(f"cat locks/{space.name}/f", clu.root / "status")
        assert (status == 0) is may, (person, printed)
    holder.ask("echo UN > f")


def test_a_change_of_mode_and_owner_counts_at_once(space: Path, locks: Path) -> None:
    ROOT.runs(f"mkdir {space.name}", locks)
    use = f"echo EX > {space.name}/f"
    assert BOB.runs(use, locks)[0] != 0
    ROOT.runs(f"chown 1002:1002 {space.name}", locks)
    assert BOB.runs(use, locks) == (0, "")
    assert BOB.runs(f"chmod 0777 {space.name}", locks) == (0, "")
    assert ALICE.runs(use, locks) == (0, "")


@pytest.mark.parametrize(
    "line", ["chmod 0777 {0}", "chown 1002 {0}", "chgrp 1002 {0}", "rmdir {0}", "mv {0} {0}x"]
)
def test_a_stranger_changes_nothing(space: Path, locks: Path, line: str) -> None:
    ALICE.runs(f"mkdir {space.name}", locks)
    status, printed = BOB.runs(line.format(space.name), locks)
    assert status != 0 and "not permitted" in printed
    assert (mode(space), owner(space)) == (0o700, (1001, 1001))


def test_rmdir_of_a_namespace_in_use_and_then_not(
    clu: Clu, space: Path, locks: Path, shell: Callable[..., Shell]
) -> None:
    space.mkdir()
    holder = shell(cwd=locks)
    holder.ask(f"echo NL > {space.name}/f")
    status, printed = ROOT.runs(f"rmdir {space.name}", locks)
    assert (status, "Directory not empty" in printed) == (1, True)
    assert f"locks/{space.name} ENOTEMPTY namespace '{space.name}' is in use" in clu.errors()
    holder.ask(f"echo UN > {space.name}/f")
    assert ROOT.runs(f"rmdir {space.name}", locks) == (0, "")
    assert not space.exists()


def test_a_namespace_that_is_only_waited_for_or_open_is_in_use(
    space: Path, locks: Path, shell: Callable[..., Shell]
) -> None:
    space.mkdir()
    opener = shell(cwd=locks)
    opener.ask(f"exec 9<> {space.name}/f")
    assert ROOT.runs(f"rmdir {space.name}", locks)[0] == 1
    opener.ask("exec 9>&-")
    assert list(space.iterdir()) == []
    assert ROOT.runs(f"rmdir {space.name}", locks) == (0, "")


def test_who_stands_in_a_removed_namespace_can_make_nothing_in_it(
    space: Path, shell: Callable[..., Shell]
) -> None:
    space.mkdir()
    standing = shell(cwd=space)
    space.rmdir()
    status, printed = standing.ask("echo EX > f")
    assert status != 0 and "cannot create" in printed


def test_namespaces_are_made_in_locks_alone(clu: Clu, space: Path, locks: Path) -> None:
    space.mkdir()
    for line in (f"mkdir {space.name}/deeper", "mkdir public/deeper", "mkdir ../status/new"):
        status, printed = ROOT.runs(line, locks)
        assert (status, "Operation not permitted" in printed) == (1, True), line
    assert f"locks/{space.name}/deeper EPERM namespaces are made in /locks only" in clu.errors()
    assert ROOT.runs(f"mkdir -p {space.name}/a/b", locks)[0] == 1
    assert ROOT.runs(f"mkdir {space.name}", locks)[0] == 1


def test_a_namespace_may_not_look_like_sublocks(clu: Clu, locks: Path) -> None:
    assert ROOT.runs("mkdir odd.sub", locks)[0] == 1
    assert "locks/odd.sub EINVAL a namespace may not end in '.sub': 'odd.sub'" in clu.errors()


@pytest.mark.parametrize("odd", ["größe €", "two\nlines", "a blank", "\x1b[31m", "x" * 255])
def test_a_namespace_may_have_any_other_name(locks: Path, odd: str) -> None:
    path = locks / odd
    path.mkdir()
    assert odd in {found.name for found in locks.iterdir()}
    path.rmdir()
    assert not path.exists()


def test_namespaces_outlive_the_daemon(own_clu: Clu) -> None:
    locks = own_clu.root / "locks"
    ALICE.runs("mkdir mine; mkdir gone; umask 0; mkdir ours; rmdir gone", locks)
    ROOT.runs("chmod 0770 mine; chown 1002:1003 ours; mkdir 'a\nb'", locks)
    assert own_clu.stop() == 0
    own_clu.start()
    assert {path.name for path in locks.iterdir()} == {"public", "mine", "ours", "a\nb"}
    assert (mode(locks / "mine"), owner(locks / "mine")) == (0o770, (1001, 1001))
    assert (mode(locks / "ours"), owner(locks / "ours")) == (0o777, (1002, 1003))


def test_the_events_tell_of_namespaces(clu: Clu, space: Path) -> None:
    space.mkdir(0o700)
    space.rmdir()
    events = (clu.root / "events").read_text()
    assert f" namespace-made name={space.name} uid=0 mode=0700\n" in events
    assert f" namespace-removed name={space.name} uid=0 mode=0700\n" in events
