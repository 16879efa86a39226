"""/clu/lockfiles: an ordinary small directory tree, for programs that lock by making files.

It is the registry's inode table. Every change is a command of the registry, answered when all members
show it; whatever is looked at is this member's copy of the table, as long as it is current. So what one
member was answered, every other one sees, and of two that make a file one does.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from clufs.errors import InvalidRequest, NotPermitted
from clufs.registry import inode_commands, inodes
from clufs.registry.commands import Command
from clufs.registry.inode_commands import (
    ChangeInode,
    LinkInode,
    MakeInode,
    Maker,
    Rename,
    Unlink,
    WriteInode,
)
from clufs.registry.inodes import ROOT, Inode, InodeTable
from clufs.tree.items import NUMBER_MAX, Attributes, Caller, Directory, Item
from clufs.tree.namespaces import INODES

LOCKFILES = b"lockfiles"
_BLOCK_BYTES = 512
_HALF = NUMBER_MAX // 2 + 1


class InodeRegistry(Protocol):
    """The registry's inode table as the tree uses it."""

    @property
    def table(self) -> InodeTable:
        """What is committed, as far as this member knows. To be read only."""

    @property
    def is_current(self) -> bool:
        """Whether the table shows all that any member was answered."""

    async def current(self) -> None:
        """Wait until it is, between two views. Raises NoQuorum soon where it will not be."""

    async def propose(self, command: Command) -> int:
        """Have a command applied; all members show it when this returns, and it is on disk at a quorum.

        Returns the inode that it made, 0 if that is not known. Raises what its refusal means, NoQuorum,
        TimedOut.
        """


class Listed(NamedTuple):
    """A name in a list: st_ino and mode of what has it."""

    number: int
    mode: int


class Lockfiles:
    """What all items below /clu/lockfiles share: one item for an inode, whatever its names."""

    def __init__(self, registry: InodeRegistry) -> None:
        self.registry = registry
        self.items: dict[int, InodeItem] = {}
        self.root = RootDirectory(self, ROOT, LOCKFILES)
        self.items[ROOT] = self.root

    def item(self, number: int, path: bytes) -> InodeItem:
        """The item of an inode that there is, by the path where it was found."""
        item = self.items.get(number)
        if item is None:
            mode = self.registry.table.inodes[number].mode
            kind: type[InodeItem] = InodeFile
            if stat.S_ISDIR(mode):
                kind = InodeDirectory
            elif stat.S_ISLNK(mode):
                kind = InodeLink
            item = self.items[number] = kind(self, number, path)
        item.path = path
        return item


def shown_number(number: int) -> int:
    """The st_ino of an inode: the same on every member, and unlike those of the rest of /clu."""
    return _HALF + number % _HALF


class InodeItem(Item):
    """An inode. key: its number in the table."""

    __slots__ = ("_inode", "files", "key")

    def __init__(self, files: Lockfiles, key: int, path: bytes, inode: Inode | None = None) -> None:
        super().__init__(path)
        self.number = shown_number(key)
        self.files = files
        self.key = key
        self._inode = inode or files.registry.table.inodes[key]

    @property
    def inode(self) -> Inode:
        """It as it is now, or as it was when its last name went: who has it open goes on with that."""
        known = self.files.registry.table.inodes.get(self.key)
        if known is not None:
            self._inode = known
        return self._inode

    @property
    def lock_name(self) -> bytes:
        """The resource block of the locks that flock(2) takes on it, whatever its name."""
        return INODES + b"/%d" % shown_number(self.key)

    @property
    def is_gone(self) -> bool:
        """Whether it has no name any more: then it is this member's alone."""
        return self.key not in self.files.registry.table.inodes

    @property
    def elsewhere(self) -> bool:
        return not self.files.registry.is_current

    async def ask_attributes(self, caller: Caller) -> Attributes:
        await self.files.registry.current()
        return self.attributes(caller)

    def attributes(self, caller: Caller) -> Attributes:
        inode = self.inode
        size = 0 if inode.is_directory else len(inode.data)
        return Attributes(
            inode.mode,
            inode.uid,
            inode.gid,
            size,
            inode.mtime_ns,
            0 if self.is_gone else inode.nlink,
            inode.atime_ns,
            inode.ctime_ns,
            -(-size // _BLOCK_BYTES),
        )

    async def alter(
        self,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ephemeral: bool | None = None,
    ) -> None:
        """chmod, chown, truncate, utimens. Raises FileTooLarge, NoRoom, NoQuorum and the like."""
        times = atime_ns, mtime_ns
        now = time.time_ns()
        command = ChangeInode(self.key, now, mode, uid, gid, size, *times, ephemeral)
        if not self.is_gone:
            await self.files.registry.propose(command)
            return
        refusal = inodes.no_change(self._inode, command)
        if refusal is not None:
            raise inode_commands.error_of(refusal)
        inodes.change(self._inode, command)

    def forgotten(self) -> None:
        """Its st_ino is the inode's: a new item has the same."""
        if self.files.items.get(self.key) is self:
            del self.files.items[self.key]


class InodeFile(InodeItem):
    """A file with content."""

    __slots__ = ()

    def read(self, offset: int, size: int) -> bytes:
        """A part of the content."""
        return self.inode.data[offset : offset + size]

    async def write(self, offset: int, data: bytes) -> None:
        """Put bytes there, or at the end for AT_END. Raises FileTooLarge, NoRoom, NoQuorum."""
        now = time.time_ns()
        inode = self.inode
        refusal = inodes.no_write(inode, offset, len(data))
        if refusal is not None:
            raise inode_commands.error_of(refusal)
        if self.is_gone:
            inodes.write(inode, offset, data, now)
        else:
            await self.files.registry.propose(WriteInode(self.key, offset, data, now))


class InodeLink(InodeItem):
    """A symbolic link."""

    __slots__ = ()

    @property
    def target(self) -> bytes:
        """Where it points to."""
        return self.inode.data


class InodeDirectory(InodeItem, Directory):
    """A directory."""

    __slots__ = ()

    @property
    def shared(self) -> bool:
        return not self.files.registry.is_current

    def find(self, name: bytes) -> Item | None:
        if self.shared:
            return None
        number = self.files.registry.table.find(self.key, name)
        return self.files.item(number, self.path + b"/" + name) if number is not None else None

    async def seek(self, name: bytes, caller: Caller) -> Item | None:
        await self.files.registry.current()
        return self.find(name)

    def names(self) -> Iterable[tuple[bytes, Item]]:
        table = self.files.registry.table
        for name, number in sorted(table.names.get(self.key, {}).items()):
            yield name, self.files.item(number, self.path + b"/" + name)

    def listed(self) -> Iterator[tuple[bytes, Listed]]:
        """The names without items: of 100,000 that are listed few are looked up."""
        table = self.files.registry.table
        for name, number in sorted(table.names.get(self.key, {}).items()):
            yield name, Listed(shown_number(number), table.inodes[number].mode)

    async def ask_listed(self) -> list[tuple[bytes, Listed]]:
        """The same where the table is not current yet. Raises NoQuorum."""
        await self.files.registry.current()
        return list(self.listed())

    # ------------------------------------------------- changing names

    @property
    def is_ephemeral(self) -> bool:
        """Whether a file made here with O_CREAT|O_EXCL goes with the process that made it."""
        return self.inode.ephemeral

    async def make(
        self,
        name: bytes,
        mode: int,
        caller: Caller,
        target: bytes = b"",
        maker: Maker | None = None,
    ) -> InodeItem:
        """Make what `mode` says under a free name.

        Raises NameExists, NoSuchName, NoRoom, NameTooLong, NoQuorum.
        """
        owner, now = (caller.uid, caller.gid), time.time_ns()
        command = MakeInode(self.key, name, mode, *owner, now, target, maker)
        files = self.files
        number = await files.registry.propose(command) or self._made_by(command)
        path = self.path + b"/" + name
        if number in files.registry.table.inodes:
            return files.item(number, path)
        if not number or not stat.S_ISREG(mode):
            raise inode_commands.error_of(f"{inode_commands.MISSING}: removed at the same moment")
        # Its maker has it open all the same, and must not get what has the name by now.
        removed = Inode(mode, *owner, 0, now, now, now)
        return InodeFile(files, number, path, removed)

    def _made_by(self, command: MakeInode) -> int:
        """What this command has made, if its number is not known; 0 if that has the name no more.

        Others may have made a file of that name since: no two are of the same nanosecond.
        """
        table = self.files.registry.table
        number = table.find(self.key, command.name)
        if number is None or table.inodes[number].atime_ns != command.time_ns:
            return 0
        return number

    async def mkdir(self, name: bytes, mode: int, caller: Caller) -> Item:
        return await self.make(name, stat.S_IFDIR | mode, caller)

    async def rmdir(self, name: bytes, caller: Caller) -> None:
        await self.files.registry.propose(Unlink(self.key, name, True, time.time_ns()))

    async def remove(self, name: bytes) -> None:
        """unlink(2). Raises NoSuchName, IsADirectory, NoQuorum."""
        await self.files.registry.propose(Unlink(self.key, name, False, time.time_ns()))

    async def link(self, item: InodeItem, name: bytes) -> InodeItem:
        """link(2). Raises NameExists, NotPermitted, TooManyLinks, NoQuorum."""
        await self.files.registry.propose(LinkInode(item.key, self.key, name, time.time_ns()))
        return item

    async def move(self, name: bytes, to: InodeDirectory, to_name: bytes, flags: int) -> None:
        """renameat2(2). Raises NoSuchName, NameExists, NotEmpty, InvalidRequest, NoQuorum."""
        command = Rename(self.key, name, to.key, to_name, flags, time.time_ns())
        await self.files.registry.propose(command)


class RootDirectory(InodeDirectory):
    """/clu/lockfiles itself: seen also where nothing else of it can be."""

    __slots__ = ()

    @property
    def elsewhere(self) -> bool:
        return False

    def forgotten(self) -> None:
        """It stays."""


def attributes_of(item: InodeItem) -> dict[bytes, bytes]:
    """The extended attributes of an inode, without their `user.clu.`."""
    inode = item.inode
    if inode.is_directory:
        return {b"ephemeral": b"%d" % inode.ephemeral}
    if inode.maker is not None:
        maker = inode.maker
        return {b"maker": f"{maker.member} {maker.pid}".encode()}
    return {}


def ephemeral_of(value: bytes) -> bool:
    """What is written to `user.clu.ephemeral`. Raises InvalidRequest for anything but 0 and 1."""
    text = value.strip()
    if text not in (b"0", b"1"):
        raise InvalidRequest("user.clu.ephemeral is 0 or 1")
    return text == b"1"


def check_kind(mode: int) -> None:
    """Raises NotPermitted for what mknod(2) cannot make here."""
    if not stat.S_ISREG(mode):
        raise NotPermitted("device nodes, pipes and sockets are not made here")
