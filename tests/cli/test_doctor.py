"""clufs doctor: each check says what is missing and the line that mends it."""

import dataclasses
import sys
from pathlib import Path

import pytest

from clufs import config
from clufs.cli import clufs, doctor
from clufs.cli.doctor import Finding, Machine
from clufs.cluster import corosync_config, libcorosync
from clufs.cluster.authority import make_keys
from clufs.cluster.interface import Peer
from clufs.errors import ConfigError, MissingPart


def config_file(directory: Path, text: str, state: str = "not/yet/made") -> Path:
    path = directory / "clufs.toml"
    path.write_text(f"[daemon]\nstate = '{directory / state}'\n{text}")
    return path


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
        config_file=config_file(tmp_path, ""),
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
        ({"config_file": "fuse.conf"}, "fuse.conf: not TOML: "),
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


@pytest.mark.parametrize("state", ["fuse.conf", "fuse.conf/below"])
def test_the_configured_state_is_looked_at(machine: Machine, tmp_path: Path, state: str) -> None:
    config_file(tmp_path, "", state)
    (missing,) = [finding for finding in doctor.examine(machine) if not finding.ok]
    assert str(missing).endswith(
        f"as root: install -d -o $(id -un) {tmp_path / state} (or clufsd --state DIR)"
    )


def test_without_a_configuration(machine: Machine) -> None:
    absent = dataclasses.replace(machine, config_file=Path("/absent/clufs.toml"))
    assert doctor.check_config(absent).ok
    assert doctor.configured(absent) == config.Config()


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
    monkeypatch.setattr(doctor, "Machine", lambda: machine)
    assert clufs.main(["doctor"]) == 0
    assert capsys.readouterr().out.count("ok ") == len(doctor.CHECKS)
    machine = dataclasses.replace(machine, helpers=Path("/absent"))
    assert clufs.main(["doctor"]) == 0
    assert "note " in capsys.readouterr().out
    machine = dataclasses.replace(machine, search_path="/absent")
    assert clufs.main(["doctor", "/clu"]) == 69
    assert "MISSING " in capsys.readouterr().out


# ------------------------------------------------------------------ with corosync


@pytest.fixture
def cluster(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine as a member, provolone, of a cluster that has all it needs."""
    for program in ("bin/corosync", "bin/off"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    make_keys(tmp_path / "keys", ["provolone", "stilton"])
    peers = tuple(Peer(n, name, f"10.0.0.{n}", 1) for n, name in ((1, "provolone"), (2, "brie")))
    found = corosync_config.Configuration("deli", peers), corosync_config.Votes(0, 2)
    monkeypatch.setattr(corosync_config, "read", lambda: found)
    monkeypatch.setattr(libcorosync, "library", lambda name: name)
    configure(tmp_path)
    return machine


def configure(directory: Path, keys: str = "keys/provolone", agents: str = '["off"]') -> None:
    engine = f"[engine]\nkind = 'corosync'\nkeys = '{directory / keys}'\n"
    config_file(directory, f"{engine}[fencing]\nagents = [{{command = {agents}}}]\n")


def lacks(machine: Machine) -> list[str]:
    return [str(finding) for finding in doctor.examine(machine) if not finding.ok]


def test_a_member_of_a_cluster_lacks_nothing(cluster: Machine, tmp_path: Path) -> None:
    found = [str(finding) for finding in doctor.examine(cluster)]
    assert found[len(doctor.CHECKS) :] == [
        f"ok {tmp_path}/bin/corosync",
        "ok corosync's client libraries",
        "ok cluster deli: provolone brie",
        f"ok keys of provolone in {tmp_path}/keys/provolone",
        f"ok fencing agent {tmp_path}/bin/off",
    ]


@pytest.mark.parametrize(
    ("lost", "line"),
    [
        ("bin/corosync", "MISSING corosync: apt-get install corosync"),
        ("bin/off", "MISSING fencing agent off: install it, or correct [fencing] in "),
        ("keys/provolone/member.pem", "member.pem: cannot be read: No such file or directory): "),
        ("keys/provolone/ca.pem", "ca.pem: cannot be read: No such file or directory): clufs key"),
    ],
)
def test_what_a_cluster_lacks_is_named(
    cluster: Machine, tmp_path: Path, lost: str, line: str
) -> None:
    (tmp_path / lost).unlink()
    (missing,) = lacks(cluster)
    assert line in missing


def test_the_keys_of_another_are_refused(cluster: Machine, tmp_path: Path) -> None:
    configure(tmp_path, keys="keys/stilton")
    (missing,) = lacks(cluster)
    assert f"({tmp_path}/keys/stilton/member.pem is stilton's): clufs keygen" in missing


def test_votes_of_a_disk_without_luns_are_refused(
    cluster: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = corosync_config.read()
    monkeypatch.setattr(corosync_config, "read", lambda: (found, corosync_config.Votes(0, 3, 1)))
    (missing,) = lacks(cluster)
    assert "no LUN of role `clufs` for the quorum disk" in missing


def test_a_quorum_disk_is_shown_and_its_long_wait_a_note(
    cluster: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = corosync_config.read()
    votes = corosync_config.Votes(0, 3, 1)
    with open(tmp_path / "clufs.toml", "a") as file:
        file.write("[[luns]]\nurl = '/absent'\nrole = 'clufs'\n")
    monkeypatch.setattr(corosync_config, "read", lambda: (found, votes))
    lines = [str(finding) for finding in doctor.examine(cluster)]
    assert "ok quorum disk with 1 of 3 votes" in lines
    (note,) = [line for line in lines if line.startswith("note a short wait")]
    assert note.endswith("(30 s): corosync.conf(5): quorum: device: sync_timeout: 2000")
    quick = dataclasses.replace(found, device_sync_s=2.0)
    monkeypatch.setattr(corosync_config, "read", lambda: (quick, votes))
    assert not [line for line in lacks(cluster) if line.startswith("note")]


def test_no_agent_is_a_note(cluster: Machine, tmp_path: Path) -> None:
    config_file(tmp_path, f"[engine]\nkind = 'corosync'\nkeys = '{tmp_path}/keys/provolone'\n")
    (note,) = lacks(cluster)
    assert note.startswith("note a fencing agent: ")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            MissingPart("it is off"),
            "MISSING corosync running (it is off): systemctl start corosync",
        ),
        (ConfigError("two_node"), "MISSING a usable cluster (two_node): correct corosync.conf(5)"),
    ],
)
def test_a_corosync_that_does_not_serve(
    cluster: Machine, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def read() -> None:
        raise error

    monkeypatch.setattr(corosync_config, "read", read)
    assert lacks(cluster) == [line]


def test_a_library_that_does_not_load(cluster: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def votequorum() -> None:
        raise MissingPart("libvotequorum.so.8 is missing")

    monkeypatch.setattr(libcorosync, "votequorum", votequorum)
    (missing,) = lacks(cluster)
    assert "(libvotequorum.so.8 is missing): apt-get install corosync" in missing
