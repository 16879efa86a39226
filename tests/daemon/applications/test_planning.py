"""Who plans, what is ordered, and what becomes of it when members come and go."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from clufs.daemon.applications.messages import Ask
from clufs.errors import HostDown
from clufs.registry.commands import GOODBYE, MemberOut
from clufs.timeouts import APPLICATION_PATIENCE_S
from tests.daemon.applications.cluster import NAMES, Cluster, Member, cluster
from tests.daemon.applications.fakes import until

PROVOLONE, POLISHHAM, PEPICELLI = NAMES


async def test_a_command_at_any_member_is_carried_out(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        code, lines = await clu.members[PEPICELLI].ask("start", "web")
        assert code == 0 and lines == [
            "Attempting to start 'web' on member 'provolone'",
            "Start of 'web' on member 'provolone' succeeded.",
        ]
        assert clu.where("web") == "ONLINE on provolone"
        assert (await clu.members[POLISHHAM].ask("stop", "web"))[0] == 0
        assert clu.where("web") == "OFFLINE" and clu.entries("web") == [
            "start provolone",
            "stop provolone",
        ]


async def test_a_lost_members_application_waits_for_the_fence(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        await clu.members[PROVOLONE].ask("start", "web", member=PEPICELLI)
        fence = clu.die(PEPICELLI)
        await trio.sleep(30)
        assert clu.entries("web")[1:] == ["power off pepicelli"]
        fence()
        await clu.runs("web", PROVOLONE)
        assert "30" in clu.record("web").history[-1].reason


async def test_history_tells_what_a_takeover_took(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        clu.script("web").takes_s["start"] = 3
        await clu.members[PROVOLONE].ask("start", "web", member=PEPICELLI)
        clu.members[PROVOLONE].runtime.silent_s[PEPICELLI] = 1.5
        fence = clu.die(PEPICELLI)
        goodbye = MemberOut(POLISHHAM, 77, GOODBYE)
        await trio.sleep(4)
        clu.members[PROVOLONE].up.applied(goodbye)
        await trio.sleep(1)
        clu.members[PROVOLONE].up.applied(MemberOut(PEPICELLI, 1, "its fence"))
        await trio.sleep(2)
        fence()
        await clu.runs("web", PROVOLONE)
        lost, again = clu.record("web").history[-2:]
        why = "member pepicelli was lost, 1.50 s after it was last heard"
        assert lost.reason == why
        assert again.reason.startswith(f"{why}; provolone was chosen: ")
        times = "(5.00 s for the fencing, 2.00 s for its lock, 3.00 s for its script)"
        assert again.reason.endswith(times)


async def test_the_next_planner_goes_on_when_one_dies(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        clu.register("db")
        clu.script("db").takes_s["start"] = 20
        await clu.members[POLISHHAM].ask("start", "web", member=PROVOLONE)
        said: list[str] = []
        clu.nursery.start_soon(_says, clu.members[POLISHHAM], "db", said)
        await until(lambda: clu.entries("db") == ["start pepicelli"])
        fence = clu.die(PROVOLONE)
        await trio.sleep(5)
        fence()
        await clu.runs("web")
        await clu.runs("db", PEPICELLI)
        assert clu.entries("db") == ["start pepicelli"]
        assert said == [
            "Attempting to start 'db' on member 'pepicelli'",
            "provolone planned, and does no more: who plans now is asked again",
            "Resource 'db' is already running on member 'pepicelli'.",
        ]


async def test_of_a_relocation_whose_planner_dies_nobody_knows(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        await clu.members[POLISHHAM].ask("start", "web", member=PEPICELLI)
        clu.script("web").takes_s["stop"] = 20
        said: list[str] = []
        clu.nursery.start_soon(_says, clu.members[POLISHHAM], "web", said, "relocate", POLISHHAM)
        await until(lambda: clu.entries("web")[-1] == "stop pepicelli")
        clu.die(PROVOLONE)()
        lost = "provolone planned, and does no more: see the resource's state"
        await until(lambda: said[-1] == lost)
        await until(lambda: clu.entries("web")[-1].startswith("start"), 100)


async def test_who_is_expelled_and_comes_back_hears_what_became_of_its_command(
    autojump_clock: MockClock,
) -> None:
    """The planner is the same one still; what it said meanwhile was said to another life."""
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        clu.script("web").takes_s["start"] = 5
        ends: list[tuple[int, list[str]]] = []

        async def start() -> None:
            ends.append(await clu.members[POLISHHAM].ask("start", "web", member=PEPICELLI))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            await trio.sleep(1)
            await clu.expel(POLISHHAM, away_s=10)
            with trio.fail_after(60):
                await until(lambda: ends)
        [(code, lines)] = ends
        again = "and this member was out of touch with it: who plans now is asked again"
        assert f"provolone plans, {again}" in lines
        assert (code, lines[-1]) == (0, "Resource 'web' is already running on member 'pepicelli'.")
        assert clu.entries("web") == ["start pepicelli"]


async def test_two_planners_never_save_at_once(autojump_clock: MockClock) -> None:
    """One that stands still is found to have a successor when it wakes up and saves."""
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        number = clu.members[PROVOLONE].up.executor.planner
        clu.state.resource_table.planner = number + 1
        clu.nursery.start_soon(_says, clu.members[PROVOLONE], "web", [])
        await until(lambda: clu.members[PROVOLONE].up.executor.planner > number)
        assert (await clu.members[PEPICELLI].ask("stop", "web"))[0] == 0


async def test_without_quorum_all_stops_at_once_and_starts_elsewhere_after_the_fence(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        await clu.members[PROVOLONE].ask("start", "web", member=PEPICELLI)
        clu.view(PROVOLONE, POLISHHAM)
        await trio.sleep(1)
        clu.members[PEPICELLI].up.quorum_lost()
        await until(lambda: clu.entries("web")[:2] == ["start pepicelli", "stop pepicelli"])
        await clu.runs("web", PROVOLONE)


async def test_a_view_that_takes_its_time_stops_nothing_while_the_votes_are_there(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web", CHECK_INTERVAL=0)
        await clu.members[PROVOLONE].ask("start", "web", member=POLISHHAM)
        host = clu.members[POLISHHAM]
        for late_s in (10, 10):
            host.runtime.core.standing = False
            host.up.suspended()
            host.up.quorum_lost()
            await trio.sleep(late_s)
            clu.view(*NAMES)
        await trio.sleep(60)
        assert clu.entries("web") == ["start polishham"]
        host.up.suspended()
        host.up.quorum_lost()
        await trio.sleep(2)
        host.runtime.quorate = False
        host.up.moved()
        await trio.sleep(1)
        assert clu.entries("web") == ["start polishham", "stop polishham"]


async def test_without_a_view_for_long_all_stops_whatever_the_votes(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web", CHECK_INTERVAL=0)
        await clu.members[PROVOLONE].ask("start", "web", member=POLISHHAM)
        host = clu.members[POLISHHAM]
        host.up.suspended()
        host.up.quorum_lost()
        await trio.sleep(APPLICATION_PATIENCE_S + 1)
        assert clu.entries("web") == ["start polishham", "stop polishham"]


async def test_who_stood_alone_and_comes_back_starts_nothing_by_itself(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web", PLACEMENT="restricted", HOSTING_MEMBERS=PEPICELLI)
        await clu.members[PROVOLONE].ask("start", "web")
        clu.view()
        for name in NAMES:
            clu.members[name].up.quorum_lost()
        await until(lambda: clu.entries("web") == ["start pepicelli", "stop pepicelli"])
        await trio.sleep(100)
        assert clu.entries("web") == ["start pepicelli", "stop pepicelli"]
        clu.view(*NAMES)
        await until(
            lambda: len(clu.entries("web")) == 3 and clu.where("web") == "ONLINE on pepicelli"
        )
        assert clu.record("web").restart_count == 0
        said = [one.reason for one in clu.record("web").history]
        assert any("this member has lost quorum" in reason for reason in said), said


async def test_maintenance_ends_with_the_life_that_holds_it(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        await clu.members[PROVOLONE].ask("start", "web", member=POLISHHAM)
        for name in (PROVOLONE, PEPICELLI):
            code, _ = await clu.members[name].ask("maintain", "web", on=True, holder=1)
            assert code == 0
        clu.die(PROVOLONE)()
        await until(lambda: clu.members[PEPICELLI].up.planner() is not None)
        await trio.sleep(5)
        assert clu.record("web").maintenance
        await clu.members[PEPICELLI].ask("maintain", "web", on=False, holder=1)
        assert not clu.record("web").maintenance
        await clu.members[PEPICELLI].ask("maintain", "web", on=True, holder=2)
        clu.die(PEPICELLI)()
        await until(lambda: not clu.record("web").maintenance)


async def test_the_next_planner_keeps_the_failover_delay(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web", FAILOVER_DELAY=60)
        await clu.members[PROVOLONE].ask("start", "web", member=PEPICELLI)
        clu.die(PEPICELLI)()
        await trio.sleep(10)
        begun_s = trio.current_time()
        clu.die(PROVOLONE)()

        await clu.runs("web", POLISHHAM, patience_s=100)
        assert 45 < trio.current_time() - begun_s < 55


async def test_a_daemon_is_killed_and_what_it_ran_is_emptied_before_anything_starts(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        await clu.members[PROVOLONE].ask("start", "web", member=PEPICELLI)
        fence = clu.die(PEPICELLI, with_machine=False)
        await trio.sleep(1)
        await clu.nursery.start(clu.members[PEPICELLI].run)
        assert clu.entries("web") == ["start pepicelli", "killed pepicelli"]
        fence()
        clu.view(*NAMES)
        await clu.runs("web", PROVOLONE)


async def test_a_check_that_fails_restarts_the_application_where_it_is(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web", CHECK_INTERVAL=10)
        await clu.members[PROVOLONE].ask("start", "web", member=PEPICELLI)
        clu.members[PEPICELLI].machine.left.clear()
        await until(lambda: clu.record("web").restart_count == 1, 100)
        await clu.runs("web", PEPICELLI)


async def test_an_application_follows_its_network(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("net", TYPE="network", SUBNET="16.140.112.0")
        clu.register("web", REQUIRED_RESOURCES="net")
        clu.members[PEPICELLI].plugs.plug("net")
        await until(lambda: any(one.state == "ONLINE" for one in clu.record("net").monitors))
        assert (await clu.members[PROVOLONE].ask("start", "web"))[0] == 0
        assert clu.where("web") == "ONLINE on pepicelli"
        clu.members[POLISHHAM].plugs.plug("net")
        clu.members[PEPICELLI].plugs.plug("net", is_in=False)
        await clu.runs("web", POLISHHAM)
        clu.die(PROVOLONE)()
        await until(lambda: clu.members[PEPICELLI].up.executor.planner_member != PROVOLONE)
        clu.members[POLISHHAM].plugs.plug("net", is_in=False)
        await until(lambda: clu.where("web") == "OFFLINE")


async def test_five_hundred_of_a_lost_member_are_not_five_hundred_writes_to_disk(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        names = [f"app{number}" for number in range(500)]
        for name in names:
            clu.register(name, PLACEMENT="favored", HOSTING_MEMBERS=f"{PEPICELLI} {POLISHHAM}")
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(clu.members[PROVOLONE].ask, "start", name)
        before = clu.saves
        clu.die(PEPICELLI)()
        for name in names:
            await clu.runs(name, POLISHHAM)
        assert clu.saves - before < 50


async def test_what_a_member_has_started_while_it_was_out_of_sight_is_found(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web")
        clu.script("web").takes_s["start"] = 10
        clu.nursery.start_soon(_says, clu.members[PROVOLONE], "web", [])
        await until(lambda: clu.entries("web") == ["start pepicelli"])
        clu.view(PROVOLONE, POLISHHAM)
        await trio.sleep(2)
        clu.view(*NAMES)
        await trio.sleep(60)
        record = clu.record("web")
        assert record.state == "ONLINE"
        assert clu.members[record.member].up.executor.running() == ["web"]
        assert sum(bool(one.up.executor.running()) for one in clu.members.values()) == 1


async def test_a_network_that_is_there_when_its_member_comes_back_is_online(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("net", TYPE="network", SUBNET="16.140.112.0")
        pepicelli = clu.members[PEPICELLI]
        pepicelli.plugs.plug("net")
        await until(lambda: _online(clu, "net") == [PEPICELLI])
        clu.die(PEPICELLI)()
        await until(lambda: _online(clu, "net") == [])
        clu.nursery.start_soon(pepicelli.run)
        await trio.sleep(0.1)
        pepicelli.plugs.plug("net")
        clu.view(*NAMES)
        await until(lambda: _online(clu, "net") == [PEPICELLI])


async def test_a_monitor_may_speak_before_the_planner_knows_the_resource(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        for name in NAMES:
            clu.members[name].plugs.online.add("net")
        planner = clu.members[PROVOLONE].up.executor.planner_member
        other = next(name for name in NAMES if name != planner)
        clu.members[other].up.executor.watched("net", True)
        await trio.sleep(0.1)
        clu.register("net", TYPE="network", SUBNET="16.140.112.0")
        await until(lambda: _online(clu, "net") == sorted(NAMES))


async def test_a_clock_that_is_set_back_delays_no_failover(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web", FAILOVER_DELAY=30)
        await clu.members[PROVOLONE].ask("start", "web", member=PEPICELLI)
        clu.die(PEPICELLI)()
        await until(lambda: clu.where("web") == "OFFLINE")
        clu.set_by_s = -3600
        await clu.runs("web", patience_s=60)


async def test_the_next_planner_waits_no_hour_because_its_clock_is_behind(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        await clu.boot()
        clu.register("web", FAILOVER_DELAY=30)
        await clu.members[PROVOLONE].ask("start", "web", member=POLISHHAM)
        clu.die(POLISHHAM)()
        await until(lambda: clu.where("web") == "OFFLINE")
        clu.nursery.start_soon(clu.members[POLISHHAM].run)
        await trio.sleep(1)
        clu.set_by_s = -3600
        clu.die(PROVOLONE)()
        await clu.runs("web", patience_s=700)


async def test_a_planner_lost_before_it_has_saved_anything_does_not_end_the_boot(
    autojump_clock: MockClock,
) -> None:
    async with cluster() as clu:
        clu.register("web", AUTO_START=1)
        clu.register("db", AUTO_START=1)
        clu.script("web").takes_s["start"] = clu.script("db").takes_s["start"] = 3
        clu.disk_s = 1000
        await clu.boot()
        await until(lambda: len(clu.entries("web") + clu.entries("db")) == 2)
        fence = clu.die(PROVOLONE)
        fence()
        clu.disk_s = 0.005
        await clu.runs("web")
        await clu.runs("db")
        starts = [entry for entry in clu.entries("web") + clu.entries("db") if "start" in entry]
        assert len(starts) <= 3, "one of the two was lost with its member"


async def test_the_next_planner_boots_nothing_again(autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        await until(lambda: clu.saves == 1)
        clu.register("web", AUTO_START=1)
        clu.die(PROVOLONE)()
        await trio.sleep(30)
        assert clu.where("web") == "OFFLINE" and clu.entries("web") == []


def _online(clu: Cluster, name: str) -> list[str]:
    return [one.member for one in clu.record(name).monitors if one.state == "ONLINE"]


async def _says(
    member: Member, resource: str, said: list[str], verb: str = "start", where: str = PEPICELLI
) -> None:
    try:
        await member.up.asking.ask(Ask(0, verb, resource, where), said.append)
    except HostDown as error:
        said.append(str(error))
