"""The file system: pyfuse3's operations on the tree, and the one place where errors become errnos."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections.abc import Sequence
from typing import Any

from clufs.errors import ClufsError, InvalidRequest, NameExists, NameTooLong, NotPermitted
from clufs.fuse import lowlevel
from clufs.fuse.answering import answering
from clufs.fuse.handles import EventsHandle, FileHandle
from clufs.fuse.lock_handle import LockHandle
from clufs.fuse.lock_service import LockService
from clufs.fuse.lowlevel import NOFLUSH, Request
from clufs.fuse.xattrs import PREFIX, Xattrs
from clufs.limits import NAMESPACE_MAX_BYTES
from clufs.tree.events_file import EventsFile
from clufs.tree.items import (
    FIRST_NUMBER,
    NUMBER_MAX,
    Attributes,
    Caller,
    Directory,
    File,
    Item,
    Link,
    next_number,
)
from clufs.tree.lock_tree import LockFile
from clufs.tree.member import Journals
from clufs.tree.names import shown

import pyfuse3  # isort: skip  (lowlevel comes first)

NUMBER_MASK = NUMBER_MAX
_SERIAL_STEP = 1 << 32
_SERIAL_MASK = 0x7FFFFFFF00000000
_FH_MASK = (1 << 56) - 1
_LASTING_S = 3600.0
_BLOCK_BYTES = 4096
_Handle = LockHandle | FileHandle | EventsHandle
_SIZED = (FileHandle, EventsHandle)  # what an open shows has its own size


def _caller(ctx: pyfuse3.RequestContext) -> Caller:
    return Caller(ctx.pid, ctx.uid, ctx.gid)


class Operations(pyfuse3.Operations):
    """All handlers answer without waiting; writes come by `write_now`, past pyfuse3."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, root: Directory, service: LockService, journals: Journals) -> None:
        super().__init__()
        assert root.number == FIRST_NUMBER == pyfuse3.ROOT_INODE
        root.lookups = 1
        self.items: dict[int, Item] = {root.number: root}
        self.handles: dict[int, _Handle] = {}
        self.service = service
        self.journals = journals
        self.xattrs = Xattrs(service, service.node)
        self._serial = 0
        self._next_fh = 1
        self._by_node: dict[int, _Handle] = {}
        self._shared_nodes: set[int] = set()
        self._listings: dict[int, list[tuple[bytes, Item]]] = {}
        self._directories: dict[int, Directory] = {}

    # ------------------------------------------------------------- errors

    def _fail(self, caller: Caller, path: bytes, error: ClufsError) -> pyfuse3.FUSEError:
        self.journals.refusals.add(caller.uid, caller.pid, path, error)
        return pyfuse3.FUSEError(error.errno)

    # ------------------------------------------------------ names to items

    def _directory(self, node: int) -> Directory:
        item = self.items.get(node & NUMBER_MASK)
        if isinstance(item, Directory):
            return item
        raise pyfuse3.FUSEError(errno.ESTALE if item is None else errno.ENOTDIR)

    def _item(self, node: int) -> Item:
        item = self.items.get(node & NUMBER_MASK)
        if item is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return item

    def _entry(self, item: Item, caller: Caller) -> pyfuse3.EntryAttributes:
        """The answer to a look-up; the kernel holds the item once more."""
        attributes = item.attributes(caller)
        if not item.lookups:
            while self.items.setdefault(item.number, item) is not item:
                item.number = next_number()
        node = item.number
        if item.fresh:
            node, item.idle_node = item.idle_node, 0
            if not node:
                node = self._fresh_node(item)
        item.lookups += 1
        entry = _entry_attributes(node, attributes)
        if item.lasting:
            entry.entry_timeout = entry.attr_timeout = _LASTING_S
        return entry

    def _fresh_node(self, item: Item) -> int:
        """A node id that no open file has: each open gets a kernel inode, and its lock, for itself.

        A write that waits holds that inode's lock; the holder's `echo UN` must not need it.
        """
        while True:
            self._serial = (self._serial + _SERIAL_STEP) & _SERIAL_MASK
            node = item.number | self._serial
            if node not in self._by_node:
                return node

    @answering
    def lookup(
        self, parent_inode: Any, name: Any, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if len(name) > NAMESPACE_MAX_BYTES:
            raise self._too_long(parent_inode, name, ctx)
        item = self._directory(parent_inode).find(name)
        if item is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        try:
            return self._entry(item, _caller(ctx))
        except ClufsError as error:
            raise pyfuse3.FUSEError(error.errno) from None

    def _too_long(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.FUSEError:
        path = self._directory(parent_inode).path + b"/" + name
        limit = f"a name has at most {NAMESPACE_MAX_BYTES} bytes, this one {len(name)}"
        return self._fail(_caller(ctx), path, NameTooLong(limit))

    @answering
    def forget(self, inode_list: Sequence[tuple[Any, int]]) -> None:
        items = self.items
        for node, count in inode_list:
            item = items.get(node & NUMBER_MASK)
            if item is None:
                continue
            item.lookups -= count
            if item.lookups <= 0 and item.number != FIRST_NUMBER:
                item.lookups = 0
                del items[item.number]
                item.idle_node = 0
                item.forgotten()
                if self._shared_nodes:
                    gone = item.number
                    self._shared_nodes = {n for n in self._shared_nodes if n & NUMBER_MASK != gone}

    @answering
    def getattr(self, inode: Any, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._getattr(inode, ctx)

    def _getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        caller = _caller(ctx)
        item = self._item(inode)
        handle = self._by_node.get(inode)
        try:
            attributes = item.attributes(caller)
        except ClufsError as error:
            if handle is None:
                raise pyfuse3.FUSEError(error.errno) from None
            attributes = Attributes(stat_bits.S_IFREG | 0o444)
        if isinstance(handle, _SIZED):
            attributes = attributes._replace(size=handle.size)
        entry = _entry_attributes(inode, attributes)
        if item.lasting:
            entry.attr_timeout = _LASTING_S
        return entry

    @answering
    def setattr(
        self,
        inode: Any,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: Any,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        item = self._item(inode)
        caller = _caller(ctx)
        try:
            if fields.update_mode or fields.update_uid or fields.update_gid:
                self._change(item, attr, fields, caller)
            elif fields.update_size:
                if attr.st_size != 0 or isinstance(item, Directory):
                    raise InvalidRequest("no file here can be given a size")
            elif not isinstance(item, File):
                raise NotPermitted("times are kept by clufs: the last value write")
        except ClufsError as error:
            raise self._fail(caller, item.path, error) from None
        return self._getattr(inode, ctx)

    def _change(
        self,
        item: Item,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        caller: Caller,
    ) -> None:
        if not isinstance(item, Directory):
            raise NotPermitted(f"owner and mode of /{shown(item.path)} are its directory's")
        item.change(
            stat_bits.S_IMODE(attr.st_mode) if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            caller,
        )

    @answering
    def readlink(self, inode: Any, ctx: pyfuse3.RequestContext) -> Any:
        item = self._item(inode)
        if not isinstance(item, Link):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return item.target

    # ------------------------------------------------ directories' changes

    @answering
    def mkdir(
        self, parent_inode: Any, name: Any, mode: Any, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        directory = self._directory(parent_inode)
        caller = _caller(ctx)
        try:
            item = directory.mkdir(name, stat_bits.S_IMODE(mode) & ~ctx.umask, caller)
            return self._entry(item, caller)
        except ClufsError as error:
            raise self._fail(caller, directory.path + b"/" + name, error) from None

    @answering
    def rmdir(self, parent_inode: Any, name: Any, ctx: pyfuse3.RequestContext) -> None:
        directory = self._directory(parent_inode)
        try:
            directory.rmdir(name, _caller(ctx))
        except ClufsError as error:
            raise self._fail(_caller(ctx), directory.path + b"/" + name, error) from None

    @answering
    def unlink(self, parent_inode: Any, name: Any, ctx: pyfuse3.RequestContext) -> None:
        directory = self._directory(parent_inode)
        try:
            directory.unlink(name, _caller(ctx))
        except ClufsError as error:
            raise self._fail(_caller(ctx), directory.path + b"/" + name, error) from None

    def _not_made(self, parent_inode: int, name: bytes, what: str, ctx: Any) -> pyfuse3.FUSEError:
        path = self._directory(parent_inode).path + b"/" + name
        error = NotPermitted(f"{what} are not made here: lock files are names, not data")
        return self._fail(_caller(ctx), path, error)

    @answering
    def mknod(
        self, parent_inode: Any, name: Any, mode: Any, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise self._not_made(parent_inode, name, "device nodes, pipes and sockets", ctx)

    @answering
    def symlink(
        self, parent_inode: Any, name: Any, target: Any, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise self._not_made(parent_inode, name, "symbolic links", ctx)

    @answering
    def link(
        self, inode: Any, new_parent_inode: Any, new_name: Any, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise self._not_made(new_parent_inode, new_name, "hard links", ctx)

    @answering
    def rename(
        self,
        parent_inode_old: Any,
        name_old: Any,
        parent_inode_new: Any,
        name_new: Any,
        flags: Any,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        path = self._directory(parent_inode_old).path + b"/" + name_old
        error = NotPermitted("names here cannot change: locks are held by name")
        raise self._fail(_caller(ctx), path, error)

    # ---------------------------------------------------------- open files

    def _opened(self, handle: _Handle, node: int) -> pyfuse3.FileInfo:
        fh = self._next_fh
        self._next_fh = fh + 1
        self.handles[fh] = handle
        if node in self._by_node:
            self._shared_nodes.add(node)
        self._by_node[node] = handle
        if handle.owner is None:
            fh |= NOFLUSH
        return pyfuse3.FileInfo(fh=fh, direct_io=True, keep_cache=False)

    def _open(self, item: Item, node: int, flags: int, caller: Caller) -> _Handle:
        access = flags & os.O_ACCMODE
        if isinstance(item, LockFile):
            return LockHandle(self.service, item, node, access == os.O_RDWR, created=False)
        if isinstance(item, EventsFile):
            return EventsHandle(item, node, self.journals)
        if isinstance(item, File):
            return FileHandle(item, node, caller, access != os.O_WRONLY, self.journals)
        raise pyfuse3.FUSEError(errno.EISDIR)

    @answering
    def open(self, inode: Any, flags: Any, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        item = self._item(inode)
        try:
            return self._opened(self._open(item, inode, flags, _caller(ctx)), inode)
        except ClufsError as error:
            raise self._fail(_caller(ctx), item.path, error) from None

    @answering
    def create(
        self, parent_inode: Any, name: Any, mode: Any, flags: Any, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        directory = self._directory(parent_inode)
        caller = _caller(ctx)
        try:
            if flags & os.O_EXCL and directory.find(name) is not None:
                raise NameExists(f"'{shown(name)}' is there already")
            item = directory.create(name, caller)
        except ClufsError as error:
            raise self._fail(caller, directory.path + b"/" + name, error) from None
        assert isinstance(item, LockFile)
        entry = self._entry(item, caller)
        read_write = flags & os.O_ACCMODE == os.O_RDWR
        handle = LockHandle(self.service, item, entry.st_ino, read_write, created=True)
        return self._opened(handle, entry.st_ino), entry

    @answering
    def read(self, fh: Any, off: int, size: int) -> bytes:
        handle = self.handles[fh & _FH_MASK]
        try:
            return handle.read(off, size)
        except ClufsError as error:
            pid, uid, gid, _ = lowlevel.caller()
            raise self._fail(Caller(pid, uid, gid), handle.file.path, error) from None

    def write_now(self, request: Request, fh: int, data: bytes) -> int | None:
        """A write, straight from the extension: bytes taken, -errno, or None when it waits."""
        return self.handles[fh & _FH_MASK].write(request, data)

    @answering
    def flush(self, fh: Any) -> None:
        pid = lowlevel.caller()[0]
        self.handles[fh & _FH_MASK].flush(pid)

    @answering
    def fsync(self, fh: Any, datasync: bool) -> None:
        return None

    @answering
    def release(self, fh: Any) -> None:
        handle = self.handles.pop(fh & _FH_MASK)
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
    def readdir(self, fh: Any, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        if start_id == 0 or fh not in self._listings:
            self._listings[fh] = list(self._directories[fh].names())
        listing = self._listings[fh]
        entry = pyfuse3.EntryAttributes()
        for index in range(start_id, len(listing)):
            name, item = listing[index]
            entry.st_ino = item.number
            entry.st_mode = _type_of(item)
            if not pyfuse3.readdir_reply(token, name, entry, index + 1):
                return

    @answering
    def releasedir(self, fh: Any) -> None:
        self._directories.pop(fh, None)
        self._listings.pop(fh, None)

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
    def getxattr(self, inode: Any, name: Any, ctx: pyfuse3.RequestContext) -> bytes:
        if not name.startswith(PREFIX):  # the kernel looks for capabilities before each O_TRUNC
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        item = self._item(inode)
        handle = self._by_node.get(inode)
        value = self.xattrs.get(item, handle, _caller(ctx), name)
        if value is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return value

    @answering
    def listxattr(self, inode: Any, ctx: pyfuse3.RequestContext) -> Any:
        item = self._item(inode)
        return self.xattrs.names(item, self._by_node.get(inode), _caller(ctx))

    @answering
    def setxattr(self, inode: Any, name: Any, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        raise self._not_written(inode, ctx)

    @answering
    def removexattr(self, inode: Any, name: Any, ctx: pyfuse3.RequestContext) -> None:
        raise self._not_written(inode, ctx)

    def _not_written(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FUSEError:
        error = NotPermitted("attributes are read, not written; write to the file itself")
        return self._fail(_caller(ctx), self._item(inode).path, error)


def _type_of(item: Item) -> int:
    if isinstance(item, Directory):
        return stat_bits.S_IFDIR
    return stat_bits.S_IFLNK if isinstance(item, Link) else stat_bits.S_IFREG


def _entry_attributes(node: int, attributes: Attributes) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = node
    entry.st_mode = attributes.mode
    entry.st_nlink = attributes.nlink
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_size = attributes.size
    if attributes.mtime_ns:
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attributes.mtime_ns
    entry.entry_timeout = entry.attr_timeout = 0
    return entry
