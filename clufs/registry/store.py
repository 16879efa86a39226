"""The registry's store: what must outlive the daemon, in one state directory.

`registry.sqlite` has the log, the snapshot and the numbers that never repeat, and `registry.tail` what came
since; `registry.stamp` how far they had come; `lock` is held by the daemon that uses the directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from clufs.errors import StateError
from clufs.limits import TAIL_SPARED_BYTES
from clufs.registry.commands import CommandId, Entry, PutNamespace
from clufs.registry.file import (
    VERSION,
    Header,
    OldTables,
    RegistryFile,
    Row,
    appended,
    entries_of,
    next_of,
)
from clufs.registry.log import Stored, Write
from clufs.registry.stamp import Stamp
from clufs.registry.tail import Tail

_TOKEN_BYTES = 16


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """A record of the tail: the header after it, and the rows that it adds."""

    header: Header
    rows: list[Row]


_record = msgspec.msgpack.Decoder(_Record)


class RegistryStore:
    """One member's state directory; used by one daemon at a time, one call at a time.

    Every method that changes something returns when it is on disk. A StateError with errno ENOSPC
    means that nothing was changed; after any other nobody knows, and the daemon must end.
    """

    def __init__(self, directory: Path) -> None:
        """Open or make the state directory. Raises StateError, also for a damaged or an old file."""
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"state directory {directory}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StateError(f"state directory {directory} is used by another clufsd") from None
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self._lock)
            self._file = RegistryFile(directory / "registry.sqlite")
            undo.callback(self._file.close)
            with self._named():
                self._stamp = Stamp(self.directory / "registry.stamp")
                undo.callback(self._stamp.close)
                self._tail = Tail(self.directory / "registry.tail")
                undo.callback(self._tail.close)
            self._pending: list[Row] = []
            self._load()
            undo.pop_all()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            failure = StateError(f"state directory {self.directory}: {error.strerror}")
            failure.errno = error.errno or failure.errno
            raise failure from error

    def _load(self) -> None:
        stamped = self._stamp.read()
        if self._file.version < VERSION:
            if stamped:
                raise self._file.damaged("registry.sqlite is lost, or older than it was")
            stored, view = _first(self._file.old_tables())
            header = self._file.make(Header(view=view, token=stored.token), stored)
        else:
            header, stored = self._with_tail(*self._file.read())
        if header.generation < stamped:
            raise self._file.damaged(
                f"registry.sqlite is older than it was: generation {header.generation} of {stamped}"
            )
        self._stored, self._header = stored, header
        self._put_stamp()

    def _with_tail(self, header: Header, stored: Stored) -> tuple[Header, Stored]:
        """What the database has, and what came since."""
        with self._named():
            records = list(self._tail.read(header.generation))
        for generation, body in records:
            try:
                found = _record.decode(body)
                entries = entries_of(header, found.rows)
            except msgspec.MsgspecError as error:
                raise self._file.damaged(f"registry.tail is damaged: {error}") from error
            follows = found.header.generation == generation == header.generation + 1
            if entries is None or not follows:
                raise self._file.damaged(f"registry.tail lacks what came before {generation}")
            header = found.header
            self._pending += found.rows
            committed = header.committed
            stored = replace(stored, entries=stored.entries + entries, committed=committed)
        return header, stored

    def _count(self, header: Header) -> None:
        """The database has changed, and has all that was pending: stamp its generation."""
        self._header = header
        self._pending.clear()
        self._tail.restart()
        self._put_stamp()

    def _put_stamp(self, sync: bool = True) -> None:
        # The change is on disk, whatever becomes of the stamp: without it only less is detected.
        with contextlib.suppress(OSError):
            self._stamp.write(self._header.generation, sync)

    def _append(self, header: Header, rows: list[Row], spared: int) -> bool:
        """Add a record to the tail, if it leaves so much room there."""
        body = msgspec.msgpack.encode(_Record(header, rows))
        if not self._tail.has_room(len(body), spared):
            return False
        with self._named():
            try:
                self._tail.append(header.generation, body)
            except OSError as error:  # its room is there: what is on disk now nobody knows
                error.errno = errno.EIO
                raise
        self._header = header
        self._pending += rows
        self._put_stamp(sync=False)  # a power cut may take it, and the record says as much
        return True

    def _change(self, **fields: int) -> None:
        """Change numbers. Into the tail where a full disk could refuse them: with rows that are pending."""
        if not (self._pending and self._append(next_of(self._header, **fields), [], 0)):
            self._count(self._file.change(self._header, self._pending, **fields))

    # ------------------------------------------------- for the replica

    @property
    def stored(self) -> Stored:
        """What is on disk, for a Replica to begin with."""
        return self._stored

    def write(self, write: Write) -> None:
        """Carry out a replica's write."""
        added = appended(self._header, write)
        if added is None or not self._append(*added, TAIL_SPARED_BYTES):
            self._count(self._file.write(self._header, write, self._pending))
        self._stored = self._stored.after(write)

    # ------------------------------------------------- numbers that never repeat

    @property
    def view(self) -> int:
        """The highest view number that was kept here."""
        return self._header.view

    def keep_view(self, number: int) -> None:
        """Keep a view number; a lower one than before changes nothing."""
        if number > self._header.view:
            self._change(view=number)

    @property
    def incarnation(self) -> int:
        """The incarnation of the life before, 0 if there was none."""
        return self._header.incarnation

    def next_incarnation(self, at_least: int = 1) -> int:
        """An incarnation that this member never had before.

        at_least: the seconds of the wall clock, so that it grows also after the disk was replaced.
        """
        number = max(self._header.incarnation + 1, at_least)
        self._change(incarnation=number)
        return number

    def close(self) -> None:
        """Let go of the state directory; the database takes over what is pending, if it can."""
        if self._pending:
            with contextlib.suppress(StateError):
                self._count(self._file.change(self._header, self._pending))
        self._tail.close()
        self._file.close()
        self._stamp.close()
        os.close(self._lock)


def _first(old: OldTables) -> tuple[Stored, int]:
    """What a member has that never had a log, and its last view.

    What it had as rows becomes the beginning of its log, for the first view to commit.
    """
    entries = tuple(
        Entry(at, 0, CommandId(0, 0, at), PutNamespace(*row, new=True))
        for at, row in enumerate(old.namespaces, 1)
    )
    return Stored(entries=entries, token=secrets.token_bytes(_TOKEN_BYTES)), old.view
