"""REBALANCE by the clock (manual 2.8), also through the nights on which the clock is changed.

Local minutes that a change forward leaves out are due at once after it; those that a change back
repeats are due once, except under a wildcard for the hour, which means every hour that passes.
"""

from __future__ import annotations

from collections.abc import Callable

from clufs.caa.attributes import Rebalance
from clufs.caa.interface import LocalClock, LocalTime
from clufs.timeouts import CAA_LEAP_MAX_S

_MINUTES_A_DAY = 1440


class Calendar:
    """Tells which times have come since it was last asked."""

    def __init__(self, clock: LocalClock) -> None:
        self._clock = clock
        self._seen: int | None = None
        self._latest = 0

    def next_s(self, now_s: float) -> float:
        """Return when to ask again: the next minute begins."""
        return (now_s // 60 + 1) * 60.0

    def passed(self, now_s: float) -> Callable[[Rebalance], bool] | None:
        """Return what says of a time whether it has come since the last call, this minute included.

        None where no minute has begun since. A planner that has just begun looks at no minute
        before its own; one that was away for long makes up for the last hours only.
        """
        minute = int(now_s // 60)
        first = minute if self._seen is None else self._seen + 1
        first = max(first, minute - int(CAA_LEAP_MAX_S // 60))
        if first > minute:
            return None
        once: list[LocalTime] = []
        every: list[LocalTime] = []
        for each in range(first, minute + 1):
            self._pass_minute(self._clock(each * 60.0), once, every)
        self._seen = max(minute, self._seen or 0)

        def due(time: Rebalance) -> bool:
            looked_at = every if time.hour is None else once
            return any(time.due(one.weekday, one.hour, one.minute) for one in looked_at)

        return due

    def _pass_minute(self, local: LocalTime, once: list[LocalTime], every: list[LocalTime]) -> None:
        every.append(local)
        here = local.day * _MINUTES_A_DAY + local.hour * 60 + local.minute
        if here <= self._latest:
            return
        leap = here - self._latest - 1
        if self._latest and leap <= CAA_LEAP_MAX_S // 60:
            once.extend(_earlier(local, back) for back in range(leap, 0, -1))
        once.append(local)
        self._latest = here


def _earlier(local: LocalTime, minutes: int) -> LocalTime:
    """Return the local minute so long before, on a clock that nobody changes."""
    left = local.day * _MINUTES_A_DAY + local.hour * 60 + local.minute - minutes
    day, rest = divmod(left, _MINUTES_A_DAY)
    weekday = (local.weekday - (local.day - day)) % 7
    return LocalTime(day, weekday, rest // 60, rest % 60)
