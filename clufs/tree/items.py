"""What /clu is made of: directories, files that show something, links; a tree that is a table.

An item knows no FUSE. It answers who may do what (`attributes`), what is below it
(`find`, `names`) and what it shows; it raises the errors of errors.py.
"""

from __future__ import annotations

import abc
import itertools
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple

from clufs.errors import InvalidRequest, NotPermitted
from clufs.tree.names import shown

FIRST_NUMBER = 1
NUMBER_MAX = 0xFFFFFFFF
# Numbers come again after four thousand million names; who looks an item up minds those in use.
_numbers = itertools.chain.from_iterable(itertools.repeat(range(FIRST_NUMBER, NUMBER_MAX + 1)))


def next_number() -> int:
    """A number for an item, unlike those of the last four thousand million."""
    return next(_numbers)


class Caller(NamedTuple):
    """The process behind a system call; pid may be a thread id, and 0 if it cannot be seen."""

    pid: int
    uid: int
    gid: int


NOBODY = Caller(0, 0, 0)


class Attributes(NamedTuple):
    """What stat(2) tells of an item beside its number. mtime_ns: wall clock.

    atime_ns, ctime_ns: where they have times of their own, else 0. blocks: of 512 bytes.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    nlink: int = 1
    atime_ns: int = 0
    ctime_ns: int = 0
    blocks: int = 0


class Item(abc.ABC):
    """Anything with a path. number: its st_ino, stable while the kernel holds it; path: from the mount point.

    lookups: how often the kernel holds it. lasting: its name and attributes never change.
    fresh: each look-up gets a node id of its own, so that each open has an inode lock of its own;
    idle_node: one that was opened and closed since, for one look-up to have again.
    """

    __slots__ = ("idle_node", "lookups", "number", "path")
    lasting = False
    fresh = False

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.number = next_number()
        self.lookups = 0
        self.idle_node = 0

    @abc.abstractmethod
    def attributes(self, caller: Caller) -> Attributes:
        """What stat(2) shows to `caller`, as far as this member knows."""

    @property
    def elsewhere(self) -> bool:
        """Whether only other members can tell what it shows now: then `ask_attributes` and the like."""
        return False

    async def ask_attributes(self, caller: Caller) -> Attributes:
        """What stat(2) shows to `caller`, after asking the member that knows. Raises HostDown."""
        return self.attributes(caller)

    def forgotten(self) -> None:  # noqa: B027  (most items have nothing to do then)
        """The kernel holds the item no more."""


class Directory(Item):
    """A directory; what it does not allow is EPERM, with a sentence."""

    __slots__ = ()

    @property
    def shared(self) -> bool:
        """Whether other members may know more names than `find` and `names` do."""
        return False

    @abc.abstractmethod
    def find(self, name: bytes) -> Item | None:
        """The item of that name as far as this member knows, else None. Never waits."""

    async def seek(self, name: bytes, caller: Caller) -> Item | None:
        """The item of that name, None if there is none, after asking other members about it."""
        return self.find(name)

    async def exists(self, name: bytes) -> bool:
        """Whether there is an item of that name anywhere. Raises HostDown where nobody can tell."""
        return self.find(name) is not None

    @abc.abstractmethod
    def names(self) -> Iterable[tuple[bytes, Item]]:
        """All names now that this member knows, with their items."""

    async def ask_names(self) -> list[tuple[bytes, Item]]:
        """All names now, after asking the other members. Raises HostDown rather than leave one out."""
        return list(self.names())

    async def mkdir(self, name: bytes, mode: int, caller: Caller) -> Item:
        """Make a directory. Raises NotPermitted where there is nothing to make."""
        raise NotPermitted(f"no directory can be made in /{shown(self.path)}")

    async def rmdir(self, name: bytes, caller: Caller) -> None:
        """Remove a directory. Raises NotPermitted where none can be."""
        raise NotPermitted(f"'{shown(name)}' is part of the tree and stays")

    def create(self, name: bytes, caller: Caller) -> Item:
        """Make a file. Raises NotPermitted where none can be."""
        raise NotPermitted(f"no file can be made in /{shown(self.path)}")

    def unlink(self, name: bytes, caller: Caller) -> None:
        """Remove a file. Raises NotPermitted where none can be."""
        raise NotPermitted(f"'{shown(name)}' is part of the tree and stays")

    async def change(
        self, mode: int | None, uid: int | None, gid: int | None, caller: Caller
    ) -> None:
        """chmod and chown. Raises NotPermitted where they are fixed."""
        raise NotPermitted(f"owner and mode of /{shown(self.path)} are fixed")


class StaticDirectory(Directory):
    """A directory with fixed entries, and perhaps more that `more` finds and lists."""

    __slots__ = ("entries", "mode")

    def __init__(self, path: bytes, mode: int = 0o555) -> None:
        super().__init__(path)
        self.mode = mode
        self.entries: dict[bytes, Item] = {}

    def add(self, item: Item) -> Item:
        """Place an item below; its name is the last part of its path."""
        self.entries[item.path.rpartition(b"/")[2]] = item
        return item

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | self.mode, nlink=2)

    def find(self, name: bytes) -> Item | None:
        return self.entries.get(name)

    def names(self) -> Iterator[tuple[bytes, Item]]:
        yield from self.entries.items()


class Root(StaticDirectory):
    """The root of /clu: nothing about it ever changes."""

    __slots__ = ()
    lasting = True

    def __init__(self) -> None:
        super().__init__(b"", 0o755)


class Link(Item):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, path: bytes, target: bytes) -> None:
        super().__init__(path)
        self.target = target

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFLNK | 0o777, size=len(self.target))


class File(Item):
    """A regular file that is not a lock file."""

    __slots__ = ()
    fresh = True

    @abc.abstractmethod
    def show(self, caller: Caller) -> bytes:
        """The text that an open of `caller` reads."""

    async def ask_show(self, caller: Caller) -> bytes:
        """The same where it is `elsewhere`. Raises HostDown."""
        return self.show(caller)

    def store(self, data: bytes, caller: Caller) -> Awaitable[None] | None:
        """What a write does; it is done when this returns or, where others must be asked, when what it
        returns has been awaited. Raises NotPermitted where writing means nothing."""
        raise NotPermitted(f"/{shown(self.path)} is not written to")


Show = Callable[[Caller], bytes]
Store = Callable[[bytes, Caller], Awaitable[None] | None]


class Report(File):
    """A file of the table: shows what a function returns, stores by another."""

    __slots__ = ("_show", "_store", "mode")

    def __init__(self, path: bytes, show: Show, store: Store | None = None, mode: int = 0) -> None:
        super().__init__(path)
        self._show = show
        self._store = store
        self.mode = mode or (0o666 if store else 0o444)

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFREG | self.mode, size=len(self.show(caller)))

    def show(self, caller: Caller) -> bytes:
        return self._show(caller)

    def store(self, data: bytes, caller: Caller) -> Awaitable[None] | None:
        if self._store is None:
            return super().store(data, caller)
        return self._store(data, caller)


def one_line(data: bytes) -> bytes:
    """The one line of a write, without its newline. Raises InvalidRequest when there are more."""
    text = data.removesuffix(b"\n")
    if b"\n" in text or b"\0" in text or not text:
        raise InvalidRequest("write one line")
    return text
