"""When the keeper of the scripts or the daemon dies, nothing that they ran is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from clufs.actions import cgroup, leftovers
from clufs.actions.commands import Machine
from clufs.actions.record import Record
from tests.actions.machine import (
    WAIT_S,
    Actions,
    actions,
    crowd,
    daemonised,
    hopping,
    is_alive,
    marks_in,
    moved,
    pids,
    undead,
    until,
    until_async,
)

# -------------------------------------------------------------- the keeper dies


@pytest.mark.parametrize("cgroups", [True, False])
async def test_a_killed_keeper_is_replaced_and_its_applications_are_ended(
    tmp_path: Path, cgroups: bool
) -> None:
    marks = marks_in(tmp_path)
    lost: list[list[str]] = []
    async with actions(tmp_path / "state", Machine(cgroups=cgroups), lost.append) as found:
        assert (await found.run(daemonised(marks))).ok
        results = []

        async def check() -> None:
            results.append(
                await found.run("echo on; sleep 60", "check", on_line=lambda _: on.set())
            )

        on = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(check)
            await on.wait()
            os.kill(found.keeper, signal.SIGKILL)
        assert not results[0].ok and results[0].keeper_died
        assert await found.runner.running() == []
        assert not any(map(is_alive, pids(marks)))
        assert lost == [["app"]]
        assert (await found.run("exit 0", "check")).ok


async def test_a_killed_reaper_ends_its_application(either: Actions, tmp_path: Path) -> None:
    marks = marks_in(tmp_path)
    assert (await either.run(daemonised(marks))).ok
    ((_, record),) = Record(either.state).reapers()
    os.kill(int(record.read_text().split()[0]), signal.SIGKILL)
    await until_async(lambda: not any(map(is_alive, pids(marks))))
    with trio.fail_after(WAIT_S):
        await either.runner.end("app")
    assert await either.runner.is_empty("app")
    assert (await either.run("exit 0", "check")).ok


# -------------------------------------------------------------- the daemon dies

DAEMON = """
import sys, trio
from pathlib import Path
from clufs.actions.commands import Machine
from tests.actions.machine import actions

async def main(state, script, cgroups):
    async with actions(Path(state), Machine(cgroups=cgroups == "True")) as found:
        done = await found.run(Path(script).read_text())
        print("running" if done.ok else done.why, flush=True)
        await trio.sleep(60)

trio.run(main, *sys.argv[1:])
"""


def _killed_daemon(tmp_path: Path, nasty: str, cgroups: bool, also_keeper: bool) -> None:
    """A daemon that runs an application, killed."""
    (tmp_path / "script").write_text(nasty)
    words = [sys.executable, "-c", DAEMON, str(tmp_path / "state"), str(tmp_path / "script")]
    root = Path(__file__).parents[2]
    daemon = subprocess.Popen(
        [*words, str(cgroups)], stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ}
    )
    with daemon:
        assert daemon.stdout is not None
        try:
            assert daemon.stdout.readline() == "running\n"
            if also_keeper:
                keeper = int(Record(tmp_path / "state").keeper.read_text().split()[0])
                # So that it cannot end anything when its daemon is gone.
                os.kill(keeper, signal.SIGSTOP)
        finally:
            daemon.kill()


@pytest.mark.parametrize("cgroups", [True, False])
def test_when_the_daemon_dies_its_keeper_ends_everything(tmp_path: Path, cgroups: bool) -> None:
    marks = marks_in(tmp_path)
    _killed_daemon(tmp_path, daemonised(marks), cgroups, also_keeper=False)
    until(lambda: not any(map(is_alive, pids(marks))))
    until(lambda: not (tmp_path / "state/actions/keeper").exists())
    assert Record(tmp_path / "state").cgroup() is None


@pytest.mark.parametrize("nasty", [daemonised, hopping, undead, crowd, moved])
@pytest.mark.parametrize("cgroups", [True, False])
async def test_a_new_daemon_empties_what_the_old_one_left(
    tmp_path: Path, cgroups: bool, nasty: Callable[[Path], str]
) -> None:
    marks = marks_in(tmp_path)
    _killed_daemon(tmp_path, nasty(marks), cgroups, also_keeper=True)
    until(lambda: any(map(is_alive, pids(marks))))
    place = Record(tmp_path / "state").cgroup()
    lost: list[list[str]] = []
    async with actions(tmp_path / "state", Machine(cgroups=cgroups), lost.append) as found:
        count = len(pids(marks))
        assert not any(map(is_alive, pids(marks)))
        assert place is None or not place.exists()
        assert lost == [["app"]]
        assert (await found.run("exit 0", "check")).ok
        assert len(pids(marks)) == count


def test_a_member_that_is_a_pid_namespace_leaves_no_cgroup(tmp_path: Path) -> None:
    """As a lab's member: killed with its process 1, nobody of it is left to remove anything."""
    marks = marks_in(tmp_path)
    (tmp_path / "script").write_text(daemonised(marks))
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c"]
    words += [DAEMON, str(tmp_path / "state"), str(tmp_path / "script"), "True"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root) as member:
        assert member.stdout is not None
        try:
            assert member.stdout.readline() == "running\n"
            place = Record(tmp_path / "state").cgroup()
            assert (place is None) == (cgroup.own_place() is None)
        finally:
            member.kill()
    if place is not None:
        until(lambda: cgroup.is_empty(place))
        leftovers.forget_cgroups(tmp_path / "state")
        assert not place.exists()
