"""`.caa`, the namespace of the locks that clufs asks for itself, and that of locks on lockfiles.

They are not in /clu/locks, so that nobody asks for one of them; root reads who holds and awaits them in
/clu/status/locks/.caa and .lockfiles. The block names are `.caa/planner` and `.caa/app/<resource>`,
and `.lockfiles/<st_ino>`: whatever the file's name is by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from clufs.errors import HostDown
from clufs.tree.items import Caller, Item
from clufs.tree.lock_reports import MirroredDirectory
from clufs.tree.lock_tree import LockDirectory, LockFile, LockTree
from clufs.tree.namespaces import HIDDEN, RESERVED, Namespace

if TYPE_CHECKING:
    from clufs.dlm.rsb import ResourceBlock

PLANNER = RESERVED + b"/planner"
APPLICATIONS = b"app"


def application_lock(resource: str) -> bytes:
    """The name of the lock under which this application runs."""
    return RESERVED + b"/" + APPLICATIONS + b"/" + resource.encode()


class ReservedDirectory(LockDirectory):
    """`.caa`, or a directory below it: root alone may look at it."""

    __slots__ = ()

    def __init__(self, tree: LockTree, key: bytes, parent: LockDirectory | None) -> None:
        name = key.partition(b"/")[0]
        super().__init__(tree, key, Namespace(name, 0, 0, 0o700), parent)

    def file_of(self, key: bytes) -> LockFile:
        """The item of a lock that is about to be asked for, so that the lists have its name."""
        directory, _, name = key.rpartition(b"/")
        below = self.directory(APPLICATIONS) if directory != self.key else self
        return below._file(name)

    def directory(self, name: bytes) -> ReservedDirectory:
        """The directory of that name below."""
        found = self.subs.get(name)
        if not isinstance(found, ReservedDirectory):
            found = ReservedDirectory(self.tree, self.key + b"/" + name, self)
            self.subs[name] = found
        return found

    def _holds_directory(self, name: bytes) -> bool:
        return self.key == RESERVED and name == APPLICATIONS

    def find(self, name: bytes) -> Item | None:
        if self._holds_directory(name):
            return self.directory(name)
        key = self.key + b"/" + name
        return self._file(name) if self.tree.node.find(key) is not None else None

    async def seek(self, name: bytes, caller: Caller) -> Item | None:
        found = self.find(name)
        if found is not None:
            return found
        try:
            facts = await self.tree.elsewhere.facts(self.key + b"/" + name)
        except HostDown:
            return None
        return self._file(name) if facts is not None else None

    def names(self) -> Iterator[tuple[bytes, Item]]:
        if self.key == RESERVED:
            yield APPLICATIONS, self.directory(APPLICATIONS)
        for name, file in list(self.files.items()):
            if file.exists:
                yield name, file

    async def ask_locked(self) -> list[tuple[bytes, Item]]:
        names = self.locked_names() | await self.tree.elsewhere.names(self.key)
        names |= self.tree.guests_in(self.key)
        if self.key == RESERVED:
            names.add(APPLICATIONS)
        return [
            (name, self.directory(name) if self._holds_directory(name) else self._file(name))
            for name in sorted(names)
        ]

    def forgotten(self) -> None:
        """It stays."""


def reserve(tree: LockTree, name: bytes = RESERVED) -> ReservedDirectory:
    """A hidden namespace of this member; made where it is asked for first."""
    known = tree.directories.get(name)
    return known if isinstance(known, ReservedDirectory) else ReservedDirectory(tree, name, None)


class LockReports(MirroredDirectory):
    """/clu/status/locks: all that /clu/locks has, and the hidden namespaces."""

    __slots__ = ("_hidden",)

    def __init__(self, tree: LockTree, show: Callable[[ResourceBlock], bytes]) -> None:
        super().__init__(tree.root, show)
        self._hidden = {name: reserve(tree, name) for name in HIDDEN}

    def find(self, name: bytes) -> Item | None:
        hidden = self._hidden.get(name)
        return self._mirror(hidden) if hidden is not None else super().find(name)

    async def seek(self, name: bytes, caller: Caller) -> Item | None:
        return self.find(name) if name in self._hidden else await super().seek(name, caller)

    def _of_hidden(self) -> Iterator[tuple[bytes, Item]]:
        for name, hidden in self._hidden.items():
            yield from self._mirrored(name, hidden)

    def names(self) -> Iterator[tuple[bytes, Item]]:
        yield from super().names()
        yield from self._of_hidden()

    async def ask_names(self) -> list[tuple[bytes, Item]]:
        return [*await super().ask_names(), *self._of_hidden()]
