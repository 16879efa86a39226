"""clufs.toml: what it may say, and its defaults. clufs.toml(5) describes every key."""

import os
import re
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from clufs.errors import ConfigError
from clufs.limits import LUN_PATHS_MAX, LUNS_MAX
from clufs.timeouts import (
    DIAL_MAX_S,
    FENCE_AGENT_S,
    LINK_SILENT_S,
    LUN_FENCE_S,
    PEER_DEAD_S,
    QUORUM_KILL_S,
    STOP_S,
)

STATE_DIR = "/var/lib/clufs"
KEYS_DIR = "/etc/clufs/keys"
PORT = 7788
CONFIG_FILE = "/etc/clufs/clufs.toml"

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
AbsolutePath = Annotated[str, msgspec.Meta(pattern="^/")]
# A member's name is a directory name in /clu/members and a word in the reports.
MemberName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
LogLevel = Literal["debug", "info", "warning", "error"]
# One word of a command line; the kernel takes no NUL in it.
Word = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]+\Z")]
AgentName = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?\Z")]
InitiatorName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^((iqn\.[0-9]{4}-[0-9]{2}\.|eui\.|naa\.)[a-z0-9.:-]+)?\Z", max_length=223
    ),
]
# iscsi://[user%password@]host[:port]/target/lun, or an absolute path.
LunUrl = Annotated[
    str,
    msgspec.Meta(pattern=r"^(iscsi://[^/\s]+/[^/\s]+/[0-9]+|/[^\x00]+)\Z", max_length=1024),
]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
OWN_LUNS = (0, 1, 3, 5)
"""How many LUNs may carry clufs' own layout."""
_HOUR_MS = 3_600_000
# A member must have had the time to reconnect.
_PEER_DEAD_MIN_MS = int((LINK_SILENT_S + DIAL_MAX_S) * 1000)


class Daemon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [daemon]."""

    stop_s: Seconds = STOP_S
    log_level: LogLevel = "info"
    state: AbsolutePath = STATE_DIR


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [member]."""

    name: MemberName = msgspec.field(default_factory=socket.gethostname)


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [engine]. With `embedded` the other keys mean nothing."""

    kind: Literal["embedded", "corosync"] = "embedded"
    port: Port = PORT
    keys: AbsolutePath = KEYS_DIR
    peer_dead_ms: Annotated[int, msgspec.Meta(ge=_PEER_DEAD_MIN_MS, le=_HOUR_MS)] = int(
        PEER_DEAD_S * 1000
    )


class CommandAgent(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="command"
):
    """A fencing agent that is a program: called with the member's name as its last argument.

    name: what reports call it; without one, the program without its directory.
    """

    command: Annotated[tuple[Word, ...], msgspec.Meta(min_length=1)]
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = FENCE_AGENT_S
    name: AgentName = ""


class LunAgent(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="lun"
):
    """The fencing agent that keeps a member from all LUNs of role `data`, by their reservations."""

    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = LUN_FENCE_S
    name: AgentName = ""


class Fencing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [fencing]. agents: tried in this order; without any, a person confirms."""

    agents: tuple[CommandAgent | LunAgent, ...] = ()


class Quorum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [quorum]: what becomes of holders when this member has lost its quorum."""

    on_lost_quorum: Literal["keep", "kill"] = "keep"
    quorum_kill_ms: Annotated[int, msgspec.Meta(ge=0, le=_HOUR_MS)] = int(QUORUM_KILL_S * 1000)


class Storage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [storage].

    initiator: the iSCSI name of this member; without one it is made from the member's. watchdog: a device, used
    where it is there; empty: none. watchdog_command: what the supervisor starts when it fires. trust_supervisor: it
    counts as a hardware watchdog, for trying out.
    """

    initiator: InitiatorName = ""
    watchdog: Annotated[str, msgspec.Meta(pattern=r"^(/[^\x00]+)?\Z")] = "/dev/watchdog"
    watchdog_command: tuple[Word, ...] = ()
    trust_supervisor: bool = False


class Lun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the tables [[luns]]: a LUN by the paths to it.

    url, paths: an iSCSI URL, a kernel device, or a plain file for trying out. role: `clufs` for a LUN that carries
    clufs' own layout, and nothing else; `data` for one that others keep their data on.
    """

    url: LunUrl
    paths: Annotated[tuple[LunUrl, ...], msgspec.Meta(max_length=LUN_PATHS_MAX - 1)] = ()
    role: Literal["data", "clufs"] = "data"

    @property
    def urls(self) -> tuple[str, ...]:
        """All its paths, in the order of the file."""
        return (self.url, *self.paths)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole clufs.toml; `Config()` is what an empty one says."""

    daemon: Daemon = Daemon()
    member: Member = msgspec.field(default_factory=Member)
    engine: Engine = Engine()
    fencing: Fencing = Fencing()
    quorum: Quorum = Quorum()
    storage: Storage = Storage()
    luns: Annotated[tuple[Lun, ...], msgspec.Meta(max_length=LUNS_MAX)] = ()

    @property
    def own_luns(self) -> tuple[Lun, ...]:
        """Those that carry clufs' own layout."""
        return tuple(lun for lun in self.luns if lun.role == "clufs")


def load(path: str | Path | None) -> Config:
    """Read clufs.toml at `path`, or return the defaults for None.

    A ConfigError names the file, the key and what was expected there.
    """
    if path is None:
        return Config()
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        found = msgspec.convert(_with_kinds(tomllib.loads(text)), Config)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_sentence(str(error))}") from error
    _look_at_luns(path, found)
    return found


def _with_kinds(said: dict[str, Any]) -> dict[str, Any]:
    """An agent without a kind is a program."""
    fencing = said.get("fencing")
    agents = fencing.get("agents") if isinstance(fencing, dict) else None
    for agent in agents if isinstance(agents, list) else ():
        if isinstance(agent, dict):
            agent.setdefault("kind", "command")
    return said


def _look_at_luns(path: str | Path, config: Config) -> None:
    """What no type says: each path once, an odd number of LUNs for clufs, so that a majority is one, and LUNs of
    both roles for the agent that fences by them."""
    luns = config.luns
    named: dict[str, int] = {}
    for at, lun in enumerate(luns):
        for url in lun.urls:
            if url in named:
                shown = url.rpartition("@")[2] if url.startswith("iscsi") else url
                raise ConfigError(f"{path}: luns[{at}]: {shown} is also in luns[{named[url]}]")
            named[url] = at
    own = len(config.own_luns)
    if own not in OWN_LUNS:
        raise ConfigError(f"{path}: luns: {own} of role `clufs`, there may be 0, 1, 3 or 5")
    fences = any(isinstance(agent, LunAgent) for agent in config.fencing.agents)
    if fences and not 0 < own < len(luns):
        what = "the agent `lun` needs luns of role `data`, which it fences by, and of role `clufs`"
        raise ConfigError(f"{path}: fencing.agents: {what}")


def state_dir(option: str | None, configured: str) -> Path:
    """Return where the state lies: the option, else what is configured.

    Who is not root cannot write the default directory, and gets one below the own home instead.
    """
    if option is not None:
        return Path(option).absolute()
    if os.geteuid() != 0 and configured == STATE_DIR:
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(home) / "clufs"
    return Path(configured)


def _sentence(message: str) -> str:
    """Turn msgspec's "Expected X, got Y - at `$.a.b`" into "a.b: expected X, got Y"."""
    what, _, where = message.partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what)
    if unknown:
        name = f"{key}.{unknown[1]}" if key else unknown[1]
        return f"{name}: unknown key"
    return f"{key}: {what[0].lower()}{what[1:]}" if key else what
