"""application.tdf: the attributes that a site adds to application profiles (manual 2.4).

A definition is five lines, `attribute:`, `type:`, `switch:`, `default:`, `required:`, and begins
with the first of them; lines that begin with `#` are comments.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from clufs.caa.attributes import ATTRIBUTES, FLAG, TEXT, Values, is_resource_name, number
from clufs.caa.syntax import Problem, refuse, whole_lines

_ATTRIBUTE = re.compile(r"USR_[A-Za-z0-9_]+", re.ASCII)
_SWITCH = re.compile(r"-o [A-Za-z][A-Za-z0-9_]*|-[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


TYPES: dict[str, Values] = {
    "boolean": FLAG,
    "string": TEXT,
    "name_list": Values(
        "names of letters, digits, '_', '.' and '-', separated by blanks",
        lambda text: all(map(is_resource_name, text.split())),
    ),
    "name_string": Values("one name of letters, digits, '_', '.' and '-'", is_resource_name),
    # "Positive" as the manual's own profiles use it, where 0 is common.
    "positive_integer": number(0),
    "internet_address": Values("an IPv4 or IPv6 address", _is_address),
    "file": Values("a path without blanks", lambda text: not re.search(r"\s", text)),
}
"""The types of user-defined attributes, each with the values that it takes."""

OPTION_KEYS: dict[str, str] = {
    "ci": "CHECK_INTERVAL",
    "ft": "FAILURE_THRESHOLD",
    "fi": "FAILURE_INTERVAL",
    "ra": "RESTART_ATTEMPTS",
    "bt": "REBALANCE",
    "as": "AUTO_START",
    "ap": "ACTIVE_PLACEMENT",
    "fd": "FAILOVER_DELAY",
    "st": "SCRIPT_TIMEOUT",
}
"""What `caa_profile -o KEY=value` sets."""

SWITCHES: dict[str, str] = {
    "-a": "ACTION_SCRIPT",
    "-d": "DESCRIPTION",
    "-p": "PLACEMENT",
    "-h": "HOSTING_MEMBERS",
    "-r": "REQUIRED_RESOURCES",
    "-l": "OPTIONAL_RESOURCES",
    "-s": "SUBNET",
    "-n": "DEVICE_NAME",
    **{f"-o {key}": attribute for key, attribute in OPTION_KEYS.items()},
}
"""The options of `caa_profile` that set an attribute."""

_TAKEN = frozenset(
    {
        *SWITCHES,
        *"-B -o -f -q -t -I -O -create -template -update -delete -print -validate".split(),
    }
)


@dataclass(frozen=True, slots=True)
class Definition:
    """A user-defined attribute. switch: `-o KEY` or `-LETTERS`; default: empty for none."""

    attribute: str
    type: str
    switch: str
    default: str
    required: bool

    @property
    def values(self) -> Values:
        """The values that it takes."""
        return TYPES[self.type]


NONE: Mapping[str, Definition] = MappingProxyType({})

_KEYS = ("attribute", "type", "switch", "default", "required")
_ALLOWED = {
    "attribute": "USR_ and letters, digits or '_'",
    "type": ", ".join(TYPES),
    "switch": "-o KEY or -WORD that no other attribute has",
    "required": "yes or no",
}


def parse_definitions(text: bytes, where: str = "application.tdf") -> dict[str, Definition]:
    """The definitions of a file application.tdf, by attribute.

    Raises ProfileRefused, which names every line at fault and what is allowed there.
    A definition of one of the manual's own attributes says nothing new and is passed over.
    """
    found: dict[str, Definition] = {}
    problems: list[Problem] = []
    for block in _blocks(text, where, problems):
        at, attribute = block["attribute"]
        if attribute in ATTRIBUTES:
            continue
        wrong = _wrong(block, found)
        problems += [Problem(where, line, attribute, why) for line, why in wrong]
        if not wrong:
            value = {key: block.get(key, (at, ""))[1] for key in _KEYS}
            required = value["required"].lower() == "yes"
            found[attribute] = Definition(
                attribute, value["type"], value["switch"], value["default"], required
            )
    refuse(problems)
    return found


def _blocks(text: bytes, where: str, problems: list[Problem]) -> list[dict[str, tuple[int, str]]]:
    """Line number and value of each key, definition by definition."""
    blocks: list[dict[str, tuple[int, str]]] = []
    for line, whole in whole_lines(text, where):
        key, colon, value = whole.partition(":")
        key, value = key.strip().lower(), " ".join(value.split())
        if not colon or key not in _KEYS:
            why = f"'{whole}' is not one of {', '.join(f'{each}:' for each in _KEYS)}"
            problems.append(Problem(where, line, "", why))
        elif key == "attribute":
            blocks.append({key: (line, value)})
        elif not blocks:
            problems.append(Problem(where, line, "", f"{key}: stands before any attribute:"))
        elif key in blocks[-1]:
            problems.append(Problem(where, line, blocks[-1]["attribute"][1], f"{key}: is repeated"))
        else:
            blocks[-1][key] = (line, value)
    return blocks


def _wrong(
    block: dict[str, tuple[int, str]], before: Mapping[str, Definition]
) -> list[tuple[int, str]]:
    at, attribute = block["attribute"]
    wrong = []
    if not _ATTRIBUTE.fullmatch(attribute):
        wrong.append((at, f"allowed: {_ALLOWED['attribute']}"))
    elif attribute in before:
        wrong.append((at, "is defined above already"))
    switches = {*_TAKEN, *(each.switch for each in before.values())}
    takes: dict[str, Callable[[str], bool]] = {
        "type": TYPES.__contains__,
        "switch": lambda text: bool(_SWITCH.fullmatch(text)) and text not in switches,
        "required": lambda text: text.lower() in ("yes", "no"),
    }
    for key, is_one in takes.items():
        line, value = block.get(key, (at, ""))
        if key not in block:
            wrong.append((at, f"{key}: is missing; allowed: {_ALLOWED[key]}"))
        elif not is_one(value):
            wrong.append((line, f"{key}: {value}: allowed: {_ALLOWED[key]}"))
    line, default = block.get("default", (at, ""))
    values = TYPES.get(block.get("type", (at, ""))[1])
    if values and default and not values.takes(default):
        wrong.append((line, f"default: {default}: allowed: {values.allowed}"))
    return wrong
