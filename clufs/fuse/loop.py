"""The request loop: pyfuse3's, without its detours through trio.

pyfuse3 checkpoints several times for each request. Its handlers here never block, so the loop
asks trio only when the kernel has no request left, and in between often enough that timers
and sockets are served.
"""

from collections.abc import Callable
from types import SimpleNamespace, TracebackType

import trio

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


def install(on_interrupted: Callable[[list[Request]], object]) -> list[Request]:
    """Puts the loop in pyfuse3's place and returns the list to register as `interrupted`.

    `on_interrupted` gets the interrupted requests in a list of its own, between two requests,
    where they may be answered.
    """
    interrupted: list[Request] = []

    async def wait_readable(fd: int) -> None:
        if interrupted:
            requests = interrupted.copy()
            interrupted.clear()
            on_interrupted(requests)
        turn = lowlevel.turn()
        if turn == lowlevel.DRAINED:
            await trio.lowlevel.wait_readable(fd)
        elif turn == lowlevel.REST:
            await trio.lowlevel.checkpoint()

    below = SimpleNamespace(
        **{name: getattr(trio.lowlevel, name) for name in _LOWLEVEL},
        wait_readable=wait_readable,
    )
    pyfuse3.trio = SimpleNamespace(  # type: ignore[attr-defined]
        Lock=_Unlocked,
        lowlevel=below,
        open_nursery=trio.open_nursery,
        ClosedResourceError=trio.ClosedResourceError,
    )
    return interrupted


_LOWLEVEL = ("current_task", "current_trio_token", "notify_closing")


async def run() -> None:
    """Serves requests until the file system is unmounted or pyfuse3.terminate() is called."""
    await pyfuse3.main(min_tasks=1, max_tasks=1)
