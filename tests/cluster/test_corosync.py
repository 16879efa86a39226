"""The corosync engine, on three real members."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.engine import Engine
from tests.cluster.lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(100)


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
