"""Everything written to an array's LUNs, in order, in a file that others read while it grows.

An entry is its head (`_HEAD`), the name of who wrote, and the data without the zeros at its end.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_HEAD = struct.Struct(">QHQIIH")


@dataclass(frozen=True)
class Entry:
    """Data that reached a LUN. time_ns: wall clock, before anybody was told."""

    time_ns: int
    lun: int
    lba: int
    data: bytes
    who: str


class Journal:
    """The writing end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def of(self, lun: int) -> Callable[[int, bytes, str], None]:
        """What a LUN's medium calls for each write."""

        def note(lba: int, data: bytes, who: str) -> None:
            name, kept = who.encode(), data.rstrip(b"\0")
            head = _HEAD.pack(time.time_ns(), lun, lba, len(data), len(kept), len(name))
            self._file.write(head + name + kept)

        return note

    def close(self) -> None:
        """Nothing is written any more."""
        self._file.close()


class Reader:
    """The reading end: `more` yields what has come since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def more(self) -> Iterator[Entry]:
        """All whole entries behind those that were read before."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            rest = file.read()
        at = 0
        while at + _HEAD.size <= len(rest):
            time_ns, lun, lba, length, kept, named = _HEAD.unpack_from(rest, at)
            begin = at + _HEAD.size + named
            if begin + kept > len(rest):
                break
            who = rest[at + _HEAD.size : begin].decode()
            at = begin + kept
            yield Entry(time_ns, lun, lba, rest[begin:at].ljust(length, b"\0"), who)
        self._at += at
