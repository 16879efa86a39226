"""Services of an Available Server Environment, read from the text of `asemgr -d -C` (Tru64 manual, 5.2).

What CAA needs of a service becomes a profile, what its scripts did becomes the skeleton of an action
script, and each thing that chapter 5 says must be changed by hand becomes a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from clufs.errors import InvalidRequest

_HEADING = re.compile(r"^!!\s*ASE service configuration for\s+(\S+)\s*$")
_START = re.compile(r"^@startService\s+(\S+)\s*$")
_FACT = re.compile(r"^\s*([^:]+?)\s*:\s*(.*?)\s*$")
_NAME = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")
_YES = ("yes", "1", "true", "enabled")

DISK, NFS, USER, DRD, TAPE = "disk", "nfs", "user-defined", "drd", "tape"
_TYPES = {
    "disk": DISK,
    "nfs": NFS,
    "user": USER,
    "user-defined": USER,
    "user defined": USER,
    "userdefined": USER,
    "drd": DRD,
    "tape": TAPE,
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a service. number: in the whole text, from 1. key: in lower case, empty if there is none."""

    number: int
    text: str
    key: str
    value: str


@dataclass(slots=True)
class Service:
    """One service as it stands in the text. line: where it begins."""

    name: str
    line: int
    lines: list[Line] = field(default_factory=list)

    def first(self, *keys: str) -> str:
        """The value of the first line with one of these keys, empty if there is none."""
        return next((one.value for one in self.lines if one.key in keys), "")

    def every(self, ending: str) -> list[str]:
        """All values of keys that end so, each once, in their order."""
        return list(
            dict.fromkeys(x.value for x in self.lines if x.key.endswith(ending) and x.value)
        )

    @property
    def type(self) -> str:
        """One of DISK, NFS, USER, DRD, TAPE; empty for another or none."""
        return _TYPES.get(self.first("service type", "type").lower(), "")


def services(text: str) -> list[Service]:
    """The services of a text, in its order. Raises InvalidRequest, with the line, for what is none."""
    found: list[Service] = []
    for number, raw in enumerate(text.splitlines(), 1):
        start = _START.match(raw) or _HEADING.match(raw)
        if start:
            if not found or found[-1].name != start[1] or _began(found[-1], raw):
                found.append(Service(_checked(start[1], number), number))
            continue
        if raw.strip() in ("", ":") or raw.startswith("!!"):
            continue
        if not found:
            raise InvalidRequest(
                f"line {number}: '{raw.strip()}' stands before any '@startService NAME'"
            )
        if not raw.startswith("@end"):
            fact = _FACT.match(raw)
            key, value = (fact[1].lower(), fact[2]) if fact else ("", "")
            found[-1].lines.append(Line(number, raw.rstrip(), key, value))
    if not found:
        raise InvalidRequest("no service: the text of 'asemgr -d -C' has a '@startService NAME'")
    names = [service.name for service in found]
    for service in found:
        if names.count(service.name) > 1:
            raise InvalidRequest(f"line {service.line}: '{service.name}' is there twice")
    return found


def _began(service: Service, raw: str) -> bool:
    """Whether the service has had its `@startService` already: its heading comes before that."""
    return bool(service.lines) or bool(_HEADING.match(raw))


def _checked(name: str, number: int) -> str:
    if not _NAME.match(name):
        raise InvalidRequest(
            f"line {number}: '{name}' cannot name a resource: letters, digits, '_', '.', '-'"
        )
    return name


# ------------------------------------------------- what becomes of a service


@dataclass(frozen=True, slots=True)
class Imported:
    """What a service becomes: file names with their texts, and what is left to be done by hand."""

    files: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def imported(service: Service) -> Imported:
    """The profiles and the script skeleton of a service, with a warning for each thing to be changed."""
    kind = service.type
    warnings = [f"{service.name}: {one}" for one in _warnings(service)]
    if kind in (NFS, DRD):
        return Imported((), tuple(warnings))
    files = [
        (f"{service.name}.cap", _application(service)),
        (f"{service.name}.scr", _script(service)),
    ]
    files += [(f"{name}.cap", _tape(name, device)) for name, device in _tapes(service)]
    return Imported(tuple(files), tuple(warnings))


def _profile(facts: dict[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in facts.items())


def _application(service: Service) -> str:
    placement, members = _placement(service)
    active = placement != "balanced" and _relocates_on_boot(service)
    return _profile(
        {
            "NAME": service.name,
            "TYPE": "application",
            "ACTION_SCRIPT": f"{service.name}.scr",
            "ACTIVE_PLACEMENT": "1" if active else "0",
            # ASE started its services with the cluster.
            "AUTO_START": "1",
            "DESCRIPTION": f"{service.name}, an ASE {service.type or 'service'} before",
            "HOSTING_MEMBERS": " ".join(members),
            "PLACEMENT": placement,
            "REQUIRED_RESOURCES": " ".join(name for name, _ in _tapes(service)),
            "SCRIPT_TIMEOUT": str(_script_timeout_s(service)),
        }
    )


def _placement(service: Service) -> tuple[str, list[str]]:
    """PLACEMENT and HOSTING_MEMBERS. A policy without members can only be balanced."""
    said = service.first("placement policy").lower()
    value = service.first("favored member(s)", "favored members", "favored member", "members")
    members = re.split(r"[\s,]+", value) if value else []
    if not members or said.startswith("balanced"):
        return "balanced", []
    return ("restricted" if "restrict" in said else "favored"), members


def _relocates_on_boot(service: Service) -> bool:
    return service.first("relocate on boot of favored member").lower() in _YES


_SCRIPT_TIMEOUT_S = 60


def _script_timeout_s(service: Service) -> int:
    """CAA has one time limit for all entry points: the longest of the scripts'."""
    values = [one.value for one in service.lines if one.key.endswith("timeout")]
    seconds = [int(found[0]) for value in values if (found := re.match(r"\d+", value))]
    return max(seconds, default=_SCRIPT_TIMEOUT_S)


def _tapes(service: Service) -> list[tuple[str, str]]:
    """Name and device of each tape of a tape service."""
    if service.type != TAPE:
        return []
    devices = [one for one in service.every("device") if one.startswith("/dev/")]
    return [(f"{service.name}_{device.rpartition('/')[2]}", device) for device in devices]


def _tape(name: str, device: str) -> str:
    return _profile({"NAME": name, "TYPE": "tape", "DEVICE_NAME": device})


# ------------------------------------------------- what is left to be done by hand


_UNNEEDED = {
    NFS: "an NFS service needs no definition: export its file systems on every member that has them"
    " (5.1.2)",
    DRD: "a DRD service needs no definition: the shared LUNs are at every member (5.1.4)",
}

_ASE_WORDS = {
    r"\basemgr\s+-d\b": "'asemgr -d' is 'caa_stat' now (5.3.1)",
    r"\basemgr\s+-m\b": "'asemgr -m' is 'caa_relocate' now (5.3.1)",
    r"\basemgr\s+-s\b": "'asemgr -s' is 'caa_start' now (5.3.1)",
    r"\basemgr\s+-x\b": "'asemgr -x' is 'caa_stop' now (5.3.1)",
    r"\bnfs_ifconfig\b": "replace 'nfs_ifconfig' by an interface alias in the action script (5.3.4)",
    r"\bMEMBER_STATE\b": "MEMBER_STATE is not set any more: what was cleaned up in a stop while"
    " booting belongs in the start entry (5.3.8)",
    r"\bASEROUTING\b": "ASEROUTING does not exist any more: remove it (5.3.8)",
    r"\bASE_PARTIAL_MIRRORING\b": "ASE_PARTIAL_MIRRORING does not exist any more: remove it (5.3.8)",
    r"\bevmpost\b": "there is no Event Manager: use logger(1) in place of evmpost (5.3.10)",
    r"/dev/r?rz\d": "an old device name (rz): name the disk as this system does (5.3.7)",
    r"/dev/rdrd/drd\d": "an old device name (drd): name the disk as this system does (5.1.4)",
}


def _warnings(service: Service) -> Iterator[str]:
    kind = service.type
    if not kind:
        said = service.first("service type", "type")
        yield (
            f"service type '{said}' is none of DISK, NFS, USER, DRD, TAPE: taken for an application"
            if said
            else "no service type: taken for an application"
        )
    if kind in _UNNEEDED:
        yield _UNNEEDED[kind]
    else:
        yield from _of_placement(service)
        yield from _of_storage(service)
        yield from _of_scripts(service)
    yield from _of_words(service)


def _of_placement(service: Service) -> Iterator[str]:
    said = service.first("placement policy")
    placement, members = _placement(service)
    if placement == "balanced" and said and not said.lower().startswith("balanced"):
        yield f"placement policy '{said}' names no members: PLACEMENT=balanced (2.2.2.2)"
    if placement == "balanced" and _relocates_on_boot(service):
        yield "it relocates on boot of a favored member, and none is favored: ACTIVE_PLACEMENT=0"
    if members:
        yield f"HOSTING_MEMBERS={' '.join(members)}: name them as this cluster does"


def _of_storage(service: Service) -> Iterator[str]:
    for mount_point in service.every("mount point"):
        yield (
            f"{mount_point} was mounted by ASE: keep it on a file system that every member has, and"
            " remove storage management from the scripts (5.1.1, 5.3.6)"
        )
    for address in service.every("ip address"):
        yield (
            f"{address} is an interface alias in the skeleton: set its interface and netmask, or use"
            " another way for clients (5.4.1)"
        )
    for name, device in _tapes(service):
        yield f"tape {device} is the resource {name}: check DEVICE_NAME on every member (5.1.5)"


def _of_scripts(service: Service) -> Iterator[str]:
    yield "combine its start and stop scripts in the skeleton, and write its check (5.3.2)"
    yield "output of the script is kept in the file 'output', not shown: see 5.3.3"
    yield (
        "the stop entry must end every process and exit with an error if it cannot: nothing reports"
        " 'filesystem busy' any more (5.3.5)"
    )
    yield "each entry exits with 0 for success; check with 0 while the application runs (5.3.9)"


# Keys, by their end, that are used above or that only tell of storage.
_UNDERSTOOD = re.compile(
    r"(^|.* )(service name|service type|type|placement policy|relocate on boot of favored member"
    r"|(favored )?members?|favored member\(s\)|timeout|ip address|device|mount point|filesystem type"
    r"|mount options|mount point (group )?owner|advfs domain|volumes)$"
)


def _of_words(service: Service) -> Iterator[str]:
    """What the scripts in the text still say, and what nobody understood."""
    for one in service.lines:
        if not _UNDERSTOOD.match(one.key):
            yield f"line {one.number}: '{one.text.strip()}' has no place in a profile: see to it by hand"
    for pattern, sentence in _ASE_WORDS.items():
        numbers = [str(one.number) for one in service.lines if re.search(pattern, one.text)]
        if numbers:
            yield f"line {', '.join(numbers)}: {sentence}"


# ------------------------------------------------- the skeleton


def _script(service: Service) -> str:
    up = "".join(f"    address_up {one} || exit 2\n" for one in service.every("ip address"))
    down = "".join(f"    address_down {one} || exit 2\n" for one in service.every("ip address"))
    told = "".join(f"#   {one.text}\n" for one in service.lines)
    return (
        _HEAD.format(name=service.name, told=told)
        + (_ADDRESS if up else "")
        + _ENTRIES.format(up=up, down=down)
    )


_HEAD = """\
#!/bin/sh
# Action script of {name}: a skeleton. What the ASE service was:
#
{told}
PATH=/sbin:/usr/sbin:/bin:/usr/bin
export PATH

# The program, and the file in which it writes its process number.
APPLICATION=
PIDFILE=
"""

_ADDRESS = """
# The interface and the prefix length of the address that clients use.
INTERFACE=
PREFIX=24

address_up() {
    ip address replace "$1/$PREFIX" dev "$INTERFACE"
}

# Not there is as good as taken away.
address_down() {
    ip address show dev "$INTERFACE" | grep -q "inet $1/" || return 0
    ip address delete "$1/$PREFIX" dev "$INTERFACE"
}
"""

_ENTRIES = """
running() {{
    [ -s "$PIDFILE" ] && kill -0 "$(cat "$PIDFILE")" 2>/dev/null
}}

case $1 in
start)
    if [ -z "$APPLICATION" ] || [ -z "$PIDFILE" ]; then
        echo "set APPLICATION and PIDFILE in this script" >&2
        exit 2
    fi
{up}    "$APPLICATION" || exit 2
    ;;
stop)
    if running; then
        kill "$(cat "$PIDFILE")"
        n=0
        while running; do
            n=$((n + 1))
            [ "$n" -gt 50 ] && exit 2
            sleep 0.2
        done
    fi
{down}    ;;
check)
    running || exit 2
    ;;
*)
    echo "usage: $0 start|stop|check" >&2
    exit 2
    ;;
esac
exit 0
"""
