"""The inode table of /clu/lockfiles: it answers as a real directory does, and keeps its bounds."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clufs.limits import LINKS_MAX, LOCKFILE_MAX_BYTES, LOCKFILES_MAX, LOCKFILES_MAX_BYTES
from clufs.registry import inodes
from clufs.registry.commands import CommandId, MemberIn, MemberOut
from clufs.registry.inode_commands import (
    AT_END,
    RENAME_EXCHANGE,
    ChangeInode,
    DropMade,
    LinkInode,
    MakeInode,
    Maker,
    WriteInode,
)
from clufs.registry.inodes import ROOT
from clufs.registry.state import State
from tests.registry.table_files import CALLS, RealFiles, TableFiles, outcome


@contextmanager
def real_directory() -> Iterator[RealFiles]:
    """A directory of the machine, in memory if possible."""
    before = os.umask(0)
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as root:
        yield RealFiles(Path(root))
    os.umask(before)


@settings(max_examples=150, deadline=None)
@given(st.lists(CALLS, max_size=25))
def test_calls_in_any_order_end_as_on_a_real_directory(calls: list[tuple[Any, ...]]) -> None:
    with real_directory() as real:
        table = TableFiles(os.geteuid(), os.getegid())
        for name, *arguments in calls:
            told = outcome(getattr(table, name), tuple(arguments))
            assert told == outcome(getattr(real, name), tuple(arguments)), (name, arguments)
            assert table.seen() == real.seen()
            assert snapshot_of_all(table.state) == table.state.snapshot()
        again = State.restore(table.state.snapshot())
        assert snapshot_of_all(again) == table.state.snapshot()
        assert again.inode_table.usage == table.state.inode_table.usage


def snapshot_of_all(state: State) -> bytes:
    """A snapshot of which nothing was encoded before."""
    state.inode_table._parts.clear()
    return state.snapshot()


def refused(files: TableFiles, number: int, call: Callable[[], object]) -> None:
    """It fails with this errno, and nothing has changed."""
    before = files.state.inode_table.parts(), files.state.inode_table.usage
    with pytest.raises(OSError) as raised:
        call()
    assert raised.value.errno == number, raised.value
    assert (files.state.inode_table.parts(), files.state.inode_table.usage) == before


def test_a_file_is_made_once_whoever_asks() -> None:
    files = TableFiles(uid=7, gid=8)
    files.create(b"x.lock")
    refused(files, errno.EEXIST, lambda: files.create(b"x.lock"))
    inode = files.inode(files.number(b"x.lock"))
    assert (inode.uid, inode.gid, inode.mode, inode.nlink) == (7, 8, stat.S_IFREG | 0o640, 1)
    assert inode.atime_ns == inode.mtime_ns == inode.ctime_ns == 1
    assert files.inode(ROOT).mtime_ns == 1


def test_a_link_shows_in_the_link_count_which_dotlockfile_looks_at() -> None:
    files = TableFiles()
    files.create(b"temporary")
    files.link(b"temporary", b"mail.lock")
    assert files.number(b"temporary") == files.number(b"mail.lock")
    assert files.inode(files.number(b"mail.lock")).nlink == 2
    files.unlink(b"temporary")
    assert files.inode(files.number(b"mail.lock")).nlink == 1


def test_a_number_never_comes_again() -> None:
    files = TableFiles()
    files.create(b"a")
    first = files.number(b"a")
    files.unlink(b"a")
    files.create(b"a")
    assert files.number(b"a") > first
    refused(files, errno.ENOENT, lambda: files.do(WriteInode(first, 0, b"x", 1)))
    refused(files, errno.ENOENT, lambda: files.do(ChangeInode(first, 1, mode=0)))
    refused(files, errno.ENOENT, lambda: files.do(LinkInode(first, ROOT, b"b", 1)))


def test_a_directory_that_is_gone_takes_no_names() -> None:
    files = TableFiles()
    files.mkdir(b"d")
    number = files.number(b"d")
    files.rmdir(b"d")
    make = MakeInode(number, b"x", stat.S_IFREG, 0, 0, 1)
    refused(files, errno.ENOENT, lambda: files.do(make))


def test_what_is_made_in_a_setgid_directory_has_its_group() -> None:
    files = TableFiles(uid=7, gid=8)
    files.mkdir(b"d")
    files.do(ChangeInode(files.number(b"d"), 1, mode=0o2775, gid=50))
    files.create(b"d/file")
    files.mkdir(b"d/below")
    assert files.inode(files.number(b"d/file")).gid == 50
    below = files.inode(files.number(b"d/below"))
    assert (below.gid, below.mode) == (50, stat.S_IFDIR | stat.S_ISGID | 0o750)


def test_only_what_is_said_of_a_file_changes() -> None:
    files = TableFiles(uid=7, gid=8)
    files.create(b"a")
    number = files.number(b"a")
    files.do(WriteInode(number, 0, b"12345", 2))
    files.do(ChangeInode(number, 3, uid=9, atime_ns=40))
    files.do(ChangeInode(number, 4, size=2))
    inode = files.inode(number)
    assert (inode.uid, inode.gid, inode.data) == (9, 8, b"12")
    assert (inode.atime_ns, inode.mtime_ns, inode.ctime_ns) == (40, 4, 4)


def test_a_file_is_at_most_so_long() -> None:
    files = TableFiles()
    files.create(b"a")
    number = files.number(b"a")
    files.do(WriteInode(number, LOCKFILE_MAX_BYTES - 1, b"x", 1))
    for command in (
        WriteInode(number, AT_END, b"x", 1),
        WriteInode(number, LOCKFILE_MAX_BYTES - 1, b"xy", 1),
        ChangeInode(number, 1, size=LOCKFILE_MAX_BYTES + 1),
    ):
        refused(files, errno.EFBIG, lambda command=command: files.do(command))


def test_all_files_together_are_at_most_so_long() -> None:
    files = TableFiles()
    for at in range(LOCKFILES_MAX_BYTES // LOCKFILE_MAX_BYTES):
        files.create(b"%d" % at)
        files.truncate(b"%d" % at, LOCKFILE_MAX_BYTES)
    files.create(b"more")
    refused(files, errno.ENOSPC, lambda: files.write(b"more", 0, b"x"))
    refused(files, errno.ENOSPC, lambda: files.symlink(b"link"))
    files.write(b"0", 0, b"in its place")
    files.unlink(b"0")
    files.write(b"more", 0, b"x")


def test_there_are_at_most_so_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LOCKFILES_MAX == 100_000
    monkeypatch.setattr(inodes, "LOCKFILES_MAX", 3)
    files = TableFiles()
    files.mkdir(b"d")
    files.create(b"d/a")
    files.link(b"d/a", b"b")
    refused(files, errno.ENOSPC, lambda: files.create(b"c"))
    refused(files, errno.ENOSPC, lambda: files.link(b"b", b"c"))
    files.rename(b"d/a", b"d/c", 0)
    files.unlink(b"b")
    files.create(b"c")


def test_a_file_has_at_most_so_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LINKS_MAX == 32_000
    monkeypatch.setattr(inodes, "LINKS_MAX", 4)
    files = TableFiles()
    files.create(b"a")
    for name in (b"b", b"c", b"d"):
        files.link(b"a", name)
    refused(files, errno.EMLINK, lambda: files.link(b"a", b"e"))
    files.mkdir(b"x")
    files.mkdir(b"y")
    refused(files, errno.EMLINK, lambda: files.mkdir(b"z"))
    files.mkdir(b"x/z")
    refused(files, errno.EMLINK, lambda: files.rename(b"x/z", b"z", 0))
    refused(files, errno.EMLINK, lambda: files.rename(b"x/z", b"a", RENAME_EXCHANGE))
    files.rename(b"x", b"z", 0)


def test_a_name_is_one_that_a_file_can_have() -> None:
    files = TableFiles()
    files.create(b"n" * 255)
    refused(files, errno.ENAMETOOLONG, lambda: files.create(b"n" * 256))
    refused(files, errno.ENAMETOOLONG, lambda: files.rename(b"n" * 255, b"m" * 256, 0))
    for name in (b"", b".", b".."):
        refused(files, errno.EINVAL, lambda name=name: files.mkdir(name))
    refused(files, errno.EINVAL, lambda: files.rename(b"n" * 255, b"m", 4))


def test_only_content_is_written() -> None:
    files = TableFiles()
    files.mkdir(b"d")
    number = files.number(b"d")
    refused(files, errno.EISDIR, lambda: files.do(WriteInode(number, 0, b"x", 1)))
    refused(files, errno.EISDIR, lambda: files.do(ChangeInode(number, 1, size=0)))


# ------------------------------------------------- files that end with their makers

MAKER = Maker("polishham", 5, 4711)


def with_ephemeral() -> TableFiles:
    """`run` is ephemeral and has `run/lock`, made by a process of polishham."""
    files = TableFiles()
    files.mkdir(b"run")
    files.do(ChangeInode(files.number(b"run"), 1, ephemeral=True))
    parent, name = files.place(b"run/lock")
    files.do(MakeInode(parent, name, stat.S_IFREG | 0o600, 0, 0, 2, maker=MAKER))
    return files


def test_a_file_goes_with_its_maker_by_all_its_names() -> None:
    files = with_ephemeral()
    files.link(b"run/lock", b"elsewhere")
    files.rename(b"run/lock", b"run/renamed", 0)
    number = files.number(b"elsewhere")
    files = restored(files)
    assert files.state.inode_table.made_by("polishham", 5) == [number]
    files.do(DropMade([number, number + 1], 9))
    assert list(files.seen()) == [b"run"]
    assert files.inode(files.number(b"run")).mtime_ns == 9
    files.do(DropMade([number], 10))


def restored(files: TableFiles) -> TableFiles:
    """The same after a restart of all members."""
    again = TableFiles()
    again.state = State.restore(files.state.snapshot())
    again._counter = files._counter
    return again


def test_what_is_made_otherwise_stays() -> None:
    files = with_ephemeral()
    files.create(b"run/stays")
    files.do(MakeInode(ROOT, b"outside", stat.S_IFREG, 0, 0, 2, maker=MAKER))
    numbers = [files.number(b"run/stays"), files.number(b"outside")]
    files.do(DropMade(numbers, 9))
    assert {b"run/stays", b"outside"} <= files.seen().keys()


def test_a_directory_made_in_an_ephemeral_one_is_ephemeral() -> None:
    files = with_ephemeral()
    files.mkdir(b"run/below")
    assert files.inode(files.number(b"run/below")).ephemeral
    number = files.number(b"run/lock")
    refused(files, errno.ENOTDIR, lambda: files.do(ChangeInode(number, 1, ephemeral=True)))


def test_files_of_a_member_go_when_its_life_is_out() -> None:
    files = with_ephemeral()
    state = files.state
    born = MemberIn("polishham", 5, "boot", "machine", False)
    state.take(CommandId(2, 5, 1), born)
    assert b"run/lock" in files.seen()
    state.take(CommandId(1, 1, 900), MemberOut("polishham", 5, "fenced"))
    assert list(files.seen()) == [b"run"]


def test_files_of_a_member_go_when_its_next_life_has_cleared_up() -> None:
    files = with_ephemeral()
    state = files.state
    state.take(CommandId(2, 5, 1), MemberIn("polishham", 5, "boot", "machine", False))
    state.take(CommandId(2, 6, 1), MemberIn("polishham", 6, "boot", "machine", False))
    assert b"run/lock" in files.seen()
    state.take(CommandId(2, 7, 1), MemberIn("polishham", 7, "boot", "machine", True))
    assert list(files.seen()) == [b"run"]
