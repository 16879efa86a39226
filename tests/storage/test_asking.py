"""A question to a LUN that many ask: one at a time, each answer newer than its question, nobody waits for ever."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from clufs.errors import LunError, LunTimedOut, PathLost
from clufs.storage.asking import Question
from clufs.timeouts import LUN_FRESH_S, LUN_SHOW_S


class Oracle:
    """Answers with how often it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = trio.Event()
        self.may_answer.set()

    async def ask(self) -> int:
        self.asked += 1
        mine = self.asked
        await self.may_answer.wait()
        if mine == 13:
            raise PathLost("unlucky")
        return mine


@asynccontextmanager
async def questioned(oracle: Oracle) -> AsyncIterator[Question[int]]:
    async with trio.open_nursery() as nursery:
        yield Question("x", nursery.start_soon, oracle.ask)
        nursery.cancel_scope.cancel()


async def test_who_asks_later_does_not_get_an_earlier_answer() -> None:
    oracle = Oracle()
    async with questioned(oracle) as question:
        assert [await question.answer() for _ in range(3)] == [1, 2, 3]
        assert question.last == 3


async def test_all_who_ask_while_it_is_asked_share_the_next_answer() -> None:
    oracle = Oracle()
    oracle.may_answer = trio.Event()
    found: list[int] = []
    async with questioned(oracle) as question, trio.open_nursery() as nursery:

        async def ask() -> None:
            found.append(await question.answer())

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(10):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert oracle.asked == 1
        oracle.may_answer.set()
    assert sorted(found) == [1] + [2] * 10


async def test_a_failure_is_told_and_the_last_answer_stays() -> None:
    oracle = Oracle()
    oracle.asked = 11
    async with questioned(oracle) as question:
        assert await question.answer() == 12
        with pytest.raises(LunError, match="unlucky"):
            await question.answer()
        assert question.last == 12
        assert await question.answer() == 14


async def test_a_lun_that_is_silent_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    oracle = Oracle()
    oracle.may_answer = trio.Event()
    async with questioned(oracle) as question:
        for _ in range(3):
            begun = trio.current_time()
            with pytest.raises(LunTimedOut, match="x: no answer within"):
                await question.answer()
            assert trio.current_time() - begun == pytest.approx(LUN_SHOW_S)
        assert oracle.asked == 1
        oracle.may_answer.set()
        await trio.testing.wait_all_tasks_blocked()
        assert await question.answer() == 2


async def test_a_size_may_be_that_of_a_recent_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with questioned(Oracle()) as question:
        assert [await question.recent(), await question.recent()] == [1, 1]
        await trio.sleep(LUN_FRESH_S)
        assert await question.recent() == 2
        assert await question.answer() == 3
