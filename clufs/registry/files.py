"""The small files that the registry keeps: profiles, action scripts, templates. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import msgspec

from clufs.errors import ClufsError, InvalidRequest, NameExists, NoRoom, NoSuchName, StaleFile
from clufs.limits import FILE_MAX_BYTES, FILES_MAX, FILES_MAX_BYTES


class PutFile(msgspec.Struct, frozen=True, array_like=True, tag="put file", gc=False):
    """Keep a file as a whole. path: below the root of /clu, as b"resources/web.cap".

    new: there must be none of that path; otherwise it takes the place of one that may be there.
    mtime_ns: wall clock.
    """

    path: bytes
    data: bytes
    uid: int
    gid: int
    mode: int
    mtime_ns: int
    new: bool


class WriteFile(msgspec.Struct, frozen=True, array_like=True, tag="write file", gc=False):
    """Give a file another text, whatever its path is by now. number: as in its record."""

    number: int
    data: bytes
    mtime_ns: int


class ChangeFile(msgspec.Struct, frozen=True, array_like=True, tag="change file", gc=False):
    """Change what is known of a file beside its text. None: it stays as it is."""

    number: int
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    mtime_ns: int | None = None


class DropFile(msgspec.Struct, frozen=True, array_like=True, tag="drop file", gc=False):
    """Keep a file no longer. number: only this one; 0 for whichever has the path."""

    path: bytes
    number: int = 0


class MoveFile(msgspec.Struct, frozen=True, array_like=True, tag="move file", gc=False):
    """Give a file another path; the file that had it goes, or with `noreplace` it is a refusal.

    version: the text that was judged for the new place; 0 where nothing depends on it.
    """

    path: bytes
    to: bytes
    noreplace: bool
    version: int = 0


FileCommand: TypeAlias = PutFile | WriteFile | ChangeFile | DropFile | MoveFile


class FileRecord(NamedTuple):
    """A file. number: its own for ever, also under another path.

    version: of its text; a later text of any file has a higher one. mtime_ns: wall clock.
    """

    data: bytes
    uid: int
    gid: int
    mode: int
    mtime_ns: int
    number: int
    version: int


_THERE = "is there already"
_MISSING = "is not there"
_CHANGED = "has another text by now"
_FULL = "there is no room for it"


class FileTable:
    """All files, by path. counter: the last number and version that was given.

    A file is refused that would be one of more than FILES_MAX, or make all of them larger than
    FILES_MAX_BYTES: what every member keeps in memory stays bounded.
    """

    def __init__(self, records: Iterable[tuple[bytes, FileRecord]] = (), counter: int = 0) -> None:
        self.records = dict(records)
        self.counter = counter
        self._paths = {record.number: path for path, record in self.records.items()}
        self._bytes = sum(len(record.data) for record in self.records.values())

    def path(self, number: int) -> bytes | None:
        """Where the file of this number is now; None if it is no more."""
        return self._paths.get(number)

    def apply(self, command: FileCommand) -> str | None:
        """Apply a command; return why it is refused, which changes nothing, or None."""
        match command:
            case PutFile():
                return self._put(command)
            case WriteFile():
                return self._write(command)
            case ChangeFile():
                return self._change(command)
            case DropFile():
                return self._drop(command)
            case MoveFile():
                return self._move(command)

    def _put(self, command: PutFile) -> str | None:
        known = self.records.get(command.path)
        if known is not None and command.new:
            return f"{_shown(command.path)} {_THERE}"
        if refusal := self._no_room(command.path, known, command.data):
            return refusal
        number = self._count() if known is None else known.number
        facts = (command.data, command.uid, command.gid, command.mode, command.mtime_ns)
        self._keep(command.path, FileRecord(*facts, number, self._count()))
        return None

    def _write(self, command: WriteFile) -> str | None:
        path = self._paths.get(command.number)
        if path is None:
            return f"the file {_MISSING} any more"
        known = self.records[path]
        if refusal := self._no_room(path, known, command.data):
            return refusal
        new = known._replace(data=command.data, mtime_ns=command.mtime_ns, version=self._count())
        self._keep(path, new)
        return None

    def _change(self, command: ChangeFile) -> str | None:
        path = self._paths.get(command.number)
        if path is None:
            return f"the file {_MISSING} any more"
        known = self.records[path]
        new = known._replace(
            uid=known.uid if command.uid is None else command.uid,
            gid=known.gid if command.gid is None else command.gid,
            mode=known.mode if command.mode is None else command.mode,
            mtime_ns=known.mtime_ns if command.mtime_ns is None else command.mtime_ns,
        )
        self._keep(path, new)
        return None

    def _drop(self, command: DropFile) -> str | None:
        known = self.records.get(command.path)
        if known is None or command.number not in (0, known.number):
            return f"{_shown(command.path)} {_MISSING}"
        self._forget(command.path)
        return None

    def _move(self, command: MoveFile) -> str | None:
        known = self.records.get(command.path)
        if known is None:
            return f"{_shown(command.path)} {_MISSING}"
        if command.version not in (0, known.version):
            return f"{_shown(command.path)} {_CHANGED}"
        if command.to in self.records and command.noreplace:
            return f"{_shown(command.to)} {_THERE}"
        if command.to == command.path:
            return None
        self._forget(command.path)
        if command.to in self.records:
            self._forget(command.to)
        # In its new place the text counts as one that came just now.
        self._keep(command.to, known._replace(version=self._count()))
        return None

    def _no_room(self, path: bytes, known: FileRecord | None, data: bytes) -> str | None:
        if len(data) > FILE_MAX_BYTES:
            return f"{_FULL}: a file here has at most {FILE_MAX_BYTES} bytes, not {len(data)}"
        if known is None and len(self.records) >= FILES_MAX:
            return f"{_FULL}: {FILES_MAX} files are kept here at most"
        grown = self._bytes + len(data) - (len(known.data) if known is not None else 0)
        if known is not None and len(data) <= len(known.data):
            return None
        if grown > FILES_MAX_BYTES:
            return f"{_FULL}: all files here have at most {FILES_MAX_BYTES} bytes together"
        return None

    def _count(self) -> int:
        self.counter += 1
        return self.counter

    def _keep(self, path: bytes, record: FileRecord) -> None:
        if path in self.records:
            self._forget(path)
        self.records[path] = record
        self._paths[record.number] = path
        self._bytes += len(record.data)

    def _forget(self, path: bytes) -> None:
        record = self.records.pop(path)
        del self._paths[record.number]
        self._bytes -= len(record.data)


def error_of(refusal: str) -> ClufsError:
    """The error whose errno says what this refusal of a file's command means to the caller."""
    for words, error in _ERRORS.items():
        if words in refusal:
            return error(refusal)
    return InvalidRequest(refusal)


_ERRORS: dict[str, type[ClufsError]] = {
    _THERE: NameExists,
    _MISSING: NoSuchName,
    _CHANGED: StaleFile,
    _FULL: NoRoom,
}


def _shown(path: bytes) -> str:
    return "".join(chr(one) if 32 < one < 127 and one != 92 else f"\\{one:03o}" for one in path)
