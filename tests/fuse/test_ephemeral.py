"""Files that end with the processes that made them, whatever the registry and the mount do meanwhile."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import trio

from clufs.errors import TimedOut
from clufs.fuse.ephemeral import Ephemerals
from clufs.registry.commands import Command
from clufs.registry.inode_commands import (
    INODE_COMMANDS,
    MakeInode,
    Unlink,
    WriteInode,
    error_of,
)
from clufs.registry.inodes import ROOT, InodeTable
from clufs.tree.items import FIRST_NUMBER, Root
from clufs.tree.lockfiles import Lockfiles
from tests.fuse.member import HERE, Mounted, member_mounted
from tests.fuse.mounted import Client, run, until

MAKE = "os.close(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY))\n"
MAKE_AND_STAY = MAKE + "print('made', flush=True)\nsignal.pause()\n"


class Inodes:
    """The inode table of a registry that is this member's alone.

    late: what nobody knows whether it will be. sooner, later: what others change just before the next command,
    and after it, before its answer comes; that does not say then what it has made.
    """

    def __init__(self) -> None:
        self.table = InodeTable()
        self.is_current = True
        self.stands_still = False
        self.late: list[Command] = []
        self.sooner: list[Command] = []
        self.later: list[Command] = []
        self.ephemerals: Ephemerals

    async def current(self) -> None:
        """It is."""

    async def propose(self, command: Command) -> int:
        if self.stands_still:
            self.late.append(command)
            raise TimedOut("not on record at a quorum")
        while self.sooner:
            self.apply(self.sooner.pop())
        made = self.apply(command)
        later, self.later = self.later, []
        for one in later:
            self.apply(one)
        return 0 if later else made

    def apply(self, command: Command) -> int:
        assert isinstance(command, INODE_COMMANDS)
        refusal = self.table.apply(command)
        if refusal is not None:
            raise error_of(refusal)
        made = self.table.made
        self.ephemerals.look(command)
        return made


class Run:
    """/clu/lockfiles, where each file ends with its maker."""

    def __init__(self, clu: Mounted) -> None:
        self.clu = clu
        self.registry = Inodes()
        self.path = clu.root / "lockfiles"
        self.files = Lockfiles(self.registry)
        root = clu.operations.items[FIRST_NUMBER]
        assert isinstance(root, Root)
        root.add(self.files.root)
        self.registry.ephemerals = clu.operations.ephemerals = Ephemerals(
            clu.service, self.registry, lambda: (HERE, 1)
        )

    def look_for_exits(self) -> bool:
        """As the daemon does whenever a process ends; whether no maker is left."""
        self.clu.service.sweep(monotonic())
        return not self.registry.ephemerals.makers()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Run]:
    async with member_mounted(directory) as clu:
        made = Run(clu)
        await trio.to_thread.run_sync(os.setxattr, made.path, "user.clu.ephemeral", b"1")
        yield made


async def test_a_file_that_comes_to_be_when_its_maker_is_gone_ends_at_once(tmp_path: Path) -> None:
    """The maker is told that nobody knows, and goes; then the registry has it on record after all."""
    async with running(tmp_path) as run_:
        registry = run_.registry
        registry.stands_still = True
        status, _ = await run(MAKE, run_.path / "lock")
        assert status != 0
        run_.look_for_exits()
        registry.stands_still = False
        (late,) = registry.late
        registry.apply(late)
        await until(lambda: not registry.table.made_by(HERE, 1))


async def test_a_maker_may_end_when_the_mount_is_gone(tmp_path: Path) -> None:
    """Its files then go with this member."""
    async with running(tmp_path) as run_, Client(MAKE_AND_STAY, run_.path / "lock") as maker:
        await until(lambda: bool(run_.registry.ephemerals.makers()))
        await trio.run_process(["umount", str(run_.clu.root)])
        await run_.clu.ended.wait()
        maker.signal(signal.SIGKILL)
        await maker.result()
        assert run_.look_for_exits()


def another(number: int = 1) -> MakeInode:
    """Another member makes the file."""
    return MakeInode(ROOT, b"lock", stat.S_IFREG | 0o666, 0, 0, number)


async def test_who_comes_too_late_for_a_name_leaves_nothing_behind(tmp_path: Path) -> None:
    """The kernel has found no such name, and another is sooner."""
    async with running(tmp_path) as run_:
        before = set(run_.files.items)
        run_.registry.sooner.append(another())
        assert await run_.clu.runs(MAKE, run_.path / "lock") == "EEXIST\n"
        assert set(run_.files.items) == before


async def test_nobody_takes_anothers_file_for_the_one_it_has_made(tmp_path: Path) -> None:
    """What became of a command came with the registry as a whole, and has changed since."""
    async with running(tmp_path) as run_:
        run_.registry.later += [Unlink(ROOT, b"lock", False, 2), another()]
        assert await run_.clu.runs(MAKE, run_.path / "lock") == "ENOENT\n"
        assert not run_.registry.ephemerals.makers()


async def test_who_has_made_a_file_has_it_however_it_heard(tmp_path: Path) -> None:
    async with running(tmp_path) as run_:
        run_.registry.later.append(WriteInode(2, 0, b"read by others", 2))
        assert await run_.clu.runs(MAKE, run_.path / "lock") == ""
