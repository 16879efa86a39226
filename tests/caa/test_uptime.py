"""How long an application was up: intervals by hand, and against a count of every second."""

from hypothesis import given
from hypothesis import strategies as st

from clufs.caa.uptime import Availability, Event, availability


def events(*at: int) -> list[Event]:
    """Starts and stops in turn; a negative time is a stop."""
    return [Event(abs(time), time >= 0) for time in at]


def test_what_never_started_has_no_time() -> None:
    assert availability([], 100) is None


def test_from_the_first_start_until_now() -> None:
    assert availability(events(10, -60), 110) == Availability(10, 110, 50)
    assert availability(events(10), 110) == Availability(10, 110, 100)
    found = availability(events(10, -60, 85), 110)
    assert found and found.per_cent == 75


def test_within_the_time_asked_for() -> None:
    both = events(10, -60, 80)
    assert availability(both, 200, 50, 100) == Availability(50, 100, 30)
    assert availability(both, 90, 50, 100) == Availability(50, 90, 20)
    assert availability(both, 200, 61, 79) == Availability(61, 79, 0)
    assert availability(both, 200, 0, 20) == Availability(0, 20, 10)
    assert availability(both, 200, 300) == Availability(300, 300, 0)
    found = availability(both, 200, 300)
    assert found and found.per_cent == 0


def test_an_oldest_event_that_is_a_stop_ends_what_was_up_before() -> None:
    assert availability(events(-60, 80), 100, 50) == Availability(50, 100, 30)
    assert availability(events(-60, 80), 100) == Availability(60, 100, 20)


def test_a_second_start_changes_nothing() -> None:
    assert availability([*events(10, 20, -30, -40)], 110) == Availability(10, 110, 20)


@given(
    st.lists(st.integers(0, 50), unique=True, max_size=12), st.integers(0, 50), st.integers(1, 50)
)
def test_it_is_the_sum_of_the_seconds(times: list[int], begin: int, length: int) -> None:
    listed = [Event(time, at % 2 == 0) for at, time in enumerate(sorted(times))]
    found = availability(listed, 60, begin, begin + length)
    if not listed:
        assert found is None
        return
    end = min(60, begin + length)
    up = 0
    for second in range(begin, end):
        last = [event for event in listed if event.time_s <= second]
        up += bool(last) and last[-1].started
    assert found == Availability(begin, max(begin, end), up)
