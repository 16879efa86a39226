"""The templates of a new cluster: they validate, and their action script starts, checks and stops."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clufs.caa.attributes import ATTRIBUTES, ResourceType
from clufs.caa.definitions import parse_definitions
from clufs.caa.templates import BUILT_IN, SCRIPT, defaults, judge, script_for, template_name
from clufs.errors import ProfileRefused


def test_the_files_are_those_of_the_contract() -> None:
    types = {f"TYPE_{kind}.cap" for kind in ("application", "network", "tape", "changer")}
    assert BUILT_IN.keys() == {*types, "TYPE_generic.cap", "application.tdf", "template.scr"}
    for file, text in BUILT_IN.items():
        assert text.endswith(b"\n")
        judge(file, text)


def test_what_they_say_is_what_the_tables_say() -> None:
    for kind in ResourceType:
        given = {**defaults(kind, BUILT_IN)}
        assert given.pop("TYPE") == kind
        assert given == {name: ATTRIBUTES[name].default for name in given}
        assert {"FAILURE_THRESHOLD", "FAILURE_INTERVAL"} <= given.keys()


def test_no_attribute_is_defined_at_first_but_the_example_is_one() -> None:
    text = BUILT_IN["application.tdf"]
    assert parse_definitions(text) == {}
    example = b"".join(
        line.removeprefix(b"# ") for line in text.splitlines(True) if b": " in line[:13]
    )
    assert parse_definitions(example).keys() == {"USR_DEBUG"}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("TYPE_tape.cap", b"DEVICE_NAME=tape1\n", "line 1: DEVICE_NAME: tape1: allowed: the full"),
        ("TYPE_tape.cap", b"SUBNET=1.2.3.0\n", "line 1: SUBNET: is not an attribute of this"),
        ("TYPE_tape.cap", b"TYPE=changer\n", "line 1: TYPE: changer: allowed: tape"),
        ("TYPE_generic.cap", b"\nAUTO_START=x\n", "line 2: AUTO_START: x: allowed: 0 or 1"),
        ("application.tdf", b"type: x\n", "line 1: type: stands before any attribute:"),
    ],
)
def test_a_template_that_will_not_do_is_refused(file: str, text: bytes, said: str) -> None:
    with pytest.raises(ProfileRefused) as refused:
        judge(file, text)
    assert str(refused.value).startswith(f"templates/{file} {said}")


def test_other_files_are_not_judged() -> None:
    for file in ("TYPE_application.cap~", "template.scr", "notes"):
        judge(file, b"\0 anything")


def test_a_type_has_one_template() -> None:
    assert template_name(ResourceType.CHANGER) == "TYPE_changer.cap"


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Script:
    """template.scr for a program, as `caa_profile -B` would make it, with its pid file in `directory`."""

    def __init__(self, directory: Path, program: Path) -> None:
        text = script_for(BUILT_IN[SCRIPT], str(program))
        self.path = directory / "app.scr"
        self.path.write_bytes(text.replace(b"/run/caa.", f"{directory}/".encode()))
        self.path.chmod(0o755)
        self.pid_file = directory / "app.pid"

    def run(self, *entry: str, timeout_s: int = 10) -> int:
        environment = {**os.environ, "_CAA_NAME": "app", "_CAA_SCRIPT_TIMEOUT": "4"}
        done = subprocess.run(
            [self.path, *entry], env=environment, capture_output=True, text=True, timeout=timeout_s
        )
        self.output = done.stdout + done.stderr
        return done.returncode

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text().split()[0])


def program(directory: Path, text: str) -> Path:
    path = directory / "it's a program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path, program(tmp_path, "exec sleep 600"))
    yield script
    script.run("stop")


def test_start_check_stop(sleeper: Script) -> None:
    assert sleeper.run("check") == 2
    assert sleeper.run("stop") == 0
    assert sleeper.run("start") == 0
    assert sleeper.run("check") == 0
    first = sleeper.pid
    assert sleeper.run("start") == 0
    assert sleeper.pid == first
    assert sleeper.run("stop") == 0
    assert not runs(first)
    assert sleeper.run("check") == 2
    assert sleeper.output == "app: {} is not running\n".format(
        sleeper.path.parent / "it's a program"
    )


def test_a_pid_that_belongs_to_another_is_not_ended(sleeper: Script) -> None:
    assert sleeper.run("start") == 0
    own = f"{sleeper.pid} "
    began = sleeper.pid_file.read_text().removeprefix(own)
    sleeper.pid_file.write_text(f"{os.getpid()} {began}")
    assert sleeper.run("check") == 2
    assert sleeper.run("stop") == 0
    sleeper.pid_file.write_text(f"{own}{began}")
    assert sleeper.run("check") == 0


def test_one_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    script = Script(tmp_path, program(tmp_path, "trap '' TERM; while :; do sleep 0.1; done"))
    assert script.run("start") == 0
    assert script.run("stop", timeout_s=20) == 0
    assert script.run("check") == 2


def test_one_that_ends_at_once_did_not_start(tmp_path: Path) -> None:
    script = Script(tmp_path, program(tmp_path, "exit 3"))
    assert script.run("start") == 1
    assert script.output.endswith("ended at once\n")
    assert script.run("check") == 2


def test_one_that_is_not_there_did_not_start(tmp_path: Path) -> None:
    script = Script(tmp_path, tmp_path / "absent")
    assert script.run("start") == 1
    assert "there is no program" in script.output


class Daemon(Script):
    """A script whose program goes into the background by itself. background: how, by sh."""

    def __init__(self, directory: Path, background: str = '(setsid "$PROGRAM" 600 &)') -> None:
        self.program = directory / "daemon"
        if not self.program.exists():
            self.program.write_bytes(Path("/bin/sleep").read_bytes())
        self.program.chmod(0o755)
        super().__init__(directory, self.program)
        self.path.write_text(self.path.read_text().replace('"$PROGRAM" <', f"{background} <"))


def test_one_that_goes_into_the_background_is_found_again(tmp_path: Path) -> None:
    script = Daemon(tmp_path)
    own = script.program
    assert script.run("start") == 0
    assert script.run("check") == 0
    assert os.readlink(f"/proc/{script.pid}/exe") == str(own)
    assert script.run("stop") == 0
    assert script.run("check") == 2


@pytest.fixture
def not_ours(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """Starts a process of the program of a Daemon that CAA has nothing to do with."""
    others = []

    def start() -> "subprocess.Popen[bytes]":
        others.append(subprocess.Popen([tmp_path / "daemon", "600"]))
        return others[-1]

    yield start
    for other in others:
        other.kill()
        other.wait()


def test_an_older_process_of_the_program_is_somebody_elses(
    tmp_path: Path, not_ours: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    script = Daemon(tmp_path)
    other = not_ours()
    time.sleep(0.05)  # clock ticks are 10 ms
    assert script.run("start") == 0
    assert script.pid != other.pid
    assert script.run("stop") == 0
    assert other.poll() is None
    gone = Daemon(tmp_path, "true")
    assert gone.run("start") == 1
    assert gone.output.endswith("ended at once\n")
    assert other.poll() is None


def test_a_process_in_another_control_group_is_somebody_elses(
    tmp_path: Path, not_ours: Callable[[], "subprocess.Popen[bytes]"]
) -> None:
    """/proc of the test's own making tells the groups, as one test cannot rely on being allowed to make any."""
    script = Daemon(tmp_path)
    text = script.path.read_text()
    assert '"/proc/$1/cgroup"' in text
    script.path.write_text(text.replace('"/proc/$1/cgroup"', f'"{tmp_path}/$1.cgroup"'))
    mine, below, elsewhere = (tmp_path / f"{name}.cgroup" for name in ("self", "below", "else"))
    mine.write_text("1:cpu:/\n0::/caa/app\n")
    elsewhere.write_text("0::/caa/app2\n")
    below.write_text("0::/caa/app/below\n")
    text = script.path.read_text()
    for other, found in ((elsewhere, 1), (below, 0), (mine, 0)):
        script.path.write_text(
            text.replace(
                '(setsid "$PROGRAM" 600 &)',
                f'(setsid "$PROGRAM" 600 & cp {other} {tmp_path}/$!.cgroup; echo $! > {tmp_path}/pid)',
            )
        )
        assert script.run("start") == found, script.output
        assert script.run("stop") == 0
        if found:
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_another_entry_is_refused(sleeper: Script) -> None:
    assert sleeper.run() == 2
    assert sleeper.run("restart") == 2
    assert sleeper.output.startswith("usage: ")


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_any_shell_reads_it(shell: str, tmp_path: Path) -> None:
    script = Script(tmp_path, program(tmp_path, "exec sleep 600"))
    text = script.path.read_bytes()
    script.path.write_bytes(text.replace(b"#!/bin/sh", f"#!/usr/bin/env -S {shell}".encode(), 1))
    began = time.monotonic()
    assert script.run("start") == 0, script.output
    assert script.run("check") == 0
    assert script.run("stop") == 0
    assert time.monotonic() - began < 10
