"""What changes the registry: commands, their ids, and the entries of its log.

A new command is a struct, a name in `Command` and a case in `State.apply`. Those of files and
resources stand beside what they change.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from clufs.errors import ClufsError, InvalidRequest, NameExists, NoSuchName, StateError
from clufs.registry import files, inode_commands, resources
from clufs.registry.files import ChangeFile, DropFile, FileCommand, MoveFile, PutFile, WriteFile
from clufs.registry.inode_commands import (
    ChangeInode,
    DropMade,
    InodeCommand,
    LinkInode,
    MakeInode,
    Rename,
    Unlink,
    WriteInode,
)
from clufs.registry.resources import (
    Register,
    ResourceCommand,
    SaveDrained,
    SaveResources,
    Unregister,
)

VERSION = 3
"""The version of commands on disk and between members. Fields are only ever added, at the end."""


class CommandId(NamedTuple):
    """A command, everywhere: the member that proposed it, in which life, and a count that grows."""

    member: int
    incarnation: int
    counter: int


class PutNamespace(
    msgspec.Struct, frozen=True, array_like=True, tag="put namespace", gc=False
):  # fmt: skip
    """Keep a namespace. new: it must not be there yet; otherwise it must be, and is changed."""

    name: bytes
    uid: int
    gid: int
    mode: int
    new: bool


class DropNamespace(
    msgspec.Struct, frozen=True, array_like=True, tag="drop namespace", gc=False
):  # fmt: skip
    """Keep a namespace no longer."""

    name: bytes


class MemberIn(msgspec.Struct, frozen=True, array_like=True, tag="member in", gc=False):
    """From now on this incarnation may hold locks.

    boot_id, machine: the boot that it runs in and the system UUID; empty where unknown.
    cleared: every recorded lock owner of the member's earlier lives in this boot was seen gone.
    version: of its clufs.
    """

    member: str
    incarnation: int
    boot_id: str
    machine: str
    cleared: bool
    version: str = ""


GOODBYE = "it said goodbye"
"""The `why` of a MemberOut that nobody has to wait for."""


class MemberOut(msgspec.Struct, frozen=True, array_like=True, tag="member out", gc=False):
    """This incarnation surely holds nothing any more. why: its goodbye, its fence, a person's word."""

    member: str
    incarnation: int
    why: str


class MemberServed(msgspec.Struct, frozen=True, array_like=True, tag="member served", gc=False):
    """From now on the life `by` of the member `server` may write to LUNs what this incarnation asks it to."""

    member: str
    incarnation: int
    server: str
    by: int


Command: TypeAlias = (
    PutNamespace
    | DropNamespace
    | MemberIn
    | MemberOut
    | MemberServed
    | FileCommand
    | ResourceCommand
    | InodeCommand
)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A command at its place in the log. view: that in which it came into the log.

    Two logs that have entries of one index and one view have the same entries up to there.
    """

    index: int
    view: int
    id: CommandId
    command: Command


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    version: int
    id: CommandId
    command: msgspec.Raw


_envelope = msgspec.msgpack.Decoder(_Envelope)
_command: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def encode(id: CommandId, command: Command) -> bytes:
    """What `decode` understands, also that of a later version of clufs."""
    raw = msgspec.Raw(msgspec.msgpack.encode(command))
    return msgspec.msgpack.encode(_Envelope(VERSION, id, raw))


def decode(data: bytes) -> tuple[CommandId, Command]:
    """Return what was encoded. Raises StateError for anything else and for later versions."""
    try:
        envelope = _envelope.decode(data)
        if envelope.version > VERSION:
            raise StateError(
                f"a command of version {envelope.version}, where this clufs knows up to {VERSION}"
            )
        return envelope.id, _command.decode(envelope.command)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"not a command: {error}") from error


def error_of(command: Command, refusal: str) -> ClufsError:
    """Return the error whose errno says what the refusal of this command means to its caller."""
    match command:
        case PutNamespace(new=True):
            return NameExists(refusal)
        case PutNamespace() | DropNamespace():
            return NoSuchName(refusal)
        case MemberIn() | MemberOut() | MemberServed():
            return InvalidRequest(refusal)
        case PutFile() | WriteFile() | ChangeFile() | DropFile() | MoveFile():
            return files.error_of(refusal)
        case Register() | Unregister() | SaveResources() | SaveDrained():
            return resources.error_of(refusal)
        case (
            MakeInode()
            | LinkInode()
            | Unlink()
            | Rename()
            | WriteInode()
            | ChangeInode()
            | DropMade()
        ):
            return inode_commands.error_of(refusal)
