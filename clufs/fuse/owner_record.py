"""The owners of locks, kept in a file where a later daemon finds them after this one was killed.

Written before each grant is told (contract 0). The page cache outlives the daemon, and
after a power loss there are no owners left to find: so it is mapped, and never synced.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from clufs.errors import StateError

if TYPE_CHECKING:
    from clufs.fuse.owners import ProcessOwner

_MAGIC = b"clufs owners 1\n\0"
_BOOT_ID_BYTES = 48
_HEADER_BYTES = 128
_DESCRIPTORS = struct.Struct("<Q")
_DESCRIPTORS_AT = 64
_SLOT = struct.Struct("<QQ")
_SLOTS_BEGIN = 1024


def boot_id() -> bytes:
    """The id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()


class OwnerRecord:
    """Slots of (pid, start time), one for each process that holds a lock."""

    def __init__(self, path: Path) -> None:
        """Begin anew at `path`. Raises StateError when the file cannot be written."""
        self._path = path
        self._free: list[int] = []
        self._slots = 0
        self._expected = 0
        self._descriptors = 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._map = self._grow(_SLOTS_BEGIN)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}") from error
        header = _MAGIC + boot_id().ljust(_BOOT_ID_BYTES, b"\0")
        self._map[: len(header)] = header

    def _grow(self, slots: int) -> mmap.mmap:
        size = _HEADER_BYTES + slots * _SLOT.size
        os.posix_fallocate(self._fd, 0, size)
        self._free.extend(range(slots - 1, self._slots - 1, -1))
        self._slots = slots
        return mmap.mmap(self._fd, size)

    def expect(self, change: int) -> None:
        """Keep room for so many more processes, which may hold a lock later, or fewer.

        Raises StateError, with nothing changed, when the disk is full: what is granted later
        can then always be recorded.
        """
        if self._expected + change > self._slots:
            try:
                grown = self._grow(self._slots * 2)
            except OSError as error:
                raise StateError(f"{self._path}: {error.strerror}") from error
            self._map.close()
            self._map = grown
        self._expected += change

    def set(self, process: ProcessOwner) -> None:
        """Record a process that was expected, before it is told of a grant."""
        process.slot = slot = self._free.pop()
        _SLOT.pack_into(
            self._map, _HEADER_BYTES + slot * _SLOT.size, process.pid, process.start_time
        )

    def clear(self, process: ProcessOwner) -> None:
        """Forget a process that holds nothing more."""
        slot = process.slot
        if slot >= 0:
            _SLOT.pack_into(self._map, _HEADER_BYTES + slot * _SLOT.size, 0, 0)
            self._free.append(slot)
            process.slot = -1

    def count_descriptors(self, change: int) -> None:
        """Record how many open descriptors hold a lock."""
        self._descriptors += change
        _DESCRIPTORS.pack_into(self._map, _DESCRIPTORS_AT, self._descriptors)

    def close(self, *, keep: bool = False) -> None:
        """Nobody owns anything any more, and the file goes; keep: somebody does, and it stays."""
        self._map.close()
        os.close(self._fd)
        if not keep:
            self._path.unlink(missing_ok=True)


def left_behind(path: Path) -> tuple[list[tuple[int, int]], bool]:
    """What a killed daemon left in `path`: its lock owners (pid, start time), and whether descriptors held locks.

    Nothing when there is no file, or it is of another boot. Raises StateError when it is damaged.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return [], False
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    if len(raw) < _HEADER_BYTES or not raw.startswith(_MAGIC):
        if not raw.strip(b"\0"):
            return [], False  # killed before its first line was written
        raise StateError(f"{path} is not an owner record of clufs; move it away")
    then = raw[len(_MAGIC) : len(_MAGIC) + _BOOT_ID_BYTES].rstrip(b"\0")
    if then != boot_id():
        return [], False
    end = len(raw) - (len(raw) - _HEADER_BYTES) % _SLOT.size
    slots = _SLOT.iter_unpack(raw[_HEADER_BYTES:end])
    (descriptors,) = _DESCRIPTORS.unpack_from(raw, _DESCRIPTORS_AT)
    return [(pid, start) for pid, start in slots if pid], descriptors > 0
