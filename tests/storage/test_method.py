"""Which way of fencing each LUN gets, and what is said of it before it is needed."""

from __future__ import annotations

import pytest

from clufs.storage.method import Kind, Method, Surroundings, Traits, choose, none
from clufs.storage.probe import Finding
from clufs.timeouts.lease import LeaseTimeline

LEASE = LeaseTimeline()
AROUND = Surroundings(True, 8.0, 20.0, LEASE)
GUARDED = Surroundings(True, 8.0, 20.0, LEASE, watchdog=True)
GOOD = Traits(registers=True, aborts=True, reserves=True)
LATE = "a write that the array had taken in before the fencing may still reach the medium"
GRAVE = Finding("a fenced member can still write", "nobody is fenced", grave=True)


@pytest.mark.parametrize(
    ("lun", "around", "kind", "takeover_s"),
    [
        (GOOD, AROUND, Kind.PR_ABORT, 28.0),
        (Traits(True, False), AROUND, Kind.PR, 28.0),
        (Traits(), AROUND, Kind.PR_ABORT, 28.0),
        (Traits(False, reserves=True), AROUND, Kind.LOCK_DISK, 28.0),
        (Traits(False, reserves=True), GUARDED, Kind.LOCK_DISK, 28.0),
        (Traits(False, reserves=True), Surroundings(False, 8.0, 20.0, LEASE), Kind.PERSON, None),
        (Traits(True, True, (GRAVE,), reserves=True), AROUND, Kind.PERSON, None),
        (Traits(False), GUARDED, Kind.TIME, 8.0 + LEASE.by_time_s),
        (Traits(False), AROUND, Kind.PERSON, None),
        (Traits(False), Surroundings(True, 8.0, 20.0, watchdog=True), Kind.PERSON, None),
        (GOOD, Surroundings(False, 8.0, 20.0), Kind.PERSON, None),
        (GOOD, Surroundings(False, 8.0, 20.0, LEASE, True), Kind.PERSON, None),
    ],
)
def test_a_lun_gets_the_strongest_way_that_it_is_fit_for(
    lun: Traits, around: Surroundings, kind: Kind, takeover_s: float | None
) -> None:
    method = choose(lun, around)
    assert (method.kind, method.takeover_s) == (kind, takeover_s)
    assert method.cannot


def test_the_text_says_what_happens_when_and_what_cannot_be_promised() -> None:
    finding = Finding("it has no APTPL", "after a loss of power a fenced member may write")
    text = choose(Traits(True, True, (finding,)), AROUND).text()
    assert text.splitlines()[:3] == [
        "METHOD=pr-abort",
        "TAKEOVER_S=28.0",
        "STEPS=8.0 s until a view is without the member, then a tombstone, PREEMPT AND ABORT by every path, and"
        " the keys read back within 20 s; it is tried again until that is so",
    ]
    assert "CANNOT=after a loss of power a fenced member may write\n" in text
    assert LATE not in text


def test_an_array_without_abort_is_said_to_let_late_writes_through_once() -> None:
    finding = Finding("it has no PREEMPT AND ABORT", LATE)
    assert choose(Traits(True, False, (finding,)), AROUND).text().count(LATE) == 1
    assert choose(Traits(True, False), AROUND).text().count(LATE) == 1


def test_what_has_not_been_tried_out_is_said_to_be_so() -> None:
    text = choose(Traits(), AROUND).text()
    assert "if the array takes no reservations: then no fencing is proved" in text
    assert "which shows then" in text


def test_time_counts_only_with_a_hardware_watchdog_and_a_person_is_told_what_to_write() -> None:
    method = choose(Traits(False), AROUND)
    assert "time counts only with a hardware watchdog" in method.because
    assert "echo confirmed > /clu/members/MEMBER/fence" in method.steps
    assert method.text().splitlines()[1] == "TAKEOVER_S=-"
    around = Surroundings(True, 8.0, 20.0, LEASE, unguarded=("polishham", "pepicelli"))
    assert choose(Traits(False), around).because.endswith(", and polishham, pepicelli has none")


def test_by_time_the_worst_case_counts_the_word_to_stop_and_the_look_behind() -> None:
    method = choose(Traits(False), GUARDED)
    assert method.takeover_s == pytest.approx(8 + 20 + 10 + 171.4 + 20)
    assert "171.4 s without a change of its record" in method.steps


def test_the_reason_is_what_the_probe_has_seen() -> None:
    assert choose(Traits(True, True, (GRAVE,)), AROUND).because.startswith(GRAVE.what)


@pytest.mark.parametrize(("role", "why"), [("clufs", "clufs' own"), ("found", "not named")])
def test_other_luns_fence_nobody(role: str, why: str) -> None:
    method: Method = none(role)
    assert method.kind == Kind.NONE and why in method.because
