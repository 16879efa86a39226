"""A question to a LUN that many may ask at once, and that nobody waits for without end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from clufs.errors import LunError, LunTimedOut, PathLost
from clufs.timeouts import LUN_FRESH_S, LUN_SHOW_S

T = TypeVar("T")
Begin = Callable[[Callable[[], Awaitable[None]]], None]


class Question(Generic[T]):
    """Asked once for all who want to know it at a time; each answer was given after it was asked for.

    begin: has work done beside all else. last: the latest answer, None before there was one.
    """

    def __init__(self, what: str, begin: Begin, ask: Callable[[], Awaitable[T]]) -> None:
        self._what = what
        self._begin = begin
        self._ask = ask
        self._under_way: trio.Event | None = None
        self._count = 0
        self._error: LunError | None = None
        self._answered_s = 0.0
        self.last: T | None = None

    async def answer(self) -> T:
        """The LUN's answer. Raises LunError; LunTimedOut after LUN_SHOW_S, and the question goes on."""
        with trio.move_on_after(LUN_SHOW_S):
            if self._under_way is not None:
                # It was asked before us: what it will say may be from before.
                await self._under_way.wait()
            if self._under_way is None:
                self._under_way = trio.Event()
                self._begin(self._run)
            await self._under_way.wait()
            if self._error is not None:
                raise self._error
            assert self.last is not None
            return self.last
        raise LunTimedOut(f"{self._what}: no answer within {LUN_SHOW_S} s")

    async def recent(self) -> T:
        """An answer that is not older than LUN_FRESH_S. Raises as `answer` does."""
        if self.last is not None and trio.current_time() - self._answered_s < LUN_FRESH_S:
            return self.last
        return await self.answer()

    async def _run(self) -> None:
        error: LunError | None = PathLost(f"{self._what}: given up")
        try:
            self.last = await self._ask()
            self._answered_s = trio.current_time()
            error = None
        except LunError as refusal:
            error = refusal
        finally:
            self._error = error
            if self._under_way is not None:
                self._under_way.set()
                self._under_way = None
