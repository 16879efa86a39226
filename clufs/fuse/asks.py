"""Requests on their way: asked, perhaps waiting, told."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from clufs.fuse import processes
from clufs.timeouts import PENDING_SIGNAL_POLL_S
from clufs.tree.grammar import Line

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.errors import ClufsError, Deadlock
    from clufs.fuse.lowlevel import Request
    from clufs.fuse.owners import LockOwner, ProcessOwner
    from clufs.fuse.timers import Timer, Timers
    from clufs.tree.items import Item


_RESTS_PER_LOOK = 9
"""At most a tenth of the time goes into looking for signals that the kernel does not announce."""


class Through(Protocol):
    """What a request comes through: an open lock file, or a file of which ranges are locked.

    key: the resource block. parent_key: the one above it. locker: who asked for something last.
    """

    key: bytes
    parent_key: bytes | None
    fresh: bool
    lost: bool
    locker: LockOwner | None

    @property
    def file(self) -> Item:
        """The file, which errors name."""


class Deed:
    """A change that follows from what has been decided (`Lock.client`): no system call waits for it alone."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[ClufsError | None], None]) -> None:
        self._then = then

    def over(self, error: ClufsError | None) -> None:
        """It has taken effect, or why not."""
        self._then(error)


class Ask:
    """A request that waits, or whose words outlive its grant (`Lock.client`).

    request: the system call to answer, None once it is answered (an `async` one is at once).
    awaits: the WAIT calls that want to know what becomes of it.
    on_deadlock: what to do instead of telling EDEADLK, once. on_decided: told what becomes of it.
    is_looked_at: whether it has been seen if an ancestor of the waiter holds the lock.
    """

    __slots__ = (
        "awaits",
        "data",
        "handle",
        "is_looked_at",
        "line",
        "lock",
        "on_deadlock",
        "on_decided",
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
        handle: Through,
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
        self.is_looked_at = False
        self.on_deadlock: Callable[[Deadlock], None] | None = None
        self.on_decided: Callable[[ClufsError | None], None] | None = None

    def stop_timer(self) -> None:
        """The wait is over: its `timeout=` no longer counts."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Await:
    """A WAIT that is blocked until its ask is decided."""

    __slots__ = ("ask", "data", "handle", "request")

    def __init__(self, ask: Ask, handle: Through, request: Request, data: bytes) -> None:
        self.ask = ask
        self.handle = handle
        self.request = request
        self.data = data


class Parked:
    """The system calls that are blocked, and the signals that end them.

    The kernel announces one signal for each call (FUSE_INTERRUPT). If that one does not end
    the wait, /proc is looked at for later ones, of exactly these callers.
    """

    def __init__(self, timers: Timers, interrupt: Callable[[Ask | Await], None]) -> None:
        self._timers = timers
        self._interrupt = interrupt
        self._waiters: dict[Request, Ask | Await] = {}
        self._others: dict[Request, Callable[[], None]] = {}
        self._unannounced: dict[Request, None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, request: Request) -> bool:
        return request in self._waiters

    def all(self) -> list[tuple[Request, Ask | Await]]:
        """All of them now."""
        return list(self._waiters.items())

    def add(self, request: Request, waiter: Ask | Await) -> None:
        """`request` is not answered yet."""
        self._waiters[request] = waiter

    def add_other(self, request: Request, interrupt: Callable[[], None]) -> None:
        """`request` waits for something else than a lock; interrupt() answers it."""
        self._others[request] = interrupt

    def remove(self, request: Request) -> None:
        """`request` is about to be answered."""
        self._waiters.pop(request, None)
        self._others.pop(request, None)
        if self._unannounced:
            self._unannounced.pop(request, None)

    def interrupted(self, requests: list[Request]) -> None:
        """Signals reached these callers."""
        for request in requests:
            waits = request in self._waiters or request in self._others
            if waits and not self._end_if_due(request):
                if not self._unannounced:
                    self._look_again()
                self._unannounced[request] = None

    def _end_if_due(self, request: Request) -> bool:
        if not processes.must_interrupt(request.pid):
            return False
        interrupt = self._others.get(request)
        if interrupt is not None:
            interrupt()
        else:
            self._interrupt(self._waiters[request])
        return True

    def _look_again(self, took_s: float = 0.0) -> None:
        """The more callers there are to look at, the longer the rest between two looks."""
        rest_s = max(PENDING_SIGNAL_POLL_S, _RESTS_PER_LOOK * took_s)
        self._timers.at(monotonic() + rest_s, self._look)

    def _look(self) -> None:
        begin = monotonic()
        for request in list(self._unannounced):
            if request in self._unannounced:
                self._end_if_due(request)
        if self._unannounced:
            self._look_again(monotonic() - begin)
