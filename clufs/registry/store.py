"""The registry's store: what must outlive the daemon, in one state directory.

`registry.sqlite` has the log, the snapshot and the numbers that never repeat; `registry.stamp` how
far it had come; `lock` is held by the daemon that uses the directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

from clufs.errors import StateError
from clufs.registry.commands import CommandId, Entry, PutNamespace
from clufs.registry.file import VERSION, Header, OldTables, RegistryFile
from clufs.registry.log import Stored, Write
from clufs.registry.stamp import Stamp

_TOKEN_BYTES = 16


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
            self._stamp = self._open_stamp()
            undo.callback(self._stamp.close)
            self._load()
            undo.pop_all()

    def _open_stamp(self) -> Stamp:
        try:
            return Stamp(self.directory / "registry.stamp")
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
            header, stored = self._file.read()
        if header.generation < stamped:
            raise self._file.damaged(
                f"registry.sqlite is older than it was: generation {header.generation} of {stamped}"
            )
        self._stored, self._header = stored, header
        self._count(header)

    def _count(self, header: Header) -> None:
        """The file has changed: stamp its generation."""
        self._header = header
        # The change is on disk, whatever becomes of the stamp: without it only less is detected.
        with contextlib.suppress(OSError):
            self._stamp.write(header.generation)

    # ------------------------------------------------- for the replica

    @property
    def stored(self) -> Stored:
        """What is on disk, for a Replica to begin with."""
        return self._stored

    def write(self, write: Write) -> None:
        """Carry out a replica's write."""
        header = self._file.write(self._header, write)
        self._stored = self._stored.after(write)
        self._count(header)

    # ------------------------------------------------- numbers that never repeat

    @property
    def view(self) -> int:
        """The highest view number that was kept here."""
        return self._header.view

    def keep_view(self, number: int) -> None:
        """Keep a view number; a lower one than before changes nothing."""
        if number > self._header.view:
            self._count(self._file.change(self._header, view=number))

    @property
    def incarnation(self) -> int:
        """The incarnation of the life before, 0 if there was none."""
        return self._header.incarnation

    def next_incarnation(self, at_least: int = 1) -> int:
        """An incarnation that this member never had before.

        at_least: the seconds of the wall clock, so that it grows also after the disk was replaced.
        """
        number = max(self._header.incarnation + 1, at_least)
        self._count(self._file.change(self._header, incarnation=number))
        return number

    def close(self) -> None:
        """Let go of the state directory."""
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
