"""REBALANCE by the clock, in nights in which the clock is changed."""

from clufs.caa.attributes import read_rebalance
from clufs.caa.calendar import Calendar
from clufs.caa.interface import LocalTime

SUNDAY_MINUTE = 3 * 1440


def read(time_s: float, change: int) -> LocalTime:
    """A clock that is changed by `change` minutes on Sunday when an hour and a half of it is over."""
    minutes = int(time_s // 60)
    if minutes >= SUNDAY_MINUTE + 90:
        minutes += change
    day = minutes // 1440
    return LocalTime(day, (day + 4) % 7, minutes // 60 % 24, minutes % 60)


def times(rebalance: str, change: int, *, every_minutes: int = 1) -> list[str]:
    """Return the local times of that Sunday at which it was due."""
    calendar = Calendar(lambda time_s: read(time_s, change))
    wanted = read_rebalance(rebalance)
    assert wanted is not None
    found = []
    for minute in range(SUNDAY_MINUTE, SUNDAY_MINUTE + 6 * 60, every_minutes):
        due = calendar.passed(minute * 60.0)
        if due is not None and due(wanted):
            local = read(minute * 60.0, change)
            found.append(f"{local.hour}:{local.minute:02}")
    return found


def test_a_day_like_others() -> None:
    assert times("t:*:2:30", 0) == ["2:30"]
    assert times("t:0:2:30", 0) == ["2:30"]
    assert times("t:1:2:30", 0) == []
    assert times("t:*:*:30", 0) == [f"{hour}:30" for hour in range(6)]


def test_what_a_change_forward_leaves_out_is_due_after_it() -> None:
    """At 1:30 it becomes 2:30."""
    assert times("t:*:2:0", 60) == ["2:30"]
    assert times("t:*:2:30", 60) == ["2:30"]
    assert times("t:*:2:31", 60) == ["2:31"]
    assert times("t:*:*:30", 60) == ["0:30", "2:30", "3:30", "4:30", "5:30", "6:30"]


def test_what_a_change_back_repeats_is_due_once() -> None:
    """At 1:30 it becomes 0:30."""
    assert times("t:*:0:30", -60) == ["0:30"]
    assert times("t:*:1:0", -60) == ["1:00"]
    assert times("t:*:1:30", -60) == ["1:30"]
    every = ["0:45", "0:45", "1:45", "2:45", "3:45", "4:45"]
    assert times("t:*:*:45", -60) == every


def test_who_looks_late_makes_up_for_it_once() -> None:
    assert times("t:*:2:30", 0, every_minutes=7) == ["2:34"]
    assert Calendar(lambda time_s: read(time_s, 0)).next_s(61.0) == 120.0


def test_a_planner_that_was_away_for_a_week_does_not_make_up_for_it() -> None:
    calendar = Calendar(lambda time_s: read(time_s, 0))
    wanted = read_rebalance("t:*:2:30")
    assert wanted is not None
    assert calendar.passed(SUNDAY_MINUTE * 60.0) is not None
    due = calendar.passed((SUNDAY_MINUTE + 7 * 1440 + 12 * 60) * 60.0)
    assert due is not None
    assert not due(wanted)
