"""Applications on a real lab: they run, move and come back, and never on two members at once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clufs.actions import cgroup
from clufs.actions.record import Record
from tests.cluster.applications import RESOURCES, Application
from tests.cluster.lab import NAMES, Lab, within
from tests.cluster.torture.faults import make_whole

pytestmark = pytest.mark.timeout(180)

FIRST, SECOND, THIRD = NAMES


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all stories; each gets it whole."""
    lab = Lab(tmp_path_factory.mktemp("applications") / "lab")
    lab.do("up")
    yield lab
    # Of one that is killed nobody in it is left to remove its control groups.
    lab.run("kill", THIRD)
    groups = [Record(state).cgroup() for state in lab.directory.glob("*/state")]
    assert len(groups) == len(NAMES)
    assert all((group is None) == (cgroup.own_place() is None) for group in groups)
    assert lab.run("down").returncode == 0
    assert not [group for group in groups if group is not None and group.exists()]


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


def test_a_drained_member_runs_nothing_until_that_is_ended(lab: Lab, web: Application) -> None:
    web.write("control", f"start -c {SECOND}")
    assert web.runs_on(SECOND)
    plan = lab.sh(FIRST, f"clufs drain {SECOND} -n")
    lost = lab.sh(FIRST, f"clufs what-if lost {SECOND}")
    would = f"Would start 'web' on member '{FIRST}': member {SECOND} "
    assert plan.splitlines()[0].startswith(f"Would stop 'web' on member '{SECOND}'")
    assert f"{would}is drained; {FIRST} was chosen: " in plan
    assert lost.startswith(f"{would}was lost; {FIRST} was chosen: ")
    assert web.runs_on(SECOND) and web.story == [f"start {SECOND}"]

    said = lab.sh(THIRD, f"clufs drain {SECOND}").splitlines()
    assert said[-1] == f"Start of 'web' on member '{FIRST}' succeeded."
    assert web.runs_on(FIRST)
    assert f"{SECOND} not-eligible - it is drained" in web.says("candidates").splitlines()
    lab.do("restart", SECOND, "--what", "clufsd")
    assert lab.sh(SECOND, "cat /clu/members/self/drain") == "1\n"
    assert lab.run("exec", THIRD, "--", "caa_relocate", "-q", "web", "-c", SECOND).returncode == 1
    lab.sh(FIRST, f"clufs drain {SECOND} --off")
    lab.sh(THIRD, f"caa_relocate -q web -c {SECOND}")
    assert web.runs_on(SECOND)
    assert lab.sh(FIRST, "caa_stop -n web").startswith(f"Would stop 'web' on member '{SECOND}'")
    assert lab.sh(FIRST, "caa_start -n web").startswith("Resource 'web' is already running")
    assert web.runs_on(SECOND)


def _planner(lab: Lab, at: str = THIRD) -> str:
    report = lab.sh(at, "cat /clu/status/locks/.caa/planner 2> /dev/null || :").splitlines()
    return next((line.split()[3] for line in report if line.startswith("GRANTED")), "")


def _held(lab: Lab, name: str, member: str) -> bool:
    report = lab.sh(member, f"cat /clu/status/locks/.caa/app/{name} 2> /dev/null || :")
    return f"GRANTED EX - {member}" in report
