"""A message goes straight, the registry takes its time: nobody acts on what has not come to it yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from tests.daemon.applications.cluster import NAMES, Cluster, Member, cluster
from tests.daemon.applications.fakes import until


@asynccontextmanager
async def _planned() -> AsyncIterator[tuple[Cluster, Member, Member]]:
    """A cluster, the member that plans, of which all have heard, and another."""
    async with cluster() as clu:
        await clu.boot()
        ups = [clu.members[name].up for name in NAMES]
        await until(lambda: all(up.planner() for up in ups))
        life = ups[0].planner()
        assert life is not None
        planner = clu.members[life.member]
        yield clu, planner, next(clu.members[name] for name in NAMES if name != planner.name)


async def _start(user: Member, said: list[tuple[int, list[str]]]) -> None:
    said.append(await user.ask("start", "web"))


async def test_the_planner_may_hear_of_a_resource_later_than_of_its_start(
    autojump_clock: MockClock,
) -> None:
    async with _planned() as (clu, planner, user):
        planner.lag()
        clu.register("web")
        said: list[tuple[int, list[str]]] = []
        clu.nursery.start_soon(_start, user, said)
        await trio.sleep(1)
        assert said == []
        planner.catch_up()
        await until(lambda: said != [])
        assert said[0][0] == 0, said


async def test_who_is_to_start_an_application_has_its_script_first(
    autojump_clock: MockClock,
) -> None:
    async with _planned() as (clu, planner, host):
        host.lag()
        clu.register("web", PLACEMENT="restricted", HOSTING_MEMBERS=host.name)
        clu.nursery.start_soon(_start, planner, [])
        await trio.sleep(1)
        assert clu.entries("web") == []
        host.catch_up()
        await clu.runs("web", host.name)


async def test_who_hears_that_a_command_succeeded_reads_so_as_well(
    autojump_clock: MockClock,
) -> None:
    async with _planned() as (clu, planner, user):
        clu.register("web", PLACEMENT="restricted", HOSTING_MEMBERS=planner.name)
        user.lag()
        said: list[tuple[int, list[str]]] = []
        clu.nursery.start_soon(_start, user, said)
        await clu.runs("web", planner.name)
        await trio.sleep(1)
        assert said == []
        user.catch_up()
        await until(lambda: said != [])
        assert user.up.resources()["web"].state == "ONLINE"


async def test_what_a_lost_member_said_too_early_is_not_heard(autojump_clock: MockClock) -> None:
    async with _planned() as (clu, planner, user):
        planner.lag()
        clu.register("web")
        clu.nursery.start_soon(_start, user, [])
        await trio.sleep(1)
        clu.die(user.name)()
        planner.catch_up()
        await trio.sleep(5)
        assert clu.entries("web") == [] and clu.where("web") == "OFFLINE"
