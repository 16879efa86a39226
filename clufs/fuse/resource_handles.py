"""Opens of files that give orders, as a resource's `control`, that do more than one write, one order."""

from __future__ import annotations

import errno
import itertools
import logging
import os
from typing import TYPE_CHECKING

import trio

from clufs.errors import ClufsError, HostDown
from clufs.fuse import loop
from clufs.fuse.handles import FileHandle, Storing
from clufs.fuse.lock_handle import READABLE, WRITABLE, PollHandle
from clufs.timeouts import PLANNER_AGAIN_S
from clufs.tree.items import Caller
from clufs.tree.names import shown
from clufs.tree.resource import Job, MaintenanceFile, SpokenFile

if TYPE_CHECKING:
    from clufs.fuse.lowlevel import Request

log = logging.getLogger("clufsd")


class SpokenHandle(FileHandle):
    """`control` or a member's `drain`, opened read-write: a write begins an order, reads wait for what it says.

    The last line is `exit=N`; then comes end of file, until the next order is written. Before the
    first, reads give what the file shows.
    """

    __slots__ = ("_base", "_job", "_nonblock", "_poll_handle", "_readers", "_text")

    def __init__(
        self, file: SpokenFile, node: int, flags: int, caller: Caller, storing: Storing
    ) -> None:
        super().__init__(file, node, caller, reads=False, storing=storing)
        self._nonblock = bool(flags & os.O_NONBLOCK)
        self._job: Job | None = None
        self._text = bytearray(file.show(caller))
        self._base: int | None = 0
        self._readers: dict[Request, tuple[int, int]] = {}
        self._poll_handle: PollHandle | None = None

    @property
    def _spoken(self) -> SpokenFile:
        assert isinstance(self.file, SpokenFile)
        return self.file

    @property
    def _under_way(self) -> bool:
        return self._job is not None and not self._job.over.is_set()

    @property
    def size(self) -> int:
        """What can be read by now."""
        return len(self._text)

    def write(self, request: Request, data: bytes) -> int | None:
        """Begin an order; it goes on also when the descriptor is closed."""
        caller = Caller(request.pid, request.uid, request.gid)
        if self._under_way:
            return -errno.EBUSY
        try:
            job = Job(self._spoken.parse(data))
        except ClufsError as error:
            return -self.storing.refused(caller, self.file, error)
        self._job, self._base = job, None
        self._text.clear()
        job.listeners.add(self._heard)
        loop.spawn(lambda: self._carry_out(job, caller))
        return len(data)

    async def _carry_out(self, job: Job, caller: Caller) -> None:
        try:
            await job.run(self._spoken.caa)
        except ClufsError as error:
            self.storing.refused(caller, self.file, error)
            job.lines.append(str(error))
            job.exit = error.exit_code
            self._heard()
        except Exception:
            log.exception("a fault in clufs: /%s", shown(self.file.path))
            job.exit = 1
            self._heard()

    def _heard(self) -> None:
        """The order has said something, or is done."""
        job = self._job
        assert job is not None
        text = "".join(f"{line}\n" for line in job.lines)
        if job.exit is not None:
            text += f"exit={job.exit}\n"
        self._text[:] = text.encode()
        for request, (offset, size) in list(self._readers.items()):
            part = self._part(offset, size)
            if part is not None:
                self._answer(request, part)
        poll_handle, self._poll_handle = self._poll_handle, None
        if poll_handle is not None:
            poll_handle.notify()

    def _part(self, offset: int, size: int) -> bytes | None:
        """What is to be read there; None if that is not said yet."""
        begin = offset - self._base if self._base is not None else 0
        part = bytes(self._text[begin : begin + size]) if begin >= 0 else b""
        return part if part or self._is_told else None

    @property
    def _is_told(self) -> bool:
        return self._job is None or self._job.exit is not None

    def read_now(self, request: Request, offset: int, size: int) -> bytes | int | None:
        """A read: its bytes, -errno, or None when it waits. Its caller can be interrupted."""
        if self._base is None:
            self._base = offset
        part = self._part(offset, size)
        if part is not None:
            return part
        if self._nonblock:
            return -errno.EAGAIN
        self._readers[request] = offset, size
        self.storing.parked.add_other(request, lambda: self._interrupt(request))
        return None

    def _interrupt(self, request: Request) -> None:
        self._forget(request)
        request.reply_err(errno.EINTR)

    def _answer(self, request: Request, part: bytes) -> None:
        self._forget(request)
        request.reply_data(part)

    def _forget(self, request: Request) -> None:
        self.storing.parked.remove(request)
        del self._readers[request]

    def poll(self, poll_handle: PollHandle | None) -> int:
        """POLLIN: a read would not wait (perhaps at the end of what was said). POLLOUT: no order is under way."""
        if poll_handle is not None:
            self._poll_handle = poll_handle
        events = READABLE if self._text or self._is_told else 0
        return events if self._under_way else events | WRITABLE


class MaintenanceHandle(FileHandle):
    """`maintenance`, opened read-write: what it began ends with it."""

    __slots__ = ("_holds",)
    _numbers = itertools.count(1)

    def __init__(self, file: MaintenanceFile, node: int, caller: Caller, storing: Storing) -> None:
        held = file.held(next(self._numbers))
        super().__init__(held, node, caller, reads=True, storing=storing)
        self._holds = False

    def write(self, request: Request, data: bytes) -> int | None:
        """Begin or end maintenance."""
        answer = super().write(request, data)
        if answer is None and data.strip() == b"1":
            self._holds = True
        return answer

    def release(self) -> None:
        """The last close."""
        if self._holds:
            loop.spawn(self._end)

    async def _end(self) -> None:
        """Until a planner has heard it: if this daemon dies first, its holds end with it."""
        assert isinstance(self.file, MaintenanceFile)
        while True:
            try:
                await self.file.end()
                return
            except HostDown as error:
                log.warning("/%s does not end yet: %s", shown(self.file.path), error)
            except ClufsError as error:
                log.warning("/%s does not end: %s", shown(self.file.path), error)
                return
            await trio.sleep(PLANNER_AGAIN_S)
