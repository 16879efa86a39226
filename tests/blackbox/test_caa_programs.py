"""The caa_ programs on a real /clu of one member: profiles, registering, status, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, Clu, until
from tests.blackbox.people import ALICE
from tests.caa.test_profile import DTCALC

Said = tuple[int, str, str]
Run = Callable[..., Said]


@pytest.fixture
def run(clu: Clu) -> Iterator[Run]:
    """Runs a program on the module's /clu: status, output, messages. Nothing is registered afterwards."""

    def program(name: str, *arguments: str, root: Path = clu.root) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", f"clufs.cli.{name}", *arguments],
            env={**os.environ, "CLU_ROOT": str(root)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        return done.returncode, done.stdout, done.stderr.replace(str(root), "/clu")

    yield program
    resources = clu.root / "resources"
    program("caa_stop", "-all", "-f", "-q")
    for directory in [each for each in resources.iterdir() if each.is_dir()]:
        directory.rmdir()
    for file in [*resources.iterdir(), *(clu.root / "scripts").iterdir()]:
        file.unlink()


SILENT = (0, "", "")
CREATE = ["-create", "dtcalc", "-t", "application", "-B", "/usr/dt/bin/dtcalc"]


def test_the_tutorial_as_far_as_nothing_runs(clu: Clu, run: Run) -> None:
    """Manual 2.13.4 to 2.13.6 and 2.13.10."""
    assert run("caa_profile", *CREATE, "-d", "dtcalc application", "-p", "balanced") == SILENT
    assert (clu.root / "resources/dtcalc.cap").read_text() == DTCALC
    script = clu.root / "scripts/dtcalc.scr"
    assert (script.stat().st_mode & 0o7777, script.stat().st_uid) == (0o755, 0)
    assert run("caa_profile", "-validate", "dtcalc") == SILENT
    assert run("caa_register", "dtcalc") == SILENT
    expected = "NAME=dtcalc\nTYPE=application\nTARGET=OFFLINE\nSTATE=OFFLINE\n"
    assert run("caa_stat", "dtcalc") == (0, expected, "")
    assert run("caa_stat", "-g", "dtcalc") == SILENT
    assert run("caa_unregister", "dtcalc") == SILENT
    assert run("caa_stat", "-g", "dtcalc") == (1, "", "")
    assert run("caa_profile", "-delete", "dtcalc") == SILENT
    assert not script.exists()


def test_the_registered_profile_is_merged(run: Run) -> None:
    run("caa_profile", *CREATE, "-d", "dtcalc application")
    run("caa_register", "dtcalc")
    merged = DTCALC.replace("REQUIRED_RESOURCES", "REBALANCE=\nREQUIRED_RESOURCES")
    assert run("caa_stat", "-p") == (0, merged, "")
    # What is written to the profile is not what is registered.
    assert run("caa_profile", "-update", "dtcalc", "-o", "ci=5") == SILENT
    assert run("caa_stat", "-p")[1] == merged


def test_the_daemons_reason_is_told(clu: Clu, run: Run) -> None:
    run("caa_profile", *CREATE, "-r", "network1")
    assert run("caa_register", "dtcalc") == (
        1,
        "",
        "caa_register: resource 'dtcalc': dtcalc.cap line 14: REQUIRED_RESOURCES: network1:"
        " only resources that are registered already are allowed\n",
    )
    assert run("caa_profile", "-create", "network1", "-t", "network", "-s", "16.69.244.0") == SILENT
    assert run("caa_register", "network1", "dtcalc") == SILENT
    status, out, err = run("caa_unregister", "network1")
    assert (status, out) == (1, "")
    assert err.startswith("caa_unregister: resource 'network1': ")
    assert "dtcalc" in err
    assert run("caa_unregister", "dtcalc", "network1") == SILENT


def test_a_refused_text_keeps_a_resource_from_being_registered(clu: Clu, run: Run) -> None:
    run("caa_profile", *CREATE)
    path = clu.root / "resources/dtcalc.cap"
    best = path.read_text().replace("=balanced", "=best")
    # A shell does not notice that the close failed.
    subprocess.run(["sh", "-c", 'printf %s "$1" >"$2"', "sh", best, path], check=True)
    status, _, err = run("caa_register", "dtcalc")
    assert status == 1
    assert "a newer text of dtcalc.cap was refused" in err
    assert run("caa_profile", "-validate", "dtcalc") == (
        1,
        "",
        "caa_profile: dtcalc.cap line 13: PLACEMENT: best: allowed: balanced, favored or restricted\n",
    )
    assert run("caa_profile", "-create", "dtcalc", "-t", "application", "-f") == SILENT
    assert run("caa_register", "dtcalc") == SILENT


def test_a_copy_tells_the_same(clu: Clu, run: Run, tmp_path: Path) -> None:
    for name in ("dtcalc", "httpd"):
        run("caa_profile", "-create", name, "-t", "application", "-B", f"/usr/bin/{name}")
        run("caa_register", name)
    before = [run("caa_stat", *arguments) for arguments in ([], ["-t", "-v"], ["-p"])]
    assert run("caa_profile", "-print", "httpd")[1] in before[2][1] + before[2][1].replace(
        "REBALANCE=\n", ""
    )
    for part in ("resources", "templates", "scripts"):
        subprocess.run(["cp", "-a", clu.root / part, tmp_path], capture_output=True)
    after = [run("caa_stat", *arguments, root=tmp_path) for arguments in ([], ["-t", "-v"], ["-p"])]
    assert after == before


def test_a_first_text_that_was_refused_is_told_when_it_is_registered(clu: Clu, run: Run) -> None:
    path = clu.root / "resources/new.cap"
    subprocess.run(["sh", "-c", 'echo TYPE=x >"$1"', "sh", path], check=True)
    assert run("caa_register", "new") == (
        1,
        "",
        "caa_register: resource 'new': a newer text of new.cap was refused: see new.cap.refused;"
        " write one that is right, or remove it\n",
    )
    assert "TYPE: x: allowed: application" in run("caa_profile", "-validate", "new")[2]


SLOW = """#!/bin/sh
case $1 in
start) echo begun; while [ ! -e GO ]; do sleep 0.05; done ;;
stop) [ ! -e STUCK ] ;;
esac
"""
HERE = os.uname().nodename


@pytest.fixture
def slow(clu: Clu, run: Run, tmp_path: Path) -> Path:
    """A registered application, slow, that starts once GO is in this directory and does not stop while STUCK is."""
    script = clu.root / "scripts/slow.scr"
    script.write_text(SLOW.replace("GO", f"{tmp_path}/GO").replace("STUCK", f"{tmp_path}/STUCK"))
    script.chmod(0o755)
    assert run("caa_profile", "-create", "slow", "-t", "application") == SILENT
    assert run("caa_register", "slow") == SILENT
    return tmp_path


def state(clu: Clu) -> str:
    return (clu.root / "resources/slow/state").read_text()


def test_progress_is_printed_as_it_comes_and_ctrl_c_ends_the_wait_only(
    clu: Clu, run: Run, slow: Path
) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-m", "clufs.cli.caa_start", "slow"],
        env={**os.environ, "CLU_ROOT": str(clu.root), "_CAA_UI_FMT": "v"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert starting.stdout
    assert starting.stdout.readline() == f"Attempting to start 'slow' on member '{HERE}'\n"
    starting.send_signal(signal.SIGINT)
    starting.communicate(timeout=PATIENCE_S)
    assert starting.returncode == 130
    assert state(clu) == "OFFLINE\n"
    (slow / "GO").touch()
    until(lambda: state(clu) == f"ONLINE on {HERE}\n", "the action to go on")
    assert run("caa_unregister", "slow")[0] == 1


def test_a_stop_that_fails_leaves_it_unknown_until_it_is_forced(
    clu: Clu, run: Run, slow: Path
) -> None:
    """Manual 2.3.1; facts of caa_stop."""
    (slow / "GO").touch()
    (slow / "STUCK").touch()
    assert run("caa_start", "slow")[0] == 0
    status, out, err = run("caa_stop", "slow")
    assert (status, err) == (1, "")
    assert out.splitlines()[1] == f"Stop of 'slow' on member '{HERE}' failed."
    assert f"STATE=UNKNOWN on {HERE}\n" in run("caa_stat", "slow")[1]
    assert run("caa_stat", "-t")[1].splitlines()[2] == (
        f"slow           application    OFFLINE   UNKNOWN   {HERE}"
    )
    assert run("caa_stop", "slow", "-f")[0] == 0
    assert run("caa_stat", "slow")[1].endswith("TARGET=OFFLINE\nSTATE=OFFLINE\n")


def test_two_who_start_the_same_are_told_the_same(clu: Clu, run: Run, slow: Path) -> None:
    starting = [
        subprocess.Popen(
            [sys.executable, "-m", "clufs.cli.caa_start", "slow"],
            env={**os.environ, "CLU_ROOT": str(clu.root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    until(lambda: (clu.root / "resources/slow/target").read_text() == "ONLINE\n", "a start")
    (slow / "GO").touch()
    outs = [each.communicate(timeout=PATIENCE_S)[0] for each in starting]
    assert [each.returncode for each in starting] == [0, 0], outs
    assert any(f"Start of 'slow' on member '{HERE}' succeeded.\n" in out for out in outs)


def test_another_user_may_look_but_not_touch(clu: Clu, run: Run, slow: Path) -> None:
    """All is imported before the process becomes the user's: the interpreter may be root's alone."""
    code = (
        "import locale, os, shutil; from clufs.cli import caa_start, caa_stat;"
        f"os.setgroups([]); os.setgid({ALICE.gid}); os.setuid({ALICE.uid});"
        "print(caa_stat.main(['-t']), caa_start.main(['slow']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=clu.root,
        env={**os.environ, "CLU_ROOT": "."},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    row = "slow           application    OFFLINE   OFFLINE"
    assert done.stdout.splitlines()[2:] == [row, "0 1"], done.stderr
    assert done.stderr == "caa_start: resources/slow/control: Permission denied\n"


def test_an_update_takes_the_profile_anew_or_says_why_not(clu: Clu, run: Run) -> None:
    run("caa_profile", *CREATE)
    run("caa_register", "dtcalc")
    assert run("caa_profile", "-update", "dtcalc", "-o", "ci=5", "-d", "new") == SILENT
    assert run("caa_register", "-u", "dtcalc") == SILENT
    registered = run("caa_stat", "-p", "dtcalc")[1]
    assert "CHECK_INTERVAL=5\nDESCRIPTION=new\n" in registered
    assert run("caa_profile", "-update", "dtcalc", "-r", "absent") == SILENT
    status, out, err = run("caa_register", "-u", "dtcalc")
    assert (status, out) == (1, "")
    assert err.startswith("caa_register: resource 'dtcalc': dtcalc.cap line ")
    assert "REQUIRED_RESOURCES: absent: only resources that are registered" in err
    assert run("caa_stat", "-p", "dtcalc")[1] == registered
    assert run("caa_register", "-u", "absent")[0] == 1
