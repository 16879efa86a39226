"""What ACTION_SCRIPT names: a script of /clu/scripts, a script elsewhere, a systemd unit or an OCF agent."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clufs.errors import InvalidRequest

# systemd.unit(5): what a unit name is made of. A leading `-` would be an option of systemctl.
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,254}")
# Names of directories and files below OCF_ROOT/resource.d.
_OCF_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


@dataclass(frozen=True, slots=True)
class NamedScript:
    """A file of /clu/scripts, the same on every member."""

    name: str


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """An absolute path on each member."""

    path: str


@dataclass(frozen=True, slots=True)
class SystemdUnit:
    """`systemd:UNIT`."""

    unit: str


@dataclass(frozen=True, slots=True)
class OcfAgent:
    """`ocf:PROVIDER:AGENT`."""

    provider: str
    agent: str


ActionScript = NamedScript | ScriptFile | SystemdUnit | OcfAgent


def parse_action_script(text: str) -> ActionScript:
    """What the attribute's value names. Raises InvalidRequest (EINVAL) for a text that names nothing."""
    if text.startswith("systemd:"):
        unit = text.removeprefix("systemd:")
        if not _UNIT.fullmatch(unit):
            raise InvalidRequest(f"ACTION_SCRIPT={text}: systemd:UNIT needs the name of a unit")
        return SystemdUnit(unit)
    if text.startswith("ocf:"):
        names = text.split(":")[1:]
        if len(names) != 2 or not all(map(_OCF_NAME.fullmatch, names)):
            raise InvalidRequest(f"ACTION_SCRIPT={text}: an OCF agent is ocf:PROVIDER:AGENT")
        return OcfAgent(*names)
    if "\0" in text or not text:
        raise InvalidRequest("ACTION_SCRIPT names no script")
    if text.startswith("/"):
        return ScriptFile(text)
    if "/" in text or text.startswith("."):
        raise InvalidRequest(f"ACTION_SCRIPT={text} is neither a name in /clu/scripts nor absolute")
    return NamedScript(text)
