"""Opens of the files that are not lock files."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from clufs.errors import ClufsError, InvalidRequest
from clufs.fuse import loop
from clufs.fuse.lock_handle import READABLE, WRITABLE, PollHandle
from clufs.limits import LINE_MAX_BYTES
from clufs.tree.items import Caller, File
from clufs.tree.names import shown

if TYPE_CHECKING:
    from clufs.fuse.asks import Parked
    from clufs.fuse.lowlevel import Request
    from clufs.tree.events_file import EventsFile
    from clufs.tree.member import Journals


log = logging.getLogger("clufsd")


class Storing:
    """Stores what is written to files that are not lock files. parked: the calls that wait."""

    def __init__(self, journals: Journals, parked: Parked) -> None:
        self._refusals = journals.refusals
        self.parked = parked

    def write(self, file: File, request: Request, data: bytes) -> int | None:
        """Store one line: the bytes taken, or -errno with the reason among the refusals.

        None: the request is answered later, when another member, the registry or a fencing agent has
        done its part; a signal ends the wait, not the deed.
        """
        caller = Caller(request.pid, request.uid, request.gid)
        try:
            if len(data) > LINE_MAX_BYTES:
                raise InvalidRequest(f"one line of at most {LINE_MAX_BYTES} bytes, not {len(data)}")
            rest = file.store(data, caller)
        except ClufsError as error:
            return -self.refused(caller, file, error)
        if rest is None:
            return len(data)
        self.answer_after(rest, file, request, len(data))
        return None

    def answer_after(self, rest: Awaitable[None], file: File, request: Request, size: int) -> None:
        """Answer a write of `size` bytes when `rest` is done, or with EINTR when a signal comes first."""
        caller = Caller(request.pid, request.uid, request.gid)
        self.parked.add_other(request, lambda: self._answer(request, errno.EINTR, 0))
        loop.spawn(lambda: self._finish(rest, file, caller, request, size))

    async def _finish(
        self, rest: Awaitable[None], file: File, caller: Caller, request: Request, size: int
    ) -> None:
        number = 0
        try:
            await rest
        except ClufsError as error:
            number = self.refused(caller, file, error)
        except Exception:
            log.exception("a fault in clufs: a write to /%s", shown(file.path))
            number = errno.EIO
        self._answer(request, number, size)

    def _answer(self, request: Request, number: int, size: int) -> None:
        self.parked.remove(request)
        if number:
            request.reply_err(number)
        else:
            request.reply_write(size)

    def refused(self, caller: Caller, file: File, error: ClufsError) -> int:
        """Note why something was refused; the errno."""
        self._refusals.add(caller.uid, caller.pid, file.path, error)
        return error.errno


class FileHandle:
    """An open report: what it showed when it was opened, or again after a write or a seek to 0."""

    __slots__ = ("caller", "file", "fresh", "node", "snapshot", "storing")
    wants_flush = False

    def __init__(
        self, file: File, node: int, caller: Caller, reads: bool, storing: Storing
    ) -> None:
        self.file = file
        self.node = node
        self.caller = caller
        self.storing = storing
        self.snapshot = file.show(caller) if reads else b""
        self.fresh = False

    @property
    def size(self) -> int:
        """The st_size of this open."""
        return len(self.snapshot)

    def must_ask(self, offset: int) -> bool:
        """Whether a read at this offset takes a new snapshot, which another member makes."""
        return offset == 0 and self.fresh and self.file.elsewhere

    async def ask(self, offset: int, size: int) -> bytes:
        """Such a read. Raises HostDown, NoSuchName."""
        self.snapshot = await self.file.ask_show(self.caller)
        return self.snapshot[offset : offset + size]

    def read(self, offset: int, size: int) -> bytes:
        """A part of the snapshot; the first read at 0 is of the open's, a later one takes a new one."""
        if offset == 0:
            if self.fresh:
                self.snapshot = self.file.show(self.caller)
            self.fresh = True
        return self.snapshot[offset : offset + size]

    def write(self, request: Request, data: bytes) -> int | None:
        """Store one line."""
        return self.storing.write(self.file, request, data)

    def poll(self, poll_handle: PollHandle | None) -> int:
        """A report can be read at any time."""
        return READABLE | WRITABLE

    def flush(self, tid: int) -> None:
        """Nothing depends on it."""

    def release(self) -> None:
        """Nothing depends on it."""


class EventsHandle:
    """An open of /clu/events: begins at the oldest line kept when it was opened."""

    __slots__ = ("begin", "events", "file", "node", "poll_handle", "position", "storing")
    wants_flush = False

    def __init__(self, file: EventsFile, node: int, storing: Storing) -> None:
        self.file = file
        self.node = node
        self.storing = storing
        self.events = file.events
        self.begin = self.position = file.events.begin
        self.poll_handle: PollHandle | None = None
        self.events.listeners.add(self._wake)

    @property
    def size(self) -> int:
        """The st_size of this open: it only grows."""
        return self.events.end - self.begin

    def must_ask(self, offset: int) -> bool:
        """Events are this member's."""
        return False

    async def ask(self, offset: int, size: int) -> bytes:
        """Nobody is asked."""
        return self.read(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """Events from `offset` on; end of file where there are no more yet."""
        data = self.events.read(self.begin + offset, size)
        self.position = self.begin + offset + len(data)
        return data

    def write(self, request: Request, data: bytes) -> int | None:
        """Nobody writes events."""
        return self.storing.write(self.file, request, data)

    def poll(self, poll_handle: PollHandle | None) -> int:
        """POLLIN once there is more than was read."""
        if poll_handle is not None:
            self.poll_handle = poll_handle
        return READABLE if self.position < self.events.end else 0

    def _wake(self) -> None:
        poll_handle, self.poll_handle = self.poll_handle, None
        if poll_handle is not None:
            poll_handle.notify()

    def flush(self, tid: int) -> None:
        """Nothing depends on it."""

    def release(self) -> None:
        """The last close."""
        self.events.listeners.discard(self._wake)


Handle = FileHandle | EventsHandle
