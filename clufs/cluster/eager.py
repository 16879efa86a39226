"""Looking again and again for a moment, before going to sleep until something comes.

A processor with nothing to do takes tens of microseconds to wake up, in a virtual machine as long as
another member takes to answer. Who looks without a pause has the answer at once. But on a busy
machine, or where both ends share a processor, that time is only taken from those whose answer is
awaited. So it is done where it succeeds more often than not, and else tried again now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from clufs.timeouts import LOOK_S

_RESTS_MAX = 255
"""Where looking is in vain it takes a microsecond of each wait, then."""

Found = list[tuple[int, int]]


class Eager:
    """For one kind of waiting: whether looking pays.

    After each time that it has, the next is four times nearer; after one in vain, as much further off.
    """

    __slots__ = ("_rests", "_rests_between")

    def __init__(self) -> None:
        self._rests_between = 0
        self._rests = 0

    def look(self, poll: Callable[[float], Found]) -> Found:
        """What comes within LOOK_S, by asking `poll` without a pause, if that is worth it now."""
        if self._rests:
            self._rests -= 1
            return []
        if found := poll(0):  # it was there before: that says nothing
            return found
        end_s = monotonic() + LOOK_S
        while not found and monotonic() < end_s:
            found = poll(0)
        between = self._rests_between
        between = between // 4 if found else min(4 * between + 3, _RESTS_MAX)
        self._rests = self._rests_between = between
        return found
