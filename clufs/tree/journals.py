"""What is kept to be read later: events, refusals, deadlocks. All bounded (limits.py)."""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from clufs.errors import ClufsError
from clufs.limits import DEADLOCKS_KEPT, ERRORS_KEPT_PER_USER, EVENTS_KEPT, FENCINGS_KEPT
from clufs.tree.names import shown, shown_word

log = logging.getLogger("clufsd")

_FENCING_WORDS = 4
"""Of a fencing's line at least: time, member, incarnation, agent, result."""


def timestamp(wall_s: float) -> str:
    """A wall-clock time as 2026-11-21T05:06:07.890Z."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


# Where two names share a number, the one that people know.
_KNOWN_BY = {errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN"}


def _errno_name(number: int) -> str:
    """EDEADLK and the like; `-` for a remark that refused nothing."""
    return _KNOWN_BY.get(number) or errno.errorcode.get(number, "-")


class Events:
    """The last events, one line each, as a stream whose offsets only grow.

    listeners: called (without arguments) after each new event, for poll(2).
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._text = bytearray()
        self._count = 0
        self.begin = 0
        self.end = 0
        self.listeners: set[Callable[[], None]] = set()

    def add(self, what: str, /, **facts: object) -> None:
        """Append `TIME WHAT key=value ...`; values are shown as one word each."""
        words = [timestamp(self._wall()), what]
        words += [f"{key}={value}".replace(" ", "\\040") for key, value in facts.items()]
        line = " ".join(words).encode() + b"\n"
        self._text += line
        self.end += len(line)
        self._count += 1
        if self._count > EVENTS_KEPT:
            oldest = self._text.index(b"\n") + 1
            del self._text[:oldest]
            self.begin += oldest
            self._count -= 1
        for listener in list(self.listeners):
            listener()

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from the stream offset `offset`; what is no longer kept reads as empty lines.

        So a reader that was overtaken keeps its place: offsets and sizes stay true.
        """
        gone = b"\n" * min(size, max(0, self.begin - offset))
        begin = max(0, offset - self.begin)
        return gone + self._text[begin : begin + size - len(gone)]


class Refusals:
    """Why requests were refused: the last of each user (contract 1, /clu/status/errors).

    process_of: the process that a thread belongs to.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.process_of: Callable[[int], int] = lambda tid: tid
        self._by_user: dict[int, deque[tuple[float, bytes]]] = {}

    def add(self, uid: int, tid: int, path: bytes, error: ClufsError) -> None:
        """Keep one refusal of the user `uid`, of whom the thread `tid` asked."""
        now = self._wall()
        name = _errno_name(error.errno)
        why = str(error).replace("\n", " ")
        line = f"{timestamp(now)} {self.process_of(tid)} {shown_word(path)} {name} {why}\n".encode()
        kept = self._by_user.setdefault(uid, deque(maxlen=ERRORS_KEPT_PER_USER))
        kept.append((now, line))

    def show(self, uid: int) -> bytes:
        """The refusals that `uid` may see, in order of time: the own ones; root sees all."""
        if uid != 0:
            return b"".join(line for _, line in self._by_user.get(uid, ()))
        every = [entry for kept in self._by_user.values() for entry in kept]
        return b"".join(line for _, line in sorted(every, key=lambda entry: entry[0]))


class Deadlocks:
    """The last cycles found, each as the lines of its locks (contract 2.4)."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._kept: deque[bytes] = deque(maxlen=DEADLOCKS_KEPT)
        self.count = 0

    def add(self, kind: str, lock_lines: Iterable[str]) -> None:
        """Keep one cycle: a headline, then a line for each lock in it."""
        self.count += 1
        head = f"DEADLOCK {self.count} {timestamp(self._wall())} {kind}\n"
        self._kept.append((head + "".join(f"{line}\n" for line in lock_lines)).encode())

    def show(self) -> bytes:
        """All cycles kept, oldest first."""
        return b"".join(self._kept)


class FencingLog:
    """What became of lost members, as far as this one saw it: /clu/status/fencing. With `keep_in` it outlives us."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._kept: deque[bytes] = deque(maxlen=FENCINGS_KEPT)
        self._last: dict[str, bytes] = {}
        self._file: Path | None = None
        self._in_file = 0

    def keep_in(self, file: Path) -> None:
        """Begin with what this file has, and add to it from now on. What is to be trusted is the registry, so a file
        that cannot be read or written is a warning."""
        try:
            there = file.read_bytes().splitlines(keepends=True) if file.exists() else []
            lines = [line for line in there if line.endswith(b"\n")]
            if len(lines) < len(there):
                self._replace(file, lines)
        except OSError as error:
            log.warning("%s: %s", file, error.strerror)
            return
        self._file, self._in_file = file, len(lines)
        for line in lines[-FENCINGS_KEPT:]:
            words = line.split(b" ")
            if len(words) > _FENCING_WORDS:
                self._kept.append(line)
                self._last[words[1].decode(errors="replace")] = line
        self._shorten()

    def add(self, member: str, incarnation: int, agent: str, result: str, why: str) -> None:
        """Keep one line: time, member, incarnation, agent, result, and the certificate or the reason."""
        words = f"{member} {incarnation} {agent} {result} {shown(why.encode())}".rstrip()
        line = f"{timestamp(self._wall())} {words}\n".encode()
        self._kept.append(line)
        self._last[member] = line
        if self._file is not None:
            try:
                with self._file.open("ab") as file:
                    file.write(line)
                self._in_file += 1
            except OSError as error:
                log.warning("%s: %s", self._file, error.strerror)
        self._shorten()

    def _shorten(self) -> None:
        """Every now and then the file loses what is not shown any more."""
        if self._file is None or self._in_file <= 2 * FENCINGS_KEPT:
            return
        try:
            self._replace(self._file, self._kept)
            self._in_file = len(self._kept)
        except OSError as error:
            log.warning("%s: %s", self._file, error.strerror)

    def _replace(self, file: Path, lines: Iterable[bytes]) -> None:
        whole = file.with_suffix(".new")
        whole.write_bytes(b"".join(lines))
        whole.replace(file)

    def last_of(self, member: str) -> bytes:
        """The last line about this member, nothing if there was none."""
        return self._last.get(member, b"")

    def show(self) -> bytes:
        """All lines kept, oldest first."""
        return b"".join(self._kept)
