"""Deadlines: served at their time and in their order, whatever is late."""

from __future__ import annotations

import time

import pytest
import trio

from clufs.fuse.timers import Timers


async def served(timers: Timers, done: trio.Event) -> None:
    """Run the timers until the last action has been called."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        with trio.fail_after(10):
            await done.wait()
        nursery.cancel_scope.cancel()


async def test_actions_come_in_order_of_their_times_and_not_before() -> None:
    timers, done = Timers(), trio.Event()
    begin = time.monotonic()
    calls: list[tuple[str, float]] = []
    for name, delay_s in (("late", 0.03), ("soon", 0.01), ("past", -5.0)):
        timers.at(begin + delay_s, lambda name=name: calls.append((name, time.monotonic())))
    timers.at(begin + 0.04, done.set)
    await served(timers, done)
    assert [name for name, _ in calls] == ["past", "soon", "late"]
    assert all(at >= begin + delay for (_, at), delay in zip(calls, (-5, 0.01, 0.03), strict=True))


async def test_a_cancelled_timer_does_nothing() -> None:
    timers, done = Timers(), trio.Event()
    cancelled = timers.at(time.monotonic(), lambda: pytest.fail("it was cancelled"))
    cancelled.cancel()
    timers.at(time.monotonic() + 0.01, done.set)
    await served(timers, done)


async def test_a_deadline_that_passes_while_the_heap_is_looked_at_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timers, done = Timers(), trio.Event()
    real = time.monotonic
    looks = 0

    def a_clock_that_moves_between_two_looks() -> float:
        nonlocal looks
        looks += 1
        return real() + looks

    monkeypatch.setattr(time, "monotonic", a_clock_that_moves_between_two_looks)
    timers.at(real() + 1.5, done.set)
    await served(timers, done)
