"""/clu/locks: namespaces, lock files and their `.sub` directories, as directories and files.

A lock file exists while its resource block does or, just created, while it is open. Its item
is kept as long as that or as the kernel holds it, so that st_ino is stable. Of a block that another
member masters there may be no trace here: `seek`, `ask_names` and `ask_attributes` ask for it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from clufs.errors import (
    HostDown,
    InvalidRequest,
    NameExists,
    NamespaceInUse,
    NoQuorum,
    NoSuchName,
    NotPermitted,
)
from clufs.tree.elsewhere import Elsewhere, Nobody
from clufs.tree.items import Attributes, Caller, Directory, Item
from clufs.tree.names import SUB, check_depth, check_lock_name, shown
from clufs.tree.namespaces import HIDDEN, PUBLIC, Namespace, Store, check_mode, mode_made

if TYPE_CHECKING:
    from clufs.dlm.node import Node
    from clufs.member.facts import BlockFacts


_CLOCK_WAS_SET_S = 0.1
_ONE_CALL_S = 0.01  # stat(2) is a LOOKUP and a GETATTR, a moment apart: they ask other members once


class _Told(NamedTuple):
    name: bytes
    facts: BlockFacts | None
    tid: int
    until: float


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
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.node = node
        self.store = store
        self.elsewhere: Elsewhere = elsewhere or Nobody()
        self.changed = changed
        self._wall = wall
        self.now = monotonic
        self._begin_s = wall() - monotonic()
        self.started_s = monotonic()
        self.unlink: Callable[[LockFile, Caller], None] = _refuse_unlink
        self.may_create: Callable[[bytes, Caller], None] = _allow
        self.directories: dict[bytes, LockDirectory] = {}
        self.root = LocksRoot(self)

    def need_quorum(self) -> None:
        """Raises NoQuorum at once where a change would have to wait: the kernel holds the directory's
        lock meanwhile, and everybody in it would hang."""
        if not self.elsewhere.quorum:
            raise NoQuorum("this member has no quorum: try again when it has")

    def wall_ns(self, monotonic_s: float) -> int:
        """A time of the lock manager as wall clock; the same time is always the same to the nanosecond.

        Only when the wall clock was set do all times follow it.
        """
        return int(self.wall_s(monotonic_s) * 1e9)

    def wall_s(self, monotonic_s: float) -> float:
        """The same in seconds."""
        begin_s = self._wall() - self.now()
        if abs(begin_s - self._begin_s) > _CLOCK_WAS_SET_S:
            self._begin_s = begin_s
        return self._begin_s + monotonic_s

    def block_ended(self, key: bytes) -> None:
        """The resource block is gone: so are the items that nobody holds."""
        directory, _, name = key.rpartition(b"/")
        below = self.directories.get(directory)
        file = below.files.get(name) if below else None
        if file is not None:
            file.forgotten()

    def guests_in(self, directory: bytes) -> set[bytes]:
        """The names that locks of other members, mastered here, give this directory."""
        prefix = directory + b"/"
        begin = len(prefix)
        names = [name for guest in self.node.guests.values() for name in guest.locks]
        return {name[begin:].partition(b"/")[0] for name in names if name.startswith(prefix)}

    def names_in(self, directory: bytes) -> set[bytes]:
        """The names that locks known here give this directory, copies among them."""
        below = self.directories.get(directory)
        return self.guests_in(directory) | (below.locked_names() if below is not None else set())


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
        """Whether the name is listed, as far as this member knows."""
        return self.creators > 0 or self.is_locked

    @property
    def is_locked(self) -> bool:
        """Whether a lock on it is known here."""
        node = self.directory.tree.node
        return self.key in node.blocks or self.key in node.copies

    @property
    def elsewhere(self) -> bool:
        elsewhere = self.directory.tree.elsewhere
        return elsewhere.shared and not elsewhere.knows(self.key)

    def attributes(self, caller: Caller) -> Attributes:
        """mode is the namespace's less execution; sticky while the value block is invalid."""
        tree = self.directory.tree
        block = tree.node.find(self.key)
        if block is None:
            return self._attributes(b"", True, self.directory.changed_ns)
        written = block.value_at if block.value_at is not None else block.created_at
        return self._attributes(block.value, block.valid, tree.wall_ns(written))

    def _attributes(self, value: bytes, valid: bool, written_ns: int) -> Attributes:
        space = self.directory.namespace
        mode = stat.S_IFREG | (space.mode & 0o666)
        if not valid:
            mode |= stat.S_ISVTX
        size = len(value) + 1 if value else 0
        return Attributes(mode, space.uid, space.gid, size, written_ns)

    async def ask_attributes(self, caller: Caller) -> Attributes:
        """Where nobody can tell, what is known here: the kernel asks before every open, also of who
        wants to wait; who reads is told that nobody knows."""
        tree = self.directory.tree
        told = self.directory.take_told(self.name, caller)
        if told is not None:
            facts = told.facts
        else:
            try:
                facts = await tree.elsewhere.facts(self.key)
            except HostDown:
                return self.attributes(caller)
        if facts is None:
            return self._attributes(b"", True, self.directory.changed_ns)
        return self._attributes(facts.value, facts.valid, int(facts.written_s * 1e9))

    def forgotten(self) -> None:
        if not self.lookups and not self.opens and not self.exists:
            self.directory.files.pop(self.name, None)
            self.directory.forgotten()


class LockDirectory(Directory):
    """A namespace, or the `.sub` directory of a resource block: key is `ns` or `ns/name.sub`.

    dropped: it is a namespace no more, and goes with the last lock in it. told: the last answer
    about a name here, for the rest of the system call for which it was asked.
    """

    __slots__ = (
        "changed_ns",
        "dropped",
        "files",
        "key",
        "namespace",
        "parent",
        "subs",
        "told",
        "tree",
    )

    def __init__(
        self, tree: LockTree, key: bytes, namespace: Namespace, parent: LockDirectory | None
    ) -> None:
        super().__init__(b"locks/" + key)
        self.tree = tree
        self.key = key
        self.namespace = namespace
        self.parent = parent
        self.dropped = False
        self.told: _Told | None = None
        self.files: dict[bytes, LockFile] = {}
        self.subs: dict[bytes, LockDirectory] = {}
        self.changed_ns = tree.wall_ns(tree.started_s)
        tree.directories[key] = self

    def attributes(self, caller: Caller) -> Attributes:
        space = self.namespace
        return Attributes(stat.S_IFDIR | space.mode, space.uid, space.gid, 0, self.changed_ns, 2)

    @property
    def shared(self) -> bool:
        return self.tree.elsewhere.shared

    @property
    def in_use(self) -> bool:
        """Whether anybody on this member uses a name here or below."""
        return any(file.exists or file.opens for file in self.files.values()) or any(
            sub.in_use for sub in self.subs.values()
        )

    async def is_in_use(self) -> bool:
        """Whether any member has a lock here or below. Raises HostDown if one does not answer."""
        if self.in_use or self.tree.guests_in(self.key):
            return True
        return bool(await self.tree.elsewhere.names(self.key))

    def locked_names(self) -> set[bytes]:
        """The names that locks of this member give, and the `.sub` directories with locks below."""
        names = {name for name, file in self.files.items() if file.is_locked}
        return names | {name for name, sub in self.subs.items() if sub.locked_names()}

    # ---------------------------------------------------------------- names

    def find(self, name: bytes) -> Item | None:
        if name.endswith(SUB):
            above = self.key + b"/" + name[: -len(SUB)]
            return self._sub(name) if self.tree.node.find(above) is not None else None
        file = self.files.get(name)
        if file is None:
            # Locks of other members that are mastered here make names, too.
            guest = self.shared and self.key + b"/" + name in self.tree.node.blocks
            return self._file(name) if guest else None
        return file if file.exists else None

    async def seek(self, name: bytes, caller: Caller) -> Item | None:
        """Where nobody can tell whether the name exists it is there: a look-up does not say what
        it is for, and to refuse it would refuse the request that may wait for its grant."""
        is_sub = name.endswith(SUB)
        key = self.key + b"/" + (name[: -len(SUB)] if is_sub else name)
        elsewhere = self.tree.elsewhere
        if elsewhere.knows(key):
            return self.find(name)
        # The kernel looks up once more what has another node id than the time before.
        told = self._told(name, caller)
        if told is not None and told.facts is not None:
            return self._file(name)
        facts = None
        try:
            facts = await elsewhere.facts(key)
            exists = facts is not None or self.find(name) is not None
        except HostDown:
            exists = True
        if not exists:
            return None
        if is_sub:
            return self._sub(name)
        if facts is not None:
            self._tell(name, facts, caller)
        return self._file(name)

    def _tell(self, name: bytes, facts: BlockFacts | None, caller: Caller) -> None:
        self.told = _Told(name, facts, caller.pid, self.tree.now() + _ONE_CALL_S)

    def _told(self, name: bytes, caller: Caller) -> _Told | None:
        told = self.told
        if told is None or (told.name, told.tid) != (name, caller.pid):
            return None
        return told if self.tree.now() <= told.until else None

    def take_told(self, name: bytes, caller: Caller) -> _Told | None:
        """What has been asked about a file for the system call that this thread is in; once."""
        told = self._told(name, caller)
        if told is not None:
            self.told = None
        return told

    async def exists(self, name: bytes) -> bool:
        if self.find(name) is not None:
            return True
        self.tree.need_quorum()
        key = self.key + b"/" + name
        elsewhere = self.tree.elsewhere
        return not elsewhere.knows(key) and await elsewhere.facts(key) is not None

    def _file(self, name: bytes) -> LockFile:
        file = self.files.get(name)
        if file is None:
            file = self.files[name] = LockFile(self, name)
        return file

    def _sub(self, name: bytes) -> LockDirectory:
        sub = self.subs.get(name)
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

    async def ask_names(self) -> list[tuple[bytes, Item]]:
        locked = dict(await self.ask_locked())
        created = [(name, item) for name, item in self.names() if name not in locked]
        return [*locked.items(), *created]

    async def ask_locked(self) -> list[tuple[bytes, Item]]:
        """The names that locks anywhere give, with their items; `.sub` directories come first."""
        names = self.locked_names() | await self.tree.elsewhere.names(self.key)
        names |= self.tree.guests_in(self.key)
        ordered = sorted(names, key=lambda name: not name.endswith(SUB))
        return [
            (name, self._sub(name) if name.endswith(SUB) else self._file(name)) for name in ordered
        ]

    # -------------------------------------------------------------- changes

    def create(self, name: bytes, caller: Caller) -> LockFile:
        """The file of that name, which its creator holds open. Raises InvalidRequest, NotHeld."""
        check_lock_name(name)
        check_depth(self.key)
        if self.parent is not None:
            self.tree.may_create(self.key[: -len(SUB)], caller)
        file = self._file(name)
        file.creators += 1
        if self.shared:  # the kernel asks for the attributes of what it has just made
            self._tell(name, None, caller)
        return file

    def unlink(self, name: bytes, caller: Caller) -> None:
        file = self.files.get(name)
        if file is None or not (file.exists or self.shared):
            raise NoSuchName(f"'{shown(name)}' is not there")
        self.tree.unlink(file, caller)

    async def mkdir(self, name: bytes, mode: int, caller: Caller) -> Item:
        raise NotPermitted(
            "namespaces are made in /locks only; '<name>.sub' is there while <name> is locked"
        )

    async def rmdir(self, name: bytes, caller: Caller) -> None:
        """`.sub` directories come and go by themselves: an empty one counts as removed."""
        sub = self.subs.get(name)
        if sub is None:
            raise NoSuchName(f"'{shown(name)}' is not there")
        if await sub.is_in_use():
            raise NamespaceInUse(f"'{shown(name)}' has sublocks")

    async def change(
        self, mode: int | None, uid: int | None, gid: int | None, caller: Caller
    ) -> None:
        if self.parent is not None or self.key == PUBLIC:
            await super().change(mode, uid, gid, caller)
        space = self.namespace
        new_mode = space.mode if mode is None else check_mode(mode)
        new_uid = space.uid if uid is None else uid
        new_gid = space.gid if gid is None else gid
        self.tree.need_quorum()
        await self.tree.store.put_namespace(space.name, new_uid, new_gid, new_mode)

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

    def namespace_put(self, name: bytes, uid: int, gid: int, mode: int) -> LockDirectory:
        """The cluster has this namespace now, new or changed; saying it again changes nothing."""
        directory = self.tree.directories.get(name)
        made = directory is None or directory.dropped
        if directory is None:
            directory = self._add(Namespace(name, uid, gid, mode))
        space = directory.namespace
        directory.dropped = False
        space.uid, space.gid, space.mode = uid, gid, mode
        if made:
            self.tree.changed("namespace-made", space)
        return directory

    def namespace_dropped(self, name: bytes) -> None:
        """The cluster has this namespace no more. What is still locked in it here can be released."""
        directory = self.tree.directories.get(name)
        if directory is not None and not directory.dropped:
            self.tree.changed("namespace-removed", directory.namespace)
            directory.dropped = True
            self.find(name)

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | 0o1777, nlink=2)

    def find(self, name: bytes) -> Item | None:
        directory = self.tree.directories.get(name)
        if directory is not None and directory.dropped and not directory.in_use:
            del self.tree.directories[name]
            return None
        return directory if name not in HIDDEN else None

    def names(self) -> Iterator[tuple[bytes, Item]]:
        for key, directory in list(self.tree.directories.items()):
            if directory.parent is None and self.find(key) is not None:
                yield key, directory

    async def mkdir(self, name: bytes, mode: int, caller: Caller) -> Item:
        if self.find(name) is not None:
            raise NameExists(f"namespace '{shown(name)}' is there already")
        if name.endswith(SUB):
            raise InvalidRequest(f"a namespace may not end in '.sub': '{shown(name)}'")
        if name in HIDDEN:
            raise InvalidRequest(f"'{shown(name)}' is for the locks of clufs itself")
        uid, gid, mode = caller.uid, caller.gid, mode_made(mode)
        self.tree.need_quorum()
        await self.tree.store.put_namespace(name, uid, gid, mode, new=True)
        made = self.find(name)
        if made is None:
            raise NoSuchName(f"namespace '{shown(name)}' was made, and removed by another at once")
        return made

    async def rmdir(self, name: bytes, caller: Caller) -> None:
        directory = self.find(name)
        if not isinstance(directory, LockDirectory):
            raise NoSuchName(f"namespace '{shown(name)}' is not there")
        if name == PUBLIC:
            raise NotPermitted("namespace 'public' is always there")
        self.tree.need_quorum()
        if await directory.is_in_use():
            raise NamespaceInUse(f"namespace '{shown(name)}' is in use")
        await self.tree.store.drop_namespace(name)
