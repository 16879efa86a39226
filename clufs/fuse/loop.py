"""The request loop: pyfuse3's, without its detours through trio.

pyfuse3 checkpoints several times for each request. Nearly all of its handlers here never block, so
the loop asks trio only when the kernel has no request left, and in between often enough that
timers and sockets are served. There is one task that reads requests; a handler that has to wait
does so through `aside`, which lets another one read on. Whoever lingers (clufs.cluster.linger) reads
them, too, and handles those that need no pyfuse3 on the spot.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace, TracebackType
from typing import TypeVar

import trio

from clufs.cluster.linger import Linger
from clufs.fuse import lowlevel
from clufs.fuse.lowlevel import Request

import pyfuse3  # isort: skip  (lowlevel comes first)


class _Unlocked:
    """Stands in for the trio.Lock around the session's descriptor: there is one reader."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None


def install(
    on_interrupted: Callable[[list[Request]], object],
    before_rest: Callable[[], object] = lambda: None,
    linger: Linger | None = None,
) -> list[Request]:
    """Puts the loop in pyfuse3's place and returns the list to register as `interrupted`.

    `on_interrupted` gets the interrupted requests in a list of its own, between two requests,
    where they may be answered. `before_rest` is called after one or several requests, before
    anything else gets its turn; it returns whether others' answers are awaited.
    linger: where requests and messages of other members are waited for
    together, when some have just come.
    """
    interrupted: list[Request] = []
    lingering = linger or Linger()
    armed = -1  # the descriptor that trio watches for the task that reads
    is_kept = False

    def look_at_interrupted() -> None:
        if interrupted:
            requests = interrupted.copy()
            interrupted.clear()
            on_interrupted(requests)

    def serve() -> bool:
        nonlocal is_kept
        turn = lowlevel.serve()
        look_at_interrupted()
        before_rest()
        if turn == lowlevel.GO_ON and armed >= 0:
            is_kept = True
            trio.lowlevel.notify_closing(armed)  # what was kept is not in the kernel any more
        return turn != lowlevel.DRAINED

    async def wait_readable(fd: int) -> None:
        nonlocal armed, is_kept
        look_at_interrupted()
        turn = lowlevel.turn()
        is_awaited = turn != lowlevel.GO_ON and before_rest()
        if turn == lowlevel.DRAINED:
            lingering.requests_from(fd, serve)
            if not (is_awaited and await lingering.wait(has_asked=True)):
                armed = fd
                try:
                    await trio.lowlevel.wait_readable(fd)
                except trio.ClosedResourceError:
                    if not is_kept:
                        raise
                    is_kept = False
                finally:
                    armed = -1
                lingering.turned()
        elif turn == lowlevel.REST:
            await trio.lowlevel.checkpoint()
            lingering.turned()

    below = SimpleNamespace(
        **{name: getattr(trio.lowlevel, name) for name in _LOWLEVEL},
        wait_readable=wait_readable,
    )
    pyfuse3.trio = SimpleNamespace(  # type: ignore[attr-defined]
        Lock=_Unlocked,
        lowlevel=below,
        open_nursery=_open_nursery,
        ClosedResourceError=trio.ClosedResourceError,
    )
    return interrupted


_LOWLEVEL = ("current_task", "current_trio_token", "notify_closing")


_T = TypeVar("_T")

_NO_IDLE_TASKS = 0  # who comes back to reading and finds another there, ends
_NEVER = -(1 << 31)  # pyfuse3 starts a task of its own while there are fewer than this

_beside: trio.Nursery | None = None
_nursery: trio.Nursery | None = None  # the one in which pyfuse3 reads requests


@asynccontextmanager
async def _open_nursery() -> AsyncIterator[trio.Nursery]:
    global _nursery
    async with trio.open_nursery() as nursery:
        _nursery = nursery
        yield nursery
    _nursery = None


async def run() -> None:
    """Serves requests until the file system is unmounted or pyfuse3.terminate() is called."""
    global _beside
    async with trio.open_nursery() as beside:
        _beside = beside
        await pyfuse3.main(_NO_IDLE_TASKS, _NEVER)
        beside.cancel_scope.cancel()
    _beside = None


async def aside(work: Awaitable[_T]) -> _T:
    """Wait for `work` in a handler, while other requests are served."""
    if _nursery is not None:
        session_loop = pyfuse3._session_loop  # type: ignore[attr-defined]
        _nursery.start_soon(session_loop, _nursery, _NO_IDLE_TASKS, _NEVER)
    return await work


def spawn(work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` beside the requests; it is cancelled when the loop ends, and not begun after that."""
    if _beside is not None:
        _beside.start_soon(work)
