"""Which LUNs this member knows, and how it reaches each: bookkeeping of paths that come and go.

No I/O happens here, so whoever looks a LUN up never waits for one. `keeping` opens the paths and tells of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import trio

from clufs.errors import LunError
from clufs.limits import TRANSITIONS_KEPT
from clufs.storage.devices import KernelDevice
from clufs.storage.paths import Identity, LunPath, path_name, shown
from clufs.storage.port_groups import AccessState, PortGroup

Role = Literal["data", "clufs", "found"]
"""found: by udev alone; nothing is done with it that nobody asks for."""

What = Literal["lun-found", "lun-gone", "path-up", "path-down", "access-changed"]


class PathState(StrEnum):
    """connecting: not opened yet, and nothing is known against it. down: lost, or it does not do its work."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that an administrator wants to know. path, why: empty where they mean nothing."""

    what: What
    lun: str
    path: str = ""
    why: str = ""


@dataclass(eq=False, slots=True)
class KnownPath:
    """A path of this member to a LUN, or to one that is not known yet.

    entry: which of the configured LUNs; None for a path that udev found. opened: while it is open.
    held: why nothing is written by it now, empty if it may be: who fences says so. group: the target port group
    behind it; access: its state. nudged: set to have it looked at now. resets: how often what RESERVE(6) had made by it
    may have ended: a reset was heard of, or the session was lost.
    """

    url: str
    entry: int | None = None
    kind: Literal["direct", "multipath"] = "direct"
    state: PathState = PathState.CONNECTING
    why: str = ""
    node: str = ""
    opened: LunPath | None = None
    held: str = ""
    group: int | None = None
    access: AccessState | None = None
    nudged: trio.Event = field(default_factory=trio.Event)
    under_way: int = 0
    resets: int = 0
    _idle: trio.Event = field(default_factory=trio.Event)

    @property
    def name(self) -> str:
        """Of its file."""
        return path_name(self.url)

    @property
    def is_usable(self) -> bool:
        """May commands go by it?"""
        return self.state == PathState.UP and self.kind == "direct"

    def nudge(self) -> None:
        """Have it looked at, or opened again, now."""
        self.nudged.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A command that changes something is under way by this path."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._idle.set()
                self._idle = trio.Event()

    async def drained(self) -> None:
        """None is under way any more."""
        while self.under_way:
            await self._idle.wait()


@dataclass(frozen=True, slots=True)
class Transition:
    """A group of ports changed its access state. time_s: wall clock."""

    time_s: float
    group: int
    before: AccessState
    after: AccessState


_ORDER = {
    AccessState.ACTIVE_OPTIMIZED: 0,
    None: 1,
    AccessState.ACTIVE_NON_OPTIMIZED: 2,
    AccessState.LBA_DEPENDENT: 2,
}
_LAST = 3


@dataclass(eq=False, slots=True)
class SharedLun:
    """A LUN by its name. paths: of this member, by the names of their files."""

    wwid: str
    role: Role
    identity: Identity | None = None
    paths: dict[str, KnownPath] = field(default_factory=dict)
    groups: tuple[PortGroup, ...] = ()
    transitions: deque[Transition] = field(default_factory=lambda: deque(maxlen=TRANSITIONS_KEPT))

    def usable(self) -> list[KnownPath]:
        """The paths that commands may go by, the best first."""
        found = [path for path in self.paths.values() if path.is_usable]
        return sorted(found, key=lambda path: _ORDER.get(path.access, _LAST))


class Inventory:
    """The LUNs by name. tell: gets every change; listeners get each path that has gone up or down."""

    def __init__(
        self,
        tell: Callable[[Change], None] = lambda _: None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.luns: dict[str, SharedLun] = {}
        self.listeners: list[Callable[[SharedLun, KnownPath], None]] = []
        self._tell = tell
        self._now_s = now_s
        self._entries: list[tuple[Role, list[KnownPath]]] = []
        self._names: dict[int, str] = {}
        self._devices: dict[str, KernelDevice] = {}

    # ------------------------------------------------------------- configuration

    def expect(self, role: Literal["data", "clufs"], urls: Sequence[str]) -> list[KnownPath]:
        """A configured LUN; its paths, which are to be opened and kept open."""
        paths = [KnownPath(url, entry=len(self._entries)) for url in urls]
        self._entries.append((role, paths))
        return paths

    def configured(self) -> Iterable[KnownPath]:
        """The paths of all configured LUNs."""
        return (path for _, paths in self._entries for path in paths)

    def expected(self, role: Role) -> dict[str, SharedLun | None]:
        """The configured LUNs of a role, each by the first of its paths; None where no path has led to it yet."""
        found: dict[str, SharedLun | None] = {}
        for entry, (has, paths) in enumerate(self._entries):
            if has == role:
                wwid = self._names.get(entry, "")
                found[shown(paths[0].url)] = self.luns.get(wwid)
        return found

    # ---------------------------------------------------------- paths up and down

    def up(self, path: KnownPath, opened: LunPath, node: str = "") -> None:
        """A configured path is open, and does its work. The size of the LUN is what is told last: it may grow.

        Raises LunError, and it stays as it was, if it leads to another LUN than the other paths of its entry, or
        if that LUN belongs to another entry of another role.
        """
        assert path.entry is not None
        wwid = opened.identity.wwid
        lun = self._lun_of(path, wwid)
        lun.identity = opened.identity
        self._names[path.entry] = wwid
        lun.paths[path.name] = path
        path.opened, path.node = opened, node
        self._drop_twin(lun, path)
        self._set(lun, path, PathState.UP, "")

    def _lun_of(self, path: KnownPath, wwid: str) -> SharedLun:
        assert path.entry is not None
        known = self._names.get(path.entry, wwid)
        if known != wwid:
            raise LunError(
                f"{shown(path.url)}: leads to {wwid}, and the paths beside it to {known}"
            )
        role = self._entries[path.entry][0]
        lun = self.luns.get(wwid)
        if lun is None:
            return self._found(wwid, role)
        if lun.role == "found":
            lun.role = role
        elif lun.role != role:
            raise LunError(
                f"{shown(path.url)}: {wwid} is configured twice, as {lun.role} and {role}"
            )
        return lun

    def _found(self, wwid: str, role: Role) -> SharedLun:
        lun = self.luns[wwid] = SharedLun(wwid, role)
        self._tell(Change("lun-found", wwid))
        return lun

    def unwell(self, path: KnownPath, why: str) -> None:
        """A path is open, but the LUN does not do its work there."""
        self._down(path, why)

    def lost(self, path: KnownPath, why: str) -> None:
        """A configured path could not be opened, or has ended."""
        path.opened, path.access = None, None
        path.resets += 1
        self._down(path, why)

    def _down(self, path: KnownPath, why: str) -> None:
        lun = self._lun_with(path)
        if lun is None:
            if path.state != PathState.DOWN:
                self._tell(Change("path-down", "", shown(path.url), why))
            path.state, path.why = PathState.DOWN, why
        else:
            self._set(lun, path, PathState.DOWN, why)

    def _lun_with(self, path: KnownPath) -> SharedLun | None:
        wwid = self._names.get(path.entry) if path.entry is not None else None
        lun = self.luns.get(wwid) if wwid is not None else None
        return lun if lun is not None and path.name in lun.paths else None

    def _set(self, lun: SharedLun, path: KnownPath, state: PathState, why: str) -> None:
        before, path.state, path.why = path.state, state, why
        if before == state:
            return
        what: What = "path-up" if state == PathState.UP else "path-down"
        self._tell(Change(what, lun.wwid, path.name, why))
        for listener in self.listeners:
            listener(lun, path)

    # --------------------------------------------------------------- access states

    def access(self, path: KnownPath, groups: tuple[PortGroup, ...], port: int | None) -> None:
        """What the array said, through a path, of its groups of ports. port: the relative target port behind it."""
        lun = self._lun_with(path)
        if lun is None:
            return
        for one in groups:
            if port in one.ports:
                path.group = one.group
        self.said(lun, groups)

    def said(self, lun: SharedLun, groups: tuple[PortGroup, ...]) -> None:
        """The array's groups of ports have these states, whichever path said it."""
        before = {one.group: AccessState(one.state) for one in lun.groups}
        lun.groups = groups
        for one in groups:
            after = AccessState(one.state)
            if before.get(one.group, after) != after:
                lun.transitions.append(
                    Transition(self._now_s(), one.group, before[one.group], after)
                )
                words = f"group {one.group}: {before[one.group].name} to {after.name}".lower()
                self._tell(Change("access-changed", lun.wwid, "", words))
        states = {one.group: AccessState(one.state) for one in groups}
        for each in lun.paths.values():
            if each.group in states:
                each.access = states[each.group]

    # ---------------------------------------------------------------- kernel devices

    def device_came(self, device: KernelDevice) -> None:
        """The kernel has a device, or it has changed."""
        known = self._devices.get(device.node)
        if known is not None and known.wwid != device.wwid:
            self.device_went(device.node)
        self._devices[device.node] = device
        for path in self.configured():
            if path.url == device.node or path.url in device.links:
                path.nudge()
        lun = self.luns.get(device.wwid) or self._found(device.wwid, "found")
        path = KnownPath(device.node, node=device.node)
        path.kind = "multipath" if device.kind == "multipath" else "direct"
        known_path = lun.paths.get(path.name)
        if known_path is None and not any(one.node == device.node for one in lun.paths.values()):
            lun.paths[path.name] = path
            self._set(lun, path, PathState.UP, "")

    def device_went(self, node: str) -> None:
        """The kernel has it no more."""
        device = self._devices.pop(node, None)
        for path in self.configured():
            if node in (path.url, path.node) or (device and path.url in device.links):
                if path.opened is not None:
                    path.opened.ended.set()
                path.nudge()
        lun = self.luns.get(device.wwid) if device is not None else None
        if lun is None:
            return
        for name, path in list(lun.paths.items()):
            if path.entry is None and path.node == node:
                self._set(lun, path, PathState.DOWN, "the device is gone")
                del lun.paths[name]
        if not lun.paths:
            del self.luns[lun.wwid]
            self._tell(Change("lun-gone", lun.wwid))

    def _drop_twin(self, lun: SharedLun, path: KnownPath) -> None:
        """A kernel device that is configured, too, is one path."""
        for name, other in list(lun.paths.items()):
            if other is not path and other.entry is None and path.node and other.node == path.node:
                del lun.paths[name]
