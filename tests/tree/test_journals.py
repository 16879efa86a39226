"""What is kept to be read later: events, refusals, deadlocks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.errors import Cancelled, Deadlock, InvalidRequest, NotHeld
from clufs.limits import DEADLOCKS_KEPT, ERRORS_KEPT_PER_USER, EVENTS_KEPT, FENCINGS_KEPT
from clufs.tree import journals
from clufs.tree.journals import Deadlocks, Events, FencingLog, Refusals, timestamp

NOON = 1_800_000_000.5
STAMP = timestamp(NOON)


def noon() -> float:
    return NOON


def everything(events: Events) -> bytes:
    return events.read(events.begin, events.end - events.begin)


def test_a_time_is_iso_8601_with_milliseconds() -> None:
    assert STAMP == "2027-01-15T08:00:00.500Z"


def test_an_event_is_one_line_of_words() -> None:
    events = Events(noon)
    events.add("deadlock", kind="conversion", victim="locks/public/a b", pid=7)
    assert everything(events) == (
        f"{STAMP} deadlock kind=conversion victim=locks/public/a\\040b pid=7\n".encode()
    )
    assert events.end == len(everything(events))


def test_listeners_hear_of_each_event_and_may_leave_meanwhile() -> None:
    events = Events(noon)
    heard: list[str] = []

    def once() -> None:
        heard.append("once")
        events.listeners.discard(once)

    events.listeners.add(once)
    events.add("start")
    events.add("stop")
    assert heard == ["once"]


def test_the_oldest_lines_go_and_offsets_stay() -> None:
    events = Events(noon)
    for number in range(EVENTS_KEPT + 5):
        events.add("event", number=number)
    text = everything(events)
    assert text.count(b"\n") == EVENTS_KEPT
    assert text.startswith(f"{STAMP} event number=5\n".encode())
    assert events.begin == 5 * len(f"{STAMP} event number=0\n")
    assert len(text) == events.end - events.begin


def test_a_reader_that_was_overtaken_reads_empty_lines_and_then_what_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journals, "EVENTS_KEPT", 2)
    events = Events(noon)
    for number in range(5):
        events.add("event", number=number)
    length = len(f"{STAMP} event number=0\n")
    assert events.read(length, 10) == b"\n" * 10
    assert events.read(0, 3 * length + 5) == b"\n" * 3 * length + STAMP[:5].encode()


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(0, 60))
def test_reads_of_any_size_join_to_the_whole(sizes: list[int], lines: int) -> None:
    events = Events(noon)
    for number in range(lines):
        events.add("event", number=number)
    position, chunks = events.begin, []
    for size in sizes:
        chunks.append(events.read(position, size))
        position += len(chunks[-1])
    chunks.append(events.read(position, events.end))
    assert b"".join(chunks) == everything(events)


def test_a_refusal_names_time_pid_path_errno_and_why() -> None:
    refusals = Refusals(noon)
    refusals.add(1001, 42, b"locks/public/odd \n name", InvalidRequest("unknown word 'x'"))
    assert refusals.show(1001) == (
        f"{STAMP} 42 locks/public/odd\\040\\012\\040name EINVAL unknown word 'x'\n".encode()
    )


@pytest.mark.parametrize(("error", "name"), [(Deadlock("x"), "EDEADLK"), (NotHeld("x"), "EPERM")])
def test_an_errno_has_the_name_people_know(error: Exception, name: str) -> None:
    refusals = Refusals(noon)
    refusals.add(0, 1, b"f", error)  # type: ignore[arg-type]
    assert f" f {name} x\n".encode() in refusals.show(0)


def test_a_remark_that_refused_nothing_has_no_errno() -> None:
    refusals = Refusals(noon)
    remark = Cancelled("a remark")
    remark.errno = 0
    refusals.add(0, 1, b"f", remark)
    assert b" f - a remark\n" in refusals.show(0)


def test_a_sentence_stays_one_line_whatever_is_quoted_in_it() -> None:
    refusals = Refusals(noon)
    refusals.add(0, 1, b"f", NotHeld("two\nlines"))
    assert refusals.show(0).count(b"\n") == 1


def test_everyone_sees_the_own_refusals_and_root_all_in_order_of_time() -> None:
    clock = iter(range(10))
    refusals = Refusals(lambda: float(next(clock)))
    for uid, path in ((1001, b"first"), (1002, b"second"), (1001, b"third"), (0, b"fourth")):
        refusals.add(uid, 1, path, NotHeld("no"))
    assert re.findall(rb"1 (\w+) EPERM", refusals.show(1001)) == [b"first", b"third"]
    assert re.findall(rb"1 (\w+) EPERM", refusals.show(1002)) == [b"second"]
    assert refusals.show(1003) == b""
    assert re.findall(rb"1 (\w+) EPERM", refusals.show(0)) == [
        b"first", b"second", b"third", b"fourth",
    ]  # fmt: skip


def test_one_user_does_not_push_out_the_refusals_of_another() -> None:
    refusals = Refusals(noon)
    refusals.add(1001, 1, b"mine", NotHeld("no"))
    for number in range(ERRORS_KEPT_PER_USER + 1):
        refusals.add(1002, 1, b"n%d" % number, NotHeld("no"))
    assert b"mine" in refusals.show(1001)
    theirs = refusals.show(1002).splitlines()
    assert len(theirs) == ERRORS_KEPT_PER_USER
    assert b" n1 " in theirs[0]


def test_the_last_hundred_deadlocks_are_kept() -> None:
    deadlocks = Deadlocks(noon)
    for number in range(DEADLOCKS_KEPT + 1):
        deadlocks.add("conversion", [f"lock {number}", "lock VICTIM"])
    lines = deadlocks.show().decode().splitlines()
    assert lines[:3] == [f"DEADLOCK 2 {STAMP} conversion", "lock 1", "lock VICTIM"]
    assert len(lines) == 3 * DEADLOCKS_KEPT
    assert deadlocks.count == DEADLOCKS_KEPT + 1


def test_of_fencing_the_last_lines_are_kept_and_the_last_of_each_member() -> None:
    log = FencingLog(noon)
    log.add("m4", 3, "-", "lost", "")
    for count in range(FENCINGS_KEPT):
        log.add("m5", 4, "ipmi", "failed", f"{count}: no route")
    lines = log.show().decode().splitlines()
    assert len(lines) == FENCINGS_KEPT
    assert lines[0] == f"{STAMP} m5 4 ipmi failed 0: no route"
    assert log.last_of("m4") == f"{STAMP} m4 3 - lost\n".encode()
    assert log.last_of("m6") == b""


def test_the_fencing_log_outlives_the_daemon_and_stays_bounded(tmp_path: Path) -> None:
    file = tmp_path / "fencing.log"
    log = FencingLog(noon)
    log.keep_in(file)
    for number in range(2 * FENCINGS_KEPT + 1):
        log.add("m2", number, "lun", "off", "LUN=naa.6")
    again = FencingLog(noon)
    again.keep_in(file)
    assert again.last_of("m2").decode() == f"{STAMP} m2 {2 * FENCINGS_KEPT} lun off LUN=naa.6\n"
    assert again.show() == log.show()
    assert file.read_bytes() == log.show()


def test_the_fencing_log_of_a_daemon_that_never_ends_stays_bounded(tmp_path: Path) -> None:
    file = tmp_path / "fencing.log"
    log = FencingLog(noon)
    log.keep_in(file)
    for number in range(5 * FENCINGS_KEPT):
        log.add("m2", number, "ipmi", "failed", "no route")
    assert FENCINGS_KEPT <= file.read_bytes().count(b"\n") <= 2 * FENCINGS_KEPT
    assert file.read_bytes().endswith(log.show())


@pytest.mark.parametrize("before", [1, FENCINGS_KEPT])
def test_a_line_that_a_power_cut_has_torn_is_left_out(tmp_path: Path, before: int) -> None:
    file = tmp_path / "fencing.log"
    whole = f"{STAMP} m2 1 lun off LUN=naa.6\n".encode() * before
    file.write_bytes(whole + b"2027-01-15T08:00:00.500Z m2 2 lun")
    log = FencingLog(noon)
    log.keep_in(file)
    log.add("m2", 3, "-", "out", "")
    assert file.read_bytes() == whole + f"{STAMP} m2 3 - out\n".encode()
    assert file.read_bytes().endswith(log.show())


def test_a_fencing_log_that_cannot_be_kept_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    log = FencingLog(noon)
    log.keep_in(tmp_path / "file" / "fencing.log")
    log.add("m2", 3, "-", "out", "")
    assert b"m2" in log.show()
    assert "Not a directory" in caplog.text
