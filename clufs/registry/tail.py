"""The tail: what has come since the last change of the SQLite database, each record on disk by one flush.

A transaction of SQLite takes five flushes. So what only adds entries to the log, or changes a number, is
appended here; the database takes it over when there is no room left, or with a change of another kind.
The file has all its room from the start. A record begins at a sector, says which generation it makes, and
is bound by a checksum: one that was torn by a power cut was never confirmed, and is not there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from clufs.limits import TAIL_BYTES

_SECTOR_BYTES = 512
_SUM_BYTES = 16
_HEAD = struct.Struct(f">4sIQ{_SUM_BYTES}s")  # magic, bytes of the body, generation, checksum
_MAGIC = b"clut"


class Tail:
    """One file of TAIL_BYTES. OSErrors come from every method."""

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._file).st_size < TAIL_BYTES:
                os.pwrite(self._file, bytes(TAIL_BYTES), 0)
                os.fsync(self._file)
                _sync_directory(path.parent)
        except OSError:
            os.close(self._file)
            raise
        self._at = 0

    def read(self, generation: int) -> Iterator[tuple[int, bytes]]:
        """The records that follow this generation, each with its own; the next one goes behind them.

        One of a later generation that does not follow is yielded as well: what was before it is lost.
        """
        data = os.pread(self._file, TAIL_BYTES, 0)
        self._at = 0
        while (found := _record(data, self._at)) is not None and found[0] == generation + 1:
            generation, body = found
            self._at += _room(len(body))
            yield generation, body
        for at in range(self._at, TAIL_BYTES, _SECTOR_BYTES):
            lost = _record(data, at)
            if lost is not None and lost[0] > generation:
                yield lost

    def has_room(self, size: int, spared: int = 0) -> bool:
        """Whether a body of so many bytes fits, and so many bytes beside it."""
        return self._at + _room(size) + spared <= TAIL_BYTES

    def append(self, generation: int, body: bytes) -> None:
        """Add a record; it is on disk when this returns."""
        head = _HEAD.pack(_MAGIC, len(body), generation, _sum(generation, body))
        os.pwrite(self._file, (head + body).ljust(_room(len(body)), b"\0"), self._at)
        os.fdatasync(self._file)
        self._at += _room(len(body))

    def restart(self) -> None:
        """All records are in the database, by their generation: the next one takes their place."""
        self._at = 0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def _room(size: int) -> int:
    return -(-(_HEAD.size + size) // _SECTOR_BYTES) * _SECTOR_BYTES


def _record(data: bytes, at: int) -> tuple[int, bytes] | None:
    if at + _HEAD.size > len(data):
        return None
    magic, size, generation, sum_ = _HEAD.unpack_from(data, at)
    body = data[at + _HEAD.size : at + _HEAD.size + size]
    whole = magic == _MAGIC and len(body) == size and sum_ == _sum(generation, body)
    return (generation, body) if whole else None


def _sum(generation: int, body: bytes) -> bytes:
    return blake2b(generation.to_bytes(8, "big") + body, digest_size=_SUM_BYTES).digest()


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
