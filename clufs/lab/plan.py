"""A lab on paper: its members, where their files lie, and what their programs are told. Starts nothing."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from clufs.errors import ConfigError, UsageError
from clufs.lab import fence
from clufs.lab.processes import KEEPER_PID, PID_SUFFIX

DIR = "/run/clufs-lab"
# The environment variable that names another one.
DIRECTORY_VARIABLE = "CLUFS_LAB"
MOUNT_POINT = "/clu"
SWITCH = "switch"
CLUSTER = "clufs-lab"
FIRST_NAMES = ("provolone", "polishham", "pepicelli")
MEMBERS_MAX = 64
NETWORK = "10.77.0"
STORAGE = "10.78.0"
PATHS = (1, 2)
PORTALS = (f"{STORAGE}.251", f"{STORAGE}.252")
"""The array's addresses, one for each path."""
LUNS_MAX = 64
_PORTAL_PORT = 3260

_LUN_MIB = 32
_QUORUM_SHARE_MIB = 50
"""More of each LUN for each member, where it is a quorum disk: twice the largest registry, and some records."""

# One second instead of corosync's three: whoever cuts a member wants to see it.
_TOKEN_MS = 1000

# Without `votes` the device has one less than the members, and corosync expects the sum of all.
_DEVICE = """\
    device {
        model: clufs
        sync_timeout: 2000
    }
"""


@dataclass(frozen=True, slots=True)
class LabMember:
    """One member of a lab. number: its corosync node id, and the end of its address."""

    number: int
    name: str
    directory: Path

    @property
    def address(self) -> str:
        """Its address in the lab's own network."""
        return f"{NETWORK}.{self.number}"

    @property
    def storage(self) -> str:
        """Its address in the network of the array."""
        return f"{STORAGE}.{self.number}"

    @property
    def port(self) -> str:
        """The switch's end of its cable."""
        return f"port{self.number}"

    @property
    def storage_port(self) -> str:
        """The switch's end of its cable to the array."""
        return f"san{self.number}"

    @property
    def corosync(self) -> list[str]:
        """The command line of its corosync, which is also how the process is found."""
        return ["corosync", "-f", "-c", str(self.directory / "corosync.conf")]

    @property
    def clufsd(self) -> list[str]:
        """The command line of its daemon, which is also how the process is found."""
        daemon = [sys.executable, "-m", "clufs.cli.clufsd", MOUNT_POINT]
        state, config = self.directory / "state", self.directory / "clufs.toml"
        return [*daemon, "--state", str(state), "--config", str(config)]

    def service(self, what: str) -> list[str]:
        """The command line of `corosync` or `clufsd`."""
        return self.corosync if what == "corosync" else self.clufsd


class Facts(msgspec.Struct, frozen=True):
    """What of a lab is on disk beside its members' files (lab.json).

    luns: how many, of which the last `own` are clufs' own. array: the command of one that is not tgtd.
    by_lun: members are fenced by the LUNs first; the keeper is asked only where that fails. quorum_disk: clufs' own
    LUNs have votes. trusted: the members' supervisors count as hardware watchdogs.
    """

    members: int
    luns: int = 0
    own: int = 0
    array: tuple[str, ...] = ()
    by_lun: bool = False
    quorum_disk: bool = False
    trusted: bool = False

    @property
    def lun_mib(self) -> int:
        """The size of each LUN, a sparse file."""
        return _LUN_MIB + self.members * _QUORUM_SHARE_MIB * self.quorum_disk

    @property
    def disk_votes(self) -> int:
        """What corosync gives the disk: one vote less than there are members."""
        return self.members - 1 if self.quorum_disk else 0


class TargetFacts(msgspec.Struct, frozen=True):
    """How the array's target is called, and the number that its first LUN has there (target.json)."""

    name: str
    first: int


def portal_port(lun: int) -> int:
    """The TCP port of a LUN, on each of the array's addresses."""
    return _PORTAL_PORT + lun - 1


class Lab:
    """The lab in one directory."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).resolve()

    @property
    def key(self) -> Path:
        """corosync's cluster key."""
        return self.directory / "corosync.key"

    @property
    def cuts(self) -> Path:
        """The file of cut cables: a line for each, one name or two."""
        return self.directory / "cuts"

    @property
    def keys(self) -> Path:
        """The directory of the members' keys, and their authority's."""
        return self.directory / "keys"

    @property
    def root(self) -> Path:
        """An empty directory, where each member mounts what becomes its root."""
        return self.directory / "root"

    @property
    def keeper(self) -> Path:
        """Where the keeper wrote itself down."""
        return self.directory / KEEPER_PID

    def init(self, name: str) -> Path:
        """Where process 1 of a member wrote itself down."""
        return self.directory / f"{name}{PID_SUFFIX}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among the commands of this lab, until the end of the block."""
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    @property
    def _facts(self) -> Path:
        return self.directory / "lab.json"

    def exists(self) -> bool:
        """Whether a lab was set up here, also one that was never finished."""
        return self._facts.exists()

    def _is_up(self) -> UsageError:
        return UsageError(f"a lab is up in {self.directory}: clufs lab down")

    def check_absent(self) -> None:
        """Raise UsageError if it is there."""
        if self.exists():
            raise self._is_up()

    def write(self, facts: Facts) -> None:
        """Keep what the lab is made of. Raises UsageError if there is one."""
        try:
            with open(self._facts, "xb") as file:
                file.write(msgspec.json.encode(facts) + b"\n")
        except FileExistsError:
            raise self._is_up() from None

    def facts(self) -> Facts:
        """What the lab is made of. Raises UsageError if there is none, ConfigError if it is torn."""
        try:
            return msgspec.json.decode(self._facts.read_bytes(), type=Facts)
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(f"no lab is up in {self.directory}: clufs lab up") from None
        except msgspec.DecodeError as error:
            raise ConfigError(f"{self._facts}: {error}: clufs lab down, then up") from error

    def write_target(self, target: TargetFacts) -> None:
        """Keep how the array is found."""
        self._target.write_bytes(msgspec.json.encode(target) + b"\n")

    @property
    def _target(self) -> Path:
        return self.directory / "target.json"

    def urls(self, lun: int) -> list[str]:
        """The paths to a LUN, from 1 on, once the array is up."""
        target = msgspec.json.decode(self._target.read_bytes(), type=TargetFacts)
        number = target.first + lun - 1
        return [f"iscsi://{one}:{portal_port(lun)}/{target.name}/{number}" for one in PORTALS]

    def members(self) -> list[LabMember]:
        """Everybody, by number. Raises as facts()."""
        return members(self.directory, self.facts().members)

    def member(self, name: str) -> LabMember:
        """The member of that name. Raises UsageError, or as facts()."""
        everybody = self.members()
        for member in everybody:
            if member.name == name:
                return member
        names = " ".join(member.name for member in everybody)
        raise UsageError(f"no member {name!r}: {names}")


def members(directory: Path, count: int) -> list[LabMember]:
    """The members of a lab of `count`, by number."""
    names = [*FIRST_NAMES, *(f"m{number}" for number in range(4, count + 1))][:count]
    return [LabMember(number, name, directory / name) for number, name in enumerate(names, 1)]


def corosync_conf(lab: Lab, member: LabMember, everybody: list[LabMember]) -> str:
    """corosync.conf of one member. A brace must end its line."""
    nodes = "".join(
        f"    node {{\n        ring0_addr: {one.address}\n        name: {one.name}\n"
        f"        nodeid: {one.number}\n    }}\n"
        for one in everybody
    )
    device = _DEVICE if lab.facts().quorum_disk else ""
    return f"""\
totem {{
    version: 2
    cluster_name: {CLUSTER}
    transport: knet
    token: {_TOKEN_MS}
    crypto_cipher: aes256
    crypto_hash: sha256
    keyfile: {lab.key}
}}
quorum {{
    provider: corosync_votequorum
{device}}}
nodelist {{
{nodes}}}
system {{
    state_dir: {member.directory / "corosync"}
    sched_rr: no
    move_to_root_cgroup: no
    allow_knet_handle_fallback: yes
}}
logging {{
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: {member.directory / "corosync.log"}
    timestamp: hires
}}
"""


def clufs_toml(lab: Lab, member: LabMember) -> str:
    """clufs.toml of one member. Its fencing agent, and its watchdog, ask the lab's keeper.

    The machine's own watchdog is no member's: it would reset them all.
    """
    # By its path and without what the environment says: whoever calls it, it is this one.
    agent = [sys.executable, "-I", "-S", fence.__file__, str(lab.directory)]
    by_lun = '{ kind = "lun" }, ' if lab.facts().by_lun else ""
    # What JSON calls a string or a list of them, TOML does too.
    return f"""\
[member]
name = {json.dumps(member.name)}

[engine]
kind = "corosync"
keys = {json.dumps(str(lab.keys / member.name))}

[fencing]
agents = [{by_lun}{{ kind = "command", name = "lab", command = {json.dumps(agent)} }}]

[storage]
watchdog = ""
watchdog_command = {json.dumps([*agent, member.name])}
trust_supervisor = {json.dumps(lab.facts().trusted)}
{_luns_toml(lab)}"""


def _luns_toml(lab: Lab) -> str:
    """The tables of the lab's LUNs."""
    facts, tables = lab.facts(), ""
    for lun in range(1, facts.luns + 1):
        url, *paths = lab.urls(lun)
        role = "clufs" if lun > facts.luns - facts.own else "data"
        tables += f"""
[[luns]]
url = {json.dumps(url)}
paths = {json.dumps(paths)}
role = "{role}"
"""
    return tables
