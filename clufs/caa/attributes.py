"""The attributes of a resource profile: tables 2-1 to 2-4 of the TruCluster manual, one row each.

A row says for which types of resource there is such an attribute, which values it takes, and
what counts where neither profile nor template gives one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from clufs.caa.action_script import parse_action_script
from clufs.errors import InvalidRequest
from clufs.limits import (
    FAILURE_THRESHOLD_MAX,
    OPTIONAL_RESOURCES_MAX,
    PROFILE_NUMBER_MAX,
    RESOURCE_NAME_MAX_BYTES,
)


class ResourceType(StrEnum):
    """The four types of resources (manual 2.2)."""

    APPLICATION = "application"
    NETWORK = "network"
    TAPE = "tape"
    CHANGER = "changer"


class Placement(StrEnum):
    """The policies by which a member is chosen for an application (manual 2.2.2.2)."""

    BALANCED = "balanced"
    FAVORED = "favored"
    RESTRICTED = "restricted"


@dataclass(frozen=True, slots=True)
class Values:
    """The values that an attribute takes.

    allowed: in words, for who gave another one. takes: whether a text, never empty, is one.
    """

    allowed: str
    takes: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A row of the tables.

    default: what counts without a value; None where one must be given. An empty default also
    means that the value may be given empty; any other attribute given empty counts as not given.
    """

    name: str
    types: frozenset[ResourceType]
    values: Values
    default: str | None

    @property
    def may_be_empty(self) -> bool:
        """Whether an empty value is a value, and not the absence of one."""
        return self.default == ""


_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_REBALANCE = re.compile(r"t:([0-6]|\*):([0-9]{1,2}|\*):([0-9]{1,2})", re.ASCII)


def is_resource_name(name: str) -> bool:
    """Whether a resource may be called so: letters, digits, `_`, `.`, `-`, no leading `.` (contract 1).

    A name that ends like a profile's file is none: its directory would stand in that file's place.
    """
    if len(name) > RESOURCE_NAME_MAX_BYTES or name.endswith((".cap", ".cap.refused")):
        return False
    return bool(_NAME.fullmatch(name))


def number(low: int, high: int = PROFILE_NUMBER_MAX, unit: str = "") -> Values:
    """Whole numbers from low to high."""
    words = f"a whole number{unit}, {low} or more"
    if high != PROFILE_NUMBER_MAX:
        words = f"{low} to {high}"
    return Values(words, lambda text: bool(_NUMBER.fullmatch(text)) and low <= int(text) <= high)


def _choice(kinds: type[StrEnum]) -> Values:
    words = [str(kind) for kind in kinds]
    return Values(", ".join(words[:-1]) + " or " + words[-1], words.__contains__)


def _is_script(text: str) -> bool:
    try:
        parse_action_script(text)
    except InvalidRequest:
        return False
    return True


def _is_rebalance(text: str) -> bool:
    found = _REBALANCE.fullmatch(text)
    if not found:
        return False
    return (found[2] == "*" or int(found[2]) <= 23) and int(found[3]) <= 59


def _is_quad(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _are_names(text: str) -> bool:
    names = text.split()
    return all(map(is_resource_name, names)) and len(set(names)) == len(names)


NAME_WORDS = (
    "letters, digits, '_', '.' and '-', no leading '.', not ending in '.cap',"
    f" at most {RESOURCE_NAME_MAX_BYTES} bytes"
)
TEXT = Values("any text", lambda text: True)
FLAG = Values("0 or 1", ("0", "1").__contains__)
SECONDS = number(0, unit=" of seconds")

_ALL = frozenset(ResourceType)
_APPLICATION = frozenset({ResourceType.APPLICATION})
_NETWORK = frozenset({ResourceType.NETWORK})
_DEVICES = frozenset({ResourceType.TAPE, ResourceType.CHANGER})

_ROWS: tuple[tuple[str, frozenset[ResourceType], Values, str | None], ...] = (
    ("NAME", _ALL, Values(NAME_WORDS, is_resource_name), None),
    ("TYPE", _ALL, _choice(ResourceType), None),
    # Where none is given it is the name of the resource.
    ("DESCRIPTION", _ALL, TEXT, "NAME"),
    ("FAILURE_THRESHOLD", _ALL, number(0, FAILURE_THRESHOLD_MAX), "0"),
    ("FAILURE_INTERVAL", _ALL, SECONDS, "0"),
    ("SUBNET", _NETWORK, Values("an address like 16.140.112.0", _is_quad), None),
    (
        "DEVICE_NAME",
        _DEVICES,
        Values("the full path of a device special file", lambda text: text.startswith("/")),
        None,
    ),
    (
        "REQUIRED_RESOURCES",
        _APPLICATION,
        Values(
            "names of other resources that are registered, each once, separated by blanks",
            _are_names,
        ),
        "",
    ),
    (
        "OPTIONAL_RESOURCES",
        _APPLICATION,
        Values(
            f"names of at most {OPTIONAL_RESOURCES_MAX} other resources, each once, separated by blanks",
            lambda text: _are_names(text) and len(text.split()) <= OPTIONAL_RESOURCES_MAX,
        ),
        "",
    ),
    ("PLACEMENT", _APPLICATION, _choice(Placement), "balanced"),
    (
        "HOSTING_MEMBERS",
        _APPLICATION,
        Values(
            "names of members, each once, separated by blanks, if PLACEMENT is favored or restricted;"
            " empty if it is balanced",
            lambda text: len(set(text.split())) == len(text.split()),
        ),
        "",
    ),
    ("RESTART_ATTEMPTS", _APPLICATION, number(0), "1"),
    ("FAILOVER_DELAY", _APPLICATION, SECONDS, "0"),
    ("AUTO_START", _APPLICATION, FLAG, "0"),
    (
        "ACTION_SCRIPT",
        _APPLICATION,
        Values(
            "a script's full path, or its name in the script directory; systemd:UNIT;"
            " ocf:PROVIDER:AGENT",
            _is_script,
        ),
        None,
    ),
    ("ACTIVE_PLACEMENT", _APPLICATION, FLAG, "0"),
    # A script without any time could never succeed.
    ("SCRIPT_TIMEOUT", _APPLICATION, number(1, unit=" of seconds"), "60"),
    ("CHECK_INTERVAL", _APPLICATION, SECONDS, "60"),
    (
        "REBALANCE",
        _APPLICATION,
        Values("t:day:hour:minute with day 0-6 or *, hour 0-23 or *, minute 0-59", _is_rebalance),
        "",
    ),
)

ATTRIBUTES: dict[str, Attribute] = {row[0]: Attribute(*row) for row in _ROWS}
"""Every attribute of the manual by its name."""

FIRST = ("NAME", "TYPE")
"""What every profile begins with; the other attributes follow in the order of the alphabet (manual 2.8)."""


def of_type(kind: ResourceType) -> list[Attribute]:
    """The attributes of that type of resource, in the order in which a profile has them."""
    mine = [each for each in ATTRIBUTES.values() if kind in each.types]
    return sorted(mine, key=lambda each: place(each.name))


def place(name: str) -> tuple[int, str]:
    """The key that sorts attributes as a profile has them."""
    return (FIRST.index(name) if name in FIRST else len(FIRST), name)


@dataclass(frozen=True, slots=True)
class Rebalance:
    """REBALANCE: when an application's placement is judged anew (manual 2.8).

    day: 0 is Sunday. day, hour: None stands for every one. text: as it was written.
    """

    day: int | None
    hour: int | None
    minute: int
    text: str

    def due(self, day: int, hour: int, minute: int) -> bool:
        """Whether this minute of a week is one of those meant."""
        return self.day in (None, day) and self.hour in (None, hour) and self.minute == minute


def read_rebalance(text: str) -> Rebalance | None:
    """What a valid REBALANCE says; None for an empty one."""
    if not text:
        return None
    day, hour, minute = text.split(":")[1:]
    return Rebalance(
        None if day == "*" else int(day), None if hour == "*" else int(hour), int(minute), text
    )
