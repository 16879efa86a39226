"""How long an application was up, from its starts and stops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """An application started or stopped; time_s: wall clock."""

    time_s: float
    started: bool


@dataclass(frozen=True, slots=True)
class Availability:
    """Of the seconds from begin_s to end_s the application was up for up_s."""

    begin_s: float
    end_s: float
    up_s: float

    @property
    def per_cent(self) -> float:
        """Up time in per cent; 0 where no time has passed."""
        length = self.end_s - self.begin_s
        return 100 * self.up_s / length if length > 0 else 0.0


def availability(
    events: Iterable[Event], now_s: float, begin_s: float | None = None, end_s: float | None = None
) -> Availability | None:
    """What there is to say of the time asked for; None for an application that never started.

    begin_s: without it, the first event. end_s: without it, now. If the oldest event kept is a stop,
    the application was up before, for as long as is asked about.
    """
    ordered = sorted(events, key=lambda event: event.time_s)
    if not ordered:
        return None
    begin = ordered[0].time_s if begin_s is None else begin_s
    # What is yet to come counts as neither.
    end = min(now_s, now_s if end_s is None else end_s)
    up_s = 0.0
    since = None if ordered[0].started else begin
    for event in ordered:
        if event.started:
            since = event.time_s if since is None else since
        elif since is not None:
            up_s += _overlap(since, event.time_s, begin, end)
            since = None
    if since is not None:
        up_s += _overlap(since, end, begin, end)
    return Availability(begin, max(begin, end), up_s)


def _overlap(since: float, until: float, begin: float, end: float) -> float:
    return max(0.0, min(until, end) - max(since, begin))
