"""Process lock groups: /clu/groups/<group>/procs (Tru64 manual, 9.2: process lock group containers)."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator

from clufs.dlm.interface import Event, PartyChanged
from clufs.errors import (
    AccessDenied,
    InvalidRequest,
    NameExists,
    NamespaceInUse,
    NoSuchName,
    NotHeld,
)
from clufs.fuse import processes
from clufs.fuse.owners import GroupOwner, ProcessOwner
from clufs.tree.items import Attributes, Caller, Directory, File, Item, one_line
from clufs.tree.names import shown


def _unset_process(pid: int) -> ProcessOwner:
    raise NoSuchName(f"process {pid} is not there")


class Groups(Directory):
    """/clu/groups: every user may make groups; a group belongs to its maker (sticky, as /tmp is)."""

    __slots__ = ("by_name", "changed", "joined", "process_of")

    def __init__(self) -> None:
        super().__init__(b"groups")
        self.by_name: dict[bytes, GroupDirectory] = {}
        self.process_of: Callable[[int], ProcessOwner] = _unset_process
        self.joined: Callable[[ProcessOwner], None] = lambda process: None
        self.changed: Callable[[Event], None] = lambda event: None

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | 0o1777, nlink=2)

    def find(self, name: bytes) -> Item | None:
        return self.by_name.get(name)

    def names(self) -> Iterator[tuple[bytes, Item]]:
        yield from list(self.by_name.items())

    async def mkdir(self, name: bytes, mode: int, caller: Caller) -> Item:
        if name in self.by_name:
            raise NameExists(f"group '{shown(name)}' is there already")
        directory = GroupDirectory(self, GroupOwner(name, caller.uid, caller.gid))
        self.by_name[name] = directory
        return directory

    async def rmdir(self, name: bytes, caller: Caller) -> None:
        directory = self.by_name.get(name)
        if directory is None:
            raise NoSuchName(f"group '{shown(name)}' is not there")
        if directory.group.members:
            raise NamespaceInUse(f"group '{shown(name)}' has processes")
        del self.by_name[name]

    def owner_for(self, name: bytes, process: ProcessOwner | None) -> GroupOwner:
        """The group that `process` asks for. Raises NoSuchName, or NotHeld if it is not in it."""
        directory = self.by_name.get(name)
        if directory is None:
            raise NoSuchName(f"group '{shown(name)}' is not there; mkdir it in groups/")
        if process is None or process.pid not in directory.group.members:
            raise NotHeld(f"the process that asks is not in group '{shown(name)}'")
        return directory.group

    def join(self, group: GroupOwner, process: ProcessOwner) -> None:
        """`process` is in the group from now on."""
        group.members[process.pid] = process
        process.groups.add(group)
        if group.locks:
            self.joined(process)
        self._told(group)

    def leave(self, group: GroupOwner, process: ProcessOwner) -> None:
        """`process` is in the group no more."""
        group.members.pop(process.pid, None)
        process.groups.discard(group)
        self._told(group)

    def _told(self, group: GroupOwner) -> None:
        self.changed(PartyChanged(group, frozenset(group.members.values())))


class GroupDirectory(Directory):
    """One group: `procs` lists its processes; writing a pid there adds one."""

    __slots__ = ("group", "groups", "procs")

    def __init__(self, groups: Groups, group: GroupOwner) -> None:
        super().__init__(b"groups/" + group.name)
        self.groups = groups
        self.group = group
        self.procs = Procs(self)

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | 0o755, self.group.uid, self.group.gid, nlink=2)

    def find(self, name: bytes) -> Item | None:
        return self.procs if name == b"procs" else None

    def names(self) -> Iterator[tuple[bytes, Item]]:
        yield b"procs", self.procs


class Procs(File):
    """The processes of a group, a pid a line."""

    __slots__ = ("directory",)

    def __init__(self, directory: GroupDirectory) -> None:
        super().__init__(directory.path + b"/procs")
        self.directory = directory

    def attributes(self, caller: Caller) -> Attributes:
        group = self.directory.group
        size = len(self.show(caller))
        return Attributes(stat.S_IFREG | 0o644, group.uid, group.gid, size)

    def show(self, caller: Caller) -> bytes:
        return b"".join(b"%d\n" % pid for pid in sorted(self.directory.group.members))

    def store(self, data: bytes, caller: Caller) -> None:
        """Add one process of the caller's own. Raises InvalidRequest, NoSuchName, AccessDenied."""
        text = one_line(data).strip()
        if not text.isdigit():
            raise InvalidRequest(f"'{shown(text)}' is not a process id")
        pid = int(text)
        if processes.group_leader(pid) != pid:
            raise NoSuchName(f"process {pid} is not there")
        if caller.uid not in (0, processes.uid_of(pid)):
            raise AccessDenied(f"process {pid} is another user's")
        groups = self.directory.groups
        groups.join(self.directory.group, groups.process_of(pid))
