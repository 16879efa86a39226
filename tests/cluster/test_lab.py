"""The lab and the corosync engine on it: three real members in namespaces."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(100)

# Reports what its engine tells, one JSON list a line; each line it reads is multicast.
ENGINE = """
import json, sys, trio
from dataclasses import astuple
from clufs.cluster.corosync import CorosyncEngine

engine = CorosyncEngine()

def tell(report):
    values = [v.decode() if isinstance(v, bytes) else v for v in astuple(report)]
    print(json.dumps([type(report).__name__, *values]), flush=True)

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, nursery.cancel_scope)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            engine.multicast(line.strip().encode())
        nursery.cancel_scope.cancel()

async def run(scope):
    await engine.run(tell)
    scope.cancel()

print(json.dumps(["Me", engine.cluster_name, engine.me.name, len(engine.peers)]), flush=True)
trio.run(main)
"""

NAMES = ("provolone", "polishham", "pepicelli")


class Lab:
    """The program, for one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def line(self, command: str, *words: str) -> list[str]:
        program = [sys.executable, "-m", "clufs.cli.lab", command]
        return [*program, "--dir", str(self.directory), *words]

    def run(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            self.line(*words), capture_output=True, text=True, timeout=100, **options
        )

    def do(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


class Engine:
    """An engine inside a member, and all that it told."""

    def __init__(self, lab: Lab, member: str, directory: Path) -> None:
        self.told = directory / f"{member}.told"
        with open(self.told, "wb") as out:
            command = lab.line("exec", member, "--", sys.executable, "-c", ENGINE)
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, text=True)

    def reports(self, kind: str) -> list[list[object]]:
        lines = self.told.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [one[1:] for one in found if one[0] == kind]

    def multicast(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def is_quorate(self) -> bool:
        return bool(self.reports("QuorumChanged") and self.reports("QuorumChanged")[-1][1])

    def group(self) -> int:
        changes = self.reports("GroupChanged")
        return len(changes[-1][1]) if changes else 0  # type: ignore[arg-type]


def within(seconds: float, true: Callable[[], object]) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.fail("the lab needs root")
    lab = Lab(tmp_path_factory.mktemp("lab") / "lab")
    lab.do("up")
    yield lab
    lab.run("down")


@pytest.fixture
def engines(lab: Lab, tmp_path: Path) -> Iterator[list[Engine]]:
    started = [Engine(lab, name, tmp_path) for name in NAMES]
    assert within(20, lambda: all(e.group() == 3 and e.is_quorate() for e in started))
    yield started
    for engine in started:
        engine.process.communicate()


def test_engines_know_the_cluster(engines: list[Engine]) -> None:
    told = [engine.reports("Me")[0] for engine in engines]
    assert told == [["clufs-lab", name, 3] for name in NAMES]


def test_all_members_see_one_order(engines: list[Engine]) -> None:
    for number in range(50):
        for at, engine in enumerate(engines):
            engine.multicast(f"{at} {number}")
    assert within(20, lambda: all(len(e.reports("Delivered")) >= 150 for e in engines))
    orders = [engine.reports("Delivered") for engine in engines]
    assert orders[0] == orders[1] == orders[2]
    assert [text for sender, text in orders[0] if sender == 2] == [f"1 {n}" for n in range(50)]


def test_a_cut_takes_the_quorum_and_healing_brings_it_back(lab: Lab, engines: list[Engine]) -> None:
    lab.do("cut", "pepicelli")
    assert "cut=all" in lab.do("status").splitlines()[2]
    assert within(20, lambda: not engines[2].is_quorate())
    assert within(20, lambda: engines[0].group() == 2)
    assert engines[0].is_quorate()
    lab.do("heal")
    assert within(20, lambda: all(e.group() == 3 and e.is_quorate() for e in engines))
    rings = {json.dumps(engine.reports("GroupChanged")[-1]) for engine in engines}
    assert len(rings) == 1


def test_a_killed_corosync_is_told(lab: Lab, engines: list[Engine]) -> None:
    lab.do("kill", "polishham", "--what", "corosync")
    assert within(10, lambda: engines[1].reports("EngineLost"))
    assert within(20, lambda: engines[0].group() == 2)
    lab.do("restart", "polishham", "--what", "corosync")
    assert "corosync=up" in lab.do("status").splitlines()[1]


def test_exec_passes_everything_through(lab: Lab) -> None:
    done = lab.run(
        "exec", "polishham", "--", "sh", "-c", "hostname; cat; echo e >&2; exit 7", input="in\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "polishham\nin\n", "e\n")
    assert lab.do("exec", "provolone", "--", "ls", "/clu/locks") == "public\n"


def test_a_member_dies_whole_and_comes_back(lab: Lab) -> None:
    lab.do("kill", "provolone")
    assert lab.do("status").splitlines()[0].endswith("member=dead corosync=dead clufsd=dead")
    assert lab.run("exec", "provolone", "--", "true").returncode == 2
    lab.do("restart", "provolone")
    assert lab.do("status").splitlines()[0].endswith("member=up corosync=up clufsd=up")


def test_a_paused_member_stands_still(lab: Lab) -> None:
    lab.do("pause", "pepicelli")
    paused = "member=paused corosync=paused clufsd=paused"
    assert lab.do("status").splitlines()[2].endswith(paused)
    lab.do("resume", "pepicelli")
    assert lab.do("status").splitlines()[2].endswith("member=up corosync=up clufsd=up")


def test_what_is_wrong_is_said(lab: Lab) -> None:
    for words in (["up"], ["kill", "nobody"], ["cut", "provolone", "provolone"]):
        done = lab.run(*words)
        assert (done.returncode, done.stderr.startswith("lab: ")) == (2, True)


def test_down_leaves_nothing(lab: Lab) -> None:
    links = Path("/proc/net/dev").read_text().count("\n")
    inits = [path.read_text().split()[0] for path in lab.directory.glob("*.init")]
    assert len(inits) == 4
    # One member was killed by somebody else.
    os.kill(int(inits[0]), 9)
    lab.do("down")
    assert not lab.directory.exists()
    assert not [pid for pid in inits if Path(f"/proc/{pid}").exists()]
    assert str(lab.directory) not in Path("/proc/self/mountinfo").read_text()
    assert Path("/proc/net/dev").read_text().count("\n") == links
    assert lab.run("status").returncode == 2
