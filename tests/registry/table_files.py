"""One file system twice: an inode table as system calls reach it, and a real directory."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from clufs.registry import inode_commands as c
from clufs.registry.commands import CommandId
from clufs.registry.inode_commands import AT_END, RENAME_EXCHANGE, RENAME_NOREPLACE
from clufs.registry.inodes import ROOT, Inode
from clufs.registry.state import State

Seen = dict[bytes, tuple[object, ...]]

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100

_NAMES = st.sampled_from([b"a", b"b", b"c"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(b"/".join)
_FLAGS = st.sampled_from([0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE])
_OFFSETS = st.sampled_from([AT_END, 0, 1, 7])
CALLS = st.one_of(
    st.tuples(st.sampled_from(["create", "mkdir", "mkdir", "symlink", "unlink", "rmdir"]), _PATHS),
    st.tuples(st.just("link"), _PATHS, _PATHS),
    st.tuples(st.just("rename"), _PATHS, _PATHS, _FLAGS),
    st.tuples(st.just("write"), _PATHS, _OFFSETS, st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("truncate"), _PATHS, st.integers(0, 9)),
    st.tuples(st.just("chmod"), _PATHS, st.sampled_from([0o700, 0o755, 0o1777, 0o2700])),
)
"""Names and arguments of system calls, as both kinds of files have them."""


def outcome(call: Callable[..., None], arguments: tuple[Any, ...]) -> int:
    """What a system call returns: 0, or the errno."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno or 0
    return 0


class TableFiles:
    """Paths as the kernel walks them, on a state that only commands change. Raises OSError."""

    def __init__(self, uid: int = 0, gid: int = 0) -> None:
        self.state = State()
        self.owner = uid, gid
        self.time_ns = 0
        self._counter = 0

    def do(self, command: c.InodeCommand) -> int:
        """Apply a command; the inode it made."""
        self._counter += 1
        _, refusal = self.state.take(CommandId(1, 1, self._counter), command)
        if refusal is not None:
            error = c.error_of(refusal)
            raise OSError(error.errno, refusal)
        return self.state.inode_table.made

    def now(self) -> int:
        """A time that grows."""
        self.time_ns += 1
        return self.time_ns

    def place(self, path: bytes) -> tuple[int, bytes]:
        """The directory and the last name of a path. Raises what the walk there does."""
        *above, name = path.split(b"/")
        number = ROOT
        for one in above:
            number = self._below(number, one)
            if not self.inode(number).is_directory:
                raise OSError(errno.ENOTDIR, path)
        return number, name

    def _below(self, number: int, name: bytes) -> int:
        found = self.state.inode_table.find(number, name)
        if found is None or stat.S_ISLNK(self.inode(found).mode):  # links here lead nowhere
            raise OSError(errno.ENOENT, name)
        return found

    def inode(self, number: int) -> Inode:
        """An inode that there is."""
        return self.state.inode_table.inodes[number]

    def number(self, path: bytes) -> int:
        """The inode of a path, behind links."""
        return self._below(*self.place(path))

    # ------------------------------------------------- system calls

    def create(self, path: bytes) -> None:
        parent, name = self.place(path)
        mode = stat.S_IFREG | 0o640
        self.do(c.MakeInode(parent, name, mode, *self.owner, self.now()))

    def mkdir(self, path: bytes) -> None:
        parent, name = self.place(path)
        mode = stat.S_IFDIR | 0o750
        self.do(c.MakeInode(parent, name, mode, *self.owner, self.now()))

    def symlink(self, path: bytes) -> None:
        parent, name = self.place(path)
        mode = stat.S_IFLNK | 0o777
        self.do(c.MakeInode(parent, name, mode, *self.owner, self.now(), b"nowhere/x"))

    def link(self, path: bytes, to: bytes) -> None:
        parent, name = self.place(path)
        found = self.state.inode_table.find(parent, name)
        if found is None:
            raise OSError(errno.ENOENT, path)
        self.do(c.LinkInode(found, *self.place(to), self.now()))

    def unlink(self, path: bytes) -> None:
        self.do(c.Unlink(*self.place(path), False, self.now()))

    def rmdir(self, path: bytes) -> None:
        self.do(c.Unlink(*self.place(path), True, self.now()))

    def rename(self, path: bytes, to: bytes, flags: int) -> None:
        self.do(c.Rename(*self.place(path), *self.place(to), flags, self.now()))

    def write(self, path: bytes, offset: int, data: bytes) -> None:
        self.do(c.WriteInode(self.number(path), offset, data, self.now()))

    def truncate(self, path: bytes, size: int) -> None:
        self.do(c.ChangeInode(self.number(path), self.now(), size=size))

    def chmod(self, path: bytes, mode: int) -> None:
        self.do(c.ChangeInode(self.number(path), self.now(), mode=mode))

    def seen(self) -> Seen:
        """What a walk finds: by path mode, link count, content or target, and who is the same file."""
        found: Seen = {}
        numbers: dict[int, bytes] = {}
        table = self.state.inode_table
        todo = [(b"", ROOT)]
        while todo:
            above, number = todo.pop()
            for name, below in sorted(table.names[number].items()):
                path, inode = above + name, table.inodes[below]
                first = numbers.setdefault(below, path)
                if inode.is_directory:
                    todo.append((path + b"/", below))
                found[path] = (inode.mode, inode.nlink, inode.data, first)
        return found


class RealFiles:
    """The same calls below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = os.fsencode(root)

    def _at(self, path: bytes) -> bytes:
        return self.root + b"/" + path

    def create(self, path: bytes) -> None:
        os.close(os.open(self._at(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))

    def mkdir(self, path: bytes) -> None:
        os.mkdir(self._at(path), 0o750)

    def symlink(self, path: bytes) -> None:
        os.symlink(b"nowhere/x", self._at(path))

    def link(self, path: bytes, to: bytes) -> None:
        os.link(self._at(path), self._at(to), follow_symlinks=False)

    def unlink(self, path: bytes) -> None:
        os.unlink(self._at(path))

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self._at(path))

    def rename(self, path: bytes, to: bytes, flags: int) -> None:
        paths = _AT_FDCWD, self._at(path), _AT_FDCWD, self._at(to)
        if _libc.renameat2(*paths, flags) != 0:
            raise OSError(ctypes.get_errno(), path)

    def write(self, path: bytes, offset: int, data: bytes) -> None:
        fd = os.open(self._at(path), os.O_WRONLY | (os.O_APPEND if offset < 0 else 0))
        try:
            if offset < 0:
                os.write(fd, data)
            else:
                os.pwrite(fd, data, offset)
        finally:
            os.close(fd)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self._at(path), size)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def seen(self) -> Seen:
        """What a walk finds, as TableFiles has it."""
        found: Seen = {}
        numbers: dict[int, bytes] = {}
        todo = [b""]
        while todo:
            above = todo.pop()
            for name in sorted(os.listdir(self._at(above))):
                path = above + name
                facts = os.lstat(self._at(path))
                first = numbers.setdefault(facts.st_ino, path)
                data = b""
                if stat.S_ISDIR(facts.st_mode):
                    todo.append(path + b"/")
                elif stat.S_ISLNK(facts.st_mode):
                    data = os.readlink(self._at(path))
                else:
                    data = Path(os.fsdecode(self._at(path))).read_bytes()
                    assert facts.st_size == len(data)
                found[path] = (facts.st_mode, facts.st_nlink, data, first)
        return found
