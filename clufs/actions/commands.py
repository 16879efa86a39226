"""From an action to a command line, and from its exit status to a sentence."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

from clufs.actions.interface import ActionSpec
from clufs.caa import ocf
from clufs.caa.action_script import (
    NamedScript,
    OcfAgent,
    ScriptFile,
    SystemdUnit,
    parse_action_script,
)
from clufs.errors import RequestError

_SYSTEMCTL_OPTIONS = ("--no-ask-password", "--no-pager")
_SYSTEMCTL_VERBS = {"start": "start", "stop": "stop", "check": "is-active"}
# sysexits.h and systemctl(1): what systemd's exit statuses mean for the LSB actions.
_NO_SUCH_UNIT = (4, 5)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where things are on this machine.

    systemd_runs: exists where systemd is process 1 (sd_booted(3)). cgroups: whether they are used where they can be.
    """

    ocf_root: Path = Path(ocf.ROOT)
    systemctl: str = "systemctl"
    systemd_runs: Path = Path("/run/systemd/system")
    cgroups: bool = True

    def systemctl_path(self) -> str:
        """Where systemctl is, or would be."""
        return shutil.which(self.systemctl) or "/usr/bin/systemctl"


@dataclass(frozen=True, slots=True)
class Command:
    """What the keeper runs. script, name: as in `ActionSpec`, argv[0] then counts for nothing."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    name: str = ""
    script: bytes | None = None
    unit: str = ""


class Refused(RequestError):
    """The action cannot be run here; the message says why (EIO)."""


def command_of(spec: ActionSpec, machine: Machine) -> Command:
    """What to run. Looks at files, so it may block. Raises RequestError with the sentence that says why not."""
    environment = dict(spec.environment)
    match parse_action_script(spec.action_script):
        case NamedScript(name):
            if spec.script is None:
                raise Refused(f"there is no action script {name} in /clu/scripts")
            return Command((name, spec.entry), environment, name, spec.script)
        case ScriptFile(path):
            _must_be_roots(Path(path))
            return Command((path, spec.entry), environment)
        case SystemdUnit(unit):
            return _systemctl(spec, unit, machine)
        case OcfAgent(provider, agent):
            return _agent(spec, provider, agent, machine)


def _must_be_roots(path: Path) -> None:
    """Refuse a script that somebody but root, or this user, could have changed.

    The directories above count as well: who may write in one could have put it there (manual 2.3, caution).
    """
    try:
        real = path.resolve(strict=True)
        for place in (real, *real.parents):
            about = place.stat()
            sticky = place != real and about.st_mode & stat.S_ISVTX
            others = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky
            if about.st_uid not in (0, os.geteuid()) or others:
                raise Refused(f"{path} is not run: others than root may write {place}")
        if not stat.S_ISREG(real.stat().st_mode) or not os.access(real, os.X_OK):
            raise Refused(f"{path} is not run: it is no executable file")
    except OSError as error:
        raise Refused(f"{path} is not run: {error.strerror}") from error


def _systemctl(spec: ActionSpec, unit: str, machine: Machine) -> Command:
    if not machine.systemd_runs.is_dir():
        raise Refused(f"systemd does not run on this member, so {unit} cannot be a resource here")
    argv = (machine.systemctl_path(), *_SYSTEMCTL_OPTIONS, _SYSTEMCTL_VERBS[spec.entry], "--", unit)
    return Command(argv, dict(spec.environment), unit=unit if spec.entry == "start" else "")


def _agent(spec: ActionSpec, provider: str, agent: str, machine: Machine) -> Command:
    path = machine.ocf_root / "resource.d" / provider / agent
    if not path.exists():
        raise Refused(f"the OCF agent {provider}:{agent} is not installed here: no {path}")
    _must_be_roots(path)
    environment = dict(spec.environment) | ocf.agent_environment(
        spec.resource, provider, agent, spec.timeout_s, spec.environment, str(machine.ocf_root)
    )
    return Command((str(path), ocf.ACTIONS[spec.entry]), environment)


def is_success(spec: ActionSpec, status: int) -> bool:
    """Whether an exit status (negative: a signal) says that the action did what it is for."""
    if isinstance(parse_action_script(spec.action_script), OcfAgent):
        return ocf.is_success(spec.entry, status)
    return status == 0


def outcome(spec: ActionSpec, status: int) -> str:
    """How an action ended, in a sentence."""
    what = f"the {spec.entry} entry of {spec.action_script}"
    if status < 0:
        return f"{what} died of {_signal_name(-status)}"
    match parse_action_script(spec.action_script):
        case OcfAgent():
            return f"{what} says: {ocf.meaning(status)} ({status})"
        case SystemdUnit(unit):
            return f"systemctl {_SYSTEMCTL_VERBS[spec.entry]} {unit}: {_unit_words(spec, status)}"
    return f"{what} ended with exit status {status}"


def _unit_words(spec: ActionSpec, status: int) -> str:
    if status == 0:
        return "active" if spec.entry == "check" else "done"
    if status in _NO_SUCH_UNIT:
        return f"no such unit ({status})"
    return f"not active ({status})" if spec.entry == "check" else f"exit status {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
