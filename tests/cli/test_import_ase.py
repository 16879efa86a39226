"""clufs import-ase: the services of the manual's section 5.2.1 and of its table 5-1, and what is no service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLUFS = Path(sys.executable).with_name("clufs")

# As printed in section 5.2.1: what helps with the profile, then what helps with the application.
NETSCAPE = """\
!! ASE service configuration for netscape

@startService netscape
Service name: netscape
Service type: DISK
Relocate on boot of favored member: no
Placement policy: balanced
:
IP address: 16.141.8.239
Device: cludemo#netscape
  cludemo#netscape mount point: /clumig/Netscape
  cludemo#netscape filesystem type: advfs
  cludemo#netscape mount options: rw
  cludemo#netscape mount point group owner: staff
Device: cludemo#cludemo
  cludemo#cludemo mount point: /clumig/cludemo
  cludemo#cludemo filesystem type: advfs
  cludemo#cludemo mount options: rw
  cludemo#cludemo mount point group owner: staff
AdvFS domain: cludemo
  cludemo volumes: /dev/rz12c
:
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CLUFS, "import-ase", *words], capture_output=True, text=True)


def imported(directory: Path, text: str) -> tuple[dict[str, str], list[str]]:
    """The files by name, and the warnings."""
    source = directory / "asecdb.txt"
    source.write_text(text)
    out = directory / "out"
    done = run("--dir", str(out), str(source))
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_text() for path in sorted(out.iterdir())}
    assert done.stdout.split() == [str(out / name) for name in written]
    return written, [one.removeprefix("clufs import-ase: ") for one in done.stderr.splitlines()]


def facts(profile: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in profile.splitlines())


def test_a_disk_service_becomes_a_profile_and_a_skeleton(tmp_path: Path) -> None:
    files, warnings = imported(tmp_path, NETSCAPE)
    assert sorted(files) == ["netscape.cap", "netscape.scr"]
    profile = facts(files["netscape.cap"])
    assert profile["NAME"] == "netscape"
    assert profile["TYPE"] == "application"
    assert profile["PLACEMENT"] == "balanced"
    assert profile["HOSTING_MEMBERS"] == ""
    assert profile["ACTIVE_PLACEMENT"] == "0"
    assert profile["ACTION_SCRIPT"] == "netscape.scr"
    assert "address_up 16.141.8.239 || exit 2" in files["netscape.scr"]
    assert "#     cludemo#netscape mount point: /clumig/Netscape" in files["netscape.scr"]
    text = "\n".join(warnings)
    for section in ("5.1.1", "5.3.2", "5.3.3", "5.3.5", "5.3.6", "5.3.7", "5.3.9", "5.4.1"):
        assert section in text, section
    assert "/clumig/Netscape" in text and "/clumig/cludemo" in text
    assert "line 21: an old device name (rz)" in text


def test_the_skeleton_says_what_it_lacks_and_stops_what_is_not_there(tmp_path: Path) -> None:
    imported(tmp_path, NETSCAPE.replace("IP address: 16.141.8.239\n", ""))
    script = tmp_path / "out" / "netscape.scr"
    assert script.stat().st_mode & 0o777 == 0o755

    def entry(name: str) -> tuple[int, str]:
        done = subprocess.run([script, name], capture_output=True, text=True)
        return done.returncode, done.stderr

    assert entry("start") == (2, "set APPLICATION and PIDFILE in this script\n")
    assert entry("stop") == (0, "")
    assert entry("check")[0] == 2
    assert entry("")[0] == 2


def test_the_skeleton_runs_an_application(tmp_path: Path) -> None:
    imported(tmp_path, NETSCAPE.replace("IP address: 16.141.8.239\n", ""))
    script = tmp_path / "out" / "netscape.scr"
    pidfile = tmp_path / "pid"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nsleep 60 >/dev/null 2>&1 &\necho $! > {pidfile}\n")
    program.chmod(0o755)
    text = script.read_text().replace("APPLICATION=\n", f"APPLICATION={program}\n")
    script.write_text(text.replace("PIDFILE=\n", f"PIDFILE={pidfile}\n"))
    assert [subprocess.call([script, x]) for x in ("start", "check", "stop", "check")] == [
        0,
        0,
        0,
        2,
    ]


def test_favored_members_are_placed_and_come_back_on_boot(tmp_path: Path) -> None:
    text = (
        "@startService db\nService type: USER\nPlacement policy: favored\n"
        "Favored member(s): provolone polishham\nRelocate on boot of favored member: yes\n"
        "Start action timeout: 90 seconds\nStop action timeout: 30\n"
    )
    files, warnings = imported(tmp_path, text)
    profile = facts(files["db.cap"])
    assert profile["PLACEMENT"] == "favored"
    assert profile["HOSTING_MEMBERS"] == "provolone polishham"
    assert profile["ACTIVE_PLACEMENT"] == "1"
    assert profile["SCRIPT_TIMEOUT"] == "90"
    assert "db: HOSTING_MEMBERS=provolone polishham: name them as this cluster does" in warnings


def test_restricted_stays_restricted(tmp_path: Path) -> None:
    text = "@startService db\nService type: USER\nPlacement policy: restricted\nFavored members: a, b\n"
    profile = facts(imported(tmp_path, text)[0]["db.cap"])
    assert (profile["PLACEMENT"], profile["HOSTING_MEMBERS"]) == ("restricted", "a b")


@pytest.mark.parametrize(("kind", "section"), [("NFS", "5.1.2"), ("DRD", "5.1.4")])
def test_what_needs_no_definition_gets_none(tmp_path: Path, kind: str, section: str) -> None:
    source = tmp_path / "text"
    source.write_text(f"@startService home\nService name: home\nService type: {kind}\n")
    done = run("--dir", str(tmp_path / "out"), str(source))
    assert (done.returncode, done.stdout) == (0, "")
    assert section in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tape_service_requires_its_tapes(tmp_path: Path) -> None:
    text = "@startService backup\nService type: TAPE\nDevice: /dev/tape/tape1\n"
    files, warnings = imported(tmp_path, text)
    assert facts(files["backup_tape1.cap"]) == {
        "NAME": "backup_tape1",
        "TYPE": "tape",
        "DEVICE_NAME": "/dev/tape/tape1",
    }
    assert facts(files["backup.cap"])["REQUIRED_RESOURCES"] == "backup_tape1"
    assert any("5.1.5" in one for one in warnings)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("if [ $MEMBER_STATE = RUNNING ]", "line 3: MEMBER_STATE is not set any more"),
        ("echo $ASEROUTING", "line 3: ASEROUTING does not exist any more"),
        ("ASE_PARTIAL_MIRRORING=on", "line 3: ASE_PARTIAL_MIRRORING does not exist any more"),
        ("nfs_ifconfig $$ start tu0", "line 3: replace 'nfs_ifconfig'"),
        ("asemgr -m db polishham", "line 3: 'asemgr -m' is 'caa_relocate' now"),
        ("evmpost -r", "line 3: there is no Event Manager"),
        ("mount /dev/rdrd/drd7", "line 3: an old device name (drd)"),
        ("Some new thing: 7", "line 3: 'Some new thing: 7' has no place in a profile"),
    ],
)
def test_what_a_script_may_not_say_any_more(tmp_path: Path, line: str, sentence: str) -> None:
    _, warnings = imported(tmp_path, f"@startService db\nService type: USER\n{line}\n")
    assert any(one.startswith(f"db: {sentence}") for one in warnings), warnings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no service"),
        ("Service name: x\n", "line 1: 'Service name: x' stands before any '@startService NAME'"),
        ("@startService a/b\n", "line 1: 'a/b' cannot name a resource"),
        (
            "@startService a\nx: 1\n@startService b\nx: 1\n@startService a\n",
            "line 1: 'a' is there twice",
        ),
    ],
)
def test_what_is_no_database_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    source = tmp_path / "text"
    source.write_text(text)
    done = run("--dir", str(tmp_path), str(source))
    assert done.returncode == 1
    assert done.stderr.startswith(f"clufs import-ase: {source}: {sentence}")
    assert list(tmp_path.iterdir()) == [source]


def test_nothing_is_written_over_unless_told_to(tmp_path: Path) -> None:
    imported(tmp_path, NETSCAPE)
    script = tmp_path / "out" / "netscape.scr"
    script.write_text("mine")
    words = ["--dir", str(tmp_path / "out"), str(tmp_path / "asecdb.txt")]
    done = run(*words)
    assert done.returncode == 1
    assert "netscape.cap is there already; --force writes over it" in done.stderr
    assert script.read_text() == "mine"
    assert run(*words, "--force").returncode == 0
    assert script.read_text() != "mine"
