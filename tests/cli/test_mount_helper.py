"""mount.clufs as a program, with a made-up clufsd beside it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clufs import config
from clufs.cli.mount import BadInvocation, Call, parse, plan_for
from clufs.errors import ConfigError

HELPER = f"""#!{sys.executable}
import sys
from clufs.cli.mount import main
sys.exit(main())
"""


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """A directory with mount.clufs, to which a test adds its clufsd."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program(directory / "mount.clufs", HELPER)
    return directory


@pytest.fixture
def daemon_pid(tmp_path: Path) -> Iterator[Path]:
    """The file into which the made-up daemon writes its pid; it is killed in the end."""
    path = tmp_path / "pid"
    yield path
    if path.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def call(bin_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [bin_dir / "mount.clufs", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(Path(config.__file__).parent.parent)},
    )


def state_option(tmp_path: Path) -> str:
    return f"state={tmp_path / 'state'},config={Path(__file__).parents[2] / 'mount/clufs.toml'}"


def test_it_returns_when_the_daemon_is_ready(
    bin_dir: Path, tmp_path: Path, daemon_pid: Path
) -> None:
    program(
        bin_dir / "clufsd",
        f'#!/bin/sh\necho $$ >{daemon_pid}\necho "arguments: $*" >&2\n'
        "echo ready $1\nexec sleep 1000\n",
    )
    done = call(bin_dir, "clufs", "rel/dir", "-o", f"rw,_netdev,{state_option(tmp_path)}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int(daemon_pid.read_text())
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").resolve() == Path("/")
    log = (tmp_path / "state" / "clufsd.log").read_text()
    assert log.startswith(f"arguments: {Path('rel/dir').absolute()} --config ")
    assert log.endswith(f"--state {tmp_path / 'state'}\n")


def test_the_daemons_sentence_is_passed_on(bin_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "state" / "clufsd.log"
    log.parent.mkdir()
    log.write_text("clufsd: yesterday's trouble\n")
    program(bin_dir / "clufsd", "#!/bin/sh\necho 'clufsd: /x: no such directory' >&2\nexit 32\n")
    done = call(bin_dir, "clufs", "/x", "-o", state_option(tmp_path))
    assert done.returncode == 32
    assert done.stderr == "mount.clufs: /x: no such directory\n"
    program(bin_dir / "clufsd", "#!/bin/sh\nexit 9\n")
    done = call(bin_dir, "clufs", "/x", "-o", state_option(tmp_path))
    assert done.returncode == 32
    assert done.stderr == f"mount.clufs: clufsd ended with status 9, see {log}\n"


def test_ended_while_it_waits_it_ends_the_daemon(
    bin_dir: Path, tmp_path: Path, daemon_pid: Path
) -> None:
    program(bin_dir / "clufsd", f"#!/bin/sh\necho $$ >{daemon_pid}.new\n"
            f"mv {daemon_pid}.new {daemon_pid}\nexec sleep 1000\n")  # fmt: skip
    helper = subprocess.Popen(
        [bin_dir / "mount.clufs", "clufs", "/x", "-o", state_option(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(config.__file__).parent.parent)},
    )
    deadline = time.monotonic() + 20
    while not daemon_pid.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    helper.send_signal(signal.SIGTERM)
    assert helper.wait(20) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{daemon_pid.read_text().strip()}").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 1, "usage: "),
        (["clufs"], 1, "usage: "),
        (["clufs", "/x", "-q"], 1, "unknown flag -q"),
        (["clufs", "/x", "-o"], 1, "-o needs an argument"),
        (["clufs", "/x", "-o", "rw,ro"], 1, "unknown option 'ro'"),
        (["clufs", "/x", "-o", "state="], 1, "unknown option 'state='"),
        (["clufs", "/x", "-o", "config=/absent/c.toml"], 32, "/absent/c.toml: cannot be read"),
        (["/absent/c.toml", "/x"], 32, "/absent/c.toml: cannot be read"),
        (["clufs", "/x", "-o", "state=/proc/none"], 2, "/proc/none/clufsd.log: cannot be opened"),
    ],
)
def test_a_refusal_is_one_sentence(
    bin_dir: Path, arguments: list[str], status: int, sentence: str
) -> None:
    program(bin_dir / "clufsd", "#!/bin/sh\nexit 0\n")
    done = call(bin_dir, *arguments)
    assert done.returncode == status
    assert done.stderr.startswith(f"mount.clufs: {sentence}")
    assert done.stderr.count("\n") == 1


def test_flags_stand_anywhere() -> None:
    expected = Call("clufs", "/clu", ("a", "b=c", "d"), sloppy=True, verbose=True)
    assert parse(["-sv", "clufs", "/clu", "-o", "a,b=c,d"]) == expected
    assert parse(["clufs", "-v", "/clu", "-so", "a,b=c", "-od", "-t", "fuse.clufs"]) == expected


def test_what_fstab_carries_is_passed_over(tmp_path: Path) -> None:
    options = ("rw", "noauto", "_netdev", "nofail", "x-systemd.requires=a", "user", "defaults")
    plan = plan_for(Call("/c.toml", "/clu", (*options, f"state={tmp_path}", "comment=hi")))
    assert plan.arguments == ("/clu", "--config", "/c.toml", "--state", str(tmp_path))
    assert plan.log == tmp_path / "clufsd.log"


def test_sloppy_passes_over_the_unknown() -> None:
    with pytest.raises(BadInvocation, match="unknown option 'frobnicate'"):
        plan_for(Call("clufs", "/clu", ("frobnicate", "state=/s")))
    plan_for(Call("clufs", "/clu", ("frobnicate", "state=/s"), sloppy=True))


def test_the_log_lies_in_the_configured_state(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"[daemon]\nstate = '{tmp_path}/s'\n")
    assert plan_for(Call("clufs", "/clu", (f"config={path}",))).log == tmp_path / "s/clufsd.log"
    path.write_text("x")
    with pytest.raises(ConfigError):
        plan_for(Call("clufs", "/clu", (f"config={path}",)))


def test_fake_starts_nothing(bin_dir: Path, tmp_path: Path) -> None:
    program(bin_dir / "clufsd", f"#!/bin/sh\ntouch {tmp_path}/started\n")
    assert call(bin_dir, "-f", "clufs", "/x", "-o", state_option(tmp_path)).returncode == 0
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "state").exists()
