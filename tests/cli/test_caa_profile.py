"""caa_profile: every command of the manual's chapter 2, and the files that they write, to the character."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.caa.test_profile import CLOCK, DTCALC, MCHANGER1, NETWORK1, OPENLDAP, TAPE1, TESTAPP
from tests.cli.caa_files import Clu, Said


@pytest.fixture
def clu(tmp_path: Path) -> Clu:
    return Clu(tmp_path)


def script(clu: Clu, name: str, mode: int = 0o755) -> Path:
    path = clu.path(f"scripts/{name}")
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def silent(clu: Clu, *arguments: str) -> None:
    said = clu.run("caa_profile", *arguments)
    assert (said.status, said.out, said.err) == (0, "", "")


def refused(clu: Clu, *arguments: str, status: int = 1) -> str:
    said: Said = clu.run("caa_profile", *arguments)
    assert (said.status, said.out) == (status, "")
    return said.err.replace(str(clu.root), "/clu")


def text(clu: Clu, name: str) -> str:
    return clu.path(f"resources/{name}.cap").read_text()


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # 2.2.2; its REBALANCE is where 2.8 has it.
        (
            "clock",
            ["-t", "application", "-B", "/usr/bin/X11/xclock", "-d", "Clock Application",
             "-r", "network1", "-l", "application2", "-a", "clock.scr",
             "-o", "ci=5,ft=2,fi=12,ra=2,bt=*:12:00"],
            CLOCK,
        ),
        ("network1", ["-t", "network", "-s", "16.69.244.0", "-d", "Network1"], NETWORK1),
        ("tape1", ["-t", "tape", "-n", "/dev/tape/tape1", "-d", "Tape Drive"], TAPE1),
        (
            "mchanger1",
            ["-t", "changer", "-n", "/dev/changer/mc1", "-d", "Media Changer Drive"],
            MCHANGER1,
        ),
        ("testapp", ["-t", "application", "-B", "/usr/bin/true", "-o", "bt=*:2:30"], TESTAPP),
        (
            "dtcalc",
            ["-t", "application", "-B", "/usr/dt/bin/dtcalc", "-d", "dtcalc application",
             "-p", "balanced"],
            DTCALC,
        ),
    ],
)  # fmt: skip
def test_the_manuals_profiles(clu: Clu, name: str, arguments: list[str], expected: str) -> None:
    silent(clu, "-create", name, *arguments)
    assert text(clu, name) == expected
    if "-B" in arguments:
        path = clu.path(f"scripts/{name}.scr")
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
        assert f"PROGRAM='{arguments[arguments.index('-B') + 1]}'\n" in path.read_text()
    if "network1" not in arguments:
        silent(clu, "-validate", name)


def test_the_manuals_examples_of_2_14(clu: Clu) -> None:
    silent(clu, "-create", "httpd", "-t", "application", "-B", "/usr/local/apache/bin/httpd")
    assert text(clu, "httpd") == DTCALC.replace("dtcalc application", "httpd").replace(
        "dtcalc", "httpd"
    )
    script(clu, "oracle.scr")
    arguments = [
        "-p",
        "restricted",
        "-h",
        "member1 member2",
        "-d",
        "ORACLE Single-Instance Service",
    ]
    silent(clu, "-create", "oracle", "-t", "application", *arguments)
    for line in ("PLACEMENT=restricted", "HOSTING_MEMBERS=member1 member2"):
        assert f"{line}\n" in text(clu, "oracle")
    clu.path("resources/openldap.cap").write_text(OPENLDAP)
    silent(clu, "-validate", "openldap")


def test_without_B_the_script_has_to_be_there(clu: Clu) -> None:
    create = ["-create", "up-app-1", "-t", "application"]
    assert refused(clu, *create) == (
        "caa_profile: there is no action script /clu/scripts/up-app-1.scr; -B PROGRAM makes one\n"
    )
    path = script(clu, "up-app-1.scr", 0o644)
    assert refused(clu, *create) == (
        "caa_profile: the action script /clu/scripts/up-app-1.scr is not executable\n"
    )
    assert not clu.path("resources/up-app-1.cap").exists()
    path.chmod(0o755)
    silent(clu, *create)
    assert "ACTION_SCRIPT=up-app-1.scr\n" in text(clu, "up-app-1")
    elsewhere = clu.path("app.scr")
    elsewhere.write_text("#!/bin/sh\n")
    elsewhere.chmod(0o755)
    silent(clu, "-create", "b", "-t", "application", "-a", str(elsewhere))
    assert f"ACTION_SCRIPT={elsewhere}\n" in text(clu, "b")
    silent(clu, "-create", "c", "-t", "application", "-a", "systemd:nginx.service")


def test_the_script_that_B_makes_runs(clu: Clu) -> None:
    silent(clu, "-create", "true", "-t", "application", "-B", "/no/such/program")
    done = subprocess.run(
        [clu.path("scripts/true.scr"), "start"], capture_output=True, text=True, env={}
    )
    assert done.returncode == 1
    assert done.stdout.startswith("program: there is no program /no/such/program on ")


def test_a_profile_that_is_there_is_kept_unless_forced(clu: Clu) -> None:
    create = ["-create", "t", "-t", "tape", "-n", "/dev/a"]
    silent(clu, *create)
    assert refused(clu, *create[:-1], "/dev/b") == (
        "caa_profile: /clu/resources/t.cap is there already; -f writes over it\n"
    )
    assert refused(clu, *create, "-q") == ""
    silent(clu, *create[:-1], "/dev/b", "-f")
    assert "DEVICE_NAME=/dev/b\n" in text(clu, "t")
    script(clu, "a.scr")
    application = ["-create", "a", "-t", "application", "-B", "/bin/x"]
    assert "scripts/a.scr is there already; -f" in refused(clu, *application)
    assert not clu.path("resources/a.cap").exists()
    silent(clu, *application, "-f")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-t", "network", "-s", "lan"], "r.cap line 6: SUBNET: lan: allowed: an address like"),
        (["-t", "tape"], "r.cap line 4: DEVICE_NAME: is missing; allowed: the full path"),
        (["-t", "application", "-a", "x", "-p", "best"],
         "r.cap line 13: PLACEMENT: best: allowed: balanced, favored or restricted"),
        (["-t", "application", "-a", "x", "-h", "m"], "HOSTING_MEMBERS: m: must be empty"),
        (["-t", "application", "-a", "x", "-o", "bt=8:0:0"], "REBALANCE: t:8:0:0: allowed: t:day"),
        (["-t", "application", "-a", "x", "-o", "ft=21"], "FAILURE_THRESHOLD: 21: allowed: 0 to 20"),
    ],
)  # fmt: skip
def test_what_does_not_validate_is_not_written(clu: Clu, arguments: list[str], said: str) -> None:
    script(clu, "x")
    err = refused(clu, "-create", "r", *arguments)
    assert err.startswith("caa_profile: r.cap line ")
    assert said in err
    assert not clu.path("resources/r.cap").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-create"],
        ["-create", "r"],
        ["-create", "r", "-t", "disk"],
        ["-create", "r", "-t", "tape", "-s", "1.2.3.0"],
        ["-create", "r", "-t", "network", "-s", "1.2.3.0", "-B", "/bin/x"],
        ["-create", "r", "-t", "application", "-o", "xx=1"],
        ["-create", "r", "-t", "application", "-o", "ci"],
        ["-create", "r", "-I", "x", "-d", "y"],
        ["-update", "r", "-validate", "r"],
        ["-template"],
        ["-template", "r", "-t", "tape"],
        ["-delete", "r", "s"],
    ],
)
def test_wrong_arguments(clu: Clu, arguments: list[str]) -> None:
    err = refused(clu, *arguments, status=2)
    assert err.startswith("caa_profile: ")
    assert "\nusage: caa_profile -create RESOURCE -t application" in err


@pytest.mark.parametrize("name", [".r", "a b", "a/b", "x.cap"])
def test_a_name_that_none_may_have(clu: Clu, name: str) -> None:
    err = refused(clu, "-create", name, "-t", "tape", "-n", "/dev/a")
    assert f"'{name}' is no name of a resource; allowed: letters, digits" in err


def test_validate_prints_what_registering_would_say(clu: Clu) -> None:
    clu.path("resources/clock.cap").write_text(
        CLOCK.replace("=2\n", "=99\n").replace("NAME=clock", "NAME=watch")
    )
    assert refused(clu, "-validate", "clock").splitlines() == [
        "caa_profile: clock.cap line 1: NAME: watch: allowed: clock, as the file is called",
        "caa_profile: clock.cap line 10: FAILURE_THRESHOLD: 99: allowed: 0 to 20",
        "caa_profile: clock.cap line 15: REQUIRED_RESOURCES: network1:"
        " only resources that are registered already are allowed",
    ]
    assert refused(clu, "-validate", "absent") == (
        "caa_profile: resource 'absent' has no profile /clu/resources/absent.cap\n"
    )


def test_validate_judges_a_newer_text_that_was_refused(clu: Clu) -> None:
    clu.path("resources/tape1.cap").write_text(TAPE1)
    silent(clu, "-validate", "tape1")
    clu.path("resources/tape1.cap.refused").write_text(TAPE1.replace("/dev/tape/tape1", "tape1"))
    assert "DEVICE_NAME: tape1: allowed" in refused(clu, "-validate", "tape1")
    clu.path("resources/tape1.cap").unlink()
    assert "DEVICE_NAME: tape1: allowed" in refused(clu, "-validate", "tape1")


def test_validate_finds_a_circle(clu: Clu) -> None:
    clu.add("a")
    clu.add("b", REQUIRED_RESOURCES="a")
    clu.path("resources/a.cap").write_text(
        "NAME=a\nTYPE=application\nACTION_SCRIPT=a.scr\nREQUIRED_RESOURCES=b\n"
    )
    assert refused(clu, "-validate", "a") == (
        "caa_profile: a.cap: REQUIRED_RESOURCES: it would require itself: a > b > a\n"
    )


def test_update_changes_what_is_asked_and_nothing_else(clu: Clu) -> None:
    before = (
        "# ours\n\nTYPE = application\nNAME=r\nACTION_SCRIPT=r.scr\n# hosts\n"
        "REQUIRED_RESOURCES= \\\n  a \\\n  b\nPLACEMENT=balanced\n"
    )
    clu.path("resources/r.cap").write_text(before)
    silent(clu, "-update", "r", "-d", "new", "-r", "c d", "-p", "favored", "-h", "m", "-o", "ci=9")
    assert text(clu, "r") == (
        "# ours\n\nTYPE = application\nNAME=r\nACTION_SCRIPT=r.scr\n# hosts\n"
        "CHECK_INTERVAL=9\nDESCRIPTION=new\nHOSTING_MEMBERS=m\n"
        "REQUIRED_RESOURCES=c d\nPLACEMENT=favored\n"
    )
    kept = text(clu, "r")
    assert "PLACEMENT: x: allowed" in refused(clu, "-update", "r", "-p", "x")
    assert text(clu, "r") == kept
    wrong = refused(clu, "-update", "r", "-s", "1.2.3.0", status=2)
    assert wrong.startswith("caa_profile: type application has no SUBNET\nusage: ")


def test_print(clu: Clu) -> None:
    clu.path("resources/tape1.cap").write_text(f"# a comment\n{TAPE1}")
    clu.path("resources/network1.cap").write_text(NETWORK1)
    clu.path("resources/network1.cap~").write_text("rest of an editor")
    assert clu.run("caa_profile", "-print").out == f"{NETWORK1}\n{TAPE1}"
    assert clu.run("caa_profile", "-print", "tape1").out == TAPE1
    said = clu.run("caa_profile", "-print", "x", "tape1")
    assert (said.status, said.out) == (1, TAPE1)
    assert said.err.startswith("caa_profile: resource 'x' has no profile ")


def test_delete_takes_the_script_too(clu: Clu) -> None:
    create = ["-t", "application", "-B", "/bin/x", "-create"]
    silent(clu, *create, "a")
    silent(clu, *create, "b")
    silent(clu, "-create", "c", "-t", "application", "-a", "b.scr")
    silent(clu, "-delete", "a")
    silent(clu, "-delete", "b")
    assert sorted(os.listdir(clu.path("resources"))) == ["c.cap"]
    # Another resource still has it.
    assert os.listdir(clu.path("scripts")) == ["b.scr"]
    silent(clu, "-delete", "c")
    assert os.listdir(clu.path("scripts")) == []
    clu.add("running")
    assert refused(clu, "-delete", "running") == (
        "caa_profile: resource 'running' is registered; caa_unregister it first\n"
    )


def test_templates(clu: Clu) -> None:
    clu.path("templates/TYPE_tape.cap").write_text(
        "TYPE=tape\nDESCRIPTION=\nDEVICE_NAME=/dev/tape/tape0\nFAILURE_INTERVAL=0\nFAILURE_THRESHOLD=4\n"
    )
    silent(clu, "-template", "-t", "tape")
    assert clu.path("template.cap").read_text() == (
        "NAME=\nTYPE=tape\nDESCRIPTION=\nDEVICE_NAME=/dev/tape/tape0\n"
        "FAILURE_INTERVAL=0\nFAILURE_THRESHOLD=4\n"
    )
    silent(clu, "-create", "t", "-I", "template.cap")
    assert text(clu, "t") == (
        "NAME=t\nTYPE=tape\nDESCRIPTION=t\nDEVICE_NAME=/dev/tape/tape0\n"
        "FAILURE_INTERVAL=0\nFAILURE_THRESHOLD=4\n"
    )
    silent(clu, "-create", "other", "-t", "tape", "-o", "fi=7")
    assert "FAILURE_INTERVAL=7\nFAILURE_THRESHOLD=4\n" in text(clu, "other")
    silent(clu, "-template", "other", "-O", "mine.cap")
    silent(clu, "-create", "third", "-I", "mine.cap")
    assert text(clu, "third") == text(clu, "other").replace("NAME=other", "NAME=third")


def test_attributes_of_the_site_have_switches(clu: Clu) -> None:
    clu.path("templates/application.tdf").write_text(
        "attribute: USR_DEBUG\ntype: boolean\nswitch: -o d\ndefault: 0\nrequired: no\n"
        "attribute: USR_MAIL\ntype: string\nswitch: -mail\ndefault:\nrequired: yes\n"
    )
    create = ["-create", "r", "-t", "application", "-B", "/bin/x"]
    assert "USR_MAIL: is missing; allowed: any text" in refused(clu, *create)
    assert "USR_DEBUG: 2: allowed: 0 or 1" in refused(clu, *create, "-o", "d=2", "-mail", "x")
    silent(clu, *create, "-o", "d=1,ci=3", "-mail", "root at home")
    assert text(clu, "r").endswith("SCRIPT_TIMEOUT=60\nUSR_DEBUG=1\nUSR_MAIL=root at home\n")
    assert "CHECK_INTERVAL=3\n" in text(clu, "r")
    silent(clu, "-validate", "r")
    clu.path("templates/application.tdf").write_text("type: x\n")
    assert refused(clu, "-validate", "r") == (
        "caa_profile: templates/application.tdf line 1: type: stands before any attribute:\n"
    )
