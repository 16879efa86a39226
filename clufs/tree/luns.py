"""/clu/luns: a directory for each LUN that this member knows, by the name that the LUN gives itself.

Looking a LUN up asks nothing of it. Only `keys`, `reservation` and `data` do, each beside all else.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from clufs.errors import InvalidRequest, LunError, NoRoom, NoSuchName, NotPermitted
from clufs.storage import commands as c
from clufs.storage.asking import Question
from clufs.storage.inventory import SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.paths import LunPath
from clufs.storage.port_groups import WantedState, decode_groups, encode_wanted
from clufs.storage.through import ServedPath, Through
from clufs.tree import lun_reports as reports
from clufs.tree.items import Attributes, Caller, Directory, File, Item, Report, StaticDirectory

LUNS = b"luns"
DATA = b"data"
SERVED = "served:"

T = TypeVar("T")


def _no_method(lun: SharedLun) -> str:
    return "METHOD=none\nWHY=nothing fences by this LUN\n"


def _no_slots(lun: SharedLun) -> str:
    return ""


@dataclass(slots=True)
class LunFacts:
    """What the files need to know. me: this member. method, slots: the text of the file for a LUN, without I/O."""

    luns: Luns
    through: Through
    me: str
    who_is: reports.WhoIs
    method: Callable[[SharedLun], str] = _no_method
    slots: Callable[[SharedLun], str] = _no_slots


class AskedReport(File):
    """A report that the LUN itself makes. Its size is that of an answer; of the last one while the LUN is silent."""

    __slots__ = ("_question",)

    def __init__(self, path: bytes, question: Question[bytes]) -> None:
        super().__init__(path)
        self._question = question

    @property
    def elsewhere(self) -> bool:
        """The LUN knows, nobody here."""
        return True

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFREG | 0o444, size=len(self._question.last or b""))

    async def ask_attributes(self, caller: Caller) -> Attributes:
        """A directory can be listed whatever the LUN does."""
        with contextlib.suppress(LunError):
            await self._question.recent()
        return self.attributes(caller)

    def show(self, caller: Caller) -> bytes:
        return self._question.last or b""

    async def ask_show(self, caller: Caller) -> bytes:
        """Raises LunError."""
        return await self._question.answer()


class LunData(File):
    """The bytes of a LUN, by whichever path works. For root; whole blocks are written, anything is read."""

    __slots__ = ("_through", "lun")

    def __init__(self, path: bytes, through: Through, lun: SharedLun) -> None:
        super().__init__(path)
        self._through = through
        self.lun = lun

    @property
    def _block_bytes(self) -> int:
        return self.lun.identity.block_bytes if self.lun.identity else 1

    @property
    def size(self) -> int:
        """As the LUN said when a path to it was opened; 0 before."""
        identity = self.lun.identity
        return identity.blocks * identity.block_bytes if identity else 0

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFREG | 0o600, uid=os.geteuid(), size=self.size)

    def show(self, caller: Caller) -> bytes:
        """Not as a whole: see `read_at`."""
        return b""

    async def read_at(self, offset: int, size: int) -> bytes:
        """The bytes there, fewer at the end. Raises LunError."""
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        first, last = offset // self._block_bytes, -(-end // self._block_bytes)
        data = await self._through.read(self.lun, first, last - first)
        begin = offset - first * self._block_bytes
        return data[begin : begin + end - offset]

    def write_at(self, offset: int, data: bytes) -> Awaitable[None]:
        """Write whole blocks; on the medium when what it returns was awaited.

        Raises InvalidRequest for a part of a block, NoRoom beyond the end, NotPermitted for a LUN of clufs, LunError.
        """
        if self.lun.role == "clufs":
            raise NotPermitted(f"{self.lun.wwid} is clufs' own: what is on it, it writes itself")
        block = self._block_bytes
        if offset % block or len(data) % block:
            what = f"{len(data)} bytes at {offset}"
            raise InvalidRequest(f"whole blocks of {block} bytes are written, not {what}")
        if offset + len(data) > self.size:
            raise NoRoom(f"{self.lun.wwid} ends at {self.size}")
        return self._through.write(self.lun, offset // block, data)


class PathsDirectory(Directory):
    """A file for each path: those of this member, and each other member that has one itself."""

    __slots__ = ("_facts", "_items", "_lun")

    def __init__(self, path: bytes, facts: LunFacts, lun: SharedLun) -> None:
        super().__init__(path)
        self._facts = facts
        self._lun = lun
        self._items: dict[bytes, Item] = {}

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | 0o555, nlink=2)

    def find(self, name: bytes) -> Item | None:
        if name.decode(errors="replace") not in self._lun.paths and self._served(name) is None:
            self._items.pop(name, None)
            return None
        if name not in self._items:
            self._items[name] = Report(self.path + b"/" + name, self._shows(name.decode()))
        return self._items[name]

    def names(self) -> Iterator[tuple[bytes, Item]]:
        served = [SERVED + one.member for one in self._facts.through.paths(self._lun.wwid)]
        for name in [*self._lun.paths, *served]:
            item = self.find(name.encode())
            if item is not None:
                yield name.encode(), item

    def _served(self, name: bytes) -> ServedPath | None:
        member = name.decode(errors="replace").removeprefix(SERVED)
        paths = (
            self._facts.through.paths(self._lun.wwid) if name.startswith(SERVED.encode()) else []
        )
        return next((path for path in paths if path.member == member), None)

    def _shows(self, name: str) -> Callable[[Caller], bytes]:
        def show(caller: Caller) -> bytes:
            path = self._lun.paths.get(name)
            served = self._served(name.encode())
            if path is None and served is not None:
                return reports.show_served(served).encode()
            if path is None:
                raise NoSuchName(f"the path {name} is gone")
            return reports.show_path(path, self._facts.me).encode()

        return show


class LunDirectory(StaticDirectory):
    """One LUN."""

    __slots__ = ("_data", "lun")

    def __init__(self, path: bytes, facts: LunFacts, lun: SharedLun) -> None:
        super().__init__(path)
        self.lun = lun
        luns = facts.luns

        def asked(
            name: bytes, ask: Callable[[LunPath], Awaitable[T]], show: Callable[[T], str]
        ) -> None:
            async def answer() -> bytes:
                return show(await luns.run(lun, ask)).encode()

            question = Question(f"{lun.wwid}: {name.decode()}", luns.begin, answer)
            self.add(AskedReport(path + b"/" + name, question))

        asked(b"keys", reports.ask_keys, lambda keys: reports.show_keys(keys, facts.who_is))
        asked(
            b"reservation",
            reports.ask_reservation,
            lambda reserved: reports.show_reservation(reserved, facts.who_is),
        )
        self.add(Report(path + b"/method", lambda _: facts.method(lun).encode()))
        self.add(Report(path + b"/slots", lambda _: facts.slots(lun).encode()))
        self.add(
            Report(
                path + b"/access_state",
                lambda _: reports.show_access(lun).encode(),
                lambda data, _: _set_access(luns, lun, reports.parse_access(lun, data)),
                0o644,
            )
        )
        self.add(PathsDirectory(path + b"/paths", facts, lun))
        self._data = LunData(path + b"/" + DATA, facts.through, lun)

    def find(self, name: bytes) -> Item | None:
        """`data` is opened by name and not listed: no walk over the tree reads a LUN."""
        return self._data if name == DATA else super().find(name)


async def _set_access(luns: Luns, lun: SharedLun, wanted: WantedState) -> None:
    data = encode_wanted((wanted,))

    async def ask(opened: LunPath) -> bytes:
        assert opened.lun is not None  # only an array has groups
        await opened.lun.run(c.SetTargetPortGroups(len(data)), data)
        return await opened.lun.run(c.ReportTargetPortGroups())

    luns.inventory.said(lun, decode_groups(await luns.run(lun, ask)))


class LunsDirectory(Directory):
    """All of them."""

    __slots__ = ("_facts", "_items")

    def __init__(self, facts: LunFacts) -> None:
        super().__init__(LUNS)
        self._facts = facts
        self._items: dict[str, LunDirectory] = {}

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | 0o555, nlink=2)

    def find(self, name: bytes) -> Item | None:
        wwid = name.decode(errors="replace")
        lun = self._facts.luns.inventory.luns.get(wwid)
        known = self._items.get(wwid)
        if lun is None:
            self._items.pop(wwid, None)
            return None
        if known is None or known.lun is not lun:
            known = self._items[wwid] = LunDirectory(self.path + b"/" + name, self._facts, lun)
        return known

    def names(self) -> Iterator[tuple[bytes, Item]]:
        for wwid in sorted(self._facts.luns.inventory.luns):
            item = self.find(wwid.encode())
            if item is not None:
                yield wwid.encode(), item
