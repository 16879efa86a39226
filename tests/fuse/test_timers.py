"""Deadlines: called soon after their time, never before, and not at all once cancelled."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import trio

from clufs.fuse.timers import Timers

SOON_S = 0.02


@pytest.fixture
async def timers() -> AsyncIterator[Timers]:
    async with trio.open_nursery() as nursery:
        timers = Timers()
        nursery.start_soon(timers.run)
        with trio.fail_after(10):
            yield timers
        nursery.cancel_scope.cancel()


async def test_an_action_is_never_called_early(timers: Timers) -> None:
    called = trio.Event()
    due = time.monotonic() + SOON_S
    timers.at(due, called.set)
    await called.wait()
    assert time.monotonic() >= due


async def test_actions_come_in_the_order_of_their_times(timers: Timers) -> None:
    now, order, last = time.monotonic(), [], trio.Event()
    timers.at(now + 2 * SOON_S, lambda: (order.append("second"), last.set()))
    await trio.lowlevel.checkpoint()
    timers.at(now + SOON_S, lambda: order.append("first"))
    await last.wait()
    assert order == ["first", "second"]


async def test_equal_times_keep_the_order_of_asking(timers: Timers) -> None:
    due, order, last = time.monotonic() + SOON_S, [], trio.Event()
    for number in range(5):
        timers.at(due, lambda number=number: order.append(number))  # type: ignore[misc]
    timers.at(due, last.set)
    await last.wait()
    assert order == [0, 1, 2, 3, 4]


async def test_a_cancelled_timer_does_nothing(timers: Timers) -> None:
    called, last = [], trio.Event()
    due = time.monotonic() + SOON_S
    timer = timers.at(due, lambda: called.append("cancelled"))
    timers.at(due, last.set)
    timer.cancel()
    await last.wait()
    assert called == []


async def test_an_action_may_ask_for_the_next(timers: Timers) -> None:
    last = trio.Event()
    timers.at(0, lambda: timers.at(0, last.set))
    await last.wait()


async def test_nothing_is_done_while_nothing_is_due(timers: Timers) -> None:
    timers.at(time.monotonic() + 3600, pytest.fail)
    await trio.sleep(SOON_S)
    before = time.process_time()
    await trio.sleep(10 * SOON_S)
    assert time.process_time() - before < SOON_S
