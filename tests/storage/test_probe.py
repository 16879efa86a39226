"""What a probe says of arrays that are right, that err, and of tgtd."""

from __future__ import annotations

from pathlib import Path

import pytest

from clufs.storage import reservations as r
from clufs.storage.carrier import Lun
from clufs.storage.iscsi import iscsi_lun
from clufs.storage.probe import Report, probe
from tests.array.array import Array, Shape
from tests.array.defects import Defect
from tests.storage.tgtd import tgtd

A, B, CLUSTER = (f"iqn.2026-01.org.clufs:{name}" for name in ("a", "b", "cluster"))
KEYS = (r.MemberKey(1, 1, 1).number, r.MemberKey(1, 1, 2).number)
LBA, BLOCK = 100, b"p" * 512


async def probed(*urls: str, block: bytes = BLOCK) -> Report:
    """Probe through two sessions."""
    async with iscsi_lun(urls[0], A, 1) as one, iscsi_lun(urls[-1], B, 1) as other:
        return await probe(one, other, KEYS, LBA, block)


async def of_our_array(*defects: Defect, block: bytes = BLOCK) -> tuple[Report, Array]:
    """Probe an array with these defects through two portals."""
    async with Array(Shape(portals=2, defects=frozenset(defects))).serving() as array:
        return await probed(array.url(portal=0), array.url(portal=1), block=block), array


async def test_an_array_that_is_right_has_no_findings_and_nothing_is_left() -> None:
    report, array = await of_our_array()
    assert report.findings == [] and report.usable and report.aborts
    assert report.lines() == [f"{report.path}: reservations work as they should"]
    found = array.units[0].reservations
    assert (found.keys, found.type) == ({}, None)
    writes = [one for one in array.units[0].medium.log if getattr(one, "lba", LBA) != LBA]
    assert writes == []


@pytest.mark.parametrize("block", [BLOCK, b""])
@pytest.mark.parametrize(
    ("defect", "what", "usable"),
    [
        (Defect.NO_PERSISTENT_RESERVE, "does not take registrations", False),
        (Defect.NO_PREEMPT_AND_ABORT, "no PREEMPT AND ABORT", True),
        (Defect.NO_APTPL, "cannot keep registrations through loss of power", True),
        (Defect.DOES_NOT_BAR, "a fenced member can still write", False),
        (Defect.ONE_PORT_ONLY, "a preempted key stays registered", False),
        (Defect.WRONG_ATTENTION, "who is fenced is told otherwise", True),
    ],
)
async def test_what_is_wrong_is_found_and_nothing_else(
    defect: Defect, what: str, usable: bool, block: bytes
) -> None:
    report, array = await of_our_array(defect, block=block)
    (finding,) = report.findings
    assert what in finding.what and finding.therefore
    assert report.usable == usable
    assert array.units[0].reservations.keys == {}


@pytest.mark.parametrize("defect", [Defect.NO_CAPABILITIES, Defect.NO_FULL_STATUS, Defect.NO_ALUA])
async def test_what_fencing_does_not_need_is_no_finding(defect: Defect) -> None:
    report, _ = await of_our_array(defect)
    assert report.findings == []


async def test_a_probe_leaves_the_cluster_alone() -> None:
    async with Array().serving() as array, iscsi_lun(array.url(), CLUSTER, 1) as carrier:
        lun, key = Lun(carrier), r.MemberKey(1, 9, 9).number
        await r.register(lun, key)
        await r.reserve(lun, key)
        report = await probed(array.url())
        assert report.findings == []
        assert (await r.read_keys(lun)).keys == (key,)
        held = await r.read_reservation(lun)
        assert held is not None and (held.key, held.type) == (key, r.TYPE)


async def test_a_write_of_no_blocks_tries_a_lun_out_as_well_and_touches_nothing() -> None:
    report, array = await of_our_array(block=b"")
    assert report.findings == []
    assert array.units[0].medium.log == []


@pytest.mark.parametrize("block", [BLOCK, b""])
async def test_tgtd_has_no_abort_and_no_aptpl_and_can_be_used(tmp_path: Path, block: bytes) -> None:
    async with tgtd(tmp_path) as url:
        report = await probed(url, block=block)
    assert report.usable and not report.aborts
    text = "\n".join(report.lines())
    assert "no PREEMPT AND ABORT" in text
    assert "(APTPL)" in text
    assert "told otherwise" in text
    assert len(report.findings) == 3, text
