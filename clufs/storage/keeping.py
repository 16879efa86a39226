"""Keeps the configured paths open: opens them, looks whether they do their work, opens them again.

What is asked of a LUN goes through `Luns.run`, which takes the best path that works, and no dead LUN is
waited for by who asks another.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal, TypeVar

import trio

from clufs.errors import (
    CheckCondition,
    LunBusy,
    LunError,
    LunTimedOut,
    MissingPart,
    PathLost,
    ReservationConflict,
)
from clufs.storage import commands as c
from clufs.storage import udev
from clufs.storage.block import ScsiBlock
from clufs.storage.carrier import Lun
from clufs.storage.inquiry import (
    IDENTIFICATION,
    Association,
    Capacity,
    DesignatorType,
    decode_designators,
)
from clufs.storage.inventory import Change, Inventory, KnownPath, PathState, SharedLun
from clufs.storage.paths import LunPath, open_path, shown
from clufs.storage.port_groups import decode_groups
from clufs.storage.sense import Sense, SenseKey
from clufs.timeouts import LUN_LOOK_S, LUN_RETRY_MAX_S, LUN_RETRY_MIN_S

ACCESS_STATE_CHANGED, CAPACITY_CHANGED = (0x2A, 0x06), (0x2A, 0x09)
_PORT_AT_REST = ((0x04, 0x0A), (0x04, 0x0B), (0x04, 0x0C))
"""The port is in transition, in standby, unavailable."""
_ELSEWHERE = (PathLost, LunTimedOut, LunBusy)
"""Errors of a path: another one may do."""

T = TypeVar("T")


class Luns:
    """Every LUN that this member knows; see Inventory for what is known, `run` for what is asked.

    initiator: this member's iSCSI name. watches_devices: also show what the kernel has. attended: hears of each
    unit attention; conflicted: of each write that met a reservation conflict. life: another whenever a life of this
    member begins or ends at the LUNs.
    """

    def __init__(
        self,
        initiator: str,
        tell: Callable[[Change], None] = lambda _: None,
        watches_devices: bool = True,
    ) -> None:
        self.inventory = Inventory(tell)
        self.attended: Callable[[KnownPath, Sense], None] = lambda path, sense: None
        self.conflicted: Callable[[SharedLun, KnownPath], None] = lambda lun, path: None
        self.life = 0
        self.initiator = initiator
        self._writes: set[trio.Event] = set()
        self._watches_devices = watches_devices
        self._nursery: trio.Nursery | None = None

    def expect(self, role: Literal["data", "clufs"], urls: Sequence[str]) -> None:
        """A configured LUN; before `serve`."""
        self.inventory.expect(role, urls)

    async def serve(self) -> None:
        """Keep all paths open until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for path in self.inventory.configured():
                nursery.start_soon(self._keep, path)
            if self._watches_devices:
                inventory = self.inventory
                nursery.start_soon(udev.watch, inventory.device_came, inventory.device_went)

    def begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something beside all else, as long as this serves. Raises PathLost if it does not."""
        if self._nursery is None:
            raise PathLost("LUNs are not served yet")
        self._nursery.start_soon(work)

    # --------------------------------------------------------------- keeping paths

    async def _keep(self, path: KnownPath) -> None:
        pause_s = LUN_RETRY_MIN_S
        while True:
            try:
                async with open_path(
                    path.url, self.initiator, on_attention=self._attends(path)
                ) as opened:
                    if opened.lun is not None:
                        opened.lun.may_write = lambda: not path.held
                    await self._mind(path, opened)
            except (LunError, MissingPart) as error:
                if path.state == PathState.UP:
                    pause_s = LUN_RETRY_MIN_S
                self.inventory.lost(path, str(error))
            path.nudged = trio.Event()
            with trio.move_on_after(pause_s):
                await path.nudged.wait()
            pause_s = min(2 * pause_s, LUN_RETRY_MAX_S)

    async def _mind(self, path: KnownPath, opened: LunPath) -> None:
        """Look at an open path now and then. Raises LunError when it is no more, or no good."""
        port, node = await _port_of(opened), _node_of(path.url)
        while True:
            try:
                opened = await _look(opened)
                self.inventory.up(path, opened, node)
                await self._look_at_access(path, opened, port)
            except CheckCondition as refusal:
                self.inventory.unwell(path, str(refusal))
            path.nudged = trio.Event()
            await _either(opened.ended, path.nudged, LUN_LOOK_S)
            if opened.ended.is_set():
                raise PathLost(f"{shown(path.url)}: the path has ended")

    async def _look_at_access(self, path: KnownPath, opened: LunPath, port: int | None) -> None:
        if opened.lun is not None and opened.identity.alua:
            said = await opened.lun.run(c.ReportTargetPortGroups())
            self.inventory.access(path, decode_groups(said), port)

    def _attends(self, path: KnownPath) -> Callable[[Sense], None]:
        def attend(sense: Sense) -> None:
            if sense.code in (ACCESS_STATE_CHANGED, CAPACITY_CHANGED):
                path.nudge()
            self.attended(path, sense)

        return attend

    # -------------------------------------------------------------- using the LUNs

    async def drained(self) -> None:
        """Wait until none of the writes that are under way now is. A command to a LUN takes LUN_COMMAND_S at most."""
        for write in tuple(self._writes):
            await write.wait()

    async def run(
        self, lun: SharedLun, ask: Callable[[LunPath], Awaitable[T]], writes: bool = False
    ) -> T:
        """What `ask` makes of the best path that works; where one fails in it, of the next.

        writes: only by paths that may be written by, and in the life of this member in which it was asked for: who
        asked may be dead, and its lock another's. Raises PathLost without any, or what `ask` raised.
        """
        if not writes:
            return await self._run(lun, ask, writes)
        ended = trio.Event()
        self._writes.add(ended)
        try:
            return await self._run(lun, ask, writes)
        finally:
            self._writes.discard(ended)
            ended.set()

    async def _run(self, lun: SharedLun, ask: Callable[[LunPath], Awaitable[T]], writes: bool) -> T:
        failure: LunError | None = None
        life = self.life
        for path in lun.usable():
            if writes and life != self.life:
                break
            if writes and path.held:
                failure = failure or PathLost(f"{lun.wwid}: nothing is written now: {path.held}")
                continue
            try:
                async with self._use(path) as opened:
                    if not writes:
                        return await ask(opened)
                    with path.counted():
                        return await ask(opened)
            except ReservationConflict:
                self.conflicted(lun, path)
                raise
            except _ELSEWHERE as error:
                failure = error
                if path.entry is not None and not isinstance(error, LunBusy):
                    self.inventory.unwell(path, str(error))  # until it was looked at
                    path.nudge()
            except CheckCondition as refusal:
                # A port in standby, or a LUN that is not ready there.
                if refusal.key != SenseKey.NOT_READY:
                    raise
                failure = refusal
                path.nudge()
        if writes and life != self.life:
            over = f"{lun.wwid}: the life of this member that wrote it is over"
            raise PathLost(over) from failure
        if failure is None:
            why = "; ".join(f"{path.name}: {path.why}" for path in lun.paths.values() if path.why)
            failure = PathLost(f"{lun.wwid}: no path works: {why or 'there is none'}")
        raise failure

    @asynccontextmanager
    async def _use(self, path: KnownPath) -> AsyncIterator[LunPath]:
        """A path that is kept open; one that udev found is open for as long as it is used."""
        if path.entry is None:
            async with open_path(path.url, self.initiator) as opened:
                yield opened
        elif path.opened is not None:
            yield path.opened
        else:
            raise PathLost(f"{shown(path.url)}: {path.why or 'is not open'}")


def _node_of(url: str) -> str:
    """Which kernel device a configured name leads to."""
    return os.path.realpath(url) if url.startswith("/dev/") else ""


async def _look(opened: LunPath) -> LunPath:
    """Is the LUN at work there, though the port may be in standby? As it is now: it may have grown.

    Raises LunError.
    """
    lun, identity = opened.lun, opened.identity
    if lun is None:
        await opened.device.read(0, 1)
        return opened
    try:
        await lun.run(c.TestUnitReady())
        now = Capacity.unpack(await lun.run(c.ReadCapacity16()))
        if (now.block_bytes, now.blocks) != (identity.block_bytes, identity.blocks):
            identity = replace(identity, block_bytes=now.block_bytes, blocks=now.blocks)
            device = ScsiBlock(lun, now.block_bytes, now.blocks)
            return replace(opened, identity=identity, device=device)
    except CheckCondition as refusal:
        # Reservations are taken and given there all the same (SPC-4, 5.15.2.7).
        if refusal.key != SenseKey.NOT_READY or (refusal.asc, refusal.ascq) not in _PORT_AT_REST:
            raise
    return opened


async def _port_of(opened: LunPath) -> int | None:
    """The relative target port behind a path, where the array says it."""
    if opened.lun is None:
        return None
    lun: Lun = opened.lun
    pages = decode_designators(await lun.run(c.Inquiry(evpd=True, page=IDENTIFICATION)))
    for one in pages:
        of_port = one.association == Association.TARGET_PORT
        if of_port and one.type == DesignatorType.RELATIVE_TARGET_PORT:
            return one.number & 0xFFFF
    return None


async def _either(first: trio.Event, second: trio.Event, seconds: float) -> None:
    """Wait for one of two events, not longer than so many seconds."""

    async def wait(event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, first)
            nursery.start_soon(wait, second)
