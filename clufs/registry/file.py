"""The registry's file: an SQLite database whose every row is bound to one header row.

The header holds the checksum of the snapshot and that of the last entry, and the checksum of each
entry covers that of the one before. So whatever is missing, torn or of another time is found when
the file is read.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import msgspec

from clufs.errors import StateError
from clufs.registry.commands import Entry, decode, encode
from clufs.registry.log import Snapshot, Stored, Write

VERSION = 2
"""The version of the tables, as SQLite's user_version. 1 (0 in the file) had namespaces as rows."""

_JOURNAL_KEPT_BYTES = 64 * 1024
"""So much of the journal's room stays; a change of the header takes a page or two of it."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE header (one INTEGER PRIMARY KEY CHECK (one = 1), body BLOB, sum BLOB) STRICT;
CREATE TABLE snapshot (one INTEGER PRIMARY KEY CHECK (one = 1), data BLOB) STRICT;
CREATE TABLE log (number INTEGER PRIMARY KEY, view INTEGER, body BLOB, sum BLOB) STRICT;
DROP TABLE IF EXISTS meta;
DROP TABLE IF EXISTS namespaces;
PRAGMA user_version = {VERSION};
"""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What is true of the file as a whole.

    generation: grows with every change. view, incarnation: the highest that this member has used.
    token: made at random with the file. origin: see Stored.
    base_sum, last_sum: of the entry at the base and of the last one; as all, they bind the log.
    """

    generation: int = 0
    view: int = 0
    incarnation: int = 0
    adopted: int = 0
    base: int = 0
    last: int = 0
    committed: int = 0
    snapshot_at: int = 0
    snapshot_sum: bytes = b""
    base_sum: bytes = b""
    last_sum: bytes = b""
    token: bytes = b""
    origin: bytes = b""


class OldTables(msgspec.Struct, frozen=True):
    """What a file of version 1 had: the last view, and name, uid, gid, mode of each namespace."""

    view: int
    namespaces: list[tuple[bytes, int, int, int]]


Row = tuple[int, int, bytes, bytes]
"""An entry of the log: index, view, the command with its id, and the checksum that binds it."""

_header = msgspec.msgpack.Decoder(Header)


def digest(*parts: bytes) -> bytes:
    """A checksum over parts and their borders."""
    found = blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.digest()


class RegistryFile:
    """One connection; every change is one transaction, on disk when the method returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises StateError, also where SQLite finds it damaged."""
        self._where = f"state directory {path.parent}"
        with self._named():
            # Calls come one at a time, each in whatever thread the caller has for them.
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._named():
                # EXCLUSIVE: no other connection is there, so the journal stays open.
                # PERSIST: when the disk is full, the journal has its room already, so that a
                # number, which takes the place of another one, can always be kept.
                self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode=PERSIST")
                self._db.execute(f"PRAGMA journal_size_limit={_JOURNAL_KEPT_BYTES}")
                self._db.execute("PRAGMA synchronous=FULL")
                self.version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if self.version > VERSION:
                raise self.damaged(f"registry.sqlite is of version {self.version}, a later clufs's")
        except StateError:
            self._db.close()
            raise

    def damaged(self, what: str) -> StateError:
        """The error for a file that must not be used."""
        return StateError(f"{self._where}: {what}")

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            failure = self.damaged(str(error))
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                failure.errno = errno.ENOSPC
            raise failure from error
        except UnicodeDecodeError as error:  # of what SQLite says: names in the file are garbage
            raise self.damaged("registry.sqlite is damaged: its tables") from error

    @contextmanager
    def _change(self) -> Iterator[None]:
        """All of it or nothing. After a StateError with ENOSPC it is nothing for certain."""
        with self._named():
            try:
                if not self._db.in_transaction:
                    self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # ------------------------------------------------- reading

    def old_tables(self) -> OldTables:
        """What a file of version 1 has; nothing in a new one."""
        with self._named():
            names = "SELECT name FROM sqlite_master WHERE type = 'table'"
            tables = [name for (name,) in self._db.execute(names)]
            view, namespaces = 0, []
            if "meta" in tables:
                row = self._db.execute("SELECT number FROM meta WHERE key = 'view'").fetchone()
                view = row[0] if row else 0
            if "namespaces" in tables:
                rows = "SELECT name, uid, gid, mode FROM namespaces ORDER BY name"
                namespaces = self._db.execute(rows).fetchall()
            return OldTables(view, namespaces)

    def read(self) -> tuple[Header, Stored]:
        """All that is there. Raises StateError if anything is missing, torn or of another time."""
        try:
            return self._read()
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            raise self.damaged(f"registry.sqlite is damaged: {error}") from error

    def _read(self) -> tuple[Header, Stored]:
        with self._named():
            headers = self._db.execute("SELECT body, sum FROM header").fetchall()
            data = self._db.execute("SELECT data FROM snapshot").fetchall()
            rows = self._db.execute(
                "SELECT number, view, body, sum FROM log ORDER BY number"
            ).fetchall()
        if len(headers) != 1 or digest(headers[0][0]) != headers[0][1]:
            raise self.damaged("registry.sqlite is damaged: its header")
        header = _header.decode(headers[0][0])
        if len(data) != 1 or digest(data[0][0]) != header.snapshot_sum:
            raise self.damaged("registry.sqlite is damaged: its snapshot")
        return header, Stored(
            header.adopted,
            header.base,
            self._entries(header, rows),
            header.committed,
            Snapshot(header.snapshot_at, data[0][0]),
            header.origin,
            header.token,
        )

    def _entries(
        self, header: Header, rows: list[tuple[int, int, bytes, bytes]]
    ) -> tuple[Entry, ...]:
        entries, before = [], header.base_sum
        for at, (number, view, body, sum_) in enumerate(rows, header.base + 1):
            if number != at or sum_ != _entry_sum(before, number, view, body):
                raise self.damaged(f"registry.sqlite is damaged: entry {at} of its log")
            before = sum_
            entries.append(Entry(number, view, *decode(body)))
        if header.base + len(rows) != header.last or before != header.last_sum:
            raise self.damaged(f"registry.sqlite is damaged: entry {header.last} of its log")
        return tuple(entries)

    # ------------------------------------------------- changing

    def make(self, header: Header, stored: Stored) -> Header:
        """Make the tables, or take the place of those of version 1; return the header written."""
        with self._named():
            self._db.executescript(_SCHEMA)
        return self.write(
            header,
            Write(0, stored.adopted, 0, 0, stored.entries, stored.committed, stored.snapshot),
        )

    def write(self, header: Header, write: Write, pending: Sequence[Row] = ()) -> Header:
        """Carry out a write on top of the header as it was; return the new one.

        pending: rows that the header counts already.
        """
        with self._change():
            self._insert(pending)
            base_sum = self._sum_at(write.base, header)
            if write.snapshot is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO snapshot VALUES (1, ?)", (write.snapshot.data,)
                )
            # A log that begins beyond what is here shares nothing with it: its sums begin anew.
            last_sum = self._sum_at(min(write.keep, header.last), header)
            last_sum = last_sum if write.keep > write.base else base_sum
            self._db.execute(
                "DELETE FROM log WHERE number <= ? OR number > ?", (write.base, write.keep)
            )
            rows, last_sum = _rows(last_sum, write.entries)
            self._insert(rows)
            return self._put_header(_after(header, write, base_sum, last_sum))

    def change(self, header: Header, pending: Sequence[Row] = (), **fields: int) -> Header:
        """Change numbers of the header; return the new one."""
        with self._change():
            self._insert(pending)
            return self._put_header(msgspec.structs.replace(header, **fields))

    def _insert(self, rows: Sequence[Row]) -> None:
        self._db.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", rows)

    def _put_header(self, header: Header) -> Header:
        new = next_of(header)
        body = msgspec.msgpack.encode(new)
        self._db.execute("INSERT OR REPLACE INTO header VALUES (1, ?, ?)", (body, digest(body)))
        return new

    def _sum_at(self, index: int, header: Header) -> bytes:
        if index == header.base:
            return header.base_sum
        row = self._db.execute("SELECT sum FROM log WHERE number = ?", (index,)).fetchone()
        return row[0] if row else b""

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def next_of(header: Header, **fields: int) -> Header:
    """The header after one change more, of these fields."""
    return msgspec.structs.replace(header, generation=header.generation + 1, **fields)


def appended(header: Header, write: Write) -> tuple[Header, list[Row]] | None:
    """The header after a write that only adds entries, and their rows; None for any other."""
    same = write.adopted == header.adopted and write.origin == header.origin
    adds = write.snapshot is None and write.base == header.base and write.keep >= header.last
    if not (same and adds):
        return None
    rows, last_sum = _rows(header.last_sum, write.entries)
    return next_of(_after(header, write, header.base_sum, last_sum)), rows


def entries_of(header: Header, rows: Sequence[Row]) -> tuple[Entry, ...] | None:
    """The entries of rows that follow those which the header counts; None if they do not."""
    entries, before = [], header.last_sum
    for at, (number, view, body, sum_) in enumerate(rows, header.last + 1):
        if number != at or sum_ != _entry_sum(before, number, view, body):
            return None
        before = sum_
        entries.append(Entry(number, view, *decode(body)))
    return tuple(entries)


def _rows(before: bytes, entries: Sequence[Entry]) -> tuple[list[Row], bytes]:
    """The rows of entries that follow the one with this checksum, and the checksum of the last."""
    rows = []
    for entry in entries:
        body = encode(entry.id, entry.command)
        before = _entry_sum(before, entry.index, entry.view, body)
        rows.append((entry.index, entry.view, body, before))
    return rows, before


def _after(header: Header, write: Write, base_sum: bytes, last_sum: bytes) -> Header:
    kept = max(write.base, min(write.keep, header.last))
    snapshot = write.snapshot
    return msgspec.structs.replace(
        header,
        adopted=write.adopted,
        base=write.base,
        last=kept + len(write.entries),
        committed=write.committed,
        snapshot_at=header.snapshot_at if snapshot is None else snapshot.at,
        snapshot_sum=header.snapshot_sum if snapshot is None else digest(snapshot.data),
        base_sum=base_sum,
        last_sum=last_sum,
        origin=write.origin,
    )


def _entry_sum(before: bytes, number: int, view: int, body: bytes) -> bytes:
    return digest(before, number.to_bytes(8, "big"), view.to_bytes(8, "big"), body)
