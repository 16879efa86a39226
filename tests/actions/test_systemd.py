"""Units as applications under a systemd that is no stand-in."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clufs.actions.commands import Machine
from clufs.actions.interface import ActionResult, Entry
from tests.actions.machine import Actions, actions, until_async
from tests.actions.systemd import systemd


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with systemd(tmp_path_factory.mktemp("systemd")) as made:
        yield made


def _is_active(machine: Machine) -> str:
    words = [machine.systemctl, "is-active", "app.service"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


async def _act(found: Actions, entry: Entry, unit: str = "app.service") -> ActionResult:
    return await found.run(None, entry, action_script=f"systemd:{unit}")


async def test_a_unit_is_started_checked_and_stopped(machine: Machine, tmp_path: Path) -> None:
    async with actions(tmp_path / "state", machine) as found:
        why = "systemctl is-active app.service: not active (3)"
        assert (await _act(found, "check")).why == why
        assert (await _act(found, "start")).ok
        assert (await _act(found, "check")).ok and _is_active(machine) == "active"
        assert await found.runner.running() == ["app"]
        assert (await _act(found, "stop")).ok
        assert not (await _act(found, "check")).ok
        await found.runner.end("app")


async def test_what_systemd_says_of_a_unit_that_fails_or_is_not_there(
    machine: Machine, tmp_path: Path
) -> None:
    async with actions(tmp_path / "state", machine) as found:
        ill = await _act(found, "start", "ill.service")
        assert not ill.ok and ill.why == "systemctl start ill.service: exit status 1"
        nobody = await _act(found, "start", "nobody.service")
        assert not nobody.ok and nobody.why == "systemctl start nobody.service: no such unit (5)"
        await found.runner.end("app")


async def test_ending_ends_a_unit_that_ignores_its_stop(machine: Machine, tmp_path: Path) -> None:
    async with actions(tmp_path / "state", machine) as found:
        assert (await _act(found, "start")).ok
        await found.runner.end("app")
        assert await found.runner.is_empty("app") and _is_active(machine) != "active"


async def test_a_new_keeper_ends_the_unit_of_one_that_was_killed(
    machine: Machine, tmp_path: Path
) -> None:
    lost: list[list[str]] = []
    async with actions(tmp_path / "state", machine, lost.append) as found:
        assert (await _act(found, "start")).ok
        os.kill(found.keeper, signal.SIGKILL)
        await until_async(lambda: lost)
        assert lost == [["app"]] and _is_active(machine) != "active"
