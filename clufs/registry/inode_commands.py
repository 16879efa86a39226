"""What changes the files of /clu/lockfiles: the commands, and what their refusals mean. Pure.

Each says all that decides it: whether a name is free, a directory empty or a file still there is found
when it is applied, in the one order that all members have. Times are the asker's wall clock.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from clufs.errors import (
    ClufsError,
    FileTooLarge,
    InvalidRequest,
    IsADirectory,
    NameExists,
    NameTooLong,
    NoRoom,
    NoSuchName,
    NotADirectory,
    NotEmpty,
    NotPermitted,
    TooManyLinks,
)

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
"""The flags of renameat2(2)."""

AT_END = -1
"""The offset of a write with O_APPEND: the end is where the order of all writes puts it."""


class Maker(NamedTuple):
    """The process that made a file, and the life of the member that it runs on."""

    member: str
    incarnation: int
    pid: int


class MakeInode(msgspec.Struct, frozen=True, array_like=True, tag="make inode", gc=False):
    """Make a file, directory or symbolic link, under a name that must be free.

    mode: of stat(2), with its type. target: of a symbolic link. maker: with O_CREAT|O_EXCL, so that
    the file goes with it where its directory is ephemeral.
    """

    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int
    time_ns: int
    target: bytes = b""
    maker: Maker | None = None


class LinkInode(msgspec.Struct, frozen=True, array_like=True, tag="link inode", gc=False):
    """Give a file one name more, which must be free."""

    inode: int
    parent: int
    name: bytes
    time_ns: int


class Unlink(msgspec.Struct, frozen=True, array_like=True, tag="unlink", gc=False):
    """Take a name away. directory: of an empty directory, otherwise of anything else."""

    parent: int
    name: bytes
    directory: bool
    time_ns: int


class Rename(msgspec.Struct, frozen=True, array_like=True, tag="rename", gc=False):
    """renameat2(2). flags: RENAME_NOREPLACE, RENAME_EXCHANGE or none."""

    parent: int
    name: bytes
    to_parent: int
    to_name: bytes
    flags: int
    time_ns: int


class WriteInode(msgspec.Struct, frozen=True, array_like=True, tag="write inode", gc=False):
    """Put bytes into a file. offset: AT_END for its end."""

    inode: int
    offset: int
    data: bytes
    time_ns: int


class ChangeInode(msgspec.Struct, frozen=True, array_like=True, tag="change inode", gc=False):
    """chmod, chown, truncate, utimens, and whether files made below end with their makers.

    None: it stays as it is.
    """

    inode: int
    time_ns: int
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ephemeral: bool | None = None


class DropMade(msgspec.Struct, frozen=True, array_like=True, tag="drop made", gc=False):
    """Take away all names of files whose makers have ended; whatever else is named stays."""

    inodes: list[int]
    time_ns: int


InodeCommand: TypeAlias = (
    MakeInode | LinkInode | Unlink | Rename | WriteInode | ChangeInode | DropMade
)

INODE_COMMANDS = (MakeInode, LinkInode, Unlink, Rename, WriteInode, ChangeInode, DropMade)

THERE = "the name is taken"
MISSING = "there is no such name"
STALE = "the file is there no more"
NO_DIRECTORY = "this is no directory"
DIRECTORY = "this is a directory"
FILLED = "the directory is not empty"
LOOP = "a directory cannot be moved below itself"
IMPOSSIBLE = "this cannot be asked for"
TOO_LARGE = "the file would be too large"
TOO_LONG = "the name is too long"
LINKS = "the file has too many names"
FULL = "there is no room for it"
FORBIDDEN = "this is not done to a directory"

_ERRORS: dict[str, type[ClufsError]] = {
    THERE: NameExists,
    MISSING: NoSuchName,
    STALE: NoSuchName,
    NO_DIRECTORY: NotADirectory,
    DIRECTORY: IsADirectory,
    FILLED: NotEmpty,
    LOOP: InvalidRequest,
    IMPOSSIBLE: InvalidRequest,
    TOO_LARGE: FileTooLarge,
    TOO_LONG: NameTooLong,
    LINKS: TooManyLinks,
    FULL: NoRoom,
    FORBIDDEN: NotPermitted,
}


def error_of(refusal: str) -> ClufsError:
    """The error whose errno says what this refusal of an inode's command means to the caller."""
    return _ERRORS.get(refusal.partition(":")[0], InvalidRequest)(refusal)
