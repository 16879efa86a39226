"""Names and attributes: the first half of pyfuse3's operations, and what both halves share."""

from __future__ import annotations

import errno
import stat as stat_bits
from collections.abc import Coroutine, Sequence
from typing import Any

from clufs.errors import ClufsError, InvalidRequest, NameTooLong, NotPermitted
from clufs.fuse import editing, lockfiles, lowlevel
from clufs.fuse.answering import Later, answering
from clufs.fuse.data_handle import DataHandle
from clufs.fuse.editing import EditHandle
from clufs.fuse.handles import EventsHandle, FileHandle
from clufs.fuse.lock_handle import LockHandle
from clufs.fuse.lockfiles import InodeHandle, guarded
from clufs.limits import NAMESPACE_MAX_BYTES
from clufs.tree.files import EditableFile, FilesDirectory
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
from clufs.tree.lockfiles import InodeDirectory, InodeItem, InodeLink
from clufs.tree.member import Journals
from clufs.tree.names import shown

import pyfuse3  # isort: skip  (lowlevel comes first)

NUMBER_MASK = NUMBER_MAX
_SERIAL_STEP = 1 << 32
_SERIAL_MASK = 0x7FFFFFFF00000000
_LASTING_S = 3600.0
Handle = LockHandle | FileHandle | EventsHandle | EditHandle | DataHandle | InodeHandle
_SIZED = (FileHandle, EventsHandle)  # what an open shows has its own size


def caller_of(ctx: pyfuse3.RequestContext) -> Caller:
    """The process behind a request."""
    return Caller(ctx.pid, ctx.uid, ctx.gid)


def dispatched() -> Caller:
    """The caller of the request being dispatched: right before the handler waits for anything."""
    pid, uid, gid, _ = lowlevel.caller()
    return Caller(pid, uid, gid)


class Names(pyfuse3.Operations):
    """What the kernel holds by name and by node id, and the handlers that look names up and change
    them. items: by number; handles: the open files."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, root: Directory, journals: Journals) -> None:
        super().__init__()
        assert root.number == FIRST_NUMBER == pyfuse3.ROOT_INODE
        root.lookups = 1
        self.items: dict[int, Item] = {root.number: root}
        self.handles: dict[int, Handle] = {}
        self.journals = journals
        self._serial = 0
        self._by_node: dict[int, Handle] = {}
        self._shared_nodes: set[int] = set()

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
    ) -> Later[pyfuse3.EntryAttributes]:
        if len(name) > NAMESPACE_MAX_BYTES:
            raise self._too_long(parent_inode, name, ctx)
        directory = self._directory(parent_inode)
        item = directory.find(name)
        if item is None:
            if directory.shared:
                return self._seek(directory, name, caller_of(ctx))
            raise pyfuse3.FUSEError(errno.ENOENT)
        try:
            return self._entry(item, caller_of(ctx))
        except ClufsError as error:
            raise pyfuse3.FUSEError(error.errno) from None

    async def _seek(
        self, directory: Directory, name: bytes, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        """The kernel asks for the attributes again before it uses them: those known here will do."""
        try:
            item = await directory.seek(name, caller)
            if item is None:
                raise pyfuse3.FUSEError(errno.ENOENT)
            return self._entry(item, caller)
        except ClufsError as error:
            raise pyfuse3.FUSEError(error.errno) from None

    def _too_long(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.FUSEError:
        path = self._directory(parent_inode).path + b"/" + name
        limit = f"a name has at most {NAMESPACE_MAX_BYTES} bytes, this one {len(name)}"
        return self._fail(caller_of(ctx), path, NameTooLong(limit))

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
    def getattr(self, inode: Any, ctx: pyfuse3.RequestContext) -> Later[pyfuse3.EntryAttributes]:
        item = self._item(inode)
        if item.elsewhere:
            return self._ask_attributes(item, inode, caller_of(ctx))
        return self._getattr(item, inode, caller_of(ctx))

    async def _ask_attributes(
        self, item: Item, inode: int, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        try:
            attributes = await item.ask_attributes(caller)
        except ClufsError as error:
            if isinstance(item, InodeItem):
                raise pyfuse3.FUSEError(error.errno) from None
            return self._attributes(item, inode, self._nothing_known(inode, error))
        return self._attributes(item, inode, attributes)

    def _getattr(self, item: Item, inode: int, caller: Caller) -> pyfuse3.EntryAttributes:
        try:
            attributes = item.attributes(caller)
        except ClufsError as error:
            attributes = self._nothing_known(inode, error)
        return self._attributes(item, inode, attributes)

    def _nothing_known(self, inode: int, error: ClufsError) -> Attributes:
        """What an open file shows when what it was opened on is gone."""
        if inode not in self._by_node:
            raise pyfuse3.FUSEError(error.errno) from None
        return Attributes(stat_bits.S_IFREG | 0o444)

    def _attributes(
        self, item: Item, inode: int, attributes: Attributes
    ) -> pyfuse3.EntryAttributes:
        handle = self._by_node.get(inode)
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
    ) -> Later[pyfuse3.EntryAttributes]:
        item = self._item(inode)
        caller = caller_of(ctx)
        if isinstance(item, EditableFile):
            return self._edit(item, inode, attr, fields, caller)
        if isinstance(item, InodeItem):
            return self._alter(item, inode, attr, fields, caller)
        try:
            if fields.update_mode or fields.update_uid or fields.update_gid:
                if not isinstance(item, Directory):
                    path = shown(item.path)
                    raise NotPermitted(f"owner and mode of /{path} are its directory's")
                return self._change(item, inode, attr, fields, caller)
            if fields.update_size:
                if attr.st_size != 0 or isinstance(item, Directory):
                    raise InvalidRequest("no file here can be given a size")
            elif not isinstance(item, File):
                raise NotPermitted("times are kept by clufs: the last value write")
        except ClufsError as error:
            raise self._fail(caller, item.path, error) from None
        return self._getattr(item, inode, caller)

    async def _edit(
        self,
        item: EditableFile,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        caller: Caller,
    ) -> pyfuse3.EntryAttributes:
        """A size is the draft's; without anybody who writes one, it is a close at once."""
        try:
            if fields.update_size:
                item.truncate(attr.st_size)
                if not item.writers:
                    await item.commit()
                    await item.finish()
            await item.change(
                attr.st_mode if fields.update_mode else None,
                attr.st_uid if fields.update_uid else None,
                attr.st_gid if fields.update_gid else None,
                attr.st_mtime_ns if fields.update_mtime and not fields.update_size else None,
            )
        except ClufsError as error:
            raise self._fail(caller, item.path, error) from None
        return self._getattr(item, inode, caller)

    async def _alter(
        self,
        item: InodeItem,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        caller: Caller,
    ) -> pyfuse3.EntryAttributes:
        altered = item.alter(
            stat_bits.S_IMODE(attr.st_mode) if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_size if fields.update_size else None,
            attr.st_atime_ns if fields.update_atime else None,
            attr.st_mtime_ns if fields.update_mtime else None,
        )
        await guarded(altered, caller, item.path, self._fail)
        return self._getattr(item, inode, caller)

    async def _change(
        self,
        item: Directory,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        caller: Caller,
    ) -> pyfuse3.EntryAttributes:
        try:
            await item.change(
                stat_bits.S_IMODE(attr.st_mode) if fields.update_mode else None,
                attr.st_uid if fields.update_uid else None,
                attr.st_gid if fields.update_gid else None,
                caller,
            )
        except ClufsError as error:
            raise self._fail(caller, item.path, error) from None
        return self._getattr(item, inode, caller)

    @answering
    def readlink(self, inode: Any, ctx: pyfuse3.RequestContext) -> Any:
        item = self._item(inode)
        if not isinstance(item, Link | InodeLink):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return item.target

    # ------------------------------------------------ directories' changes

    @answering
    async def mkdir(
        self, parent_inode: Any, name: Any, mode: Any, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        directory = self._directory(parent_inode)
        caller = caller_of(ctx)
        try:
            item = await directory.mkdir(name, stat_bits.S_IMODE(mode) & ~ctx.umask, caller)
            return self._entry(item, caller)
        except ClufsError as error:
            raise self._fail(caller, directory.path + b"/" + name, error) from None

    @answering
    async def rmdir(self, parent_inode: Any, name: Any, ctx: pyfuse3.RequestContext) -> None:
        directory = self._directory(parent_inode)
        caller = caller_of(ctx)
        try:
            await directory.rmdir(name, caller)
        except ClufsError as error:
            raise self._fail(caller, directory.path + b"/" + name, error) from None

    @answering
    def unlink(self, parent_inode: Any, name: Any, ctx: pyfuse3.RequestContext) -> Later[None]:
        directory = self._directory(parent_inode)
        if isinstance(directory, FilesDirectory | InodeDirectory):
            return self._remove(directory, name, caller_of(ctx))
        try:
            directory.unlink(name, caller_of(ctx))
        except ClufsError as error:
            raise self._fail(caller_of(ctx), directory.path + b"/" + name, error) from None
        return None

    async def _remove(
        self, directory: FilesDirectory | InodeDirectory, name: bytes, caller: Caller
    ) -> None:
        path = directory.path + b"/" + name
        await guarded(directory.remove(name), caller, path, self._fail)

    async def _made(
        self, work: Coroutine[Any, Any, Item], directory: Directory, name: bytes, caller: Caller
    ) -> pyfuse3.EntryAttributes:
        path = directory.path + b"/" + name
        return self._entry(await guarded(work, caller, path, self._fail), caller)

    @answering
    def mknod(
        self, parent_inode: Any, name: Any, mode: Any, rdev: int, ctx: pyfuse3.RequestContext
    ) -> Later[pyfuse3.EntryAttributes]:
        directory, caller = self._directory(parent_inode), caller_of(ctx)
        permitted = mode & ~(ctx.umask & 0o777)
        work = lockfiles.node_made(directory, name, permitted, caller)
        return self._made(work, directory, name, caller)

    @answering
    def symlink(
        self, parent_inode: Any, name: Any, target: Any, ctx: pyfuse3.RequestContext
    ) -> Later[pyfuse3.EntryAttributes]:
        directory, caller = self._directory(parent_inode), caller_of(ctx)
        mode = stat_bits.S_IFLNK | 0o777
        work = lockfiles.node_made(directory, name, mode, caller, bytes(target))
        return self._made(work, directory, name, caller)

    @answering
    def link(
        self, inode: Any, new_parent_inode: Any, new_name: Any, ctx: pyfuse3.RequestContext
    ) -> Later[pyfuse3.EntryAttributes]:
        directory, caller = self._directory(new_parent_inode), caller_of(ctx)
        work = lockfiles.linked(self._item(inode), directory, new_name)
        return self._made(work, directory, new_name, caller)

    @answering
    def rename(
        self,
        parent_inode_old: Any,
        name_old: Any,
        parent_inode_new: Any,
        name_new: Any,
        flags: Any,
        ctx: pyfuse3.RequestContext,
    ) -> Later[None]:
        directory = self._directory(parent_inode_old)
        if isinstance(directory, FilesDirectory | InodeDirectory):
            to = self._directory(parent_inode_new), name_new
            return self._move(directory, name_old, *to, flags, caller_of(ctx))
        path = directory.path + b"/" + name_old
        error = NotPermitted("names here cannot change: locks are held by name")
        raise self._fail(caller_of(ctx), path, error)

    async def _move(
        self,
        directory: FilesDirectory | InodeDirectory,
        name: bytes,
        new_directory: Directory,
        to: bytes,
        flags: int,
        caller: Caller,
    ) -> None:
        if isinstance(directory, InodeDirectory):
            work = lockfiles.moved(directory, name, new_directory, to, flags)
        else:
            work = editing.move(directory, name, new_directory, to, flags)
        await guarded(work, caller, directory.path + b"/" + name, self._fail)


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
    if attributes.ctime_ns:
        entry.st_mtime_ns, entry.st_ctime_ns = attributes.mtime_ns, attributes.ctime_ns
        entry.st_atime_ns = attributes.atime_ns
        entry.st_blocks = attributes.blocks
    entry.entry_timeout = entry.attr_timeout = 0
    return entry
