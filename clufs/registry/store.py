"""The registry's store: what must outlive the daemon, in SQLite."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from clufs.errors import StateError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS namespaces (
    name BLOB PRIMARY KEY, uid INTEGER NOT NULL, gid INTEGER NOT NULL, mode INTEGER NOT NULL
) STRICT;
"""


class RegistryStore:
    """One member's state directory; used by one daemon at a time.

    Every method that changes something returns when it is on disk, and raises StateError
    with nothing changed when the disk refuses.
    """

    def __init__(self, directory: Path) -> None:
        """Open or make the state directory. Raises StateError."""
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
        self._open()

    def _open(self) -> None:
        try:
            self._db = sqlite3.connect(self.directory / "registry.sqlite", isolation_level=None)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StateError:
        failure = StateError(f"state directory {self.directory}: {error}")
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            failure.errno = errno.ENOSPC
        return failure

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def next_view(self) -> int:
        """A view number that was never used before, not even by a daemon that was killed."""
        try:
            row = self._db.execute("SELECT number FROM meta WHERE key = 'view'").fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        view = (row[0] if row else 0) + 1
        self._change("INSERT OR REPLACE INTO meta VALUES ('view', ?)", (view,))
        return view

    def namespaces(self) -> list[tuple[bytes, int, int, int]]:
        """All namespaces: name, uid, gid, mode."""
        try:
            return self._db.execute("SELECT name, uid, gid, mode FROM namespaces").fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def put_namespace(self, name: bytes, uid: int, gid: int, mode: int) -> None:
        """Keep a namespace, new or changed."""
        self._change(
            "INSERT OR REPLACE INTO namespaces VALUES (?, ?, ?, ?)", (name, uid, gid, mode)
        )

    def drop_namespace(self, name: bytes) -> None:
        """Keep a namespace no longer."""
        self._change("DELETE FROM namespaces WHERE name = ?", (name,))

    def close(self) -> None:
        """Let go of the state directory."""
        self._db.close()
        os.close(self._lock)
