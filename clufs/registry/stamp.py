"""The generation stamp: a second file that remembers how far the first one had come.

A registry file that is older than its stamp was put back from a copy, or the disk lost what it had
confirmed: this member would deny what it has vouched for.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

_SLOT_BYTES = 512  # one sector: written whole or not at all
_SUM_BYTES = 16


class Stamp:
    """Two slots, written in turn: a torn write leaves the other."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size < 2 * _SLOT_BYTES:
            # All its room from the start: a full disk can refuse no later stamp.
            os.pwrite(self._file, bytes(2 * _SLOT_BYTES), 0)
            os.fsync(self._file)

    def read(self) -> int:
        """The highest generation stamped; 0 if none was."""
        slots = (os.pread(self._file, _SLOT_BYTES, at * _SLOT_BYTES) for at in (0, 1))
        return max(_generation(slot) for slot in slots)

    def write(self, generation: int, sync: bool = True) -> None:
        """Stamp a generation; on disk when it returns, without `sync` soon. Raises OSError."""
        number = generation.to_bytes(8, "big")
        slot = (number + _sum(number)).ljust(_SLOT_BYTES, b"\0")
        os.pwrite(self._file, slot, generation % 2 * _SLOT_BYTES)
        if sync:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def _sum(number: bytes) -> bytes:
    return blake2b(number, digest_size=_SUM_BYTES).digest()


def _generation(slot: bytes) -> int:
    number, sum_ = slot[:8], slot[8 : 8 + _SUM_BYTES]
    return int.from_bytes(number, "big") if sum_ == _sum(number) else 0
