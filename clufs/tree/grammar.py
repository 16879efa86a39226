"""The grammar of what is written to a lock file: one write, one line, one request (contract 2.1)."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import dataclass

from clufs.dlm.interface import Request, Verb
from clufs.dlm.modes import Mode
from clufs.errors import InvalidRequest, ValueTooLong
from clufs.limits import HINT_MAX, LINE_MAX_BYTES, VALUE_MAX_BYTES
from clufs.tree.names import read_word, shown

_MODES = {mode.name: mode for mode in Mode}
_CACHED_LINES_MAX = 1024
_CACHED_LINE_MAX_BYTES = 64


@dataclass(frozen=True, slots=True)
class Line:
    """One parsed line: the lock manager's request and the words that concern only the asking side.

    request: None for WAIT. timeout_s: None to wait for ever. signal, lost: signal numbers, 0 for none.
    """

    request: Request | None
    plain: bool = True
    timeout_s: float | None = None
    is_async: bool = False
    signal: int = 0
    lost: int = 0
    strict: bool = False
    persistent: bool = False
    group: bytes | None = None


_cache: dict[bytes, Line] = {}


def parse(data: bytes) -> Line:
    """The request in `data`, the bytes of one write.

    Raises InvalidRequest (EINVAL) or ValueTooLong (EMSGSIZE), whose message quotes what was wrong.
    """
    line = _cache.get(data)
    if line is None:
        line = _parse(data)
        if len(data) <= _CACHED_LINE_MAX_BYTES:
            if len(_cache) >= _CACHED_LINES_MAX:
                _cache.clear()
            _cache[data] = line
    return line


def _parse(data: bytes) -> Line:
    if len(data) > LINE_MAX_BYTES:
        raise ValueTooLong(f"a request has at most {LINE_MAX_BYTES} bytes, this one {len(data)}")
    text = data.removesuffix(b"\n")
    if b"\n" in text:
        raise InvalidRequest("two lines in one write: one write is one request")
    if b"\0" in text:
        raise InvalidRequest("a NUL byte in the request; binary values are written with valuehex=")
    words, value = _split(text)
    if not words:
        what = "an empty request" if value is None else "nothing before 'value='"
        raise InvalidRequest(f"{what}; begin with a mode (NL CR CW PR PW EX), UN or CANCEL")
    return _Builder(words[0], words[1:], value).line()


def _split(text: bytes) -> tuple[list[bytes], bytes | None]:
    """The words of a line, and the value that `value=` takes to the end of the line."""
    words: list[bytes] = []
    rest = text.lstrip()
    while rest:
        if rest.lower().startswith(b"value="):
            return words, rest[len(b"value=") :]
        word, *tail = rest.split(None, 1)
        words.append(word)
        rest = tail[0] if tail else b""
    return words, None


def _signal_number(word: str, name: str) -> int:
    """The number of a signal given as USR1, SIGUSR1 or RTMIN+2."""
    base, plus, offset = name.upper().removeprefix("SIG").partition("+")
    if base == "RTMIN" and plus and offset.isdecimal():
        number = signal.SIGRTMIN + int(offset)
        if number <= signal.SIGRTMAX:
            return number
    elif not plus:
        try:
            return signal.Signals[f"SIG{base}"].value
        except KeyError:
            pass
    raise InvalidRequest(f"'{word}' names no signal; write USR1, IO, RTMIN+1 or the like")


class _Builder:
    """Collects the words of one line; each word's method says what it means."""

    _plain_words = frozenset(
        ("nowait", "async", "quecvt", "invalidate", "strict", "persistent", "nodeadlock", "all")
    )
    _by_verb = {
        "UN": frozenset(("all", "invalidate", "persistent", "group", "value", "valuehex")),
        "CANCEL": frozenset(("persistent", "group")),
        "WAIT": frozenset(("persistent", "group")),
    }

    def __init__(self, verb: bytes, words: list[bytes], value: bytes | None) -> None:
        self.verb = shown(verb).upper()
        self.mode = _MODES.get(self.verb)
        if self.mode is None and self.verb not in self._by_verb:
            raise InvalidRequest(
                f"'{shown(verb)}' is neither a mode (NL CR CW PR PW EX) nor UN, CANCEL or WAIT"
            )
        self.seen: set[str] = set()
        self.value: bytes | None = None
        self.timeout_s: float | None = None
        self.signal = self.lost = self.hint = 0
        self.group: bytes | None = None
        for word in words:
            self._take(word)
        if value is not None:
            self._mark("value", "value=")
            self._set_value(value)

    def _mark(self, key: str, word: str) -> None:
        if key in self.seen or {key, *self.seen} >= {"value", "valuehex"}:
            raise InvalidRequest(f"'{word}' is said twice")
        allowed = self._by_verb.get(self.verb)
        if (key == "all") if allowed is None else key not in allowed:
            raise InvalidRequest(f"'{word}' does not go with {self.verb}")
        self.seen.add(key)

    def _take(self, raw: bytes) -> None:
        word = shown(raw)
        key, equals, _ = word.partition("=")
        key = key.lower()
        setter = self._with_argument.get(key)
        if setter is not None and equals:
            self._mark(key, word)
            argument = raw.partition(b"=")[2]
            setter(self, word, argument.decode(errors="surrogateescape"))
        elif key in self._plain_words and not equals:
            self._mark(key, word)
        else:
            raise InvalidRequest(f"unknown word '{word}'")

    def _set_value(self, value: bytes) -> None:
        if len(value) > VALUE_MAX_BYTES:
            raise ValueTooLong(
                f"a value block has at most {VALUE_MAX_BYTES} bytes, this one {len(value)}"
            )
        self.value = value

    def _take_hex(self, word: str, argument: str) -> None:
        try:
            value = bytes.fromhex(argument)
        except ValueError:
            raise InvalidRequest("'valuehex=' wants an even number of hexadecimal digits") from None
        self._set_value(value)

    def _take_timeout(self, word: str, argument: str) -> None:
        try:
            seconds = float(argument)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise InvalidRequest(f"'{word}': seconds, as 5 or 0.25")
        self.timeout_s = seconds

    def _take_signal(self, word: str, argument: str) -> None:
        self.signal = _signal_number(word, argument)

    def _take_lost(self, word: str, argument: str) -> None:
        self.lost = _signal_number(word, argument)

    def _take_hint(self, word: str, argument: str) -> None:
        try:
            self.hint = int(argument, 0)
        except ValueError:
            self.hint = -1
        if not 0 <= self.hint <= HINT_MAX:
            raise InvalidRequest(f"'{word}': a number of 64 bits")

    def _take_group(self, word: str, argument: str) -> None:
        if not argument or "/" in argument:
            raise InvalidRequest(f"'{word}' names no group")
        self.group = read_word(argument.encode(errors="surrogateescape"))

    _with_argument: dict[str, Callable[[_Builder, str, str], None]] = {
        "valuehex": _take_hex,
        "timeout": _take_timeout,
        "signal": _take_signal,
        "lost": _take_lost,
        "hint": _take_hint,
        "group": _take_group,
    }

    def _refuse_contradictions(self) -> None:
        for one, other in _CONTRADICTIONS:
            if one in self.seen and other in self.seen:
                raise InvalidRequest(f"'{one}' does not go with '{other}'")

    def line(self) -> Line:
        """The finished line. Raises InvalidRequest on words that contradict each other."""
        if "valuehex" in self.seen:
            self.seen.add("value")
        self._refuse_contradictions()
        seen = self.seen
        return Line(
            request=self._request(),
            plain=seen <= _WORDS_OF_THE_LOCK_MANAGER,
            timeout_s=self.timeout_s,
            is_async="async" in seen,
            signal=self.signal,
            lost=self.lost,
            strict="strict" in seen,
            persistent="persistent" in seen,
            group=self.group,
        )

    def _request(self) -> Request | None:
        if self.verb == "WAIT":
            return None
        verb = Verb.LOCK if self.mode is not None else Verb(self.verb)
        if "all" in self.seen:
            verb = Verb.UNLOCK_ALL
        return Request(
            verb=verb,
            mode=self.mode if self.mode is not None else Mode.NL,
            nowait="nowait" in self.seen,
            quecvt="quecvt" in self.seen,
            invalidate="invalidate" in self.seen,
            nodeadlock="nodeadlock" in self.seen,
            value=self.value,
            hint=self.hint,
            notify=verb is Verb.LOCK,
        )


_WORDS_OF_THE_LOCK_MANAGER = frozenset(
    ("nowait", "quecvt", "invalidate", "nodeadlock", "value", "valuehex", "hint", "all")
)

_CONTRADICTIONS = (
    ("invalidate", "value"),
    ("nowait", "timeout"),
    ("nowait", "async"),
    ("persistent", "group"),
    ("persistent", "signal"),
    ("persistent", "lost"),
    ("group", "signal"),
    ("group", "lost"),
    ("all", "value"),
    ("all", "invalidate"),
)
