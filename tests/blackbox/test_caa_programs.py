"""The caa_ programs on a real /clu of one member: profiles, registering, status, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, Clu
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
