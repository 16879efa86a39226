"""The grammar of what is written to a resource's files `control`, `target`, `host` and `maintenance`,
and to a member's `drain`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from clufs.errors import InvalidRequest
from clufs.tree.items import one_line
from clufs.tree.names import read_word, shown

Verb: TypeAlias = Literal[
    "start", "stop", "relocate", "balance", "update", "maintain", "drain", "what-if"
]
OutputFormat: TypeAlias = Literal["", "v", "vs"]

ANY = "any"


@dataclass(frozen=True, slots=True)
class Order:
    """A user's command about a resource or, `drain` and `what-if`, about a member.

    member: where; empty for wherever placement says. on: whether maintenance, or a drain, is to begin or to end.
    variables: USR_ values for the action script. output: whether the script's output goes to the user,
    as _CAA_UI_FMT says. profile: for update, the text to be registered. holder: the descriptor, by a
    number of this daemon's, that maintenance begins or ends with; 0 for none.
    """

    verb: Verb
    resource: str
    member: str = ""
    force: bool = False
    dry_run: bool = False
    on: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    locale: str = ""
    output: OutputFormat = ""
    profile: str = ""
    holder: int = 0


_OPTIONS: dict[Verb, frozenset[str]] = {
    "start": frozenset(("-c", "-f", "-n", "USR_")),
    "stop": frozenset(("-f", "-n", "USR_")),
    "relocate": frozenset(("-c", "-f", "-n", "USR_")),
    "balance": frozenset(("-n",)),
    "update": frozenset(),
}
_VARIABLE = re.compile(r"USR_[A-Za-z0-9_]+", re.ASCII)


def parse_control(resource: str, data: bytes) -> Order:
    """The command of one line, as `start -c member -f USR_X=value`. Raises InvalidRequest.

    `output=v` or `output=vs` and `locale=...` go with every command. A blank within a word is `\\040`,
    as in every report.
    """
    verb, *words = _words(data)
    for known in _OPTIONS:
        if verb == known:
            return _Parser(Order(known, resource), words).order()
    raise InvalidRequest(f"'{verb}' is no command: {', '.join(_OPTIONS)}")


class _Parser:
    def __init__(self, order: Order, words: list[str]) -> None:
        self._order = order
        self._words = words
        self._variables: dict[str, str] = {}

    def order(self) -> Order:
        while self._words:
            self._take(self._words.pop(0))
        return replace(self._order, variables=self._variables)

    def _take(self, word: str) -> None:
        key, equals, value = word.partition("=")
        if word in ("-f", "-n", "-c"):
            self._allow(word, word)
            self._set_option(word)
        elif equals and _VARIABLE.fullmatch(key):
            self._allow("USR_", word)
            self._variables[key] = value
        elif key == "output" and value == "v":
            self._order = replace(self._order, output="v")
        elif key == "output" and value == "vs":
            self._order = replace(self._order, output="vs")
        elif key == "locale" and value:
            self._order = replace(self._order, locale=value)
        else:
            raise InvalidRequest(f"unknown word '{word}'")

    def _allow(self, option: str, word: str) -> None:
        if option not in _OPTIONS[self._order.verb]:
            raise InvalidRequest(f"'{word}' does not go with {self._order.verb}")

    def _set_option(self, word: str) -> None:
        if word == "-f":
            self._order = replace(self._order, force=True)
        elif word == "-n":
            self._order = replace(self._order, dry_run=True)
        elif not self._words:
            raise InvalidRequest("'-c' wants a member")
        else:
            self._order = replace(self._order, member=self._words.pop(0))


def parse_target(resource: str, data: bytes) -> Order:
    """ONLINE or OFFLINE. Raises InvalidRequest."""
    word = _word(data)
    if word == "ONLINE":
        return Order("start", resource)
    if word == "OFFLINE":
        return Order("stop", resource)
    raise InvalidRequest(f"'{word}' is no target: ONLINE or OFFLINE")


def parse_host(resource: str, data: bytes) -> Order:
    """A member's name, or `any`. Raises InvalidRequest."""
    word = _word(data)
    return Order("relocate", resource, member="" if word == ANY else word)


def parse_maintenance(resource: str, data: bytes) -> Order:
    """1 or 0. Raises InvalidRequest."""
    word = _word(data)
    if word not in ("0", "1"):
        raise InvalidRequest(f"'{word}': write 1 to begin maintenance, 0 to end it")
    return Order("maintain", resource, on=word == "1")


def parse_drain(member: str, data: bytes) -> Order:
    """1, `1 -n` or 0. Raises InvalidRequest."""
    words = _words(data)
    if words not in (["0"], ["1"], ["1", "-n"]):
        text = " ".join(words)
        raise InvalidRequest(
            f"'{text}': write 1 to drain {member}, '1 -n' to see what that would do, 0 to end it"
        )
    return Order("drain", "", member=member, on=words[0] == "1", dry_run="-n" in words)


def _words(data: bytes) -> list[str]:
    text = one_line(data)
    try:
        words = [read_word(word).decode() for word in text.split()]
    except UnicodeDecodeError:
        raise InvalidRequest(f"'{shown(text)}' is no text") from None
    if any("\0" in word for word in words):
        raise InvalidRequest("a NUL byte in the line")
    if not words:
        raise InvalidRequest("write one line")
    return words


def _word(data: bytes) -> str:
    words = _words(data)
    if len(words) != 1:
        raise InvalidRequest(f"'{' '.join(words)}': one word is expected")
    return words[0]
