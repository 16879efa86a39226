"""What the registry knows: namespaces, files, resources, /clu/lockfiles, and which lives may hold locks. Pure.

Every member applies the same commands in the same order, so that all have the same state.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from clufs.caa.records import ResourceRecord
from clufs.dlm.interface import Life
from clufs.errors import StateError
from clufs.limits import ANSWERS_KEPT, LIVES_ANSWERED, LIVES_OUT_KEPT
from clufs.registry.commands import (
    Command,
    CommandId,
    DropNamespace,
    MemberIn,
    MemberOut,
    MemberServed,
    PutNamespace,
)
from clufs.registry.files import (
    ChangeFile,
    DropFile,
    FileRecord,
    FileTable,
    MoveFile,
    PutFile,
    WriteFile,
)
from clufs.registry.inode_commands import (
    ChangeInode,
    DropMade,
    LinkInode,
    MakeInode,
    Rename,
    Unlink,
    WriteInode,
)
from clufs.registry.inodes import ROOT, InodeTable
from clufs.registry.resources import (
    Register,
    ResourceTable,
    SaveDrained,
    SaveResources,
    Unregister,
)

VERSION = 3
"""The version of snapshots. Fields are only ever added, at the end; 1 had no files and resources."""


class NamespaceRecord(NamedTuple):
    """Owner, group and mode of a namespace."""

    uid: int
    gid: int
    mode: int


class LifeRecord(NamedTuple):
    """One incarnation of a member. out: why it surely holds nothing; empty: it is in.

    servers: lives of others, by member and incarnation, that may write for it. ended: why a later life of the
    member proves its end; it is out only once none of those can write for it any more.
    """

    boot_id: str
    machine: str
    out: str = ""
    version: str = ""
    servers: tuple[tuple[str, int], ...] = ()
    ended: str = ""


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    version: int
    namespaces: list[tuple[bytes, NamespaceRecord]]
    lives: list[tuple[str, int, LifeRecord]]
    answers: list[tuple[int, int, list[tuple[int, str | None]]]]
    files: list[tuple[bytes, FileRecord]] = []
    file_counter: int = 0
    resources: list[ResourceRecord] = []
    planner: int = 0
    drained: list[str] = []
    inodes: list[bytes] = []
    inode_counter: int = ROOT


_decoder = msgspec.msgpack.Decoder(_Snapshot)


class State:
    """The registry after some number of commands. To be changed by `take` only.

    namespaces: by name. lives: by member and incarnation; several of one member may be in.
    """

    def __init__(self) -> None:
        self.namespaces: dict[bytes, NamespaceRecord] = {}
        self.lives: dict[tuple[str, int], LifeRecord] = {}
        self.file_table = FileTable()
        self.resource_table = ResourceTable()
        self.inode_table = InodeTable()
        self._answers: dict[tuple[int, int], dict[int, str | None]] = {}

    @property
    def files(self) -> dict[bytes, FileRecord]:
        """The files, by their path below the root of /clu. To be read only."""
        return self.file_table.records

    @property
    def resources(self) -> dict[str, ResourceRecord]:
        """The registered resources, by name. To be read only."""
        return self.resource_table.records

    @property
    def drained(self) -> tuple[str, ...]:
        """The members on which no application is placed."""
        return self.resource_table.drained

    # ------------------------------------------------- commands

    def take(self, id: CommandId, command: Command) -> tuple[bool, str | None]:
        """Apply a command unless it was applied before: whether it was now, and its refusal."""
        if not self._may_be_new(id):
            return False, self.answer(id)
        refusal = self.apply(command)
        self._remember(id, refusal)
        return True, refusal

    def apply(self, command: Command) -> str | None:
        """Apply a command; return why it is refused, which changes nothing, or None."""
        self.inode_table.made = 0
        match command:
            case PutNamespace():
                return self._put_namespace(command)
            case DropNamespace():
                return self._drop_namespace(command)
            case MemberIn():
                return self._member_in(command)
            case MemberOut():
                return self._member_out(command)
            case MemberServed():
                return self._member_served(command)
            case PutFile() | WriteFile() | ChangeFile() | DropFile() | MoveFile():
                return self.file_table.apply(command)
            case Register() | Unregister() | SaveResources() | SaveDrained():
                return self.resource_table.apply(command)
            case (
                MakeInode()
                | LinkInode()
                | Unlink()
                | Rename()
                | WriteInode()
                | ChangeInode()
                | DropMade()
            ):
                return self.inode_table.apply(command)

    def _put_namespace(self, command: PutNamespace) -> str | None:
        if command.new and command.name in self.namespaces:
            return f"namespace '{_shown(command.name)}' is there already"
        if not command.new and command.name not in self.namespaces:
            return f"namespace '{_shown(command.name)}' is not there"
        self.namespaces[command.name] = NamespaceRecord(command.uid, command.gid, command.mode)
        return None

    def _drop_namespace(self, command: DropNamespace) -> str | None:
        if self.namespaces.pop(command.name, None) is None:
            return f"namespace '{_shown(command.name)}' is not there"
        return None

    def _member_in(self, command: MemberIn) -> str | None:
        """A life that is in already may say again that it has cleared up after the earlier ones."""
        member, incarnation = command.member, command.incarnation
        known = self.lives.get((member, incarnation))
        if known is not None and known.out:
            return f"incarnation {incarnation} of {member} is out: {known.out}"
        latest = max((n for name, n in self.lives if name == member), default=0)
        if incarnation < latest:
            return f"{member} has had incarnation {latest} already: {incarnation} is an old disk's"
        life = known or LifeRecord(command.boot_id, command.machine, version=command.version)
        for key in self.living(member):
            why = _finished(self.lives[key], life, command.cleared)
            if key[1] < incarnation and why:
                self._prove_ended(key, why)
        self.lives[member, incarnation] = life
        self._forget_lives(member)
        return None

    def _member_out(self, command: MemberOut) -> str | None:
        key = (command.member, command.incarnation)
        life = self.lives.get(key)
        if life is None:
            return f"incarnation {command.incarnation} of {command.member} is not known"
        if life.out:
            return f"incarnation {command.incarnation} of {command.member} is out: {life.out}"
        self._end_life(key, command.why or "no reason was given")
        self._forget_lives(command.member)
        return None

    def _member_served(self, command: MemberServed) -> str | None:
        """Only lives that are in serve and are served; those that are out are forgotten."""
        key, server = (command.member, command.incarnation), (command.server, command.by)
        for each in (key, server):
            if not self.is_in(*each):
                return f"incarnation {each[1]} of {each[0]} is not in"
        servers = {one for one in self.lives[key].servers if self.is_in(*one)} | {server}
        self.lives[key] = self.lives[key]._replace(servers=tuple(sorted(servers)))
        return None

    def _prove_ended(self, key: tuple[str, int], why: str) -> None:
        """Out at once, unless others may still write for it: then the gate says when."""
        life = self.lives[key]
        if any(self.is_in(*one) for one in life.servers):
            self.lives[key] = life._replace(ended=why)
        else:
            self._end_life(key, why)

    def _end_life(self, key: tuple[str, int], why: str) -> None:
        """A life is out, and the files in /clu/lockfiles go that were to end with its processes."""
        self.lives[key] = self.lives[key]._replace(out=why)
        self.inode_table.drop(self.inode_table.made_by(*key), 0)

    def _forget_lives(self, member: str) -> None:
        """Of those that are out, the latest are kept: they are shown, and no earlier one may come back."""
        out = sorted(key for key, life in self.lives.items() if key[0] == member and life.out)
        for key in out[:-LIVES_OUT_KEPT]:
            del self.lives[key]

    # ------------------------------------------------- what is known

    def living(self, member: str | None = None) -> list[tuple[str, int]]:
        """The lives that are in, of one member or of all: (member, incarnation), sorted."""
        keys = (key for key, life in self.lives.items() if not life.out)
        return sorted(key for key in keys if member is None or key[0] == member)

    def is_in(self, member: str, incarnation: int) -> bool:
        """Whether this life may hold locks."""
        life = self.lives.get((member, incarnation))
        return life is not None and not life.out

    def servers(self) -> dict[Life, frozenset[Life]]:
        """The lives that are in and may be written for, and by whom."""
        lives = [(Life(*key), life) for key, life in self.lives.items() if not life.out]
        return {key: frozenset(map(_life, life.servers)) for key, life in lives if life.servers}

    def ended(self) -> dict[Life, str]:
        """The lives that are in and whose end is proved by a later one of their member, and why."""
        lives = self.lives.items()
        return {Life(*key): life.ended for key, life in lives if life.ended and not life.out}

    def answer(self, id: CommandId) -> str | None:
        """The refusal of a command that was applied not long ago."""
        return self._answers.get(id[:2], {}).get(id.counter)

    def was_taken(self, id: CommandId) -> bool:
        """Whether a command was applied not long ago."""
        return id.counter in self._answers.get(id[:2], {})

    # ------------------------------------------------- each command once

    def _may_be_new(self, id: CommandId) -> bool:
        """Whether it was certainly not applied: not one of those remembered, nor older than them all.

        A life has ANSWERS_KEPT commands under way at most, so what is older was decided long ago.
        """
        lives = [life for member, life in self._answers if member == id.member]
        if lives and id.incarnation not in lives and id.incarnation < max(lives):
            return False
        answers = self._answers.get(id[:2], {})
        latest = max(answers, default=0)
        return id.counter not in answers and id.counter > latest - ANSWERS_KEPT

    def _remember(self, id: CommandId, refusal: str | None) -> None:
        answers = self._answers.setdefault((id.member, id.incarnation), {})
        answers[id.counter] = refusal
        oldest = max(answers) - ANSWERS_KEPT
        for counter in [one for one in answers if one <= oldest]:
            del answers[counter]
        lives = sorted(life for member, life in self._answers if member == id.member)
        for life in lives[:-LIVES_ANSWERED]:
            del self._answers[id.member, life]

    # ------------------------------------------------- snapshots

    def snapshot(self) -> bytes:
        """All of it; two members with the same state have the same bytes."""
        answers = sorted(self._answers.items())
        return msgspec.msgpack.encode(
            _Snapshot(
                VERSION,
                sorted(self.namespaces.items()),
                [(member, life, record) for (member, life), record in sorted(self.lives.items())],
                [(*key, sorted(each.items(), key=lambda one: one[0])) for key, each in answers],
                sorted(self.files.items()),
                self.file_table.counter,
                [record for _, record in sorted(self.resources.items())],
                self.resource_table.planner,
                list(self.drained),
                self.inode_table.parts(),
                self.inode_table.counter,
            )
        )

    @classmethod
    def restore(cls, data: bytes) -> State:
        """The state of a snapshot; that of no commands for no bytes. Raises StateError."""
        state = cls()
        if not data:
            return state
        try:
            snapshot = _decoder.decode(data)
            state.inode_table = InodeTable(snapshot.inodes, snapshot.inode_counter)
        except (LookupError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StateError(f"not a snapshot of the registry: {error}") from error
        if snapshot.version > VERSION:
            raise StateError(
                f"a snapshot of version {snapshot.version}, where this clufs knows up to {VERSION}"
            )
        state.namespaces = dict(snapshot.namespaces)
        state.lives = {(member, life): record for member, life, record in snapshot.lives}
        state.file_table = FileTable(snapshot.files, snapshot.file_counter)
        state.resource_table = ResourceTable(snapshot.resources, snapshot.planner, snapshot.drained)
        state._answers = {(one, life): dict(each) for one, life, each in snapshot.answers}
        return state


def _life(key: tuple[str, int]) -> Life:
    return Life(*key)


def _finished(old: LifeRecord, new: LifeRecord, cleared: bool) -> str:
    """Why the start of a new life proves that nothing of an old one is left, or an empty string."""
    if not new.machine or new.machine != old.machine or not new.boot_id or not old.boot_id:
        return ""
    if new.boot_id != old.boot_id:
        return "its machine has booted since"
    return "its lock owners were seen gone" if cleared else ""


def _shown(name: bytes) -> str:
    return "".join(chr(one) if 32 < one < 127 and one != 92 else f"\\{one:03o}" for one in name)
