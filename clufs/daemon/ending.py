"""The end of a member in good order: everybody is told, the holders have their time, the others hear a goodbye."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import trio

from clufs import notify
from clufs.daemon.applications.service import Applications
from clufs.fuse.lock_handle import LockHandle
from clufs.fuse.lock_service import LockService
from clufs.member.runtime import Runtime
from clufs.timeouts import GOODBYE_S, HOLDERS_LOOK_S, POLL_GRACE_S

log = logging.getLogger("clufsd")


class Lives(Protocol):
    """Whose present life ends."""

    name: str
    runtime: Runtime


class Ending:
    """stop_s: how long holders have until they are killed. has_others: whether the cluster has other members,
    here or not: alone, nobody needs to wait. settle: returns when nothing is under way any more that the others
    may take for this member's once it has said goodbye, as a write to a LUN."""

    def __init__(
        self,
        lives: Lives,
        service: LockService,
        applications: Applications,
        opens: Callable[[], list[LockHandle]],
        stop_s: float,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._lives = lives
        self._service = service
        self._applications = applications
        self._opens = opens
        self._stop_s = stop_s
        self._settle = settle
        self._has_begun = False
        self._over = trio.Event()

    @property
    def has_others(self) -> bool:
        return len(self._lives.runtime.engine.peers) > 1

    @property
    def leaves_holders(self) -> bool:
        """Whether somebody still acts upon a lock of this member that the others will give away."""
        return self.has_others and self._service.is_held

    async def on(self, signals: AsyncIterator[int]) -> None:
        """Wait for a signal, and do all this; a second one cuts it short."""
        number = await anext(signals)
        log.info("%s: stopping", signal.Signals(number).name)
        notify.tell(STOPPING=1)
        self.tell_everybody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut_short_on, signals, nursery)
            await trio.sleep(POLL_GRACE_S)
            await self.say_goodbye()
            nursery.cancel_scope.cancel()

    async def _cut_short_on(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        await anext(signals)
        log.info("a second signal: no goodbye")
        self._has_begun = True
        self._over.set()
        nursery.cancel_scope.cancel()

    def tell_everybody(self) -> None:
        """No new locks; who waits or polls hears why."""
        if not self._service.stopping:
            self._service.journals.events.add("stop", member=self._lives.name)
            self._service.stop(self._opens())

    async def say_goodbye(self) -> None:
        """Give the holders their time, end them, tell the other members. Once: who comes second waits for that."""
        if self._has_begun:
            await self._over.wait()
            return
        self._has_begun = True
        try:
            await self._part()
        finally:
            self._over.set()

    async def _part(self) -> None:
        runtime = self._lives.runtime
        if runtime.core.standing:
            await self._applications.leave()
        if not self.has_others:
            return
        if self._service.is_held:
            log.info("there are lock holders: they have %g s to end", self._stop_s)
        with trio.move_on_after(self._stop_s):
            while self._service.is_held:  # noqa: ASYNC110 - locks end in many ways, none tells
                await trio.sleep(HOLDERS_LOOK_S)
        await self._service.end_holders()
        if runtime.core.standing and self._service.node.shared:
            with trio.move_on_after(GOODBYE_S):
                await self._settle()
                runtime.leave()
                await runtime.finished.wait()
