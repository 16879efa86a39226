"""Faults of a lab's LUNs: which way each concerns, and what mends it."""

import pytest

from clufs.errors import UsageError
from clufs.lab.plan import Facts, Lab
from clufs.lab.portals import Fault, Faults, Portals

WAYS = [(lun, member, path) for lun in (1, 2) for member in ("provolone", "m4") for path in (1, 2)]


def shut(faults: Faults) -> list[tuple[int, str, int]]:
    return [way for way in WAYS if faults.is_shut(*way)]


def test_a_fault_concerns_all_that_it_does_not_name() -> None:
    faults = Faults()
    faults.add(Fault(1))
    assert shut(faults) == [way for way in WAYS if way[0] == 1]
    faults.mend(Fault(1))
    faults.add(Fault(1, "m4"))
    faults.add(Fault(2, path=2))
    assert shut(faults) == [(1, "m4", 1), (1, "m4", 2), (2, "provolone", 2), (2, "m4", 2)]
    assert faults.of(1) == ["offline for m4"]
    assert faults.of(2) == ["offline by path 2"]


def test_mending_takes_what_it_names() -> None:
    faults = Faults()
    for fault in (Fault(1, "m4", 1), Fault(1, "m4", 2), Fault(1, "provolone", 1)):
        faults.add(fault)
    faults.mend(Fault(1, "m4", 1))
    assert shut(faults) == [(1, "provolone", 1), (1, "m4", 2)]
    faults.mend(Fault(1, "m4"))
    assert shut(faults) == [(1, "provolone", 1)]
    faults.mend(Fault(1))
    assert shut(faults) == []


def test_the_same_fault_is_replaced_and_the_slowest_counts() -> None:
    faults = Faults()
    faults.add(Fault(1, seconds=1.0))
    faults.add(Fault(1, seconds=0.5))
    assert faults.delay_s(1, "m4", 1) == 0.5
    faults.add(Fault(1, "m4", seconds=2.0))
    assert (faults.delay_s(1, "m4", 1), faults.delay_s(1, "provolone", 1)) == (2.0, 0.5)
    assert faults.of(1) == ["slow by 0.5 s", "slow by 2 s for m4"]
    faults.add(Fault(1, "m4"))
    assert faults.of(1) == ["slow by 0.5 s", "offline for m4"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["offline", "3", "-", "0", "1"], "no LUN 3: 1 to 2"),
        (["offline", "x", "-", "0", "1"], "no LUN x: 1 to 2"),
        (["slow", "1", "m9", "0", "1"], "no member 'm9': provolone"),
        (["melt"], "no such fault: melt"),
    ],
)
def test_a_wrong_order_is_refused_in_words(
    words: list[str], why: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.write(Facts(members=3, luns=2))
    with pytest.raises(UsageError, match=why):
        Portals(lab, 2, (3260, 3260)).obey(words)
