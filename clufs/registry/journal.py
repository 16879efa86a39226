"""What the quorum disk's journal says: numbers of views and the registry's log. Pure.

The disk is a member whose state directory is a journal: `load` makes of it what a RegistryStore is
for the others. Each record is one change of it, a checkpoint is all of it.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from clufs.cluster.formation_messages import Lives, Round
from clufs.registry.commands import VERSION, Entry
from clufs.registry.log import Snapshot, Stored, Write


class Numbered(msgspec.Struct, frozen=True, array_like=True, tag="number"):
    """The highest view number that the disk vouches for, and of which view: its round and its members.

    A ring's number and a process's id may come again where a machine lost all that it knew, a life never.
    """

    number: int
    round: Round
    members: Lives


class Written(msgspec.Struct, frozen=True, array_like=True, tag="write"):
    """A change of the log: see Write."""

    adopted: int
    base: int
    keep: int
    entries: tuple[Entry, ...]
    committed: int
    snapshot: Snapshot | None
    origin: bytes


class _Whole(msgspec.Struct, frozen=True, array_like=True, tag="whole"):
    """A checkpoint. version: of the commands in it."""

    version: int
    numbered: Numbered | None
    adopted: int
    base: int
    entries: tuple[Entry, ...]
    committed: int
    snapshot: Snapshot
    origin: bytes


_record: msgspec.msgpack.Decoder[Numbered | Written] = msgspec.msgpack.Decoder(Numbered | Written)
_whole = msgspec.msgpack.Decoder(_Whole)
encode = msgspec.msgpack.encode


def written(write: Write) -> Written:
    """The record of a replica's write."""
    return Written(
        write.adopted, write.base, write.keep, write.entries, write.committed, write.snapshot, write.origin,
    )  # fmt: skip


class Image(msgspec.Struct, frozen=True):
    """What is on the disk. numbered: None before the first view that it vouched for."""

    numbered: Numbered | None = None
    stored: Stored = Stored()

    @property
    def number(self) -> int:
        """The highest view number that the disk vouches for."""
        return self.numbered.number if self.numbered is not None else 0

    def after(self, record: Numbered | Written) -> Image:
        """What is on the disk when the record is, too."""
        if isinstance(record, Numbered):
            return Image(record, self.stored)
        old = self.stored
        # A checkpoint may have left out what the replica still counts as there.
        base = max(record.base, old.base)
        write = Write(
            0, record.adopted, base, record.keep, record.entries, record.committed, record.snapshot, record.origin,
        )  # fmt: skip
        stored = old.after(write)
        if stored.snapshot.at < old.snapshot.at:
            stored = replace(stored, snapshot=old.snapshot)
        return Image(self.numbered, stored)

    def shorter(self, snapshot: Snapshot) -> Image:
        """The same with this state of what is applied instead of the log up to there."""
        stored = self.stored
        if not stored.base < snapshot.at <= min(stored.last, stored.committed):
            return self
        entries = stored.entries[snapshot.at - stored.base :]
        return Image(
            self.numbered, replace(stored, base=snapshot.at, entries=entries, snapshot=snapshot)
        )

    def checkpoint(self) -> bytes:
        """All of it."""
        s = self.stored
        return encode(
            _Whole(VERSION, self.numbered, s.adopted, s.base, s.entries, s.committed, s.snapshot, s.origin)
        )  # fmt: skip


def load(checkpoint: bytes, records: tuple[bytes, ...]) -> Image:
    """What a journal says. Raises ValueError with a reason if this version does not understand it."""
    try:
        image = _image(checkpoint) if checkpoint else Image()
        for record in records:
            image = image.after(_record.decode(record))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"this clufs does not understand the quorum disk: {error}") from error
    return image


def _image(checkpoint: bytes) -> Image:
    found = _whole.decode(checkpoint)
    stored = Stored(
        found.adopted, found.base, found.entries, found.committed, found.snapshot, found.origin
    )  # fmt: skip
    return Image(found.numbered, stored)
