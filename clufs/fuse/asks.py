"""Requests on their way: asked, perhaps waiting, told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clufs.tree.grammar import Line

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.fuse.lock_handle import LockHandle
    from clufs.fuse.lowlevel import Request
    from clufs.fuse.owners import LockOwner, ProcessOwner
    from clufs.fuse.timers import Timer


class Ask:
    """A request that waits, or whose words outlive its grant (`Lock.client`).

    request: the system call to answer, None once it is answered (an `async` one is at once).
    awaits: the WAIT calls that want to know what becomes of it.
    """

    __slots__ = (
        "awaits",
        "data",
        "handle",
        "line",
        "lock",
        "owner",
        "process",
        "request",
        "since",
        "timer",
        "uid",
    )

    def __init__(
        self,
        line: Line,
        data: bytes,
        owner: LockOwner,
        process: ProcessOwner | None,
        handle: LockHandle,
        request: Request,
        since: float,
    ) -> None:
        self.line = line
        self.data = data
        self.owner = owner
        self.process = process
        self.handle = handle
        self.request: Request | None = request
        self.uid = request.uid
        self.since = since
        self.lock: Lock | None = None
        self.timer: Timer | None = None
        self.awaits: list[Await] | None = None

    def stop_timer(self) -> None:
        """The wait is over: its `timeout=` no longer counts."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Await:
    """A WAIT that is blocked until its ask is decided."""

    __slots__ = ("ask", "data", "handle", "request")

    def __init__(self, ask: Ask, handle: LockHandle, request: Request, data: bytes) -> None:
        self.ask = ask
        self.handle = handle
        self.request = request
        self.data = data
