"""The registry's log in memory, and what of it is on disk. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from clufs.caa.records import ResourceRecord
from clufs.registry.commands import Entry
from clufs.registry.files import PutFile, WriteFile
from clufs.registry.inode_commands import WriteInode
from clufs.registry.resources import Register, SaveResources


class Log:
    """Entries above the index `base`, without a gap. size: of all of them, in bytes."""

    __slots__ = ("base", "entries", "size")

    def __init__(self, base: int = 0, entries: Sequence[Entry] = ()) -> None:
        self.base = base
        self.entries = list(entries)
        self.size = sum(map(_size, self.entries))

    @property
    def last(self) -> int:
        """The index of the last entry, or the base."""
        return self.base + len(self.entries)

    def at(self, index: int) -> Entry:
        """The entry of an index above the base and up to the last."""
        return self.entries[index - self.base - 1]

    def after(self, index: int) -> list[Entry]:
        """The entries above an index, which is the base or above."""
        return self.entries[index - self.base :]

    def cut(self, keep: int) -> None:
        """Drop the entries above an index."""
        begin = max(keep - self.base, 0)
        self.size -= sum(map(_size, self.entries[begin:]))
        del self.entries[begin:]

    def begin_at(self, base: int) -> None:
        """Drop the entries up to an index between the base and the last."""
        self.size -= sum(map(_size, self.entries[: base - self.base]))
        del self.entries[: base - self.base]
        self.base = base

    def extend(self, entries: Sequence[Entry]) -> None:
        """Append each that follows the last; whatever is here already or leaves a gap is not taken."""
        for entry in entries:
            if entry.index == self.last + 1:
                self.entries.append(entry)
                self.size += _size(entry)

    def base_for(self, entries: int, size: int) -> int:
        """The lowest index above which there are at most so many entries, of at most this size."""
        base, left = max(self.base, self.last - entries), size
        for at in range(self.last, base, -1):
            left -= _size(self.at(at))
            if left < 0:
                return at
        return base


def _size(entry: Entry) -> int:
    """What an entry takes, beside a few bytes: the texts in it."""
    command = entry.command
    if isinstance(command, PutFile | WriteFile | WriteInode):
        return len(command.data)
    if isinstance(command, Register):
        return len(command.profile)
    if isinstance(command, SaveResources):
        return sum(map(_record_size, command.records))
    return 0


def _record_size(record: ResourceRecord) -> int:
    return sum(len(move.reason) for move in record.history)


class Snapshot(NamedTuple):
    """The state after the entry of an index, as `State.snapshot` gives it."""

    at: int
    data: bytes


NOTHING = Snapshot(0, b"")
"""The state of no commands."""


@dataclass(frozen=True, slots=True)
class Write:
    """Change what is on disk, all of it or nothing, then call stored() or failed() with the ticket.

    The snapshot, if any, takes the place of the one before; entries up to `base` and above `keep`
    go; `entries` come. The log on disk is then that of the view `adopted`, and of the registry `origin`.
    committed: up to here, at most the last entry, the log will never change again.
    """

    ticket: int
    adopted: int
    base: int
    keep: int
    entries: tuple[Entry, ...]
    committed: int
    snapshot: Snapshot | None = None
    origin: bytes = b""


@dataclass(frozen=True, slots=True)
class Stored:
    """What one member has on disk: the log of the view `adopted`, and a snapshot at its base or above.

    token: unlike that of any other disk. origin: the token of whoever led the first view of this
    log; empty where there was none yet. Logs of two origins have nothing in common.
    """

    adopted: int = 0
    base: int = 0
    entries: tuple[Entry, ...] = field(default=(), repr=False)
    committed: int = 0
    snapshot: Snapshot = NOTHING
    origin: bytes = b""
    token: bytes = b""

    @property
    def last(self) -> int:
        """The index of the last entry, or the base."""
        return self.base + len(self.entries)

    def after(self, write: Write) -> Stored:
        """What is on disk when a write is done: says exactly what the store does."""
        begin, end = (max(at - self.base, 0) for at in (write.base, write.keep))
        return replace(
            self,
            adopted=write.adopted,
            base=write.base,
            entries=self.entries[begin:end] + write.entries,
            committed=write.committed,
            snapshot=write.snapshot or self.snapshot,
            origin=write.origin,
        )
