"""One member of a cluster really mounted; the others are lock managers in the same process."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from clufs.dlm.interface import Received
from clufs.dlm.messages import Message
from clufs.fuse.groups import Groups
from clufs.fuse.lock_service import LockService
from clufs.fuse.operations import Operations
from clufs.fuse.owner_record import OwnerRecord
from clufs.fuse.timers import Timers
from clufs.tree import status
from clufs.tree.cluster import OneMember
from clufs.tree.items import FIRST_NUMBER, NOBODY, Root
from clufs.tree.lock_reports import Testimony
from clufs.tree.lock_tree import LockDirectory, LocksRoot, LockTree
from clufs.tree.member import Journals, Member
from clufs.tree.namespaces import Namespace
from tests.fuse.mounted import mounted, run
from tests.member.asking import Asking

HERE, THERE, THIRD = "provolone", "polishham", "pepicelli"


class Spaces:
    """A Store in memory. wait, answered: what comes before a change, and before its call returns."""

    def __init__(self) -> None:
        self.roots: list[LocksRoot] = []
        self.kept: dict[bytes, tuple[bytes, int, int, int]] = {}

    def namespaces(self) -> list[tuple[bytes, int, int, int]]:
        return list(self.kept.values())

    async def wait(self) -> None:
        """Set by tests that want changes to last."""

    async def answered(self) -> None:
        """Set by tests in which others are sooner to change than the caller to hear."""

    async def put_namespace(
        self, name: bytes, uid: int, gid: int, mode: int, *, new: bool = False
    ) -> None:
        await self.wait()
        self.kept[name] = (name, uid, gid, mode)
        for root in self.roots:
            root.namespace_put(name, uid, gid, mode)
        await self.answered()

    async def drop_namespace(self, name: bytes) -> None:
        await self.wait()
        del self.kept[name]
        for root in self.roots:
            root.namespace_dropped(name)
        await self.answered()


class Mounted(Asking):
    """root: where /clu of HERE is; events: namespaces made and removed there; ended: it is unmounted."""

    ended: trio.Event

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.root = directory / "clu"
        self.root.mkdir()
        self.public = self.root / "locks" / "public"
        self.store = Spaces()
        self.events: list[tuple[str, bytes]] = []
        self._began_s = time.time()
        self.trees = {member: self._tree(member) for member in self.nodes}
        self.tree = self.trees[HERE]
        self.store.roots.append(self.tree.root)
        member = Member(HERE, 1, "0")
        self.journals = Journals(member)
        node = self.nodes[HERE]
        self.record = OwnerRecord(directory / "owners")
        self.service = LockService(node, self.tree, self.record, Timers(), self.journals, Groups())
        self.service.send = self._send
        self.service.flush = lambda: None
        root = Root()
        root.number = FIRST_NUMBER
        root.add(self.tree.root)
        facts = status.Facts(member, OneMember(member), self.tree, self.journals)
        status.build(root, facts)
        self.operations = Operations(root, self.service, self.journals)

    def _tree(self, member: str) -> LockTree:
        def changed(kind: str, space: Namespace) -> None:
            self.events.append((kind, space.name))

        node, queries = self.nodes[member], self.queries[member]
        tree = LockTree(node, self.store, self._wall, lambda: self.now, changed, queries)
        queries.witness = Testimony(tree, member)
        return tree

    def _wall(self) -> float:
        """The wall clock goes with the clock of the test: otherwise time that passes looks like a clock that is set."""
        return self._began_s + self.now

    def _send(self, member: str, message: Message) -> None:
        """A client's request goes to another member, and what follows from it everywhere."""
        self.wires.setdefault((HERE, member), deque()).append(message)
        self.sent += 1
        trio.lowlevel.current_trio_token().run_sync_soon(self.bring_all)

    def bring_all(self) -> None:
        """All messages arrive, those of locks that only HERE knows of among them."""
        while pairs := [pair for pair, wire in self.wires.items() if wire]:
            sender, receiver = pairs[0]
            received = Received(sender, self.wires[pairs[0]].popleft())
            if receiver == HERE:
                self.service.run(received)
            else:
                self.step(receiver, received)

    def holds(self, member: str, line: str, name: bytes, who: str = "anna") -> None:
        """Somebody at this member says this in a lock file, and all messages arrive."""
        directory, _, last = name.rpartition(b"/")
        file = self.trees[member].directories[directory].create(last, NOBODY)
        file.creators -= 1
        self.says(member, who, line, name)
        self.settle()

    def sub_holds(self, member: str, name: bytes, below: bytes) -> None:
        """Who has the lock `name` has EX on a sublock, too."""
        parent = self.lock(member, "anna", name)
        directory = self.trees[member].directories[b"public"].find(name[7:] + b".sub")
        assert isinstance(directory, LockDirectory)
        directory.create(below, NOBODY).creators -= 1
        self.says(member, "anna", "EX", directory.key + b"/" + below, parent=parent)
        self.settle()

    def name(self, directory: str = THIRD) -> bytes:
        """A lock's name in `public` whose directory is this member."""
        names = (b"public/f%d" % i for i in range(1000))
        return next(name for name in names if self.directory(name) == directory)

    def path(self, name: bytes) -> Path:
        return self.root / "locks" / os.fsdecode(name)

    async def runs(self, code: str, *arguments: object) -> str:
        """What a Python program in a process of its own prints; an OSError as its errno's name."""
        guarded = "".join(f"    {line}\n" for line in code.splitlines())
        code = f"try:\n{guarded}except OSError as error:\n    print(errno.errorcode[error.errno])\n"
        status, printed = await run(code, *arguments)
        assert status == 0
        return printed

    async def shell(self, command: str) -> str:
        """What a shell prints, standing in /clu/locks/public; errors among it."""
        code = "import subprocess\nprint(subprocess.run(sys.argv[2], shell=True, cwd=sys.argv[1],"
        code += " stdout=-1, stderr=-2, text=True, timeout=15).stdout, end='')"
        return await self.runs(code, self.public, command)


@asynccontextmanager
async def member_mounted(directory: Path) -> AsyncIterator[Mounted]:
    """A Mounted that serves."""
    member = Mounted(directory)
    operations = member.operations
    async with mounted(
        operations,
        member.root,
        write=operations.write_now,
        lock=operations.lock_now,
        on_interrupted=member.service.parked.interrupted,
        options=("default_permissions",),
    ) as member.ended:
        yield member
    member.record.close()
