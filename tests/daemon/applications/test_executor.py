"""The executor of one member: each order once, under the application's lock, and the ways it all ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock

from clufs.actions.interface import ActionSpec
from clufs.daemon.applications.executor import Executor
from clufs.daemon.applications.messages import (
    CheckFailed,
    Done,
    Inquiry,
    Message,
    Order,
    Printed,
    Report,
    Running,
    UnderWay,
)
from clufs.tree.reserved import application_lock
from tests.daemon.applications.fakes import LockSpace, Machine, MemberLocks, Script, until

WEB = application_lock("web")


class Profiles:
    """Implements Specs: every application is checked every 10 s, and an action may take 60."""

    interval_s = 10.0

    def spec(self, order: Order, entry: Literal["start", "stop", "check"]) -> ActionSpec:
        return ActionSpec(order.resource, entry, "web.scr", b"", {}, 60.0)

    def check_interval_s(self, order: Order) -> float:
        return self.interval_s


class Member:
    """An executor with its edges. said: what it told the planner, member by member."""

    def __init__(self) -> None:
        self.space = LockSpace()
        self.locks = MemberLocks(self.space)
        self.log: list[tuple[str, str, str]] = []
        self.script = Script()
        self.machine = Machine("here", self.log, {"web": self.script})
        self.said: list[tuple[str, Message]] = []
        self.profiles = Profiles()
        self.executor = Executor(self.locks, self.machine, self.profiles, self._send)

    def _send(self, member: str, message: Message) -> None:
        self.said.append((member, message))

    def order(
        self, action: int, entry: Any, planner: int = 1, sender: str = "there", **more: Any
    ) -> None:
        order = Order(planner, action, "web", entry, "user", "", **more)
        self.executor.ordered(sender, order)

    def told(self, kind: type[Message]) -> list[Any]:
        return [message for _, message in self.said if isinstance(message, kind)]

    async def does(self, action: int, entry: Any, **more: Any) -> Done:
        """An order, and how it ended."""
        before = len(self.told(Done))
        self.order(action, entry, **more)
        await until(lambda: len(self.told(Done)) > before, 1000)
        done: Done = self.told(Done)[-1]
        return done

    @property
    def entries(self) -> list[str]:
        return [entry for _, entry, _ in self.log]


@pytest.fixture
async def member() -> AsyncIterator[Member]:
    made = Member()
    async with trio.open_nursery() as nursery:
        await nursery.start(made.executor.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_an_application_runs_under_its_lock_from_start_to_stop(
    member: Member, autojump_clock: MockClock
) -> None:
    assert (await member.does(1, "start")).ok
    assert member.space.queues[WEB][0].held
    assert member.executor.running() == ["web"]
    assert (await member.does(2, "stop")).ok
    assert not member.space.queues[WEB]
    assert member.entries == ["start", "stop"]
    assert member.executor.running() == []


async def test_a_start_waits_for_the_lock_of_a_lost_member(
    member: Member, autojump_clock: MockClock
) -> None:
    other = MemberLocks(member.space)
    other.ask(WEB)
    fence = other.lose()
    member.order(1, "start")
    await trio.sleep(100)
    assert member.entries == []
    fence()
    await until(lambda: bool(member.told(Done)))
    done = member.told(Done)[0]
    assert done.ok and 99 < done.waited_s < 101 and done.ran_s < 1


async def test_an_order_said_twice_takes_effect_once_and_is_answered_again(
    member: Member, autojump_clock: MockClock
) -> None:
    member.script.takes_s["start"] = 5
    member.order(1, "start")
    await trio.sleep(1)
    member.order(1, "start")
    await until(lambda: bool(member.told(Done)), 20)
    await trio.sleep(20)
    assert member.entries.count("start") == 1 and len(member.told(Done)) == 1
    member.order(1, "start")
    assert member.told(Done)[1] == member.told(Done)[0]


async def test_an_old_planner_orders_nothing(member: Member, autojump_clock: MockClock) -> None:
    member.executor.inquired("new", Inquiry(7))
    done = await member.does(1, "start", planner=6, sender="old")
    assert not done.ok and "followed by 7" in done.why
    assert member.said[-1][0] == "old"
    assert member.entries == [] and member.executor.planner_member == "new"


async def test_a_new_planner_hears_what_runs_what_is_under_way_and_the_end_of_it(
    member: Member, autojump_clock: MockClock
) -> None:
    member.script.takes_s["start"] = 30
    member.order(4, "start")
    await trio.sleep(1)
    member.executor.inquired("new", Inquiry(2))
    started = UnderWay(1, 4, "web", "start")
    assert member.told(Report) == [Report(2, 1, [], [started], first=1)]
    await until(lambda: bool(member.told(Done)), 60)
    assert member.said[-1] == ("new", member.told(Done)[0]) and member.told(Done)[0].planner == 1
    member.executor.inquired("new", Inquiry(2))
    assert member.told(Report)[1] == Report(2, 1, [Running("web")], first=1)


async def test_a_stop_that_fails_keeps_the_lock_and_clear_gives_it_up(
    member: Member, autojump_clock: MockClock
) -> None:
    member.script.fails.add("stop")
    await member.does(1, "start")
    assert not (await member.does(2, "stop")).ok
    assert member.space.queues[WEB][0].held and member.machine.left == {"web"}
    member.executor.inquired("there", Inquiry(1))
    assert member.told(Report)[-1].running[0].failed == "stop"
    assert (await member.does(3, "clear")).ok
    assert not member.space.queues[WEB] and member.entries[-1] == "killed"


async def test_where_the_keeper_dies_during_a_stop_nothing_is_left_of_the_application(
    member: Member, autojump_clock: MockClock
) -> None:
    await member.does(1, "start")
    member.script.keeper_dies.add("stop")
    member.script.fails.add("stop")
    assert (await member.does(2, "stop")).ok
    assert member.machine.left == set() and not member.space.queues[WEB]


async def test_a_start_that_fails_keeps_the_lock_until_it_is_stopped(
    member: Member, autojump_clock: MockClock
) -> None:
    member.script.fails.add("start")
    assert not (await member.does(1, "start")).ok
    assert member.space.queues[WEB][0].held
    assert (await member.does(2, "stop")).ok
    assert not member.space.queues[WEB]


async def test_a_stop_takes_back_a_start_that_waits_for_the_lock(
    member: Member, autojump_clock: MockClock
) -> None:
    MemberLocks(member.space).ask(WEB)
    member.order(1, "start")
    await trio.sleep(1)
    assert (await member.does(2, "stop")).ok
    assert [done.ok for done in member.told(Done)] == [False, True]
    assert len(member.space.queues[WEB]) == 1 and member.entries == []


async def test_a_check_that_fails_is_told_until_something_is_ordered(
    member: Member, autojump_clock: MockClock
) -> None:
    await member.does(1, "start")
    await trio.sleep(25)
    assert member.entries == ["start", "check", "check"] and not member.told(CheckFailed)
    member.machine.left.clear()
    await trio.sleep(20)
    assert len(member.told(CheckFailed)) == 2
    member.executor.inquired("there", Inquiry(1))
    assert member.told(Report)[-1].running[0].failed == "check"
    await member.does(2, "start")
    await trio.sleep(25)
    assert len(member.told(CheckFailed)) == 2
    assert member.entries[-3:] == ["start", "check", "check"]


async def test_no_check_interval_no_check_until_there_is_one(
    member: Member, autojump_clock: MockClock
) -> None:
    member.profiles.interval_s = 0
    await member.does(1, "start")
    await trio.sleep(100)
    assert member.entries == ["start"]
    member.profiles.interval_s = 10
    await trio.sleep(20)
    assert member.entries == ["start", "check"]


async def test_the_lines_that_a_script_prints_go_to_who_wants_them(
    member: Member, autojump_clock: MockClock
) -> None:
    member.script.prints = ["one", "two"]
    await member.does(1, "start", output="v")
    assert [printed.line for printed in member.told(Printed)] == ["one", "two"]
    await member.does(2, "stop")
    assert len(member.told(Printed)) == 2


async def test_without_quorum_all_is_stopped_at_once_and_no_start_begins(
    member: Member, autojump_clock: MockClock
) -> None:
    await member.does(1, "start")
    member.script.takes_s["stop"] = 3600
    begun_s = trio.current_time()
    assert await member.executor.stop_all("quorum is gone", 4.0) == ["web"]
    assert 3.9 < trio.current_time() - begun_s < 5
    assert member.entries == ["start", "stop", "killed"]
    assert not member.space.queues[WEB]
    assert (await member.does(2, "start")).why == "quorum is gone"
    member.executor.reopen()
    assert member.told(Report)[-1].running == []
    assert (await member.does(3, "start")).ok


async def test_what_is_under_way_ends_with_quorum_too(
    member: Member, autojump_clock: MockClock
) -> None:
    member.script.takes_s["start"] = 3600
    member.order(1, "start")
    await trio.sleep(1)
    await member.executor.stop_all("quorum is gone", 4.0)
    assert member.told(Done)[0].why == "quorum is gone"
    assert member.entries == ["start", "stop"] and not member.space.queues[WEB]


async def test_a_start_that_waits_for_its_lock_ends_without_a_script(
    member: Member, autojump_clock: MockClock
) -> None:
    MemberLocks(member.space).ask(WEB)
    member.order(1, "start")
    await trio.sleep(1)
    await member.executor.stop_all("quorum is gone", 4.0)
    assert member.entries == [] and len(member.space.queues[WEB]) == 1
    assert member.told(Done)[0].why == "quorum is gone"


async def test_what_ended_without_an_order_is_told(
    member: Member, autojump_clock: MockClock
) -> None:
    await member.does(1, "start")
    member.machine.left.clear()
    member.executor.ended_by_themselves(["web", "db"])
    await until(lambda: bool(member.told(Report)))
    assert member.told(Report)[-1].running == [] and not member.space.queues[WEB]


async def test_stop_is_not_called_again_where_it_has_failed(
    member: Member, autojump_clock: MockClock
) -> None:
    member.script.fails.add("stop")
    await member.does(1, "start")
    await member.does(2, "stop")
    await member.executor.stop_all("quorum is gone", 4.0)
    assert member.entries == ["start", "stop", "killed"] and not member.space.queues[WEB]
