"""clufs.toml: defaults, every key, and one clear sentence for each mistake."""

import socket
import tomllib
from pathlib import Path

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
    """
    loaded = config.load(written(tmp_path, text))
    assert loaded.daemon == config.Daemon(stop_s=2.0, log_level="debug", state="/srv/clufs")
    assert loaded.member == config.Member(name="provolone")


def test_the_shipped_file_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    assert config.load(SHIPPED) == config.Config()
    shown = "\n".join(
        line.removeprefix("#") for line in SHIPPED.read_text().splitlines() if "= " in line
    )
    values = tomllib.loads(shown)
    assert set(values) == {*config.Daemon.__struct_fields__, *config.Member.__struct_fields__}
    assert values.pop("name") == "provolone"
    daemon = config.Daemon()
    assert values == {key: getattr(daemon, key) for key in config.Daemon.__struct_fields__}


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
