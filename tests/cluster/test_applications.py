"""Applications on a real lab: they run, move and come back, and never on two members at once.

The outside oracle: a running instance holds flock(2) on a file that is not clufs's, and the kernel lets go of it
when the last of its processes is gone; one that finds it held has found two instances.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import NAMES, Lab, within
from tests.cluster.torture.faults import make_whole

pytestmark = pytest.mark.timeout(180)

FIRST, SECOND, THIRD = NAMES
RESOURCES = "/clu/resources"
HELD = 75
SCRIPT = """#!/bin/sh
me=$(readlink /clu/members/self)
case $1 in
start)
    sleep {slow}
    (
        flock -n -E {held} {place}/running sh -c 'echo $$ > {place}/pid; exec sleep 100000'
        [ $? = {held} ] && echo "twice $me" >> {place}/log
    ) &
    echo "start $me" >> {place}/log
    ;;
stop)
    echo "stop $me" >> {place}/log
    kill $(cat {place}/pid) || :
    ;;
check)
    kill -0 $(cat {place}/pid)
    ;;
esac
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all stories; each gets it whole."""
    lab = Lab(tmp_path_factory.mktemp("applications") / "lab")
    lab.do("up")
    yield lab
    assert lab.run("down").returncode == 0


class Application:
    """A registered application with its oracle."""

    def __init__(self, lab: Lab, place: Path, name: str, slow: str = "0", **more: object) -> None:
        self.lab = lab
        self.name = name
        self.log = place / "log"
        self.log.touch()
        (place / f"{name}.scr").write_text(SCRIPT.format(place=place, slow=slow, held=HELD))
        lines = {"TYPE": "application", "NAME": name, "ACTION_SCRIPT": f"{name}.scr", **more}
        (place / f"{name}.cap").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        lab.sh(
            FIRST,
            f"cp {place}/{name}.scr /clu/scripts/ && chmod 755 /clu/scripts/{name}.scr"
            f" && cp {place}/{name}.cap {RESOURCES}/ && mkdir {RESOURCES}/{name}",
        )

    def says(self, file: str, member: str = THIRD) -> str:
        return self.lab.sh(member, f"cat {RESOURCES}/{self.name}/{file}").strip()

    def write(self, file: str, text: str, member: str = SECOND) -> None:
        self.lab.sh(member, f"echo {text} > {RESOURCES}/{self.name}/{file}")

    def runs_on(self, *members: str, at: str = THIRD, patience_s: float = 40) -> bool:
        """Whether it comes to run on one of these, as the member `at` sees it."""
        states = [f"ONLINE on {member}" for member in members]
        return within(patience_s, lambda: self.says("state", at) in states)

    @property
    def story(self) -> list[str]:
        """What the instances wrote."""
        return self.log.read_text().splitlines()

    def end(self) -> None:
        """Nobody ever found two of it; it goes."""
        self.lab.run("heal")
        assert make_whole(self.lab, lambda member: None) == ""
        assert not [line for line in self.story if line.startswith("twice")]
        self.write("target", "OFFLINE")
        files = f"{RESOURCES}/{self.name}.cap /clu/scripts/{self.name}.scr"
        self.lab.sh(THIRD, f"rmdir {RESOURCES}/{self.name} && rm {files}")


@pytest.fixture
def web(lab: Lab, tmp_path: Path) -> Iterator[Application]:
    made = Application(lab, tmp_path, "web")
    yield made
    made.end()


@pytest.fixture
def checked(lab: Lab, tmp_path: Path) -> Iterator[Application]:
    made = Application(lab, tmp_path, "checked", CHECK_INTERVAL=1)
    yield made
    made.end()


@pytest.fixture
def slow(lab: Lab, tmp_path: Path) -> Iterator[Application]:
    made = Application(lab, tmp_path, "slow", slow="6")
    yield made
    made.end()


def test_it_starts_relocates_and_stops(web: Application) -> None:
    web.write("target", "ONLINE")
    assert web.runs_on(*NAMES)
    here = web.says("host")
    there = next(name for name in NAMES if name != here)
    web.write("host", there)
    assert web.runs_on(there, at=FIRST)
    web.write("target", "OFFLINE")
    assert web.says("state") == "OFFLINE"
    assert web.story == [f"start {here}", f"stop {here}", f"start {there}", f"stop {there}"]


def test_a_killed_members_application_runs_elsewhere(lab: Lab, web: Application) -> None:
    web.write("control", f"start -c {FIRST}")
    assert web.runs_on(FIRST)
    lab.do("kill", FIRST)
    assert web.runs_on(SECOND, THIRD)
    assert web.story[0] == f"start {FIRST}" and len(web.story) == 2
    assert f"{FIRST} was lost" in web.says("history")


def test_a_killed_daemons_application_ends_before_another_begins(
    lab: Lab, web: Application
) -> None:
    web.write("control", f"start -c {SECOND}")
    assert web.runs_on(SECOND)
    lab.do("kill", SECOND, "--what", "clufsd")
    assert web.runs_on(FIRST, THIRD)


def test_a_failed_check_restarts_it(lab: Lab, checked: Application) -> None:
    checked.write("control", f"start -c {SECOND}")
    assert checked.runs_on(SECOND)
    pid = checked.log.with_name("pid").read_text()
    lab.sh(SECOND, f"kill {pid}")
    assert within(20, lambda: checked.story.count(f"start {SECOND}") == 2)
    assert checked.runs_on(SECOND)
    assert checked.says("restart_count") == "1"


def test_the_planner_is_killed_in_the_midst_of_a_start(lab: Lab, slow: Application) -> None:
    planner = _planner(lab)
    other = next(name for name in NAMES if name != planner)
    order = f"echo start -c {other} > {RESOURCES}/slow/control"
    asks = threading.Thread(target=lab.run, args=("exec", other, "--", "sh", "-c", order))
    asks.start()
    assert within(10, lambda: _held(lab, "slow", other))
    lab.do("kill", planner)
    assert slow.runs_on(other, at=other)
    asks.join()
    assert slow.story == [f"start {other}"]
    assert within(10, lambda: _planner(lab, other) not in ("", planner))


def test_who_loses_quorum_stops_at_once(lab: Lab, web: Application) -> None:
    web.write("control", f"start -c {THIRD}")
    assert web.runs_on(THIRD, at=FIRST)
    lab.do("cut", THIRD)
    assert web.runs_on(FIRST, SECOND, at=FIRST)


def test_who_is_left_without_quorum_ends_what_it_runs(lab: Lab, web: Application) -> None:
    web.write("control", f"start -c {THIRD}")
    assert web.runs_on(THIRD)
    lab.do("kill", FIRST)
    assert within(20, lambda: len(lab.sh(THIRD, "grep MEMBERS /clu/status/cluster").split()) == 2)
    lab.do("kill", SECOND)
    assert within(20, lambda: web.story == [f"start {THIRD}", f"stop {THIRD}"])
    pid = web.log.with_name("pid").read_text().strip()
    assert within(10, lambda: lab.run("exec", THIRD, "--", "kill", "-0", pid).returncode != 0)
    assert make_whole(lab, lambda member: None) == ""
    assert web.runs_on(*NAMES)


def test_who_leaves_in_good_order_gives_its_applications_away(lab: Lab, web: Application) -> None:
    web.write("control", f"start -c {SECOND}")
    assert web.runs_on(SECOND)
    lab.do("restart", SECOND, "--what", "clufsd")
    assert web.runs_on(FIRST, THIRD)
    assert web.story[:2] == [f"start {SECOND}", f"stop {SECOND}"]


def _planner(lab: Lab, at: str = THIRD) -> str:
    report = lab.sh(at, "cat /clu/status/locks/.caa/planner 2> /dev/null || :").splitlines()
    return next((line.split()[3] for line in report if line.startswith("GRANTED")), "")


def _held(lab: Lab, name: str, member: str) -> bool:
    report = lab.sh(member, f"cat /clu/status/locks/.caa/app/{name} 2> /dev/null || :")
    return f"GRANTED EX - {member}" in report
