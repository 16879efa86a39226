"""caa_report: which applications, which time, and what is printed."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clufs.cli.caa_report import read_time
from tests.cli.caa_files import Clu

EXPECTED = """
        Application Availability Report for deli
        ----------------------------------------

Applications        starting/ending              uptime
-------------------------------------------------------
dhcp                NEVER STARTED                0.00 %
named               Sat Nov 21 00:00:00 2026
                    Sat Nov 21 04:00:00 2026    75.00 %
xclock              Sat Nov 21 00:00:00 2026
                    Sat Nov 21 04:00:00 2026    25.00 %
"""
WHOLE = ["-b", "2026-11-21", "-e", "11/21/2026 04:00"]


@pytest.fixture
def clu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clu:
    clu = Clu(tmp_path)
    (clu.add("named") / "uptime").write_text(
        "2026-11-20T23:00:00.000Z start on rye\n2026-11-21T01:30:00.000Z stop on rye\n"
        "2026-11-21T02:30:00.000Z start on swiss\n"
    )
    (clu.add("xclock") / "history").write_text(
        "2026-11-21T01:00:00.000Z OFFLINE -> ONLINE on rye: the user asked for it\n"
        "2026-11-21T01:15:00.000Z ONLINE on rye -> ONLINE on swiss: it was relocated\n"
        "2026-11-21T02:00:00.000Z ONLINE on swiss -> UNKNOWN on swiss: its stop failed\n"
        "2026-11-21T02:30:00.000Z UNKNOWN on swiss -> OFFLINE: ONLINE was its target\n"
    )
    clu.add("dhcp")
    clu.add("net", "network", "ONLINE on rye", "ONLINE on rye", "0 on rye")
    return clu


def report(clu: Clu, *arguments: str) -> str:
    said = clu.run("caa_report", *arguments, TZ="UTC")
    assert (said.status, said.err) == (0, "")
    return said.out


def test_all_applications(clu: Clu) -> None:
    # What is yet to come is not reported on: as of this test the whole time has passed.
    assert datetime(2026, 11, 21, 4, tzinfo=UTC).timestamp() < time.time()
    assert report(clu, *WHOLE) == EXPECTED
    assert report(clu, "-s", *WHOLE) == EXPECTED


def test_those_that_were_up_and_one(clu: Clu) -> None:
    without = [line for line in EXPECTED.splitlines(True) if "dhcp" not in line]
    assert report(clu, "-o", *WHOLE) == "".join(without)
    only = [line for line in EXPECTED.splitlines(True)[:6]]
    assert report(clu, "-a", "dhcp") == "".join([*only, EXPECTED.splitlines(True)[6]])


def test_from_the_first_start_until_now(clu: Clu) -> None:
    before = time.time()
    lines = report(clu, "-a", "named").splitlines()
    assert lines[6] == "named               Fri Nov 20 23:00:00 2026"
    until = datetime.strptime(lines[7][:45].strip(), "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    assert before - 1 <= until.timestamp() <= time.time()


def test_a_time_before_the_first_start_counts_as_down(clu: Clu) -> None:
    text = report(clu, "-a", "xclock", "-b", "2026-11-21 00:00:00", "-e", "2026-11-21T02:00")
    assert text.endswith(" 50.00 %\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["-a", "absent"], 1, "Could not find resource 'absent': it is not registered"),
        (["-a", "net"], 1, "resource 'net' is no application"),
        (["-b", "soon"], 2, "'soon' is no time like '2026-11-21 17:15' or '11/21/2026'"),
        (["-b", "2026-11-21", "-e", "2026-11-21"], 2, "-e is not later than -b"),
        (["-o", "-s"], 2, "argument -s: not allowed with argument -o"),
        (["x"], 2, "unrecognized arguments: x"),
    ],
)
def test_refusals(clu: Clu, arguments: list[str], status: int, said: str) -> None:
    found = clu.run("caa_report", *arguments)
    assert (found.status, found.out) == (status, "")
    assert found.err.splitlines()[0] == f"caa_report: {said}"


def test_h_is_the_usage(clu: Clu) -> None:
    assert report(clu, "-h").startswith("usage: caa_report [-o | -s | -h | -a RESOURCE]")


def test_a_line_without_a_time_is_named(clu: Clu) -> None:
    clu.path("resources/dhcp/uptime").write_text("yesterday start on rye\n")
    said = clu.run("caa_report", "-a", "dhcp")
    assert said.status == 1
    assert "'yesterday start on rye' does not begin with a time" in said.err


def test_the_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        berlin = read_time("2026-11-21 05:00")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert berlin == datetime(2026, 11, 21, 4, tzinfo=UTC).timestamp()
