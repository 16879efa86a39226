"""The array against libiscsi's conformance suites: what they hold against real arrays, they hold against ours."""

import re
import subprocess

import pytest
import trio

from tests.array.array import Array, Shape

SUITES = {
    "ALL.Prin*": 4,  # these two are all that there is of persistent reservations: 20 tests
    "ALL.Prout*": 16,
    "ALL.Reserve6": 7,
    "ALL.CompareAndWrite": 5,
    "ALL.iSCSIcmdsn": 2,
    "ALL.iSCSIdatasn": 1,
    "ALL.iSCSITMF": 2,
    "ALL.Inquiry": 7,
    "ALL.Read16": 5,
    "ALL.Write16": 5,
    "ALL.ReadCapacity16": 4,
    "ALL.ModeSense6": 5,
    "ALL.ReportSupportedOpcodes": 4,
    "ALL.TestUnitReady": 1,
}
WITH_OTHERS = {"ALL.iSCSIResiduals": 10}
"""These also look at commands that the array does not have, and let that pass."""
ON_TWO_PATHS = {"ALL.MultipathIO": 4, "ALL.ProutPreempt": 1}


async def outcome(suite: str, *urls: str) -> tuple[int, int, str]:
    """Run a suite. Returns how many tests ran and passed, and what was printed."""
    command = ["iscsi-test-cu", "--dataloss", "--normal", f"--test={suite}", *urls]
    done = await trio.run_process(
        command, capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    text = done.stdout.decode(errors="replace")
    summary = re.search(r"^ +tests +\d+ +(\d+) +(\d+) +\d+", text, re.MULTILINE)
    assert summary, text
    return int(summary[1]), int(summary[2]), text


@pytest.mark.parametrize("suite", SUITES)
async def test_a_suite_passes(suite: str) -> None:
    async with Array().serving() as array:
        ran, passed, text = await outcome(suite, array.url())
    assert (ran, passed) == (SUITES[suite],) * 2, text
    assert "not implemented" not in text and "[SKIPPED] Target" not in text, text


@pytest.mark.parametrize("suite", WITH_OTHERS)
async def test_a_suite_passes_as_far_as_it_goes(suite: str) -> None:
    async with Array().serving() as array:
        ran, passed, text = await outcome(suite, array.url())
    assert (ran, passed) == (WITH_OTHERS[suite],) * 2, text


@pytest.mark.parametrize("suite", ON_TWO_PATHS)
async def test_a_suite_passes_on_two_paths(suite: str) -> None:
    async with Array(Shape(portals=2)).serving() as array:
        ran, passed, text = await outcome(suite, array.url(portal=0), array.url(portal=1))
    assert (ran, passed) == (ON_TWO_PATHS[suite],) * 2, text
