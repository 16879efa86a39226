"""caa_start, caa_stop, caa_relocate, caa_balance and caa_register: what they ask of `control`, and what they say."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clufs.cli.caa_program import Tree, control_line, word
from clufs.cli.caa_register import in_order
from clufs.tree.names import read_word
from tests.cli.caa_files import Clu

LOCALE = r"locale=C\040C\040C\040C\040C\040C"
# Manual 2.6, 2.7.
STARTED = [
    "Attempting to start 'clock' on member 'polishham'",
    "Start of 'clock' on member 'polishham' succeeded.",
]
NOT_RELOCATED = [
    "Attempting to stop 'clock' on member 'pepicelli'",
    "Stop of 'clock' on member 'pepicelli' succeeded.",
    "Attempting to start 'clock' on member 'provolone'",
    "Start of 'clock' on member 'provolone' failed.",
    "No more members to consider",
    "Attempting to restart 'clock' on member 'pepicelli'",
    "Could not relocate resource clock.",
]


@pytest.fixture
def clu(tmp_path: Path) -> Clu:
    clu = Clu(tmp_path)
    clu.add("clock")
    return clu


def test_what_control_answers_is_printed_and_its_exit_is_ours(clu: Clu) -> None:
    with clu.control("clock", *STARTED, "exit=0") as lines:
        said = clu.run("caa_start", "clock")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines() == STARTED
    assert lines == [f"start {LOCALE}"]
    with clu.control("clock", *NOT_RELOCATED, "exit=1"):
        said = clu.run("caa_relocate", "clock")
    assert (said.status, said.err) == (1, "")
    assert said.out.splitlines() == NOT_RELOCATED


def test_quiet_prints_nothing(clu: Clu) -> None:
    with clu.control("clock", *STARTED, "exit=3"):
        said = clu.run("caa_start", "-q", "clock")
    assert (said.status, said.out, said.err) == (3, "", "")


@pytest.mark.parametrize(
    ("program", "arguments", "line"),
    [
        ("caa_start", ["clock", "-c", "rye", "-f"], "start -c rye -f"),
        ("caa_start", ["USR_A=1", r"USR_B=a b\c", "clock"], r"start USR_A=1 USR_B=a\040b\134c"),
        ("caa_stop", ["-f", "clock"], "stop -f"),
        ("caa_stop", ["USR_DEBUG=1", "clock"], "stop USR_DEBUG=1"),
        ("caa_relocate", ["clock", "-c", "rye", "-f", "-n"], "relocate -c rye -f -n"),
        ("caa_relocate", ["USR_DEBUG=", "clock"], "relocate USR_DEBUG="),
        ("caa_start", ["clock", "-n"], "start -n"),
        ("caa_stop", ["-n", "-f", "clock"], "stop -f -n"),
        ("caa_balance", ["clock"], "balance"),
        ("caa_balance", ["-n", "clock"], "balance -n"),
    ],
)
def test_the_line_that_is_written(clu: Clu, program: str, arguments: list[str], line: str) -> None:
    with clu.control("clock", "exit=0") as lines:
        assert clu.run(program, *arguments).status == 0
    assert lines == [f"{line} {LOCALE}"]


def test_an_update_is_a_line_too(clu: Clu) -> None:
    with clu.control("clock", "exit=0") as lines:
        assert clu.run("caa_register", "-u", "clock").status == 0
    assert lines == ["update"]


def test_what_the_script_may_want_of_our_environment(clu: Clu) -> None:
    with clu.control("clock", "exit=0") as lines:
        clu.run("caa_start", "clock", _CAA_UI_FMT="vs", LANG="de_DE", LC_TIME="C.UTF-8")
        clu.run("caa_start", "clock", _CAA_UI_FMT="x", LC_ALL="fr_FR", LC_TIME="C.UTF-8")
    german, french = r"\040".join(["de_DE"] * 4), r"\040".join(["fr_FR"] * 6)
    assert lines == [
        rf"start output=vs locale={german}\040C.UTF-8\040de_DE",
        f"start locale={french}",
    ]


def test_a_word_is_read_as_it_was_meant() -> None:
    text = "USR_X=a b\\040\tä\x01"
    assert read_word(word(text).encode()) == text.encode()
    assert " " not in word(text)
    assert control_line("stop").startswith("stop locale=")


def test_one_failure_does_not_stop_the_others(clu: Clu) -> None:
    clu.add("dhcp")
    with clu.control("clock", "one", "exit=0"), clu.control("dhcp", "two", "exit=4"):
        said = clu.run("caa_start", "dhcp", "absent", "clock")
    assert (said.status, said.out) == (4, "two\none\n")
    assert said.err == "caa_start: Could not find resource 'absent': it is not registered\n"


def test_a_broken_answer_is_no_success(clu: Clu) -> None:
    with clu.control("clock"):
        said = clu.run("caa_start", "clock")
    assert said.status == 1
    assert said.err.startswith("caa_start: resource 'clock': ")


def test_a_copy_takes_no_orders_and_stays_as_it_is(clu: Clu) -> None:
    control = clu.path("resources/clock/control")
    control.write_text("")
    said = clu.run("caa_start", "clock")
    assert (said.status, said.out) == (1, "")
    assert said.err == f"caa_start: {control}: a copy of /clu takes no orders\n"
    assert control.read_text() == ""


def test_a_copy_has_no_control(clu: Clu) -> None:
    said = clu.run("caa_start", "clock")
    assert said.status == 1
    path = clu.path("resources/clock/control")
    assert said.err == f"caa_start: {path}: No such file or directory\n"


def some(clu: Clu) -> None:
    """b requires a, c requires b; a and b run on rye, c nowhere; d is stuck on swiss; n is no application."""
    online = {"target": "ONLINE", "state": "ONLINE on rye"}
    clu.add("b", **online, REQUIRED_RESOURCES="a")  # type: ignore[arg-type]
    clu.add("a", **online)  # type: ignore[arg-type]
    clu.add("c", REQUIRED_RESOURCES="b")
    clu.add("d", state="UNKNOWN on swiss")
    clu.add("n", "network", "ONLINE on rye", "ONLINE on rye", "0 on rye")


@pytest.mark.parametrize(
    ("program", "arguments", "asked"),
    [
        ("caa_start", ["-all"], "c clock d"),
        ("caa_stop", ["-all"], "d b a"),
        ("caa_stop", ["-c", "rye"], "b a"),
        ("caa_stop", ["-c", "swiss", "rye"], "d b a"),
        ("caa_relocate", ["-s", "rye", "-c", "swiss"], "a b"),
        ("caa_balance", ["-all"], "a b"),
        ("caa_balance", ["-s", "rye"], "a b"),
        ("caa_balance", ["-s", "swiss"], ""),
    ],
)
def test_whom_all_and_a_member_mean(
    clu: Clu, program: str, arguments: list[str], asked: str
) -> None:
    some(clu)
    said = clu.run(program, *arguments)
    # Without a control each says that it has none.
    order = [line.split("/resources/")[1].split("/")[0] for line in said.err.splitlines()]
    assert order == asked.split()


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("caa_start", []),
        ("caa_start", ["-all", "clock"]),
        ("caa_start", ["USR_A=1"]),
        ("caa_start", ["-all", "-c", "rye"]),
        ("caa_start", ["clock", "-z"]),
        ("caa_stop", []),
        ("caa_stop", ["-all", "-c", "rye"]),
        ("caa_stop", ["USR_A=1", "-all"]),
        ("caa_relocate", []),
        ("caa_relocate", ["clock", "-s", "rye"]),
        ("caa_balance", []),
        ("caa_balance", ["-all", "clock"]),
        ("caa_register", []),
        ("caa_unregister", ["-q"]),
    ],
)
def test_wrong_arguments(clu: Clu, program: str, arguments: list[str]) -> None:
    said = clu.run(program, *arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"{program}: ")
    assert f"\nusage: {program} " in said.err


@pytest.mark.parametrize(
    "program",
    "caa_profile caa_register caa_unregister caa_start caa_stop caa_relocate caa_balance caa_stat caa_report".split(),
)  # fmt: skip
def test_help(clu: Clu, program: str) -> None:
    said = clu.run(program, "--help")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"usage: {program} ")


def test_registering_makes_the_directory_and_unregistering_takes_it_away(clu: Clu) -> None:
    clu.path("resources/new.cap").write_text("NAME=new\n")
    assert clu.run("caa_register", "new").status == 0
    assert clu.path("resources/new").is_dir()
    said = clu.run("caa_register", "new", "absent", "clock")
    assert said.status == 1
    assert said.err == (
        "caa_register: resource 'new' is registered already\n"
        f"caa_register: resource 'absent' has no profile {clu.root}/resources/absent.cap\n"
        "caa_register: resource 'clock' is registered already\n"
    )
    (clu.path("resources/new") / "profile").touch()
    said = clu.run("caa_unregister", "new", "absent")
    assert said.status == 1
    assert said.err == (
        "caa_unregister: resource 'new': Directory not empty\n"
        "caa_unregister: Could not find resource 'absent': it is not registered\n"
    )


def test_what_others_require_is_registered_first(clu: Clu) -> None:
    needs = {"web": "db net", "db": "net", "net": "", "odd": "web"}
    for name, required in needs.items():
        text = f"NAME={name}\nREQUIRED_RESOURCES = {required}\n"
        clu.path(f"resources/{name}.cap").write_text(text)
    tree = Tree(clu.root)
    assert in_order(tree, ["web", "db", "absent", "net"]) == ["absent", "net", "db", "web"]
    assert in_order(tree, ["web", "net"]) == ["net", "web"]
    clu.path("resources/net.cap").write_bytes(b"REQUIRED_RESOURCES=web\n")
    assert sorted(in_order(tree, ["web", "db", "net"])) == ["db", "net", "web"]
    clu.path("resources/db.cap").write_bytes(b"\xff no profile\n")
    assert clu.run("caa_register", "odd", "web", "web").status == 0
    assert clu.path("resources/odd").is_dir()
    assert clu.path("resources/web").is_dir()


def test_the_daemons_sentence_is_ours_if_it_is_of_our_process(clu: Clu) -> None:
    """The reason stands in status/errors: time, pid, path, errno name, why."""
    (clu.path("resources/x.cap")).write_text("NAME=x\n")
    clu.path("resources").rename(clu.path("kept"))
    clu.path("resources").symlink_to("kept")
    script = f"""
import os, sys
from pathlib import Path
root = Path({str(clu.root)!r})
(root / "status/errors").write_text(
    f"2026-11-21T05:06:07.890Z {{os.getpid()}} resources/clock ENOTEMPTY an earlier one\\n"
    f"2026-11-21T05:06:07.890Z {{os.getpid()}} resources/clock ENOTEMPTY it is ONLINE on rye\\n"
    f"2026-11-21T05:06:07.890Z {{os.getpid()}} resources/clock EINVAL not this\\n"
    f"2026-11-21T05:06:07.890Z 1{{os.getpid()}} resources/clock ENOTEMPTY nor this\\n")
from clufs.cli.caa_unregister import main
sys.exit(main(["clock"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"CLU_ROOT": str(clu.root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "caa_unregister: resource 'clock': it is ONLINE on rye\n"


def test_ctrl_c_ends_the_wait(clu: Clu) -> None:
    with clu.control("clock", "Attempting to start 'clock' on member 'rye'") as lines:
        waiting = subprocess.Popen(
            [sys.executable, "-m", "clufs.cli.caa_start", "clock"],
            env={"CLU_ROOT": str(clu.root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 30
        while not lines and time.monotonic() < deadline:
            time.sleep(0.01)
        assert waiting.stdout
        assert waiting.stdout.readline() == "Attempting to start 'clock' on member 'rye'\n"
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=30) == ("", "")
        assert waiting.returncode == 130
