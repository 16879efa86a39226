"""The files of /clu/lockfiles: an inode table and the names in it, as every file system has. Pure.

What stat(2), link(2) and renameat2(2) promise is decided here, one command after the other.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable

import msgspec

from clufs.limits import (
    LINKS_MAX,
    LOCKFILE_MAX_BYTES,
    LOCKFILES_MAX,
    LOCKFILES_MAX_BYTES,
    NAMESPACE_MAX_BYTES,
)
from clufs.registry import inode_commands as c
from clufs.registry.inode_commands import (
    AT_END,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    ChangeInode,
    DropMade,
    InodeCommand,
    LinkInode,
    MakeInode,
    Maker,
    Rename,
    Unlink,
    WriteInode,
)

ROOT = 1
"""The inode of /clu/lockfiles itself."""

_ROOT_MODE = stat.S_IFDIR | 0o1777
_PERMISSIONS = 0o7777


class Inode(msgspec.Struct, array_like=True, gc=False):
    """A file, directory or symbolic link. To be changed by the table only, while it has a name.

    mode: of stat(2), with its type. data: the content, or a symbolic link's target.
    names: where it is, each a directory's number and a name there; of a directory there is one.
    ephemeral: of a directory, whether files made in it end with their makers.
    maker: whoever this file ends with.
    """

    mode: int
    uid: int
    gid: int
    nlink: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    data: bytes = b""
    names: tuple[tuple[int, bytes], ...] = ()
    ephemeral: bool = False
    maker: Maker | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it has names below it."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it has content."""
        return stat.S_ISREG(self.mode)


_Part = list[tuple[int, Inode]]
_decoder = msgspec.msgpack.Decoder(_Part)
_PART_INODES = 256


class InodeTable:
    """All inodes by number, and the names of each directory. A number never comes again.

    inodes, names: to be read only. made: the number of the inode that the last MakeInode made.
    ended: the files with makers that have gone; for whoever wants to know, and empties it.
    Refused is what would make more than LOCKFILES_MAX names or, all files together, more than
    LOCKFILES_MAX_BYTES: every member has them in memory.
    """

    def __init__(self, parts: Iterable[bytes] = (), counter: int = ROOT) -> None:
        """parts: of `parts`. Raises msgspec.DecodeError."""
        self.counter = counter
        self.made = 0
        self.ended: list[int] = []
        self.inodes: dict[int, Inode] = {ROOT: Inode(_ROOT_MODE, 0, 0, 2, 0, 0, 0)}
        self.names: dict[int, dict[bytes, int]] = {}
        self._parts: dict[int, bytes] = {}
        for part in parts:
            inodes = _decoder.decode(part)
            self.inodes.update(inodes)
            self._parts[inodes[0][0] // _PART_INODES] = part
        for number, inode in self.inodes.items():
            if inode.is_directory:
                self.names[number] = {}
        for number, inode in self.inodes.items():
            for parent, name in inode.names:
                self.names[parent][name] = number
        self._count = sum(map(len, self.names.values()))
        self._bytes = sum(len(inode.data) for inode in self.inodes.values())
        self._made = {number for number, inode in self.inodes.items() if inode.maker is not None}

    def parts(self) -> list[bytes]:
        """All of it, for a snapshot; the same on every member that applied the same commands.

        Only what has changed since the last time is encoded again: of 100,000 files mostly little.
        """
        wanted = dict.fromkeys(number // _PART_INODES for number in self.inodes)
        for part in wanted.keys() - self._parts.keys():
            numbers = range(part * _PART_INODES, (part + 1) * _PART_INODES)
            here = [(one, self.inodes[one]) for one in numbers if one in self.inodes]
            self._parts[part] = msgspec.msgpack.encode(here)
        self._parts = {part: self._parts[part] for part in sorted(wanted)}
        return list(self._parts.values())

    @property
    def usage(self) -> tuple[int, int]:
        """How many names there are, and how many bytes."""
        return self._count, self._bytes

    def find(self, parent: int, name: bytes) -> int | None:
        """The inode of that name."""
        return self.names.get(parent, {}).get(name)

    def made_by(self, member: str, incarnation: int) -> list[int]:
        """The files that end with processes of this life of a member."""
        return sorted(one for one in self._made if self._is_of(one, member, incarnation))

    def _is_of(self, number: int, member: str, incarnation: int) -> bool:
        maker = self.inodes[number].maker
        return maker is not None and maker[:2] == (member, incarnation)

    # ------------------------------------------------- commands

    def apply(self, command: InodeCommand) -> str | None:
        """Apply a command; return why it is refused, which changes nothing, or None."""
        self.made = 0
        match command:
            case MakeInode():
                return self._make(command)
            case LinkInode():
                return self._link(command)
            case Unlink():
                return self._unlink(command)
            case Rename():
                return self._rename(command)
            case WriteInode():
                return self._write(command)
            case ChangeInode():
                return self._change(command)
            case DropMade():
                self.drop(command.inodes, command.time_ns)
                return None

    def _make(self, command: MakeInode) -> str | None:
        if refusal := self._no_new_name(command.parent, command.name):
            return refusal
        if refusal := self._no_room(len(command.target)):
            return refusal
        parent = self.inodes[command.parent]
        is_directory = stat.S_ISDIR(command.mode)
        if is_directory and parent.nlink >= LINKS_MAX:
            return f"{c.LINKS}: a directory has at most {LINKS_MAX - 2} directories below it"
        mode, gid = command.mode, command.gid
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            mode |= stat.S_ISGID if is_directory else 0
        self.counter += 1
        number = self.made = self.counter
        times = (command.time_ns,) * 3
        inode = Inode(mode, command.uid, gid, 0, *times, command.target)
        if is_directory:
            inode.nlink, inode.ephemeral = 1, parent.ephemeral
            self.names[number] = {}
        elif parent.ephemeral and inode.is_file and command.maker is not None:
            inode.maker = command.maker
            self._made.add(number)
        self.inodes[number] = inode
        self._bytes += len(inode.data)
        self._put(command.parent, command.name, number, command.time_ns)
        return None

    def _link(self, command: LinkInode) -> str | None:
        inode = self.inodes.get(command.inode)
        if inode is None:
            return c.STALE
        if refusal := self._no_new_name(command.parent, command.name):
            return refusal
        if inode.is_directory:
            return f"{c.FORBIDDEN}: it has one name"
        if inode.nlink >= LINKS_MAX:
            return f"{c.LINKS}: {LINKS_MAX} at most"
        self._put(command.parent, command.name, command.inode, command.time_ns)
        return None

    def _unlink(self, command: Unlink) -> str | None:
        number = self.find(command.parent, command.name)
        if number is None:
            return f"{c.MISSING}: '{_shown(command.name)}'"
        inode = self.inodes[number]
        if command.directory and not inode.is_directory:
            return f"{c.NO_DIRECTORY}: '{_shown(command.name)}'"
        if inode.is_directory and not command.directory:
            return f"{c.DIRECTORY}: '{_shown(command.name)}'"
        if inode.is_directory and self.names[number]:
            return f"{c.FILLED}: '{_shown(command.name)}'"
        self._take(command.parent, command.name, command.time_ns)
        return None

    def _rename(self, command: Rename) -> str | None:
        """Who has the target's name goes, or gets the other one with RENAME_EXCHANGE."""
        if command.flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            return f"{c.IMPOSSIBLE}: rename with flags {command.flags}"
        source = self.find(command.parent, command.name)
        if source is None:
            return f"{c.MISSING}: '{_shown(command.name)}'"
        if command.to_parent not in self.names:
            return c.STALE
        if len(command.to_name) > NAMESPACE_MAX_BYTES:
            return f"{c.TOO_LONG}: {len(command.to_name)} bytes"
        target = self.find(command.to_parent, command.to_name)
        if command.flags == RENAME_NOREPLACE and target is not None:
            return f"{c.THERE}: '{_shown(command.to_name)}'"
        if command.flags == RENAME_EXCHANGE and target is None:
            return f"{c.MISSING}: '{_shown(command.to_name)}'"
        refusal = self._no_move(command, source, target)
        if refusal or source == target:
            return refusal
        if command.flags == RENAME_EXCHANGE:
            assert target is not None
            self._moved(command, source, target)
            return None
        if target is not None:
            self._take(command.to_parent, command.to_name, command.time_ns)
        del self.names[command.parent][command.name]
        self._moved(command, source)
        return None

    def _no_move(self, command: Rename, source: int, target: int | None) -> str | None:
        """Why one inode cannot have the other's place."""
        moved = self.inodes[source]
        if moved.is_directory and self._is_below(command.to_parent, source):
            return c.LOOP
        if target is None:
            return self._no_subdirectory(command, moved, None)
        other = self.inodes[target]
        below = other.is_directory and self._is_below(command.parent, target)
        if command.flags == RENAME_EXCHANGE:
            return c.LOOP if below else self._no_subdirectory(command, moved, other)
        if below:
            return f"{c.FILLED}: '{_shown(command.to_name)}'"
        if source == target:
            return None
        if moved.is_directory and not other.is_directory:
            return f"{c.NO_DIRECTORY}: '{_shown(command.to_name)}'"
        if other.is_directory and not moved.is_directory:
            return f"{c.DIRECTORY}: '{_shown(command.to_name)}'"
        if other.is_directory and self.names[target]:
            return f"{c.FILLED}: '{_shown(command.to_name)}'"
        return None

    def _no_subdirectory(self, command: Rename, moved: Inode, other: Inode | None) -> str | None:
        """Why a directory cannot have one more below it."""
        if command.parent == command.to_parent:
            return None
        grows: list[int] = []
        if moved.is_directory and not (other is not None and other.is_directory):
            grows = [command.to_parent]
        elif other is not None and other.is_directory and not moved.is_directory:
            grows = [command.parent]
        full = any(self.inodes[one].nlink >= LINKS_MAX for one in grows)
        return f"{c.LINKS}: {LINKS_MAX} at most" if full else None

    def _is_below(self, number: int, above: int) -> bool:
        """Whether a directory is this one or below it."""
        while number != above and number != ROOT:
            number = self.inodes[number].names[0][0]
        return number == above

    def _write(self, command: WriteInode) -> str | None:
        inode = self.inodes.get(command.inode)
        if inode is None:
            return c.STALE
        refusal = no_write(inode, command.offset, len(command.data))
        if refusal is None:
            end = max(end_of(inode, command.offset) + len(command.data), len(inode.data))
            refusal = self._no_room(end - len(inode.data))
        if refusal is None:
            self._bytes -= len(inode.data)
            write(inode, command.offset, command.data, command.time_ns)
            self._bytes += len(inode.data)
            self._changed(command.time_ns, command.inode)
        return refusal

    def _change(self, command: ChangeInode) -> str | None:
        inode = self.inodes.get(command.inode)
        if inode is None:
            return c.STALE
        refusal = no_change(inode, command)
        if refusal is None and command.size is not None:
            refusal = self._no_room(command.size - len(inode.data))
        if refusal is None:
            self._bytes -= len(inode.data)
            change(inode, command)
            self._bytes += len(inode.data)
            self._changed(command.time_ns, command.inode)
        return refusal

    def drop(self, numbers: Iterable[int], time_ns: int) -> None:
        """The makers of these files have ended: take all their names away.

        time_ns: now; 0 where no clock was asked, and times stay as they are.
        """
        for number in self._made.intersection(numbers):
            for parent, name in self.inodes[number].names:
                self._take(parent, name, time_ns or self.inodes[parent].mtime_ns)

    # ------------------------------------------------- names

    def _no_new_name(self, parent: int, name: bytes) -> str | None:
        """Why this name cannot be made."""
        names = self.names.get(parent)
        if names is None:
            return c.STALE
        if name in names:
            return f"{c.THERE}: '{_shown(name)}'"
        if len(name) > NAMESPACE_MAX_BYTES:
            return f"{c.TOO_LONG}: {len(name)} bytes"
        if name in (b"", b".", b".."):
            return f"{c.IMPOSSIBLE}: a file '{_shown(name)}'"
        if self._count >= LOCKFILES_MAX:
            return f"{c.FULL}: lockfiles has at most {LOCKFILES_MAX} names"
        return None

    def _no_room(self, more: int) -> str | None:
        if more > 0 and self._bytes + more > LOCKFILES_MAX_BYTES:
            return f"{c.FULL}: all files here have at most {LOCKFILES_MAX_BYTES} bytes together"
        return None

    def _put(self, parent: int, name: bytes, number: int, time_ns: int) -> None:
        """A name more; a directory's own `..` counts for its parent."""
        inode = self.inodes[number]
        self.names[parent][name] = number
        self._count += 1
        inode.nlink += 1
        inode.names += ((parent, name),)
        self.inodes[parent].nlink += inode.is_directory
        self._changed(time_ns, number)
        self._altered(time_ns, parent)

    def _take(self, parent: int, name: bytes, time_ns: int) -> None:
        """A name less. With the last one the inode goes; whoever has it open may keep it."""
        number = self.names[parent].pop(name)
        inode = self.inodes[number]
        self._count -= 1
        inode.nlink -= 1
        inode.names = tuple(one for one in inode.names if one != (parent, name))
        self._changed(time_ns, number)
        self._altered(time_ns, parent)
        if inode.is_directory:
            self.inodes[parent].nlink -= 1
            inode.nlink = 0
            del self.names[number]
        if not inode.nlink:
            del self.inodes[number]
            if inode.maker is not None:
                self._made.discard(number)
                self.ended.append(number)
            self._bytes -= len(inode.data)

    def _moved(self, command: Rename, source: int, target: int | None = None) -> None:
        """One inode, or two, have the other name now."""
        ours, theirs = (command.parent, command.name), (command.to_parent, command.to_name)
        self._place(source, ours, theirs)
        self._changed(command.time_ns, source)
        if target is not None:
            self._place(target, theirs, ours)
            self._changed(command.time_ns, target)
        self._altered(command.time_ns, command.parent, command.to_parent)

    def _place(self, number: int, before: tuple[int, bytes], after: tuple[int, bytes]) -> None:
        inode = self.inodes[number]
        others = list(inode.names)
        others.remove(before)
        inode.names = (*others, after)
        self.names[after[0]][after[1]] = number
        if inode.is_directory:
            self.inodes[before[0]].nlink -= 1
            self.inodes[after[0]].nlink += 1

    def _changed(self, time_ns: int, *numbers: int) -> None:
        for number in numbers:
            self.inodes[number].ctime_ns = time_ns
            self._parts.pop(number // _PART_INODES, None)

    def _altered(self, time_ns: int, *numbers: int) -> None:
        self._changed(time_ns, *numbers)
        for number in numbers:
            self.inodes[number].mtime_ns = time_ns


# ------------------------------------------------- one inode, also where it has no name any more


def end_of(inode: Inode, offset: int) -> int:
    """Where a write at this offset begins."""
    return len(inode.data) if offset == AT_END else offset


def no_write(inode: Inode, offset: int, size: int) -> str | None:
    """Why so many bytes cannot be put there."""
    if not inode.is_file:
        return c.DIRECTORY if inode.is_directory else f"{c.IMPOSSIBLE}: a write to a link"
    if offset < AT_END:
        return f"{c.IMPOSSIBLE}: offset {offset}"
    if end_of(inode, offset) + size > LOCKFILE_MAX_BYTES:
        return f"{c.TOO_LARGE}: a file here has at most {LOCKFILE_MAX_BYTES} bytes"
    return None


def write(inode: Inode, offset: int, data: bytes, time_ns: int) -> None:
    """Put bytes there, with zeros before them where the file is shorter."""
    begin, old = end_of(inode, offset), inode.data
    inode.data = old[:begin].ljust(begin, b"\0") + data + old[begin + len(data) :]
    inode.mtime_ns = inode.ctime_ns = time_ns


def no_change(inode: Inode, command: ChangeInode) -> str | None:
    """Why an inode cannot be changed so."""
    if command.size is not None:
        if inode.is_directory or not inode.is_file:
            return c.DIRECTORY if inode.is_directory else f"{c.IMPOSSIBLE}: the size of a link"
        if command.size < 0:
            return f"{c.IMPOSSIBLE}: a size of {command.size}"
        if command.size > LOCKFILE_MAX_BYTES:
            return f"{c.TOO_LARGE}: a file here has at most {LOCKFILE_MAX_BYTES} bytes"
    if command.ephemeral is not None and not inode.is_directory:
        return f"{c.NO_DIRECTORY}: only a directory says what becomes of files made in it"
    return None


def change(inode: Inode, command: ChangeInode) -> None:
    """Change what the command says, and st_ctime."""
    if command.mode is not None:
        inode.mode = stat.S_IFMT(inode.mode) | command.mode & _PERMISSIONS
    if command.uid is not None:
        inode.uid = command.uid
    if command.gid is not None:
        inode.gid = command.gid
    if command.size is not None:
        inode.data = inode.data[: command.size].ljust(command.size, b"\0")
        inode.mtime_ns = command.time_ns
    if command.atime_ns is not None:
        inode.atime_ns = command.atime_ns
    if command.mtime_ns is not None:
        inode.mtime_ns = command.mtime_ns
    if command.ephemeral is not None:
        inode.ephemeral = command.ephemeral
    inode.ctime_ns = command.time_ns


def _shown(name: bytes) -> str:
    return "".join(chr(one) if 32 < one < 127 and one != 92 else f"\\{one:03o}" for one in name)
