"""The corosync engine, on three real members."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(100)

# Reports what its engine tells, one JSON list a line; each line it reads is multicast. It has a
# group of its own, as the daemons are in theirs.
ENGINE = """
import json, sys, trio
from dataclasses import astuple
from clufs.cluster import corosync

engine = corosync.CorosyncEngine("engines")

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


class Engine:
    """An engine inside a member, and all that it told."""

    def __init__(self, lab: Lab, member: str, directory: Path) -> None:
        self.told = directory / f"{member}.told"
        with open(self.told, "wb") as out:
            command = [sys.executable, "-c", ENGINE]
            self.process = lab.start(member, *command, stdin=subprocess.PIPE, stdout=out)

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


@pytest.fixture
def engines(quiet: Lab, tmp_path: Path) -> Iterator[list[Engine]]:
    started = [Engine(quiet, name, tmp_path) for name in NAMES]
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


def test_a_cut_takes_the_quorum_and_healing_brings_it_back(
    quiet: Lab, engines: list[Engine]
) -> None:
    quiet.do("cut", "pepicelli")
    assert within(20, lambda: not engines[2].is_quorate())
    assert within(20, lambda: engines[0].group() == 2)
    assert engines[0].is_quorate()
    quiet.do("heal")
    assert within(20, lambda: all(e.group() == 3 and e.is_quorate() for e in engines))
    rings = {json.dumps(engine.reports("GroupChanged")[-1]) for engine in engines}
    assert len(rings) == 1


def test_a_killed_corosync_is_told(quiet: Lab, engines: list[Engine]) -> None:
    quiet.do("kill", "polishham", "--what", "corosync")
    assert within(10, lambda: engines[1].reports("EngineLost"))
    assert within(20, lambda: engines[0].group() == 2)
    quiet.do("restart", "polishham", "--what", "corosync")
    assert quiet.state("polishham") == ("up", "up", "paused")
