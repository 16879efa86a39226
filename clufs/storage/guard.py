"""A member's own side at the data LUNs: no life of it writes by a path before `entering` has opened it, and a life
that is fenced is ended."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import trio

from clufs.errors import CheckCondition, LunError, PathLost
from clufs.storage import entering
from clufs.storage.certificate import MemberKey
from clufs.storage.entering import Entrance
from clufs.storage.fencing import Ask, PathId
from clufs.storage.holding import Holding
from clufs.storage.inventory import KnownPath, PathState, SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.lock_disk import RELEASE
from clufs.storage.paths import ISCSI
from clufs.storage.sense import Sense, SenseKey
from clufs.storage.tombstones import Tombstones
from clufs.storage.trials import Trials
from clufs.timeouts import LUN_ENTER_AGAIN_S, LUN_ENTER_S, LUN_KEYS_LOOK_S, LUN_LEAVE_S

log = logging.getLogger("clufsd")

NO_LIFE = "no life of this member is registered here"
ENTERS = "its key is being registered"
OVER = "this life is fenced"
_BLKFLSBUF = 0x1261
_RESETS, _RESERVATIONS = 0x29, 0x2A


class Guard:
    """Holds the paths of all data LUNs that take reservations. `serve` must run; then `life` may be entered.

    key: of the present life, None between two. entered: the LUNs that have been entered. keyless: those of them that
    know no persistent reservations; lockable: and of these, those that know RESERVE(6), by a session of our own.
    holding: what keeps lost ones from those. aborts: which LUNs have PREEMPT AND ABORT, as fencings have shown.
    """

    def __init__(self, luns: Luns, tombstones: Tombstones, trials: Trials | None = None) -> None:
        self._luns = luns
        self._trials = trials
        self._tombstones = tombstones
        self.entered: set[str] = set()
        self.keyless: set[str] = set()
        self.lockable: set[str] = set()
        self.holding: Holding | None = None
        self._asked: set[str] = set()
        self.aborts: dict[str, bool] = {}
        self._entrance: Entrance | None = None
        self._fenced: Callable[[str], None] = lambda why: None
        self._moved_on = trio.Event()
        self._started = trio.Event()
        self._left: set[PathId] = set()
        self._told: dict[PathId, str] = {}
        self._nursery: trio.Nursery
        luns.inventory.listeners.append(self._path_moved)
        luns.attended = self._attended
        luns.conflicted = self._conflicted

    @property
    def key(self) -> MemberKey | None:
        """What this member has registered."""
        return self._entrance.key if self._entrance is not None else None

    async def serve(self) -> None:
        """Carry everything out, until cancelled. Commands outlive their life, and then nobody hears the answers."""
        async with trio.open_nursery() as self._nursery:
            self._started.set()
            self._nursery.start_soon(self._look)
            await trio.sleep_forever()

    # --------------------------------------------------------------- a life

    @asynccontextmanager
    async def life(self, key: MemberKey, fenced: Callable[[str], None]) -> AsyncIterator[None]:
        """Enter everywhere, and write nothing any more afterwards. fenced: called with why, if that comes to pass.

        Inside, each data LUN has a path that may be written by, or did not answer for LUN_ENTER_S.
        """
        await self._started.wait()
        self._luns.life += 1
        entrance = self._entrance = Entrance(key, self._tombstones.disks)
        self._fenced = fenced
        try:
            for lun, path in self._paths():
                if path.state == PathState.UP:
                    self._do(entrance.connected(_id(lun, path)))
            with trio.move_on_after(LUN_ENTER_S):
                while not (self._all_open() or entrance.fenced):
                    await self._moved_on.wait()
            yield
        finally:
            self._luns.life += 1
            self._entrance = None
            for _, path in self._paths():
                path.held = NO_LIFE

    async def leave(self) -> None:
        """Give the keys back, where nothing hangs on them; not for long. Nothing is written from now on."""
        entrance = self._entrance
        if entrance is None:
            return
        self._left = {_id(lun, path) for lun, path in self._paths() if path.opened is not None}
        for at in tuple(self._left):
            self._do(entrance.leave(at))
        with trio.move_on_after(LUN_LEAVE_S):
            while self._left:
                await self._moved_on.wait()

    def _all_open(self) -> bool:
        """Can every data LUN be written to?"""
        luns = self._luns.inventory.expected("data").values()
        return all(lun is not None and _may_be_written(lun) for lun in luns)

    def _paths(self) -> Iterator[tuple[SharedLun, KnownPath]]:
        for lun in self._luns.inventory.expected("data").values():
            for path in lun.paths.values() if lun is not None else ():
                if path.entry is not None and not _is_file(path):
                    yield lun, path  # type: ignore[misc]

    # ----------------------------------------------------------- what is heard

    def _path_moved(self, lun: SharedLun, path: KnownPath) -> None:
        entrance = self._entrance
        if lun.role == "clufs" and path.state == PathState.UP and entrance is not None:
            self._enter_late()
        if lun.role != "data" or path.entry is None or _is_file(path):
            self._tell()
            return
        if entrance is None:
            path.held = NO_LIFE
        elif path.state == PathState.UP:
            self._do(entrance.connected(_id(lun, path)))
        elif path.opened is None:
            self._do(entrance.lost(_id(lun, path)))
            path.held = "it is not open"

    def _enter_late(self) -> None:
        """A LUN of clufs can be read: what waits for tombstones need not wait for its next try."""
        for lun, path in list(self._paths()):
            if path.state == PathState.UP and path.held not in ("", ENTERS, NO_LIFE, OVER):
                self._do(self._entrance.connected(_id(lun, path)) if self._entrance else [])

    def _attended(self, path: KnownPath, sense: Sense) -> None:
        """A reset, or a change of reservations: look at once."""
        if sense.key != SenseKey.UNIT_ATTENTION or sense.asc not in (_RESETS, _RESERVATIONS):
            return
        path.resets += sense.asc == _RESETS
        for lun, one in self._paths():
            entrance = self._entrance
            if one is path and entrance is not None:
                heard = entrance.reset if sense.asc == _RESETS else entrance.look
                self._do(heard(_id(lun, path)))

    def _conflicted(self, lun: SharedLun, path: KnownPath) -> None:
        if self._entrance is not None:
            self._do(self._entrance.conflict(_id(lun, path)))

    async def _look(self) -> None:
        while True:
            await trio.sleep(LUN_KEYS_LOOK_S)
            for lun, path in list(self._paths()):
                if self._entrance is not None:
                    self._do(self._entrance.look(_id(lun, path)))
            await self._hold_on()

    async def _hold_on(self) -> None:
        """Side by side: a LUN that hangs must not cost another its reservation."""
        holding = self.holding
        if holding is None:
            return
        over = self._entrance is None or bool(self._entrance.fenced)
        async with trio.open_nursery() as nursery:
            for wwid in list(holding.held):
                lun = self._luns.inventory.luns.get(wwid)
                if lun is not None:
                    nursery.start_soon(holding.let_go if over else holding.look, lun)

    # --------------------------------------------------------------- effects

    def _do(self, effects: Sequence[entering.Effect]) -> None:
        entrance = self._entrance
        assert entrance is not None
        for effect in effects:
            match effect:
                case entering.Fenced():
                    for _, path in self._paths():
                        path.held = OVER
                    self._fenced(effect.why)
                case Ask():
                    self._nursery.start_soon(self._ask, entrance, effect)
                case entering.Exhume():
                    self._nursery.start_soon(self._exhume, entrance, effect)
                case entering.Hold():
                    self._hold(effect.at, ENTERS)
                    self._nursery.start_soon(self._drain, entrance, effect.at)
                case entering.Open():
                    self._hold(effect.at, "")
                    self._told.pop(effect.at, None)
                    self._entered(entrance, effect.at)
                case entering.Shut():
                    self._shut(effect.at, effect.why)
                    self._nursery.start_soon(self._try_again, entrance, effect.at)
                case entering.Left():
                    self._left.discard(effect.at)
        self._tell()

    def _entered(self, entrance: Entrance, at: PathId) -> None:
        self.entered.add(at.lun)
        if self.holding is not None and at.lun in self.holding.held:
            self._nursery.start_soon(self._hold_on)
        self.keyless -= {at.lun} - entrance.keyless
        if at.lun in entrance.keyless:
            self.keyless.add(at.lun)
            self._nursery.start_soon(self._ask_for_reserve, at)
            return
        lun = self._luns.inventory.luns.get(at.lun)
        if lun is not None and self._trials is not None:
            self._nursery.start_soon(self._trials.try_out, lun, entrance.key)

    async def _ask_for_reserve(self, at: PathId) -> None:
        """Does the LUN know RESERVE(6)? Who has nothing reserved may release it, once: later it might be ours."""
        path = self._known(at)
        if at.lun in self._asked or path is None or not path.url.startswith(ISCSI):
            return
        self._asked.add(at.lun)
        try:
            if path.opened is not None and path.opened.lun is not None:
                await path.opened.lun.run(RELEASE.command)
                self.lockable.add(at.lun)
        except CheckCondition as refusal:
            log.info("%s has no RESERVE(6): %s", at.lun, refusal)
        except LunError:
            self._asked.discard(at.lun)

    def _tell(self) -> None:
        self._moved_on.set()
        self._moved_on = trio.Event()

    def _known(self, at: PathId) -> KnownPath | None:
        lun = self._luns.inventory.luns.get(at.lun)
        return lun.paths.get(at.path) if lun is not None else None

    def _hold(self, at: PathId, why: str) -> None:
        path = self._known(at)
        if path is not None:
            path.held = why

    def _shut(self, at: PathId, why: str) -> None:
        self._hold(at, why)
        if self._told.get(at) != why:
            self._told[at] = why
            log.warning("%s is not written to: %s", at, why)

    async def _ask(self, entrance: Entrance, ask: Ask) -> None:
        answer: bytes | LunError
        path = self._known(ask.at)
        try:
            if path is None or path.opened is None or path.opened.lun is None:
                raise PathLost("the path is not open")
            with path.counted():
                answer = await path.opened.lun.run(ask.sent.command, ask.sent.data)
        except LunError as error:
            answer = error
            if path is not None:
                path.nudge()
        if entrance is self._entrance:
            self._do(entrance.answered(ask, answer))

    async def _exhume(self, entrance: Entrance, question: entering.Exhume) -> None:
        answer: int | LunError
        try:
            answer = await self._tombstones.buried(question.disk, entrance.key.member)
        except LunError as error:
            answer = error
        if entrance is self._entrance:
            self._do(entrance.exhumed(question, answer))

    async def _drain(self, entrance: Entrance, at: PathId) -> None:
        path = self._known(at)
        if path is not None:
            await path.drained()
            if path.node:
                await trio.to_thread.run_sync(_flush, path.node)
        if entrance is self._entrance:
            self._do(entrance.drained(at))

    async def _try_again(self, entrance: Entrance, at: PathId) -> None:
        await trio.sleep(LUN_ENTER_AGAIN_S)
        path = self._known(at)
        is_up = path is not None and path.state == PathState.UP
        if entrance is self._entrance and is_up and not entrance.is_open(at):
            self._do(entrance.connected(at))


def _id(lun: SharedLun, path: KnownPath) -> PathId:
    return PathId(lun.wwid, path.name)


def _is_file(path: KnownPath) -> bool:
    """Without SCSI commands there is nothing to register, and nothing that fences."""
    return path.opened is not None and path.opened.lun is None


def _may_be_written(lun: SharedLun) -> bool:
    return any(not path.held for path in lun.usable())


def _flush(node: str) -> None:
    """Write back what the kernel still has of a device and forget it: with a life's key gone it fails, and must not
    reach the LUN with the key of the next one."""
    with contextlib.suppress(OSError):
        descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if stat.S_ISBLK(os.fstat(descriptor).st_mode):
                fcntl.ioctl(descriptor, _BLKFLSBUF)
        finally:
            os.close(descriptor)
