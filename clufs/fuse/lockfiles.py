"""/clu/lockfiles as the kernel asks for it: opens, and what changes names. The edge of `tree.lockfiles`."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from clufs.errors import (
    AccessDenied,
    ClufsError,
    IsADirectory,
    NameExists,
    NotPermitted,
    OtherDirectory,
)
from clufs.fuse import loop, lowlevel, processes
from clufs.fuse.lock_handle import READABLE, WRITABLE, LockHandle, PollHandle
from clufs.registry.inode_commands import AT_END
from clufs.tree.items import Caller, Directory, Item
from clufs.tree.lockfiles import InodeDirectory, InodeFile, InodeItem, check_kind
from clufs.tree.names import ranges_of, shown
from clufs.tree.namespaces import INODES
from clufs.tree.reserved import reserve

if TYPE_CHECKING:
    from clufs.fuse.ephemeral import Ephemerals
    from clufs.fuse.lock_service import LockService
    from clufs.fuse.lowlevel import Request
    from clufs.tree.journals import Refusals

log = logging.getLogger("clufsd")

_READ, _WRITE = 4, 2


class InodeHandle:
    """An open file of /clu/lockfiles. locks: what flock(2) has made of it, None before."""

    __slots__ = ("append", "file", "locks", "node", "refusals")
    wants_flush = True

    def __init__(self, file: InodeFile, node: int, flags: int, refusals: Refusals) -> None:
        self.file = file
        self.node = node
        self.append = bool(flags & os.O_APPEND)
        self.refusals = refusals
        self.locks: LockHandle | None = None

    @property
    def range_key(self) -> bytes:
        """The resource block of what fcntl(2) locks of the file."""
        return ranges_of(self.file.lock_name)

    def lock_handle(self, service: LockService) -> LockHandle:
        """The open as one of a lock file, whose lock is this file's."""
        if self.locks is None:
            file = reserve(service.tree, INODES).file_of(self.file.lock_name)
            file.path = self.file.path
            self.locks = LockHandle(service, file, self.node, read_write=False, created=False)
        return self.locks

    def must_ask(self, offset: int) -> bool:
        """Whether this member may lack what another one was answered."""
        return self.file.elsewhere

    async def ask(self, offset: int, size: int) -> bytes:
        """Read then. Raises NoQuorum."""
        await self.file.files.registry.current()
        return self.read(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """A part of the content."""
        return self.file.read(offset, size)

    def write(self, request: Request, data: bytes) -> int | None:
        """Put bytes where the caller's offset is; answered when every member reads them.

        As with any file no signal ends it half-way.
        """
        offset = AT_END if self.append else lowlevel.current_offset()
        loop.spawn(lambda: self._write(request, offset, data))
        return None

    async def _write(self, request: Request, offset: int, data: bytes) -> None:
        number = 0
        try:
            await self.file.write(offset, data)
        except ClufsError as error:
            self.refusals.add(request.uid, request.pid, self.file.path, error)
            number = error.errno
        except Exception:
            log.exception("a fault in clufs: a write to /%s", shown(self.file.path))
            number = errno.EIO
        if number:
            request.reply_err(number)
        else:
            request.reply_write(len(data))

    def poll(self, poll_handle: PollHandle | None) -> int:
        """It can be read and written at any time."""
        return READABLE | WRITABLE

    def flush(self, tid: int) -> None:
        """What was written is on disk already."""

    def release(self) -> None:
        """The last close."""
        if self.locks is not None:
            self.locks.release()
        if not self.file.lookups:
            self.file.forgotten()


async def opened(item: InodeItem, flags: int) -> InodeFile:
    """What an open without O_CREAT gets, the file emptied with O_TRUNC. Raises NoQuorum and the like."""
    await item.files.registry.current()
    if not isinstance(item, InodeFile):
        raise IsADirectory("a directory is not opened as a file")
    if flags & os.O_TRUNC and item.inode.data:
        await item.alter(size=0)
    return item


async def created(
    directory: InodeDirectory,
    name: bytes,
    mode: int,
    flags: int,
    caller: Caller,
    ephemerals: Ephemerals,
) -> InodeFile:
    """What an open with O_CREAT gets: of all that ask for O_EXCL at once, one.

    A name that the kernel did not find, and another was sooner to make, is opened without O_EXCL.
    Raises NameExists, AccessDenied, NoRoom, NoQuorum and the like.
    """
    await directory.files.registry.current()
    exclusive = bool(flags & os.O_EXCL)
    while True:
        try:
            if exclusive and directory.is_ephemeral:
                item = await ephemerals.make(directory, name, stat.S_IFREG | mode, caller)
            else:
                item = await directory.make(name, stat.S_IFREG | mode, caller)
        except NameExists:
            if exclusive:
                raise
            there = directory.find(name)
            if there is None:  # and gone again: then it is made
                continue
            item = _allowed(there, flags, caller)
            item = await opened(item, flags)
        if not isinstance(item, InodeFile):
            raise IsADirectory(f"'{shown(name)}' is no file")
        return item


def _allowed(item: Item, flags: int, caller: Caller) -> InodeFile:
    """A file that its mode lets the caller open so; the kernel could not ask. Raises AccessDenied."""
    if not isinstance(item, InodeFile):
        raise IsADirectory("a directory or a link has the name")
    access = flags & os.O_ACCMODE
    wanted = _READ if access != os.O_WRONLY else 0
    wanted |= _WRITE if access != os.O_RDONLY else 0
    inode = item.inode
    allowed = inode.mode
    if caller.uid == inode.uid:
        allowed >>= 6
    elif caller.gid == inode.gid or inode.gid in processes.groups_of(caller.pid):
        allowed >>= 3
    if caller.uid != 0 and wanted & ~allowed:
        raise AccessDenied("another has just made a file of that name, and keeps it for itself")
    return item


async def node_made(
    directory: Directory, name: bytes, mode: int, caller: Caller, target: bytes = b""
) -> Item:
    """symlink(2), and mknod(2) of a file. Raises NotPermitted where nothing of that kind is made."""
    if not isinstance(directory, InodeDirectory):
        raise NotPermitted("only names of locks are made here: lock files are names, not data")
    if not target:
        check_kind(mode)
    return await directory.make(name, mode, caller, target)


async def linked(item: Item, directory: Directory, name: bytes) -> Item:
    """link(2). Raises NotPermitted, OtherDirectory, and what `InodeDirectory.link` does."""
    if not isinstance(directory, InodeDirectory):
        raise NotPermitted("hard links are not made here: lock files are names, not data")
    if not isinstance(item, InodeItem):
        raise OtherDirectory("only files of lockfiles get another name there")
    return await directory.link(item, name)


async def moved(
    directory: InodeDirectory, name: bytes, to: Directory, to_name: bytes, flags: int
) -> None:
    """rename(2). Raises OtherDirectory, and what `InodeDirectory.move` does."""
    if not isinstance(to, InodeDirectory):
        raise OtherDirectory("files of lockfiles move within it; mv copies them to elsewhere")
    await directory.move(name, to, to_name, flags)


Guard = Callable[[Caller, bytes, ClufsError], Exception]


async def guarded(work: Coroutine[Any, Any, Any], caller: Caller, path: bytes, fail: Guard) -> Any:
    """What `work` returns; its ClufsError as the kernel is told of it."""
    try:
        return await work
    except ClufsError as error:
        raise fail(caller, path, error) from None
