"""The reservations by which this member keeps lost ones from LUNs without persistent reservations: renewed until each
of them is known to be off. See `lock_disk`.

A reservation ends with its session, with any reset and with the array's power. Each is heard of with the next command,
within LUN_KEYS_LOOK_S; then the LUN is reserved again, once this life has read that it has no tombstone itself, and
what came in meanwhile is ended. That there was such a gap is told: what a lost member that still lived had sent may
have got through in it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio

from clufs.errors import LunError, NotSupported
from clufs.storage.carrier import Lun, Management
from clufs.storage.certificate import MemberKey
from clufs.storage.inventory import KnownPath, SharedLun
from clufs.storage.lock_disk import RELEASE, RESERVE

log = logging.getLogger("clufsd")


@dataclass(eq=False, slots=True)
class Held:
    """One reservation. resets: those that were heard of by this path when it was made. out: whom it keeps out."""

    path: KnownPath
    resets: int
    out: set[MemberKey] = field(default_factory=set)
    alone: trio.Lock = field(default_factory=trio.Lock)


class Tells(Protocol):
    """Where events go."""

    def __call__(self, what: str, /, **facts: object) -> None:
        """Something an administrator wants to know."""


class Holding:
    """All of them. is_off: is this life of a member known to be finished?"""

    def __init__(self, is_off: Callable[[MemberKey], bool], tell: Tells) -> None:
        self.held: dict[str, Held] = {}
        self._is_off = is_off
        self._tell = tell

    def took(self, lun: SharedLun, path: KnownPath, resets: int, victim: MemberKey) -> None:
        """A LUN has been taken from this life, and is reserved by this path."""
        before = self.held.get(lun.wwid)
        out = before.out if before is not None else set()
        self.held[lun.wwid] = Held(path, resets, {*out, victim})
        self._tell("lun-reserved", lun=lun.wwid, path=path.name)

    async def look(self, lun: SharedLun) -> None:
        """Renew the reservation of a LUN, or release it if there is nobody left to keep out."""
        held = self.held.get(lun.wwid)
        if held is None:
            return
        async with held.alone:
            if self.held.get(lun.wwid) is not held:
                return
            held.out = {victim for victim in held.out if not self._is_off(victim)}
            try:
                await (self._renew(lun, held) if held.out else self._release(lun, held))
            except LunError as error:
                log.warning("%s is not kept reserved: %s", lun.wwid, error)

    async def let_go(self, lun: SharedLun) -> None:
        """This life is over: whoever goes on takes the LUN anew."""
        held = self.held.pop(lun.wwid, None)
        if held is not None:
            with contextlib.suppress(LunError):
                await _lun_of(held.path).run(RELEASE.command)

    async def _renew(self, lun: SharedLun, held: Held) -> None:
        if held.path.is_usable and held.path.resets == held.resets:
            await _lun_of(held.path).run(RESERVE.command)
            await trio.lowlevel.checkpoint()  # a word of a reset that came first is told first
            if held.path.resets == held.resets:
                return
        for path in sorted(lun.usable(), key=lambda one: one is not held.path):
            # Held back: whether this life has a tombstone itself is being looked for.
            if path.opened is None or path.opened.lun is None or path.held:
                continue
            await path.opened.lun.run(RESERVE.command)
            await trio.lowlevel.checkpoint()
            resets = path.resets
            with contextlib.suppress(NotSupported):
                await path.opened.lun.manage(Management.CLEAR_TASK_SET)
            held.path, held.resets = path, resets
            self._tell(
                "lun-reserved",
                lun=lun.wwid,
                path=path.name,
                why="the reservation had ended: what a lost member had sent may have been written",
            )
            return

    async def _release(self, lun: SharedLun, held: Held) -> None:
        await _lun_of(held.path).run(RELEASE.command)
        if self.held.get(lun.wwid) is held:
            del self.held[lun.wwid]
        self._tell("lun-released", lun=lun.wwid, path=held.path.name)


def _lun_of(path: KnownPath) -> Lun:
    if path.opened is None or path.opened.lun is None:
        raise LunError(f"{path.name}: {path.why or 'is not open'}")
    return path.opened.lun
