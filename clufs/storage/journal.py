"""The journal of the quorum disk: a checkpoint and the records after it, as frames on a LUN. Pure.

A frame is whole blocks, one behind the other: a label as every block of clufs has it, whose checksum
covers all of the frame; ballot and generation of the journal; and a payload. What does not fit in
one frame is continued in the next. A journal is the frames numbered from 0 on, each at the place that
the lengths before it give. So a scan ends at the first place where something else stands: a frame
that is torn, or an older journal's, or one that was written for elsewhere.

Ballot and generation name a journal: no two with one name have a different frame at one place. So a
frame that is written again, or lands late, does no harm within its journal.

A member's share of a LUN is two areas, and a journal is written to one of them in turn, by the parity
of its generation: the one before stays readable until the next one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple
from uuid import UUID

import google_crc32c

from clufs.errors import BadBlock
from clufs.limits import FRAME_BLOCKS_MAX
from clufs.storage.layout import Layout, at
from clufs.storage.quorum import Share
from clufs.storage.sealing import BLOCK_BYTES, LABEL_BYTES, Flaw, Kind, Label, Place, read_label

AREAS = 2
_CHECKSUM = slice(12, 16)


class Name(NamedTuple):
    """Of a journal."""

    ballot: int
    generation: int


@dataclass(frozen=True)
class _Head(Layout):
    """After the label. size: of the payload, in bytes. more: the next frame continues it."""

    LENGTH: ClassVar[int] = 32
    ballot: int = at(0, 64, default=None)
    generation: int = at(8, 64, default=None)
    size: int = at(16, 32, default=None)
    more: bool = at(20, 1, default=None)


_PAYLOAD_AT = LABEL_BYTES + _Head.LENGTH
PAYLOAD_MAX_BYTES = FRAME_BLOCKS_MAX * BLOCK_BYTES - _PAYLOAD_AT


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of a journal. payload: where it is to be written, a view of what the caller keeps."""

    payload: bytes | memoryview
    more: bool

    @property
    def blocks(self) -> int:
        """It takes so many."""
        return -(-(_PAYLOAD_AT + len(self.payload)) // BLOCK_BYTES)

    def encode(self, name: Name, number: int, place: Place) -> bytes:
        """The blocks to be written at `place`."""
        label = Label(Kind.LOG, place.uuid.int, place.lba, number).pack()
        head = _Head(name.ballot, name.generation, len(self.payload), self.more).pack()
        run = bytearray(label + head + self.payload)
        run += bytes(self.blocks * BLOCK_BYTES - len(run))
        run[_CHECKSUM] = _checksum(run, place).to_bytes(4, "big")
        return bytes(run)

    @classmethod
    def decode(cls, name: Name, number: int, place: Place, data: memoryview) -> Frame:
        """The frame of a journal with this number, that `data` begins with. Raises BadBlock."""
        label = read_label(bytes(data[:BLOCK_BYTES]))
        if (label.kind, label.sequence) != (Kind.LOG, number):
            raise BadBlock(Flaw.OTHER_KIND)
        if (label.uuid, label.lba) != (place.uuid.int, place.lba):
            raise BadBlock(Flaw.MISDIRECTED)
        head = _Head.unpack(bytes(data[LABEL_BYTES:_PAYLOAD_AT]))
        if (head.ballot, head.generation) != name:
            raise BadBlock(Flaw.STALE)
        found = cls(bytes(data[_PAYLOAD_AT : _PAYLOAD_AT + head.size]), head.more)
        run = bytearray(data[: found.blocks * BLOCK_BYTES])
        if len(found.payload) != head.size or _checksum(run, place) != label.checksum:
            raise BadBlock(Flaw.TORN)
        return found


def _checksum(run: bytearray, place: Place) -> int:
    """CRC32C of UUID, LBA and the whole frame, the checksum's own field taken as zero."""
    run[_CHECKSUM] = bytes(4)
    start = google_crc32c.value(place.uuid.bytes + place.lba.to_bytes(8, "big"))
    return int(google_crc32c.extend(start, bytes(run)))


def frames_of(data: bytes) -> Iterator[Frame]:
    """A checkpoint, or a record, in pieces."""
    last = max(0, len(data) - 1) // PAYLOAD_MAX_BYTES
    view = memoryview(data)
    for piece in range(last + 1):
        begin = piece * PAYLOAD_MAX_BYTES
        yield Frame(view[begin : begin + PAYLOAD_MAX_BYTES], piece < last)


def share_of(frames: Iterable[Frame]) -> Share:
    """What whole frames hold together."""
    found: list[bytes] = []
    parts: list[bytes | memoryview] = []
    for frame in frames:
        parts.append(frame.payload)
        if not frame.more:
            found.append(b"".join(parts))
            parts.clear()
    return Share(found[0], tuple(found[1:])) if found else Share()


class Journal:
    """One that is being written, by `frames`.

    starts: where each begins, in blocks from its area's first. over: nothing more is written of it.
    """

    def __init__(self, name: Name, frames: Iterable[Frame]) -> None:
        self.name = name
        self.frames: list[Frame] = []
        self.starts: list[int] = []
        self.blocks = 0
        self.over = False
        self.add(frames)

    def add(self, frames: Iterable[Frame]) -> None:
        """Append a record; the first is the checkpoint."""
        for frame in frames:
            self.frames.append(frame)
            self.starts.append(self.blocks)
            self.blocks += frame.blocks

    def run(self, uuid: UUID, lba: int, begin: int, end: int) -> tuple[int, bytes, int]:
        """Where and what to write next of frames `begin` to `end` - 1, and up to which; lba: where the area begins."""
        parts: list[bytes] = []
        at, blocks = begin, 0
        while at < end and (not parts or blocks + self.frames[at].blocks <= FRAME_BLOCKS_MAX):
            place = Place(uuid, lba + self.starts[at])
            parts.append(self.frames[at].encode(self.name, at, place))
            blocks += self.frames[at].blocks
            at += 1
        return lba + self.starts[begin], b"".join(parts), at


class Scan:
    """Reads a journal, as its blocks come."""

    def __init__(self, name: Name, uuid: UUID, lba: int) -> None:
        self.frames: list[Frame] = []
        self.ended = False
        self._name, self._uuid, self._lba = name, uuid, lba
        self._blocks = 0

    @property
    def next_block(self) -> int:
        """From here on it must be read, counted from the area's first block."""
        return self._blocks

    @property
    def is_whole(self) -> bool:
        """Whether there is a whole checkpoint."""
        return any(not frame.more for frame in self.frames)

    @property
    def found(self) -> list[Frame]:
        """What was read. A record whose end is missing was never safe."""
        ends = [number for number, frame in enumerate(self.frames) if not frame.more]
        return self.frames[: ends[-1] + 1] if ends else []

    def take(self, data: bytes, last: bool) -> None:
        """The blocks from `next_block` on, at least FRAME_BLOCKS_MAX of them; last: up to the area's end."""
        view, at = memoryview(data), 0
        least = BLOCK_BYTES if last else FRAME_BLOCKS_MAX * BLOCK_BYTES
        while not self.ended and len(data) - at >= least:
            at += self._one(view[at:])
        self.ended = self.ended or last

    def _one(self, view: memoryview) -> int:
        place = Place(self._uuid, self._lba + self._blocks)
        try:
            frame = Frame.decode(self._name, len(self.frames), place, view)
        except BadBlock:
            self.ended = True
            return 0
        self.frames.append(frame)
        self._blocks += frame.blocks
        return frame.blocks * BLOCK_BYTES
