"""clufs doctor: each check says what is missing and the line that mends it."""

import dataclasses
import sys
from pathlib import Path

import pytest

from clufs.cli import clufs, doctor
from clufs.cli.doctor import Finding, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine in a directory, on which every check is content."""
    (tmp_path / "bin").mkdir()
    for program in ("bin/fusermount3", "mount.clufs"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    (tmp_path / "filesystems").write_text("nodev\tsysfs\n\text4\nnodev\tfuse\n")
    (tmp_path / "fuse.conf").write_text("# a comment\n user_allow_other\n")
    return Machine(
        uid=1000,
        dev_fuse=Path("/dev/null"),
        filesystems=tmp_path / "filesystems",
        fuse_conf=tmp_path / "fuse.conf",
        helpers=tmp_path,
        state=tmp_path / "not/yet/made",
        mount_point=tmp_path,
        search_path=str(tmp_path / "bin"),
    )


def test_nothing_is_missing(machine: Machine) -> None:
    assert [finding for finding in doctor.examine(machine) if not finding.ok] == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"python": (3, 10, 2)}, "MISSING Python 3.10.2: install Python 3.11 or later"),
        ({"dev_fuse": "absent"}, "absent: modprobe fuse, or mknod"),
        ({"dev_fuse": "."}, "(Is a directory): modprobe fuse"),
        ({"filesystems": "absent"}, "MISSING fuse in the kernel: modprobe fuse"),
        ({"filesystems": "fuse.conf"}, "MISSING fuse in the kernel: modprobe fuse"),
        ({"search_path": "/absent"}, "MISSING fusermount3: apt-get install fuse3"),
        ({"fuse_conf": "absent"}, "as root: echo user_allow_other >> "),
        ({"fuse_conf": "filesystems"}, "as root: echo user_allow_other >> "),
        ({"state": "fuse.conf"}, "as root: install -d -o $(id -un) "),
        ({"state": "fuse.conf/below"}, "as root: install -d -o $(id -un) "),
        ({"mount_point": "fuse.conf"}, "as root: install -d -o $(id -un) "),
        ({"mount_point": "fuse.conf/below"}, "as root: install -d -o $(id -un) "),
        ({"helpers": "/absent"}, "note /absent/mount.clufs: make install"),
    ],
)
def test_what_is_missing_is_named(
    machine: Machine, tmp_path: Path, change: dict[str, object], line: str
) -> None:
    moved = {
        name: tmp_path / value if isinstance(value, str) and name != "search_path" else value
        for name, value in change.items()
    }
    lacking = dataclasses.replace(machine, **moved)  # type: ignore[arg-type]
    missing = [finding for finding in doctor.examine(lacking) if not finding.ok]
    assert len(missing) == 1
    assert line in str(missing[0])
    assert missing[0].essential == ("helpers" not in change)


def test_root_needs_no_user_allow_other(machine: Machine) -> None:
    lacking = dataclasses.replace(machine, uid=0, fuse_conf=Path("/absent"))
    assert doctor.check_user_allow_other(lacking).ok


@pytest.mark.parametrize(
    ("module", "check"),
    [("pyfuse3", doctor.check_pyfuse3), ("clufs.fuse._lowlevel", doctor.check_lowlevel)],
)
def test_a_module_that_does_not_load(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, module: str, check: object
) -> None:
    assert callable(check)
    monkeypatch.setitem(sys.modules, module, None)
    finding = check(machine)
    assert not finding.ok
    assert module in finding.what
    assert "libfuse3-dev" in finding.mend


def test_a_finding_is_one_line() -> None:
    assert str(Finding(True, "fuse", "mend it")) == "ok fuse"
    assert str(Finding(False, "fuse", "mend it")) == "MISSING fuse: mend it"
    assert str(Finding(False, "fuse", "mend it", essential=False)) == "note fuse: mend it"


def test_the_program_prints_and_judges(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "Machine", lambda **_: machine)
    assert clufs.main(["doctor"]) == 0
    assert capsys.readouterr().out.count("ok ") == len(doctor.CHECKS)
    machine = dataclasses.replace(machine, helpers=Path("/absent"))
    assert clufs.main(["doctor"]) == 0
    assert "note " in capsys.readouterr().out
    machine = dataclasses.replace(machine, search_path="/absent")
    assert clufs.main(["doctor", "/clu"]) == 69
    assert "MISSING " in capsys.readouterr().out
