"""What is kept of what applications print: the end of it, and its lines."""

from __future__ import annotations

from clufs.limits import OUTPUT_KEPT_BYTES, OUTPUT_LINE_MAX_BYTES


class Tail:
    """The last bytes of a stream."""

    def __init__(self, limit: int = OUTPUT_KEPT_BYTES) -> None:
        self._limit = limit
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """More has come."""
        self._kept += data
        # Cut seldom, so that many short lines do not each move the whole.
        if len(self._kept) > 2 * self._limit:
            del self._kept[: -self._limit]

    def __bytes__(self) -> bytes:
        return bytes(self._kept[-self._limit :])


class Lines:
    """Cuts a stream into lines of text; a longer one than OUTPUT_LINE_MAX_BYTES comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> list[str]:
        """The lines that have become whole."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        found = [piece for line in whole for piece in _pieces(line)]
        while len(self._rest) > OUTPUT_LINE_MAX_BYTES:
            found.append(self._rest[:OUTPUT_LINE_MAX_BYTES])
            self._rest = self._rest[OUTPUT_LINE_MAX_BYTES:]
        return [_text(line) for line in found]

    def end(self) -> list[str]:
        """What came after the last newline."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    size = OUTPUT_LINE_MAX_BYTES
    return [line[at : at + size] for at in range(0, len(line), size)] or [b""]


def _text(line: bytes) -> str:
    return line.decode(errors="backslashreplace")
