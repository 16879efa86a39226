"""Who leaves, or is drained, has its applications relocated before, and what it left comes back as it was."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.daemon.applications.cluster import NAMES, cluster

PROVOLONE, POLISHHAM, PEPICELLI = NAMES


async def test_who_leaves_has_its_applications_relocated(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        for name in ("web", "db"):
            clu.register(name)
            await clu.members[PROVOLONE].ask("start", name, member=PEPICELLI)
        await clu.members[PEPICELLI].up.leave()
        assert {clu.where("web"), clu.where("db")} == {"ONLINE on provolone", "ONLINE on polishham"}
        assert clu.record("web").history[-2].reason.startswith("member pepicelli leaves")
        clu.die(PEPICELLI)()
        await clu.boot(PEPICELLI)
        await trio.sleep(5)
        code, _ = await clu.members[POLISHHAM].ask("relocate", "web", member=PEPICELLI)
        assert code == 0 and clu.state.resource_table.drained == ()


async def test_a_drained_member_stays_so_when_it_leaves_and_comes_back(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        await clu.members[PROVOLONE].ask("start", "web", member=PEPICELLI)
        code, lines = await clu.members[POLISHHAM].ask("drain", "", member=PEPICELLI)
        assert (code, lines[-1]) == (0, "Start of 'web' on member 'provolone' succeeded.")
        await clu.members[PEPICELLI].up.leave()
        clu.die(PEPICELLI)()
        await clu.members[PROVOLONE].ask("drain", "", member=POLISHHAM)
        await clu.boot(PEPICELLI)
        await trio.sleep(5)
        assert clu.state.drained == (PEPICELLI, POLISHHAM)
        assert (await clu.members[POLISHHAM].ask("relocate", "web"))[0] == 1
        code, _ = await clu.members[POLISHHAM].ask("drain", "", member=PEPICELLI, on=False)
        assert (code, clu.state.drained) == (0, (POLISHHAM,))
        assert (await clu.members[POLISHHAM].ask("relocate", "web"))[0] == 0
        assert clu.where("web") == "ONLINE on pepicelli"


async def test_who_is_drained_while_it_leaves_is_drained_when_it_comes_back(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        await clu.members[PEPICELLI].up.leave()
        assert clu.state.drained == ()
        await clu.members[POLISHHAM].ask("drain", "", member=PEPICELLI)
        clu.die(PEPICELLI)()
        await clu.boot(PEPICELLI)
        await trio.sleep(5)
        assert clu.state.drained == (PEPICELLI,)


async def test_the_planner_leaves_and_another_plans(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        await clu.members[PROVOLONE].ask("start", "web")
        await clu.members[PROVOLONE].up.leave()
        await clu.runs("web", POLISHHAM)
        clu.die(PROVOLONE)()
        assert (await clu.members[PEPICELLI].ask("stop", "web"))[0] == 0


async def test_who_leaves_alone_stops_what_runs_and_starts_it_again_after_the_boot(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot(PROVOLONE)
        for name in ("web", "off"):
            clu.register(name)
        clu.register("auto", AUTO_START=1)
        await clu.members[PROVOLONE].ask("start", "web")
        await clu.members[PROVOLONE].up.leave()
        assert (clu.where("web"), clu.record("web").target) == ("OFFLINE", "ONLINE")
        clu.die(PROVOLONE)()
        await clu.boot()
        await clu.runs("web")
        await clu.runs("auto")
        assert clu.where("off") == "OFFLINE"


async def test_who_leaves_alone_stops_first_what_requires_others(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot(PROVOLONE)
        clu.register("disk")
        clu.register("db", REQUIRED_RESOURCES="disk")
        clu.register("web", REQUIRED_RESOURCES="db disk")
        for name in ("disk", "db", "web"):
            clu.script(name).takes_s["stop"] = 5
            await clu.members[PROVOLONE].ask("start", name)
        await clu.members[PROVOLONE].up.leave()
        stops = [name for _, what, name in clu.log if what == "stop"]
        assert stops == ["web", "db", "disk"]
