"""Opens of ordinary files, and what changes their names: the edge of `tree.files`."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from clufs.errors import ClufsError, NoSuchName, OtherDirectory
from clufs.fuse import loop, lowlevel
from clufs.fuse.lock_handle import READABLE, WRITABLE, PollHandle
from clufs.tree.files import EditableFile, FilesDirectory
from clufs.tree.items import Caller, Item
from clufs.tree.names import shown

if TYPE_CHECKING:
    from clufs.fuse.lowlevel import Request
    from clufs.tree.journals import Refusals

log = logging.getLogger("clufsd")

RENAME_NOREPLACE = 1


class EditHandle:
    """An open ordinary file."""

    __slots__ = ("append", "file", "node", "refusals", "writes")

    def __init__(self, file: EditableFile, node: int, flags: int, refusals: Refusals) -> None:
        self.file = file
        self.node = node
        self.writes = flags & os.O_ACCMODE != os.O_RDONLY
        self.append = bool(flags & os.O_APPEND)
        self.refusals = refusals
        if self.writes:
            file.opened()
            if flags & os.O_TRUNC and file.attributes(Caller(0, 0, 0)).size:
                file.truncate(0)

    @property
    def wants_flush(self) -> bool:
        """Whether a close has something to say."""
        return self.writes

    def must_ask(self, offset: int) -> bool:
        """Every member has the file."""
        return False

    async def ask(self, offset: int, size: int) -> bytes:
        """Nobody is asked."""
        return self.read(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """A part of the file."""
        return self.file.read(offset, size, self.writes)

    def write(self, request: Request, data: bytes) -> int | None:
        """Put bytes where the caller's offset is."""
        try:
            self.file.write(None if self.append else lowlevel.current_offset(), data)
        except ClufsError as error:
            self.refusals.add(request.uid, request.pid, self.file.path, error)
            return -error.errno
        return len(data)

    def poll(self, poll_handle: PollHandle | None) -> int:
        """It can be read and written at any time."""
        return READABLE | WRITABLE

    def flush(self, tid: int) -> None:
        """`commit` does it."""

    def release(self) -> None:
        """The last close."""
        if not self.writes:
            return
        self.file.writers -= 1
        if not self.file.writers and self.file.draft is not None:
            loop.spawn(self._finish)

    async def _finish(self) -> None:
        """Nobody waits for it any more."""
        try:
            await self.file.finish()
        except ClufsError as error:
            log.warning("/%s: %s", shown(self.file.path), error)


async def move(
    directory: FilesDirectory, name: bytes, new_directory: Item, to: bytes, flags: int
) -> None:
    """rename(2). Raises OtherDirectory between two, and what `FilesDirectory.move` does."""
    if new_directory is not directory:
        raise OtherDirectory("files move within their directory; mv copies them into another")
    if flags & ~RENAME_NOREPLACE:
        raise OtherDirectory("two names are not exchanged here")
    await directory.move(name, to, bool(flags & RENAME_NOREPLACE))


async def made(
    directory: FilesDirectory, name: bytes, mode: int, exclusive: bool, caller: Caller
) -> EditableFile:
    """The file of an open with O_CREAT, new or, unless `exclusive`, there already."""
    item = directory.find(name)
    if item is None or exclusive:
        return await directory.make(name, mode, caller)
    if not isinstance(item, EditableFile):
        raise NoSuchName(f"'{shown(name)}' is no file")
    return item
