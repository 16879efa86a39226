"""/clu/locks: namespaces, lock files and their `.sub` directories, as directories and files.

A lock file exists while its resource block does or, just created, while it is open. Its item
is kept as long as that or as the kernel holds it, so that st_ino is stable.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from clufs.errors import (
    InvalidRequest,
    NameExists,
    NamespaceInUse,
    NoSuchName,
    NotPermitted,
)
from clufs.tree.items import Attributes, Caller, Directory, Item
from clufs.tree.names import SUB, check_depth, check_lock_name, shown
from clufs.tree.namespaces import PUBLIC, Namespace, Store, check_mode, mode_made

if TYPE_CHECKING:
    from clufs.dlm.node import Node


_CLOCK_WAS_SET_S = 0.1


class LockTree:
    """All lock directories, and what they share.

    unlink and may_create: the asking side's, which knows who holds what. changed: told of
    namespaces made and removed (kind, name).
    """

    def __init__(
        self,
        node: Node,
        store: Store,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        changed: Callable[[str, Namespace], None],
    ) -> None:
        self.node = node
        self.store = store
        self.changed = changed
        self._wall = wall
        self._monotonic = monotonic
        self._begin_s = wall() - monotonic()
        self.started_s = monotonic()
        self.unlink: Callable[[LockFile, Caller], None] = _refuse_unlink
        self.may_create: Callable[[bytes, Caller], None] = _allow
        self.directories: dict[bytes, LockDirectory] = {}
        self.root = LocksRoot(self)

    def wall_ns(self, monotonic_s: float) -> int:
        """A time of the lock manager as wall clock; the same time is always the same to the nanosecond.

        Only when the wall clock was set do all times follow it.
        """
        begin_s = self._wall() - self._monotonic()
        if abs(begin_s - self._begin_s) > _CLOCK_WAS_SET_S:
            self._begin_s = begin_s
        return int((self._begin_s + monotonic_s) * 1e9)

    def block_ended(self, key: bytes) -> None:
        """The resource block is gone: so are the items that nobody holds."""
        directory, _, name = key.rpartition(b"/")
        below = self.directories.get(directory)
        file = below.files.get(name) if below else None
        if file is not None:
            file.forgotten()


def _refuse_unlink(file: LockFile, caller: Caller) -> None:
    raise NotPermitted("nothing is held here")


def _allow(parent: bytes, caller: Caller) -> None:
    return None


class LockFile(Item):
    """A lock file. key: its resource block's name; creators: opens that made the name."""

    __slots__ = ("creators", "directory", "key", "name", "opens", "pollers")
    fresh = True

    def __init__(self, directory: LockDirectory, name: bytes) -> None:
        self.key = directory.key + b"/" + name
        super().__init__(b"locks/" + self.key)
        self.directory = directory
        self.name = name
        self.creators = 0
        self.opens = 0
        self.pollers: dict[Any, None] | None = None

    @property
    def exists(self) -> bool:
        """Whether the name is listed."""
        return self.creators > 0 or self.key in self.directory.tree.node.blocks

    def attributes(self, caller: Caller) -> Attributes:
        """mode is the namespace's less execution; sticky while the value block is invalid."""
        directory = self.directory
        space = directory.namespace
        block = directory.tree.node.blocks.get(self.key)
        mode = stat.S_IFREG | (space.mode & 0o666)
        if block is None:
            return Attributes(mode, space.uid, space.gid, 0, directory.changed_ns)
        if not block.valid:
            mode |= stat.S_ISVTX
        value = block.value
        written = block.value_at if block.value_at is not None else block.created_at
        return Attributes(
            mode,
            space.uid,
            space.gid,
            len(value) + 1 if value else 0,
            directory.tree.wall_ns(written),
        )

    def forgotten(self) -> None:
        if not self.lookups and not self.opens and not self.exists:
            self.directory.files.pop(self.name, None)
            self.directory.forgotten()


class LockDirectory(Directory):
    """A namespace, or the `.sub` directory of a resource block: key is `ns` or `ns/name.sub`."""

    __slots__ = ("changed_ns", "files", "key", "namespace", "parent", "subs", "tree")

    def __init__(
        self, tree: LockTree, key: bytes, namespace: Namespace, parent: LockDirectory | None
    ) -> None:
        super().__init__(b"locks/" + key)
        self.tree = tree
        self.key = key
        self.namespace = namespace
        self.parent = parent
        self.files: dict[bytes, LockFile] = {}
        self.subs: dict[bytes, LockDirectory] = {}
        self.changed_ns = tree.wall_ns(tree.started_s)
        tree.directories[key] = self

    def attributes(self, caller: Caller) -> Attributes:
        space = self.namespace
        return Attributes(stat.S_IFDIR | space.mode, space.uid, space.gid, 0, self.changed_ns, 2)

    @property
    def in_use(self) -> bool:
        """Whether any name is listed here or below."""
        return any(file.exists or file.opens for file in self.files.values()) or any(
            sub.in_use for sub in self.subs.values()
        )

    def find(self, name: bytes) -> Item | None:
        if name.endswith(SUB):
            return self._find_sub(name)
        file = self.files.get(name)
        return file if file is not None and file.exists else None

    def _find_sub(self, name: bytes) -> LockDirectory | None:
        sub = self.subs.get(name)
        if self.key + b"/" + name[: -len(SUB)] not in self.tree.node.blocks:
            return None
        if sub is None:
            key = self.key + b"/" + name
            sub = self.subs[name] = LockDirectory(self.tree, key, self.namespace, self)
        return sub

    def names(self) -> Iterator[tuple[bytes, Item]]:
        """Sublocks before the locks above them: in that order `rm -r` can release them."""
        for name, sub in list(self.subs.items()):
            if sub.in_use:
                yield name, sub
        for name, file in list(self.files.items()):
            if file.exists:
                yield name, file

    def create(self, name: bytes, caller: Caller) -> LockFile:
        """The file of that name, which its creator holds open. Raises InvalidRequest, NotHeld."""
        check_lock_name(name)
        check_depth(self.key)
        if self.parent is not None:
            self.tree.may_create(self.key[: -len(SUB)], caller)
        file = self.files.get(name)
        if file is None:
            file = self.files[name] = LockFile(self, name)
        file.creators += 1
        return file

    def unlink(self, name: bytes, caller: Caller) -> None:
        file = self.files.get(name)
        if file is None or not file.exists:
            raise NoSuchName(f"'{shown(name)}' is not there")
        self.tree.unlink(file, caller)

    def mkdir(self, name: bytes, mode: int, caller: Caller) -> Item:
        raise NotPermitted(
            "namespaces are made in /locks only; '<name>.sub' is there while <name> is locked"
        )

    def rmdir(self, name: bytes, caller: Caller) -> None:
        """`.sub` directories come and go by themselves: an empty one counts as removed."""
        sub = self.subs.get(name)
        if sub is None:
            raise NoSuchName(f"'{shown(name)}' is not there")
        if sub.in_use:
            raise NamespaceInUse(f"'{shown(name)}' has sublocks")

    def change(self, mode: int | None, uid: int | None, gid: int | None, caller: Caller) -> None:
        if self.parent is not None or self.key == PUBLIC:
            super().change(mode, uid, gid, caller)
        space = self.namespace
        new_mode = space.mode if mode is None else check_mode(mode)
        new_uid = space.uid if uid is None else uid
        new_gid = space.gid if gid is None else gid
        self.tree.store.put_namespace(space.name, new_uid, new_gid, new_mode)
        space.mode, space.uid, space.gid = new_mode, new_uid, new_gid

    @property
    def lasting(self) -> bool:  # type: ignore[override]
        """`locks/public` never changes; the kernel may keep it."""
        return self.parent is None and self.key == PUBLIC

    def forgotten(self) -> None:
        if self.parent is None or self.lookups or self.files or self.subs:
            return
        name = self.key.rpartition(b"/")[2]
        if self.parent.subs.pop(name, None) is not None:
            del self.tree.directories[self.key]
            self.parent.forgotten()


class LocksRoot(Directory):
    """/clu/locks: any user may make a namespace; it belongs to its maker (sticky, as /tmp is)."""

    __slots__ = ("tree",)
    lasting = True

    def __init__(self, tree: LockTree) -> None:
        super().__init__(b"locks")
        self.tree = tree
        for name, uid, gid, mode in tree.store.namespaces():
            self._add(Namespace(name, uid, gid, mode))
        if PUBLIC not in tree.directories:
            self._add(Namespace(PUBLIC, 0, 0, 0o777))

    def _add(self, space: Namespace) -> LockDirectory:
        return LockDirectory(self.tree, space.name, space, None)

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | 0o1777, nlink=2)

    def find(self, name: bytes) -> Item | None:
        return self.tree.directories.get(name)

    def names(self) -> Iterator[tuple[bytes, Item]]:
        for key, directory in list(self.tree.directories.items()):
            if directory.parent is None:
                yield key, directory

    def mkdir(self, name: bytes, mode: int, caller: Caller) -> Item:
        if name in self.tree.directories:
            raise NameExists(f"namespace '{shown(name)}' is there already")
        if name.endswith(SUB):
            raise InvalidRequest(f"a namespace may not end in '.sub': '{shown(name)}'")
        space = Namespace(name, caller.uid, caller.gid, mode_made(mode))
        self.tree.store.put_namespace(space.name, space.uid, space.gid, space.mode)
        self.tree.changed("namespace-made", space)
        directory = self._add(space)
        return directory

    def rmdir(self, name: bytes, caller: Caller) -> None:
        directory = self.tree.directories.get(name)
        if directory is None:
            raise NoSuchName(f"namespace '{shown(name)}' is not there")
        if name == PUBLIC:
            raise NotPermitted("namespace 'public' is always there")
        if directory.in_use:
            raise NamespaceInUse(f"namespace '{shown(name)}' is in use")
        self.tree.store.drop_namespace(name)
        self.tree.changed("namespace-removed", directory.namespace)
        del self.tree.directories[name]
