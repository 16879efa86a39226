"""The file system: pyfuse3's operations on the tree, and the one place where errors become errnos."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Sequence
from typing import Any

from clufs.errors import ClufsError, NameExists, NotPermitted
from clufs.fuse import editing, lockfiles, lowlevel
from clufs.fuse.answering import Later, answering
from clufs.fuse.data_handle import DataHandle
from clufs.fuse.editing import EditHandle
from clufs.fuse.ephemeral import Ephemerals
from clufs.fuse.flocks import Flocks
from clufs.fuse.getlk import Questions
from clufs.fuse.handles import EventsHandle, FileHandle, Storing
from clufs.fuse.lock_handle import LockHandle
from clufs.fuse.lock_service import LockService
from clufs.fuse.lockfiles import InodeHandle, guarded
from clufs.fuse.lowlevel import BLOCKING, FLOCK, GETLK, NOFLUSH, Request
from clufs.fuse.naming import Handle, Names, caller_of, dispatched
from clufs.fuse.range_locks import RangeLocks
from clufs.fuse.resource_handles import MaintenanceHandle, SpokenHandle
from clufs.fuse.sides import RangedFile
from clufs.fuse.xattrs import PREFIX, Xattrs
from clufs.limits import NAMESPACE_MAX_BYTES
from clufs.tree.events_file import EventsFile
from clufs.tree.files import EditableFile, FilesDirectory
from clufs.tree.items import Caller, Directory, File, Item, Link
from clufs.tree.lock_tree import LockFile
from clufs.tree.lockfiles import (
    InodeDirectory,
    InodeFile,
    InodeItem,
    Listed,
    attributes_of,
    ephemeral_of,
)
from clufs.tree.luns import LunData
from clufs.tree.member import Journals
from clufs.tree.names import shown
from clufs.tree.resource import MaintenanceFile, SpokenFile

import pyfuse3  # isort: skip  (lowlevel comes first)

_FH_MASK = (1 << 56) - 1
_BLOCK_BYTES = 4096
Listing = Sequence[tuple[bytes, Item | Listed]]
EPHEMERAL = PREFIX + b"ephemeral"
"""What is made in a directory with this attribute ends with its makers."""


class Operations(Names):
    """Handlers answer without waiting, or return a coroutine where another member or the registry
    must be asked; writes come by `write_now`, past pyfuse3."""

    def __init__(self, root: Directory, service: LockService, journals: Journals) -> None:
        super().__init__(root, journals)
        self.service = service
        self.storing = Storing(journals, service.parked)
        self.xattrs = Xattrs(service)
        self.flocks = Flocks(service)
        self.ephemerals: Ephemerals
        self.ranges = RangeLocks(service)
        self.getlk = Questions(service, self.ranges)
        self._next_fh = 1
        self._listings: dict[int, Listing] = {}
        self._directories: dict[int, Directory] = {}

    # ---------------------------------------------------------- open files

    def _opened(self, handle: Handle, node: int) -> pyfuse3.FileInfo:
        fh = self._next_fh
        self._next_fh = fh + 1
        self.handles[fh] = handle
        if node in self._by_node:
            self._shared_nodes.add(node)
        self._by_node[node] = handle
        if not handle.wants_flush:
            fh |= NOFLUSH
        if isinstance(handle, SpokenHandle):
            fh |= BLOCKING
        return pyfuse3.FileInfo(fh=fh, direct_io=True, keep_cache=False)

    def _open(self, item: Item, node: int, flags: int, caller: Caller) -> Handle:
        access = flags & os.O_ACCMODE
        if isinstance(item, LockFile):
            return self._lock_handle(item, node, access, created=False)
        if isinstance(item, EditableFile):
            return EditHandle(item, node, flags, self.journals.refusals)
        if isinstance(item, LunData):
            return DataHandle(item, node, self.storing)
        if isinstance(item, EventsFile):
            return EventsHandle(item, node, self.storing)
        if isinstance(item, SpokenFile) and access == os.O_RDWR:
            return SpokenHandle(item, node, flags, caller, self.storing)
        if isinstance(item, MaintenanceFile) and access == os.O_RDWR:
            return MaintenanceHandle(item, node, caller, self.storing)
        if isinstance(item, File):
            return FileHandle(item, node, caller, access != os.O_WRONLY, self.storing)
        raise pyfuse3.FUSEError(errno.EISDIR)

    def _lock_handle(self, file: LockFile, node: int, access: int, created: bool) -> LockHandle:
        """A close of a descriptor that only writes is told where it may end fcntl(2) locks: while a write
        waits it would wait, too, and nobody writes and locks by fcntl(2) through one."""
        handle = LockHandle(self.service, file, node, access == os.O_RDWR, created)
        handle.wants_flush = access != os.O_WRONLY or handle.range_key in self.ranges
        return handle

    @answering
    def open(self, inode: Any, flags: Any, ctx: pyfuse3.RequestContext) -> Later[pyfuse3.FileInfo]:
        item = self._item(inode)
        caller = caller_of(ctx)
        if isinstance(item, InodeItem):
            return self._open_inode(item, inode, flags, caller)
        if item.elsewhere and isinstance(item, File):
            return self._open_elsewhere(item, inode, flags, caller)
        try:
            return self._opened(self._open(item, inode, flags, caller), inode)
        except ClufsError as error:
            raise self._fail(caller, item.path, error) from None

    async def _open_inode(
        self, item: InodeItem, node: int, flags: int, caller: Caller
    ) -> pyfuse3.FileInfo:
        opened = lockfiles.opened(item, flags)
        file = await guarded(opened, caller, item.path, self._fail)
        return self._opened(InodeHandle(file, node, flags, self.journals.refusals), node)

    async def _create_inode(
        self, directory: InodeDirectory, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        created = lockfiles.created(directory, name, mode, flags, caller, self.ephemerals)
        file: InodeFile = await guarded(created, caller, directory.path + b"/" + name, self._fail)
        entry = self._entry(file, caller)
        handle = InodeHandle(file, entry.st_ino, flags, self.journals.refusals)
        return self._opened(handle, entry.st_ino), entry

    async def _open_elsewhere(
        self, item: File, inode: int, flags: int, caller: Caller
    ) -> pyfuse3.FileInfo:
        """A report that another member makes."""
        handle = FileHandle(item, inode, caller, False, self.storing)
        try:
            if flags & os.O_ACCMODE != os.O_WRONLY:
                handle.snapshot = await item.ask_show(caller)
        except ClufsError as error:
            raise self._fail(caller, item.path, error) from None
        return self._opened(handle, inode)

    @answering
    def create(
        self, parent_inode: Any, name: Any, mode: Any, flags: Any, ctx: pyfuse3.RequestContext
    ) -> Later[tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]]:
        """Only O_EXCL has to know whether the name exists elsewhere."""
        directory = self._directory(parent_inode)
        caller = caller_of(ctx)
        if isinstance(directory, FilesDirectory):
            mode = stat_bits.S_IMODE(mode) & ~ctx.umask
            return self._create_file(directory, name, mode, flags, caller)
        if isinstance(directory, InodeDirectory):
            mode = stat_bits.S_IMODE(mode) & ~ctx.umask
            return self._create_inode(directory, name, mode, flags, caller)
        if flags & os.O_EXCL:
            return self._create_new(directory, name, flags, caller)
        return self._create(directory, name, flags, caller)

    async def _create_new(
        self, directory: Directory, name: bytes, flags: int, caller: Caller
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        try:
            if await directory.exists(name):
                raise NameExists(f"'{shown(name)}' is there already")
        except ClufsError as error:
            raise self._fail(caller, directory.path + b"/" + name, error) from None
        return self._create(directory, name, flags, caller)

    def _create(
        self, directory: Directory, name: bytes, flags: int, caller: Caller
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        try:
            item = directory.create(name, caller)
        except ClufsError as error:
            raise self._fail(caller, directory.path + b"/" + name, error) from None
        assert isinstance(item, LockFile)
        entry = self._entry(item, caller)
        handle = self._lock_handle(item, entry.st_ino, flags & os.O_ACCMODE, created=True)
        return self._opened(handle, entry.st_ino), entry

    async def _create_file(
        self, directory: FilesDirectory, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        try:
            item = await editing.made(directory, name, mode, bool(flags & os.O_EXCL), caller)
        except ClufsError as error:
            raise self._fail(caller, directory.path + b"/" + name, error) from None
        handle = EditHandle(item, item.number, flags, self.journals.refusals)
        entry = self._entry(item, caller)
        return self._opened(handle, entry.st_ino), entry

    @answering
    def read(self, fh: Any, off: int, size: int) -> Later[bytes]:
        handle = self.handles[fh & _FH_MASK]
        if handle.must_ask(off):
            return self._read_elsewhere(handle, off, size, dispatched())
        try:
            return handle.read(off, size)
        except ClufsError as error:
            raise self._fail(dispatched(), handle.file.path, error) from None

    async def _read_elsewhere(self, handle: Handle, off: int, size: int, caller: Caller) -> bytes:
        try:
            return await handle.ask(off, size)
        except ClufsError as error:
            raise self._fail(caller, handle.file.path, error) from None

    def write_now(self, request: Request, fh: int, data: bytes) -> int | None:
        """A write, straight from the extension: bytes taken, -errno, or None when it waits."""
        return self.handles[fh & _FH_MASK].write(request, data)

    def lock_handles(self) -> list[LockHandle]:
        """The opens by which locks are held and awaited."""
        opened = self.handles.values()
        handles = [one.locks if isinstance(one, InodeHandle) else one for one in opened]
        return [one for one in handles if isinstance(one, LockHandle)]

    def lock_now(
        self,
        request: Request,
        op: int,
        node: int,
        fh: int,
        lock_owner: int,
        kind: int,
        start: int,
        end: int,
        pid: int,
        sleep: bool,
    ) -> int | None:
        """flock(2) or fcntl(2), straight from the extension: 0, -errno, or None when it waits."""
        handle = self.handles.get(fh & _FH_MASK)
        if isinstance(handle, InodeHandle):
            handle = handle.lock_handle(self.service)
        if not isinstance(handle, LockHandle):
            return -errno.ENOLCK
        if op == FLOCK:
            return self.flocks.lock(handle, request, kind, sleep)
        file = RangedFile(handle.file, handle.range_key, handle.key)
        if op == GETLK:
            return self.getlk.ask(file, request, lock_owner, kind, start, end)
        opened = fh & _FH_MASK, handle.node
        return self.ranges.lock(file, opened, request, lock_owner, kind, start, end, sleep)

    def read_now(self, request: Request, fh: int, offset: int, size: int) -> bytes | int | None:
        """A read that may wait, straight from the extension: bytes, -errno, or None when it does."""
        handle = self.handles[fh & _FH_MASK]
        assert isinstance(handle, SpokenHandle)
        return handle.read_now(request, offset, size)

    @answering
    def flush(self, fh: Any) -> Later[None]:
        handle = self.handles[fh & _FH_MASK]
        if isinstance(handle, EditHandle):
            return self._commit(handle.file, dispatched())
        handle.flush(lowlevel.caller()[0])
        if self.ranges and isinstance(handle, LockHandle | InodeHandle):
            self.ranges.closed(handle.range_key, lowlevel.current_lock_owner())
        return None

    @answering
    def fsync(self, fh: Any, datasync: bool) -> Later[None]:
        handle = self.handles[fh & _FH_MASK]
        if isinstance(handle, EditHandle) and handle.file.saved_early:
            return self._commit(handle.file, dispatched())
        return None

    async def _commit(self, file: EditableFile, caller: Caller) -> None:
        """A close, or what comes before it: the text is on disk at a quorum, or it fails."""
        try:
            await file.commit()
        except ClufsError as error:
            raise self._fail(caller, file.path, error) from None

    @answering
    def release(self, fh: Any) -> None:
        handle = self.handles.pop(fh & _FH_MASK)
        self.ranges.last_closed(fh & _FH_MASK)
        node = handle.node
        if self._by_node.get(node) is handle:
            del self._by_node[node]
            if not self._shared_nodes or node not in self._shared_nodes:
                # The kernel still has this inode: one look-up may have it again, and so
                # revalidates instead of looking up twice.
                handle.file.idle_node = node
        handle.release()

    @answering
    def poll(self, inode: Any, fh: Any, poll_handle: pyfuse3.PollHandle | None, ctx: Any) -> int:
        return self.handles[fh & _FH_MASK].poll(poll_handle)

    # --------------------------------------------------------- directories

    @answering
    def opendir(self, inode: Any, ctx: pyfuse3.RequestContext) -> Any:
        fh = self._next_fh
        self._next_fh = fh + 1
        self._directories[fh] = self._directory(inode)
        return fh

    @answering
    def readdir(self, fh: Any, start_id: int, token: pyfuse3.ReaddirToken) -> Later[None]:
        directory = self._directories[fh]
        if start_id == 0 or fh not in self._listings:
            if directory.shared:
                return self._list_elsewhere(fh, directory, start_id, token, dispatched())
            self._listings[fh] = _listing(directory)
        self._list(fh, start_id, token)
        return None

    async def _list_elsewhere(
        self,
        fh: int,
        directory: Directory,
        start_id: int,
        token: pyfuse3.ReaddirToken,
        caller: Caller,
    ) -> None:
        try:
            if isinstance(directory, InodeDirectory):
                listing: Listing = await directory.ask_listed()
            else:
                listing = list(await directory.ask_names())
        except ClufsError as error:
            raise self._fail(caller, directory.path, error) from None
        self._forget_listing(fh)
        self._listings[fh] = listing
        self._list(fh, start_id, token)

    def _list(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._listings[fh]
        entry = pyfuse3.EntryAttributes()
        for index in range(start_id, len(listing)):
            name, item = listing[index]
            entry.st_ino = item.number
            entry.st_mode = item.mode if isinstance(item, Listed) else _type_of(item)
            if not pyfuse3.readdir_reply(token, name, entry, index + 1):
                return

    @answering
    def releasedir(self, fh: Any) -> None:
        directory = self._directories.pop(fh, None)
        if directory is not None and directory.shared:
            self._forget_listing(fh)
        self._listings.pop(fh, None)

    def _forget_listing(self, fh: int) -> None:
        """Items that were made only to be listed go again."""
        for _, item in self._listings.pop(fh, ()):
            if isinstance(item, Item) and not item.lookups:
                item.forgotten()

    @answering
    def fsyncdir(self, fh: Any, datasync: bool) -> None:
        return None

    @answering
    def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = _BLOCK_BYTES
        data.f_files = len(self.items)
        data.f_namemax = NAMESPACE_MAX_BYTES
        return data

    @answering
    def access(self, inode: Any, mode: Any, ctx: pyfuse3.RequestContext) -> bool:
        return True

    # ------------------------------------------------- extended attributes

    @answering
    def getxattr(self, inode: Any, name: Any, ctx: pyfuse3.RequestContext) -> Later[bytes]:
        if not name.startswith(PREFIX):  # the kernel looks for capabilities before each O_TRUNC
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        item = self._item(inode)
        caller = caller_of(ctx)
        if isinstance(item, InodeItem):
            return _attribute(attributes_of(item).get(name[len(PREFIX) :]))
        if self.xattrs.must_ask(item, name):
            return self._ask_xattr(item, name, caller)
        return _attribute(self.xattrs.get(item, self._by_node.get(inode), caller, name))

    async def _ask_xattr(self, item: Item, name: bytes, caller: Caller) -> bytes:
        try:
            return _attribute(await self.xattrs.ask(item, name))
        except ClufsError as error:
            raise self._fail(caller, item.path, error) from None

    @answering
    def listxattr(self, inode: Any, ctx: pyfuse3.RequestContext) -> Any:
        item = self._item(inode)
        if isinstance(item, InodeItem):
            return [PREFIX + name for name in attributes_of(item)]
        return self.xattrs.names(item, self._by_node.get(inode), caller_of(ctx))

    @answering
    def setxattr(
        self, inode: Any, name: Any, value: bytes, ctx: pyfuse3.RequestContext
    ) -> Later[None]:
        item = self._item(inode)
        if isinstance(item, InodeDirectory) and name == EPHEMERAL:
            return self._make_ephemeral(item, value, caller_of(ctx))
        if isinstance(item, EditableFile | InodeItem):  # cp -p tries; that it cannot is no failure
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        raise self._not_written(inode, ctx)

    @answering
    def removexattr(self, inode: Any, name: Any, ctx: pyfuse3.RequestContext) -> Later[None]:
        item = self._item(inode)
        if isinstance(item, InodeDirectory) and name == EPHEMERAL:
            return self._make_ephemeral(item, b"0", caller_of(ctx))
        raise self._not_written(inode, ctx)

    async def _make_ephemeral(self, item: InodeDirectory, value: bytes, caller: Caller) -> None:
        async def alter() -> None:
            await item.alter(ephemeral=ephemeral_of(value))

        await guarded(alter(), caller, item.path, self._fail)

    def _not_written(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FUSEError:
        error = NotPermitted("attributes are read, not written; write to the file itself")
        return self._fail(caller_of(ctx), self._item(inode).path, error)


def _listing(directory: Directory) -> Listing:
    if isinstance(directory, InodeDirectory):
        return list(directory.listed())
    return list(directory.names())


def _attribute(value: bytes | None) -> bytes:
    if value is None:
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
    return value


def _type_of(item: Item) -> int:
    if isinstance(item, Directory):
        return stat_bits.S_IFDIR
    return stat_bits.S_IFLNK if isinstance(item, Link) else stat_bits.S_IFREG
