"""The disk's votes in corosync, cast by hand: who casts them stays quorate, and a ring that breaks waits for nobody."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.engine import Engine
from tests.cluster.lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(200)

MEMBERS = NAMES[:2]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two members and a disk, whose daemons have ended: its votes are ours to cast."""
    found = Lab(tmp_path_factory.mktemp("lab") / "lab")
    found.do("up", "--members", "2", "--quorum-disk")
    for name in MEMBERS:
        found.sh(name, "umount /clu")
    assert within(60, lambda: all(found.state(name)[2] == "dead" for name in MEMBERS))
    yield found
    found.do("down")


@pytest.fixture
def engines(lab: Lab, tmp_path: Path) -> Iterator[list[Engine]]:
    started = [Engine(lab, name, tmp_path) for name in MEMBERS]
    try:
        assert within(60, lambda: all(e.group() == 2 and e.is_quorate() for e in started))
        yield started
    finally:
        for engine in started:
            engine.process.communicate()


@pytest.fixture
def cut(lab: Lab, engines: list[Engine]) -> Iterator[list[Engine]]:
    """Both are alone, and none is quorate."""
    lab.do("cut", "polishham")
    assert within(60, lambda: all(e.group() == 1 and not e.is_quorate() for e in engines))
    yield engines
    lab.do("heal")


def test_the_one_who_casts_is_quorate_until_it_casts_no_more(lab: Lab, cut: list[Engine]) -> None:
    first, second = cut
    ring = first.ring()
    # What is said of another ring means nothing, before and after.
    second.vote(ring, cast=True)
    first.vote(ring, cast=True)
    first.vote([1, 1], cast=False)
    assert within(30, first.is_quorate)
    assert first.ring() == ring
    assert not second.is_quorate()
    first.vote(ring, cast=False)
    assert within(30, lambda: not first.is_quorate())
    assert first.ring() == ring
    second.vote(second.ring(), cast=True)
    assert within(30, second.is_quorate)
    assert not first.is_quorate()


def test_in_a_new_ring_nothing_is_cast_and_corosync_does_not_wait_for_it(
    lab: Lab, cut: list[Engine]
) -> None:
    first = cut[0]
    first.vote(first.ring(), cast=True)
    assert within(30, first.is_quorate)
    lab.do("heal")
    assert within(60, lambda: all(e.group() == 2 and e.is_quorate() for e in cut))
    lab.do("cut", "polishham")
    assert within(60, lambda: all(e.group() == 1 and not e.is_quorate() for e in cut))
    for name in MEMBERS:
        log = (lab.directory / name / "corosync.log").read_text()
        assert "waiting for quorum device clufs poll" in log
        assert "lost contact with quorum device" not in log


def test_what_a_killed_one_had_cast_does_not_count_for_its_successor(
    lab: Lab, cut: list[Engine], tmp_path: Path
) -> None:
    first = cut[0]
    first.vote(first.ring(), cast=True)
    assert within(30, first.is_quorate)
    lab.sh("provolone", "kill -9 $(pgrep -f '[C]orosyncEngine')")
    (tmp_path / "next").mkdir()
    successor = Engine(lab, "provolone", tmp_path / "next")
    try:
        assert within(60, lambda: successor.group() == 1)
        assert [quorate for _, quorate, _ in successor.reports("QuorumChanged")] == [False]
    finally:
        successor.process.communicate()
