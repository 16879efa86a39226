"""flock(2) on lock files: LOCK_SH is PR, LOCK_EX is EX, and the open descriptor owns the lock.

A descriptor has one lock on its file, whether flock(2) asked for it or a line written to it. What was
taken by flock(2) alone says nothing about the value block: its release is clean, however its
process ends. An upgrade is a conversion, and so atomic where flock(2) promises nothing; where two
descriptors would wait for each other's shared lock, one gives its own up first, as flock(2) does.
"""

from __future__ import annotations

import fcntl
from time import monotonic
from typing import TYPE_CHECKING

from clufs.errors import ClufsError, Deadlock
from clufs.fuse.asks import Ask
from clufs.tree.grammar import Line, parse

if TYPE_CHECKING:
    from clufs.fuse.lock_handle import LockHandle
    from clufs.fuse.lock_service import LockService
    from clufs.fuse.lowlevel import Request

_LINES = {
    (fcntl.F_RDLCK, True): parse(b"PR"),
    (fcntl.F_WRLCK, True): parse(b"EX"),
    (fcntl.F_RDLCK, False): parse(b"PR nowait"),
    (fcntl.F_WRLCK, False): parse(b"EX nowait"),
    (fcntl.F_UNLCK, True): parse(b"UN"),
    (fcntl.F_UNLCK, False): parse(b"UN"),
}


class Flocks:
    """Answers what the extension hands over; see lowlevel for what is answered how."""

    def __init__(self, service: LockService) -> None:
        self._service = service

    def lock(self, handle: LockHandle, request: Request, kind: int, sleep: bool) -> int | None:
        """A flock(2) call on a lock file. 0: granted, -errno: refused, None: it waits."""
        line = _LINES[kind, sleep]
        if kind == fcntl.F_UNLCK and handle.lock_of_descriptor is None:
            return 0
        try:
            return self._ask(handle, request, line)
        except Deadlock as error:
            return self._without_its_own(handle, request, line, error)
        except ClufsError as error:
            return self._service.refuse(handle, request, error)

    def _ask(self, handle: LockHandle, request: Request, line: Line) -> int | None:
        service = self._service
        ask = service.ask_of(handle, request, line, handle.descriptor_owner())
        if handle.lock_of_descriptor is not None:
            ask.on_deadlock = lambda error: self._later(ask, handle, error)
        return service.ask(ask)

    def _without_its_own(
        self, handle: LockHandle, request: Request, line: Line, error: Deadlock
    ) -> int | None:
        """The conversion would never end: give up what is held, and ask as anybody does."""
        service = self._service
        lock = handle.lock_of_descriptor
        try:
            if lock is None:
                raise error
            service.release(lock)
            ask = service.ask_of(handle, request, line, handle.descriptor_owner())
            return service.ask(ask)
        except ClufsError as refusal:
            return service.refuse(handle, request, refusal)

    def _later(self, ask: Ask, handle: LockHandle, error: Deadlock) -> None:
        """The same for one that waits already; not in the midst of what follows from an event."""
        self._service.timers.at(monotonic(), lambda: self._again(ask, handle, error))

    def _again(self, ask: Ask, handle: LockHandle, error: Deadlock) -> None:
        request = ask.request
        if request is None:  # a signal has ended the wait meanwhile
            return
        self._service.parked.remove(request)
        answer = self._without_its_own(handle, request, ask.line, error)
        if answer is not None and answer < 0:
            request.reply_err(-answer)
        elif answer is not None:
            request.reply_write(answer)
