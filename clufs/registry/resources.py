"""The resources that the registry keeps: which are registered, and what became of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from clufs.caa.records import OFFLINE, ResourceRecord, absorb
from clufs.errors import (
    ClufsError,
    InvalidRequest,
    NameExists,
    NoRoom,
    NoSuchName,
    OldPlanner,
    ResourceInUse,
)
from clufs.limits import FILE_MAX_BYTES, RESOURCES_MAX


class Register(msgspec.Struct, frozen=True, array_like=True, tag="register", gc=False):
    """Keep a resource. profile: its text, merged with the templates.

    new: it must not be registered, and begins OFFLINE; otherwise it must be, and gets another profile.
    """

    name: str
    profile: str
    new: bool


class Unregister(msgspec.Struct, frozen=True, array_like=True, tag="unregister", gc=False):
    """Keep a resource no longer. Refused for an application that is not OFFLINE, or is to be ONLINE."""

    name: str


class SaveResources(msgspec.Struct, frozen=True, array_like=True, tag="save resources", gc=False):
    """What became of resources, as their planner found it: `records.absorb` says what is kept then.

    planner: the sequencer number of its EX lock; one that another has followed changes nothing.
    A record of a resource that is not registered any more is left out.
    """

    planner: int
    records: list[ResourceRecord]


class SaveDrained(msgspec.Struct, frozen=True, array_like=True, tag="save drained", gc=False):
    """Which members are drained from now on, as their planner was ordered."""

    planner: int
    members: list[str]


ResourceCommand: TypeAlias = Register | Unregister | SaveResources | SaveDrained


def saves(planner: int, records: Sequence[ResourceRecord]) -> Iterator[SaveResources]:
    """The commands that save these records, each small enough to be proposed; without any, that somebody plans."""
    batch: list[ResourceRecord] = []
    size = 0
    for record in records:
        cost = len(msgspec.msgpack.encode(record))
        if batch and size + cost > FILE_MAX_BYTES:
            yield SaveResources(planner, batch)
            batch, size = [], 0
        batch.append(record)
        size += cost
    if batch or not records:
        yield SaveResources(planner, batch)


_THERE = "is registered already"
_MISSING = "is not registered"
_IN_USE = "is in use"
_FULL = "there is no room for it"
_OLD = "an old planner"


class ResourceTable:
    """All registered resources, by name. planner: the latest that has saved anything.

    drained: the members on which no application is placed.
    """

    def __init__(
        self,
        records: Iterable[ResourceRecord] = (),
        planner: int = 0,
        drained: Sequence[str] = (),
    ) -> None:
        self.records = {record.name: record for record in records}
        self.planner = planner
        self.drained = tuple(drained)

    def apply(self, command: ResourceCommand) -> str | None:
        """Apply a command; return why it is refused, which changes nothing, or None."""
        match command:
            case Register():
                return self._register(command)
            case Unregister():
                return self._unregister(command)
            case SaveResources() | SaveDrained():
                return self._save(command)

    def _register(self, command: Register) -> str | None:
        known = self.records.get(command.name)
        if command.new and known is not None:
            return f"{command.name} {_THERE}"
        if not command.new and known is None:
            return f"{command.name} {_MISSING}"
        if known is None and len(self.records) >= RESOURCES_MAX:
            return f"{_FULL}: {RESOURCES_MAX} resources are registered at most"
        known = known or ResourceRecord(command.name)
        self.records[command.name] = msgspec.structs.replace(known, profile=command.profile)
        return None

    def _unregister(self, command: Unregister) -> str | None:
        known = self.records.get(command.name)
        if known is None:
            return f"{command.name} {_MISSING}"
        if not known.monitors and (known.target, known.state) != (OFFLINE, OFFLINE):
            how = f"TARGET={known.target} STATE={known.state}"
            return f"{command.name} {_IN_USE}: {how}; stop it first"
        del self.records[command.name]
        return None

    def _save(self, command: SaveResources | SaveDrained) -> str | None:
        if command.planner < self.planner:
            return f"{_OLD}: {command.planner} was followed by {self.planner}"
        self.planner = command.planner
        if isinstance(command, SaveDrained):
            self.drained = tuple(command.members)
            return None
        for record in command.records:
            known = self.records.get(record.name)
            if known is not None:
                self.records[record.name] = absorb(known, record)
        return None


_ERRORS: dict[str, type[ClufsError]] = {
    _THERE: NameExists,
    _MISSING: NoSuchName,
    _IN_USE: ResourceInUse,
    _FULL: NoRoom,
    _OLD: OldPlanner,
}


def error_of(refusal: str) -> ClufsError:
    """The error whose errno says what this refusal of a resource's command means to the caller."""
    for words, error in _ERRORS.items():
        if words in refusal:
            return error(refusal)
    return InvalidRequest(refusal)
