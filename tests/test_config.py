"""clufs.toml: defaults, every key, and one clear sentence for each mistake."""

import json
import re
import socket
import tomllib
from pathlib import Path

import msgspec
import pytest

from clufs import config
from clufs.errors import ConfigError

SHIPPED = Path(__file__).parent.parent / "mount" / "clufs.toml"


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "clufs.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_no_file_is_the_defaults() -> None:
    assert config.load(None) == config.Config()


def test_the_defaults() -> None:
    loaded = config.load(None)
    assert loaded.daemon == config.Daemon(stop_s=5.0, log_level="info", state="/var/lib/clufs")
    assert loaded.member.name == socket.gethostname()
    assert loaded.engine == config.Engine("embedded", 7788, "/etc/clufs/keys", 5000)
    assert loaded.fencing.agents == ()
    assert loaded.quorum == config.Quorum(on_lost_quorum="keep", quorum_kill_ms=5000)
    assert loaded.storage == config.Storage(initiator="")
    assert loaded.luns == ()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert config.load(written(tmp_path, "")) == config.Config()


def test_every_key(tmp_path: Path) -> None:
    text = """
        [daemon]
        stop_s = 2
        log_level = "debug"
        state = "/srv/clufs"
        [member]
        name = "provolone"
        [engine]
        kind = "corosync"
        port = 65535
        keys = "/srv/keys"
        peer_dead_ms = 2500
        [[fencing.agents]]
        kind = "command"
        command = ["/sbin/off", "--hard"]
        timeout_s = 1
        name = "power"
        [[fencing.agents]]
        command = ["off"]
        [quorum]
        on_lost_quorum = "kill"
        quorum_kill_ms = 0
        [storage]
        initiator = "iqn.2026-01.org.example:provolone"
        [[luns]]
        url = "iscsi://me%secret@127.0.0.1:3260/iqn.2026-01.org.example:array/0"
        paths = ["iscsi://[::1]:3261/iqn.2026-01.org.example:array/0"]
        role = "clufs"
        [[luns]]
        url = "/dev/disk/by-id/wwn-0x6001405"
        [[luns]]
        url = "/var/tmp/a disk"
    """
    loaded = config.load(written(tmp_path, text))
    assert loaded.daemon == config.Daemon(stop_s=2.0, log_level="debug", state="/srv/clufs")
    assert loaded.member == config.Member(name="provolone")
    assert loaded.engine == config.Engine("corosync", 65535, "/srv/keys", 2500)
    first, second = loaded.fencing.agents
    assert first == config.CommandAgent(
        command=("/sbin/off", "--hard"), timeout_s=1.0, name="power"
    )
    assert second == config.CommandAgent(command=("off",), timeout_s=30.0)
    assert loaded.quorum == config.Quorum(on_lost_quorum="kill", quorum_kill_ms=0)
    assert loaded.storage.initiator == "iqn.2026-01.org.example:provolone"
    own, device, file = loaded.luns
    assert own.role == "clufs"
    assert own.urls == (
        "iscsi://me%secret@127.0.0.1:3260/iqn.2026-01.org.example:array/0",
        "iscsi://[::1]:3261/iqn.2026-01.org.example:array/0",
    )
    assert device == config.Lun(url="/dev/disk/by-id/wwn-0x6001405", paths=(), role="data")
    assert file.url == "/var/tmp/a disk"


def test_the_shipped_file_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    assert config.load(SHIPPED) == config.Config()
    lines = SHIPPED.read_text().splitlines()
    shown = [line.removeprefix("#") for line in lines if re.match(r"\[|#\w+ = ", line)]
    values = tomllib.loads("\n".join(shown))
    assert values["member"].pop("name") == "provolone"
    defaults = msgspec.to_builtins(config.Config())
    assert defaults["member"].pop("name") == socket.gethostname()
    # TOML's lists are Python's.
    assert json.loads(json.dumps(defaults)) == values


def test_the_shipped_example_of_an_agent_loads(tmp_path: Path) -> None:
    found = re.search(r"^#   (agents = .*)$", SHIPPED.read_text(), re.M)
    assert found
    agents = config.load(written(tmp_path, f"[fencing]\n{found[1]}")).fencing.agents
    assert [agent.command for agent in agents] == [("/usr/local/sbin/power-off",)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[daemon", "not TOML: "),
        (b"[daemon]\nstate = '/\xff'", "not UTF-8 at byte 19"),
        ("deamon = 1", "deamon: unknown key"),
        ("[daemon]\nstop = 1", "daemon.stop: unknown key"),
        ("daemon = 1", "daemon: expected `object`, got `int`"),
        ("[daemon]\nstop_s = '5'", "daemon.stop_s: expected `float`, got `str`"),
        ("[daemon]\nstop_s = true", "daemon.stop_s: expected `float`, got `bool`"),
        ("[daemon]\nstop_s = -0.1", "daemon.stop_s: expected `float` >= 0.0"),
        ("[daemon]\nstop_s = inf", "daemon.stop_s: expected `float` <= 3600.0"),
        ("[daemon]\nstop_s = nan", "daemon.stop_s: expected `float`"),
        ("[daemon]\nlog_level = 'loud'", "daemon.log_level: invalid enum value 'loud'"),
        ("[daemon]\nstate = 'here'", "daemon.state: expected `str` matching regex '^/'"),
        ("[member]\nname = ''", "member.name: expected `str` matching regex"),
        ("[member]\nname = 'a/b'", "member.name: expected `str` matching regex"),
        ("[member]\nname = '.a'", "member.name: expected `str` matching regex"),
        ("[member]\nname = 'a\\n'", "member.name: expected `str` matching regex"),
        ("[engine]\nkind = 'raft'", "engine.kind: invalid enum value 'raft'"),
        ("[engine]\nport = 0", "engine.port: expected `int` >= 1"),
        ("[engine]\nport = 65536", "engine.port: expected `int` <= 65535"),
        ("[engine]\nkeys = 'keys'", "engine.keys: expected `str` matching regex '^/'"),
        ("[engine]\npeer_dead_ms = 2499", "engine.peer_dead_ms: expected `int` >= 2500"),
        ("[engine]\npeer_dead_ms = 3000.5", "engine.peer_dead_ms: expected `int`, got `float`"),
        ("[fencing]\nagents = 'off'", "fencing.agents: expected `array`, got `str`"),
        ("[[fencing.agents]]\nkind = 'x'", "fencing.agents[0].kind: invalid value 'x'"),
        ("[[fencing.agents]]\n", "fencing.agents[0]: object missing required field `command`"),
        (
            "[[fencing.agents]]\ncommand = []",
            "fencing.agents[0].command: expected `array` of length >= 1",
        ),
        (
            "[[fencing.agents]]\ncommand = ['a', '']",
            "fencing.agents[0].command[1]: expected `str` matching regex",
        ),
        (
            '[[fencing.agents]]\ncommand = ["a\\u0000b"]',
            "fencing.agents[0].command[0]: expected `str` matching regex",
        ),
        (
            "[[fencing.agents]]\ncommand = ['a']\ntimeout_s = 0",
            "fencing.agents[0].timeout_s: expected `float` > 0.0",
        ),
        (
            "[[fencing.agents]]\ncommand = ['a']\ntimeout = 1",
            "fencing.agents[0].timeout: unknown key",
        ),
        ("[quorum]\non_lost_quorum = 'stop'", "quorum.on_lost_quorum: invalid enum value 'stop'"),
        ("[quorum]\nquorum_kill_ms = -1", "quorum.quorum_kill_ms: expected `int` >= 0"),
        ("[storage]\ninitiator = 'me'", "storage.initiator: expected `str` matching regex"),
        ("[luns]\nurl = '/d'", "luns: expected `array`, got `object`"),
        ("[[luns]]", "luns[0]: object missing required field `url`"),
        ("[[luns]]\nurl = 'disk'", "luns[0].url: expected `str` matching regex"),
        ("[[luns]]\nurl = 'iscsi://host/iqn.x'", "luns[0].url: expected `str` matching regex"),
        ("[[luns]]\nurl = 'http://host/iqn.x/0'", "luns[0].url: expected `str` matching regex"),
        ("[[luns]]\nurl = '/d'\npaths = ['e']", "luns[0].paths[0]: expected `str` matching regex"),
        ("[[luns]]\nurl = '/d'\nrole = 'quorum'", "luns[0].role: invalid enum value 'quorum'"),
        ("[[luns]]\nurl = '/d'\nname = 'd'", "luns[0].name: unknown key"),
        ("[[luns]]\nurl = '/d'\npaths = ['/d']", "luns[0]: /d is also in luns[0]"),
        ("[[luns]]\nurl = '/d'\n[[luns]]\nurl = '/d'", "luns[1]: /d is also in luns[0]"),
        (
            "[[luns]]\nurl = 'iscsi://me%secret@h/iqn.x/0'\n" * 2,
            "luns[1]: h/iqn.x/0 is also in luns[0]",
        ),
        (
            "\n".join(f"[[luns]]\nurl = '/{at}'\nrole = 'clufs'" for at in range(2)),
            "luns: 2 of role `clufs`, there may be 0, 1, 3 or 5",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).startswith(f"{path}: {sentence}")
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("name", "why"), [("absent", "No such file or directory"), (".", "Is a directory")]
)
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be read: {why}"):
        config.load(tmp_path / name)


def test_where_the_state_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default, elsewhere = config.STATE_DIR, "/srv/clufs"
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert config.state_dir(None, default) == Path("/var/lib/clufs")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert config.state_dir(None, default) == Path("/home/u/state/clufs")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert config.state_dir(None, default) == Path("/home/u/.local/state/clufs")
    assert config.state_dir(None, elsewhere) == Path("/srv/clufs")
    monkeypatch.chdir(tmp_path)
    assert config.state_dir("s", elsewhere) == tmp_path / "s"
