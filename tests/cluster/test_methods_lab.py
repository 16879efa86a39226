"""Members of a lab on an array without persistent reservations: what makes a lost one harmless there."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.lab import Lab, within
from tests.cluster.test_lun_fencing_lab import (
    FOR_EVER,
    ONCE,
    incarnation,
    is_back,
    said,
    stamps,
    writer,
)


def lab_of(tmp_path_factory: pytest.TempPathFactory, *defects: str) -> Iterator[Lab]:
    """Three members whose stand-ins for watchdogs count, a LUN for data and one of clufs' own."""
    found = Lab(tmp_path_factory.mktemp("lab") / "lab")
    array = shlex.join([sys.executable, "-m", "tests.array", "--defects", *defects])
    words = ["--fence-by", "luns", "--trust-supervisor", "--array", array]
    found.do("up", "--luns", "1", "--own-luns", "1", *words)
    yield found
    found.do("down")


@pytest.fixture(scope="module")
def by_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An array with no reservations of any kind."""
    yield from lab_of(tmp_path_factory, "no_persistent_reserve", "no_reserve_6")


@pytest.fixture(scope="module")
def by_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An array with no reservations but the oldest."""
    yield from lab_of(tmp_path_factory, "no_persistent_reserve")


def data_lun(lab: Lab) -> str:
    """Its directory."""
    url = lab.do("lun", "status").splitlines()[0].split()[-1]
    path = url.removeprefix("iscsi://").replace("/", ":")
    return lab.sh("provolone", f"dirname $(dirname /clu/luns/*/paths/{path})").strip()


def test_by_time_a_member_is_out_once_its_watchdog_has_surely_fired(by_time: Lab) -> None:
    lab, lun = by_time, data_lun(by_time)
    method = f"cat {lun}/method"
    assert within(20, lambda: lab.sh("provolone", method).startswith("METHOD=time\n"))
    refused = lab.run("pause", "polishham")
    assert refused.returncode and "it counts as one of hardware here" in refused.stderr
    before = incarnation(lab, "provolone", "polishham")
    with writer(lab, "polishham", lun, FOR_EVER) as victim:
        assert said(victim) == "granted"
        assert within(10, lambda: len(stamps(lab, "provolone", lun)) == 1)
        (old,) = stamps(lab, "provolone", lun)
        lab.do("pause", "polishham", "--what", "clufsd")
        with writer(lab, "provolone", lun, ONCE) as heir:
            # Told to stop, its lease runs out, and the stand-in for its watchdog ends it: nobody knows.
            assert within(40, lambda: lab.state("polishham")[0] == "dead")
            awaited = "fencing of polishham"
            quorum = "cat /clu/status/quorum"
            assert within(20, lambda: awaited in lab.sh("pepicelli", quorum))
            assert said(heir) == "granted"
            new = said(heir).removeprefix("stamped ")
            assert new != old and stamps(lab, "provolone", lun) == {new}
            assert heir.stdin is not None
            heir.stdin.write("\n")
    log = lab.sh("pepicelli", "cat /clu/status/fencing")
    (proof,) = [line for line in log.splitlines() if f" polishham {before} lun off " in line]
    assert "HOW=its hardware watchdog has fired, if it works: silent for 53.2 s" in proof
    lab.revive("polishham")


def comes_back(lab: Lab, after: int) -> bool:
    """Told to stop, it ends its life or, where it cannot in time, is ended with all it has."""
    if lab.state("polishham")[0] == "dead":
        lab.revive("polishham")
    return is_back(lab, "polishham", after)


def test_by_lock_disk_the_fencer_has_the_lun_to_itself_until_the_lost_one_is_back(
    by_lock: Lab,
) -> None:
    lab, lun = by_lock, data_lun(by_lock)
    method = f"cat {lun}/method"
    assert within(20, lambda: lab.sh("pepicelli", method).startswith("METHOD=lock-disk\n"))
    before = incarnation(lab, "provolone", "polishham")
    with writer(lab, "polishham", lun, FOR_EVER) as victim:
        assert said(victim) == "granted"
        assert within(10, lambda: len(stamps(lab, "pepicelli", lun)) == 1)
        (old,) = stamps(lab, "pepicelli", lun)
        lab.do("pause", "polishham", "--what", "clufsd")
        # The first member of the view by its name runs the agents. Nobody else reads or writes the LUN then but
        # through that one.
        with writer(lab, "pepicelli", lun, ONCE) as heir:
            assert said(heir) == "granted"
            new = said(heir).removeprefix("stamped ")
            assert new != old and stamps(lab, "pepicelli", lun) == {new}
            assert within(20, lambda: stamps(lab, "provolone", lun) == {new})
            assert "served:pepicelli" in lab.sh("provolone", f"ls {lun}/paths")
            assert "until polishham (incarnation" in lab.sh("pepicelli", method)
            assert lab.run("resume", "polishham", "--what", "clufsd").returncode in (0, 1)
            assert heir.stdin is not None
            heir.stdin.write("\n")
    log = lab.sh("pepicelli", "cat /clu/status/fencing")
    (proof,) = [line for line in log.splitlines() if f" polishham {before} lun off " in line]
    assert "HOW=reset and reserved, commands ended; holds until that session" in proof
    assert within(90, lambda: comes_back(lab, before))
    assert within(60, lambda: "HELD=" not in lab.sh("pepicelli", method))
    assert within(20, lambda: stamps(lab, "provolone", lun) == {new})
    with writer(lab, "polishham", lun, ONCE) as again:
        assert said(again) == "granted"
        assert said(again).startswith("stamped ")
        assert again.stdin is not None
        again.stdin.write("\n")
