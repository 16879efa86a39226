"""A start that fails: one clear sentence on standard error and the right exit code; and what systemd is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.blackbox.clu import PATIENCE_S, Clu
from tests.blackbox.people import ALICE, ROOT

PROGRAM = Clu.program


def start(*words: object, prelude: str = "") -> tuple[int, str, str]:
    """Run clufsd, which fails, in a mount namespace of its own; status, output and complaint."""
    script = f'{prelude}\nexec "$@"'
    command = ["unshare", "--mount", "--propagation=private", "sh", "-ec", script, "sh", *PROGRAM]
    done = subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    """A free mount point, and a path for the state."""
    (tmp_path / "clu").mkdir()
    return tmp_path / "clu", tmp_path / "state"


def refused(words: object, status: int, sentence: str, prelude: str = "") -> None:
    """Starting clufsd with these words is refused with this sentence, and nothing else is said."""
    found = start(*words, prelude=prelude)  # type: ignore[misc]
    assert found == (status, "", f"clufsd: {sentence}\n")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[daemon\n", "not TOML: "),
        ("[daemon]\nlog_levle = 'info'\n", "daemon.log_levle: unknown key"),
        ("[daemon]\nlog_level = 'loud'\n", "daemon.log_level: "),
        ("[member]\nname = 'a b'\n", "member.name: "),
        ("[daemon]\nstop_s = -1\n", "daemon.stop_s: "),
    ],
)
def test_a_bad_config(place: tuple[Path, Path], tmp_path: Path, text: str, complaint: str) -> None:
    config = tmp_path / "clufs.toml"
    config.write_text(text)
    status, _, said = start(place[0], "--state", place[1], "--config", config)
    assert status == 78
    assert said.startswith(f"clufsd: {config}: {complaint}")
    assert said.count("\n") == 1


def test_a_config_that_cannot_be_read(place: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "clufs.toml"
    words = (place[0], "--state", place[1], "--config", config)
    refused(words, 78, f"{config}: cannot be read: No such file or directory")
    config.mkdir()
    refused(words, 78, f"{config}: cannot be read: Is a directory")


def test_a_mount_point_that_is_missing_or_a_file(place: tuple[Path, Path], tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.touch()
    state = ("--state", place[1])
    refused((missing, *state), 32, f"mount point {missing}: No such file or directory")
    refused((file, *state), 32, f"mount point {file} is not a directory")


def test_a_mount_point_in_use(clu: Clu, tmp_path: Path) -> None:
    words = (clu.root, "--state", tmp_path / "state")
    refused(words, 32, f"{clu.root} is in use: another clufsd is mounted there")
    assert clu.public.is_dir()


def test_a_state_directory_in_use(clu: Clu, place: tuple[Path, Path]) -> None:
    words = (place[0], "--state", clu.state)
    refused(words, 74, f"state directory {clu.state} is used by another clufsd")


def test_a_state_directory_that_cannot_be_made(place: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    state = tmp_path / "file" / "state"
    refused((place[0], "--state", state), 74, f"state directory {state}: Not a directory")


def test_a_registry_that_is_none(place: tuple[Path, Path]) -> None:
    mount, state = place
    state.mkdir()
    (state / "registry.sqlite").write_text("a poem " * 1000)
    refused((mount, "--state", state), 74, f"state directory {state}: file is not a database")


def test_no_fuse_device(place: tuple[Path, Path]) -> None:
    words = (place[0], "--state", place[1])
    sentence = "/dev/fuse: No such file or directory; load the fuse module: modprobe fuse"
    refused(words, 69, sentence, prelude="mount -t tmpfs none /dev")


def test_no_fuse3_library(place: tuple[Path, Path]) -> None:
    hide = """
    for library in $(ldconfig -p | sed -n 's/.*libfuse3.so.*=> //p'); do
        mount --bind /dev/null "$(readlink -f "$library")"
    done
    """
    status, out, said = start(place[0], "--state", place[1], prelude=hide)
    assert (status, out) == (69, "")
    assert said.startswith("clufsd: clufs's C part does not load (")
    assert said.endswith("): install libfuse3-3 and clufs again\n")
    assert said.count("\n") == 1


def test_wrong_arguments() -> None:
    status, out, said = start("--no-such-option", "x")
    assert (status, out) == (2, "")
    assert "--no-such-option" in said


def test_after_a_refusal_nothing_is_mounted_and_the_next_start_works(tmp_path: Path) -> None:
    (tmp_path / "clu").mkdir()
    start(tmp_path / "clu", "--state", tmp_path / "state", prelude="mount -t tmpfs none /dev")
    clu = Clu(tmp_path)
    clu.close()


# ------------------------------------------------------------ a full disk

FULL = "mount -t tmpfs -o size=1m none {0}; dd if=/dev/zero of={0}/fill bs=4k 2>/dev/null || :"


def test_a_full_disk_at_the_start(place: tuple[Path, Path]) -> None:
    mount, state = place
    state.mkdir()
    words = (mount, "--state", state)
    status, out, said = start(*words, prelude=FULL.format(state))
    assert (status, out, said.count("\n")) == (74, "", 1)
    assert said.startswith(f"clufsd: state directory {state}: ") and "full" in said


@pytest.fixture
def clu_on_a_small_disk(tmp_path: Path) -> Iterator[Clu]:
    """A /clu whose state lies on a file system of two megabytes."""
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", state], check=True)
    try:
        clu = Clu(tmp_path)
        try:
            yield clu
        finally:
            clu.close()
    finally:
        subprocess.run(["umount", "-l", state], check=True)


def test_a_disk_that_fills_up_refuses_namespaces_and_locking_goes_on(
    clu_on_a_small_disk: Clu,
) -> None:
    clu = clu_on_a_small_disk
    locks = clu.root / "locks"
    (locks / "before").mkdir()
    fill = clu.state / "fill"
    ROOT.runs(f"dd if=/dev/zero of={fill} bs=4k; true", clu.root)
    # A name or two may find room in what the file has already.
    many = "n=0; while mkdir $(printf 'after%0200d' $n); do n=$((n + 1)); done; echo made $n"
    printed = ROOT.runs(many, locks)[1]
    assert "No space left on device" in printed
    made = int(printed.split()[-1])
    assert f"after{made:0200} ENOSPC state directory {clu.state}: " in clu.errors()
    names = [f"after{number:0200}" for number in range(made)]
    assert sorted(os.listdir(locks)) == [*names, "before", "public"]
    assert ROOT.runs("echo EX > f && echo UN > f", clu.public) == (0, "")
    fill.unlink()
    assert ROOT.runs("rmdir before; mkdir after", locks) == (0, "")
    assert clu.stop() == 0


# ------------------------------------------------------- systemd, the log


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.settimeout(PATIENCE_S)
        end.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        yield end


def heard(end: socket.socket, wanted: str) -> str:
    """The first message that begins with `wanted`."""
    while True:
        message = end.recv(4096).decode()
        if message.startswith(wanted):
            return message


def test_systemd_is_told(tmp_path: Path, systemd: socket.socket) -> None:
    clu = Clu(tmp_path)
    try:
        ready = heard(systemd, "READY")
        assert ready.split("\n") == [
            "READY=1",
            f"STATUS=serving {clu.root}, alone and quorate",
        ]
        first = heard(systemd, "WATCHDOG=1") and time.monotonic()
        heard(systemd, "WATCHDOG=1")
        assert 0.01 < time.monotonic() - first < 5
        clu.daemon.send_signal(signal.SIGTERM)
        assert heard(systemd, "STOPPING") == "STOPPING=1"
        assert clu.ended() == 0
    finally:
        clu.close()


def test_a_daemon_that_nobody_watches_says_nothing(
    tmp_path: Path, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")
    clu = Clu(tmp_path)
    try:
        heard(systemd, "READY")
        systemd.settimeout(0.2)
        with pytest.raises(TimeoutError):
            heard(systemd, "WATCHDOG")
    finally:
        clu.close()


@pytest.mark.parametrize(("level", "lines"), [("info", 2), ("warning", 0), ("error", 0)])
def test_the_log_has_levels(tmp_path: Path, level: str, lines: int) -> None:
    config = tmp_path / "clufs.toml"
    config.write_text(f"[daemon]\nlog_level = '{level}'\n[member]\nname = 'provolone'\n")
    clu = Clu(tmp_path, "--config", str(config))
    try:
        assert os.readlink(clu.root / "members" / "self") == "provolone"
        assert clu.stop() == 0
        logged = clu.log.read_text().splitlines()
        assert len(logged) == lines
        assert all(" INFO clufsd: " in line for line in logged)
    finally:
        clu.close()


def test_the_journal_gets_its_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    clu = Clu(tmp_path)
    try:
        clu.stop()
        assert clu.log.read_text() == "<6>SIGTERM: stopping\n<6>ended\n"
    finally:
        clu.close()


def test_it_is_ready_within_a_second(tmp_path: Path) -> None:
    """As a share of what starting Python itself costs, which no machine is too slow for."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", "import trio, pyfuse3, sqlite3"], check=True)
    python_s = time.monotonic() - begin
    begin = time.monotonic()
    clu = Clu(tmp_path)
    ready_s = time.monotonic() - begin
    clu.close()
    assert ready_s < max(1.0, 5 * python_s)


def test_metrics_count_what_is_done(own_clu: Clu) -> None:
    def counted() -> dict[str, float]:
        text = (own_clu.root / "status" / "metrics").read_text()
        families = text_string_to_metric_families(text)
        return {s.name: s.value for f in families for s in f.samples if not s.labels}

    before = counted()
    ALICE.runs("echo EX > f && echo NL > f && echo UN > f; echo XE > f", own_clu.public)
    after = counted()
    assert after["clufs_grants_total"] - before["clufs_grants_total"] == 2
    assert after["clufs_request_seconds_count"] - before["clufs_request_seconds_count"] == 4
    assert after["clufs_hold_seconds_count"] - before["clufs_hold_seconds_count"] == 1
    assert after["clufs_resource_blocks"] == before["clufs_resource_blocks"]
    assert after["clufs_waiting"] == 0
    with (own_clu.root / "events").open():
        assert counted()["clufs_open_files"] >= 1
