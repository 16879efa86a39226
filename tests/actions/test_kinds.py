"""OCF agents and systemd units as actions.

The OCF agents are run for real: one written here, and Dummy of resource-agents. systemd does not run
where the tests do: what it would be told is recorded by a program in systemctl's place, and the real
systemctl is asked whether it understands these words.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clufs.actions.commands import Machine
from clufs.actions.interface import Entry
from clufs.actions.record import Record
from clufs.caa.environment import action_environment
from clufs.caa.interface import Reason
from tests.actions.machine import Actions, actions, until, until_async

# ------------------------------------------------------------------------- OCF

AGENT = """#!/bin/sh
# An agent after the OCF 1.1 API: a state file, and words on what it was given.
case $1 in
start) touch "$OCF_RESKEY_state"; env | grep ^OCF_ | sort ;;
stop) rm -f "$OCF_RESKEY_state" ;;
monitor) test -f "$OCF_RESKEY_state" || exit 7; exit ${OCF_RESKEY_answer:-0} ;;
*) exit 3 ;;
esac
"""


@pytest.fixture
async def clufs_agent(tmp_path: Path) -> AsyncIterator[Actions]:
    directory = tmp_path / "ocf/resource.d/clufs"
    directory.mkdir(parents=True)
    (directory / "Dummy").write_text(AGENT)
    (directory / "Dummy").chmod(0o755)
    async with actions(tmp_path / "state", Machine(ocf_root=tmp_path / "ocf")) as found:
        yield found


def _environment(**attributes: str) -> dict[str, str]:
    return action_environment({"NAME": "app", **attributes}, Reason.USER)


async def test_an_ocf_agent_is_started_monitored_and_stopped(
    clufs_agent: Actions, tmp_path: Path
) -> None:
    given = _environment(USR_STATE=str(tmp_path / "is-running"), OCF_answer="0")

    async def act(entry: Entry) -> tuple[bool, str]:
        done = await clufs_agent.run(
            None, entry, action_script="ocf:clufs:Dummy", environment=given
        )
        return done.ok, done.why

    assert await act("check") == (
        False, "the check entry of ocf:clufs:Dummy says: not running (7)"
    )  # fmt: skip
    assert (await act("start"))[0]
    printed = clufs_agent.runner.output("app").decode().splitlines()
    assert f"OCF_RESKEY_state={tmp_path / 'is-running'}" in printed
    assert "OCF_RESKEY_CRM_meta_timeout=20000" in printed
    assert f"OCF_ROOT={tmp_path / 'ocf'}" in printed
    assert {
        "OCF_RESOURCE_INSTANCE=app",
        "OCF_RESOURCE_PROVIDER=clufs",
        "OCF_RESOURCE_TYPE=Dummy",
    } <= set(printed)
    assert (await act("check"))[0]
    assert (await act("stop"))[0]
    assert not (await act("check"))[0]


@pytest.mark.parametrize(
    ("answer", "ok", "words"),
    [
        ("190", True, "degraded (190)"),
        ("5", False, "not installed (5)"),
        ("9", False, "failed, promoted (9)"),
    ],
)
async def test_an_agents_answer_is_told_in_words(
    clufs_agent: Actions, tmp_path: Path, answer: str, ok: bool, words: str
) -> None:
    (tmp_path / "is-running").touch()
    given = _environment(USR_STATE=str(tmp_path / "is-running"), OCF_answer=answer)
    done = await clufs_agent.run(None, "check", action_script="ocf:clufs:Dummy", environment=given)
    assert (done.ok, done.exit_status) == (ok, int(answer))
    assert done.why.endswith(words)


async def test_an_agent_that_is_not_there_is_a_sentence(clufs_agent: Actions) -> None:
    done = await clufs_agent.run(None, action_script="ocf:clufs:Nobody")
    assert not done.ok
    assert "clufs:Nobody is not installed here" in done.why


async def test_an_agent_that_others_may_write_is_refused(
    clufs_agent: Actions, tmp_path: Path
) -> None:
    (tmp_path / "ocf/resource.d/clufs/Dummy").chmod(0o777)
    done = await clufs_agent.run(None, action_script="ocf:clufs:Dummy")
    assert "others than root may write" in done.why


async def test_dummy_of_resource_agents_runs(tmp_path: Path) -> None:
    given = _environment(USR_STATE=str(tmp_path / "dummy.state"))
    async with actions(tmp_path / "state") as found:
        told = []
        for entry in ("check", "start", "check", "stop", "check"):
            done = await found.run(
                None, entry, action_script="ocf:heartbeat:Dummy", environment=given  # type: ignore[arg-type]
            )  # fmt: skip
            told.append((done.ok, done.exit_status))
        assert told == [(False, 7), (True, 0), (True, 0), (True, 0), (False, 7)]


# --------------------------------------------------------------------- systemd

SYSTEMCTL = """#!/bin/sh
# In systemctl's place: writes its words down, and knows one unit.
echo "$*" >> {told}
for word; do unit=$word; done
[ "$unit" = app.service ] || exit 5
case " $* " in
*" start "*) touch {active} ;;
*" stop "*) rm -f {active} ;;
*" is-active "*) [ -e {active} ] || exit 3 ;;
esac
"""


class Units:
    """A machine where systemd seems to run. told: the words of each call."""

    def __init__(self, directory: Path) -> None:
        self._told, self.active = directory / "told", directory / "active"
        program = directory / "systemctl"
        program.write_text(SYSTEMCTL.format(told=self._told, active=self.active))
        program.chmod(0o755)
        self.machine = Machine(systemctl=str(program), systemd_runs=directory)

    @property
    def told(self) -> list[str]:
        options = "--no-ask-password --no-pager "
        lines = self._told.read_text().splitlines() if self._told.exists() else []
        assert all(line.startswith(options) for line in lines)
        return [line.removeprefix(options) for line in lines]


@pytest.fixture
def units(tmp_path: Path) -> Units:
    return Units(tmp_path)


async def test_a_unit_is_started_checked_and_stopped(units: Units, tmp_path: Path) -> None:
    async with actions(tmp_path / "state", units.machine) as found:

        async def act(entry: Entry) -> tuple[bool, str]:
            done = await found.run(None, entry, action_script="systemd:app.service")
            return done.ok, done.why

        assert await act("check") == (False, "systemctl is-active app.service: not active (3)")
        assert (await act("start"))[0]
        assert await act("check") == (True, "systemctl is-active app.service: active")
        assert await found.runner.running() == ["app"]
        assert (await act("stop"))[0]
        assert not (await act("check"))[0]
        assert units.told == [
            "is-active -- app.service", "start -- app.service", "is-active -- app.service",
            "stop -- app.service", "is-active -- app.service",
        ]  # fmt: skip
        await found.runner.end("app")
        assert await found.runner.is_empty("app")


async def test_ending_kills_and_stops_the_unit(units: Units, tmp_path: Path) -> None:
    async with actions(tmp_path / "state", units.machine) as found:
        assert (await found.run(None, action_script="systemd:app.service")).ok
        await found.runner.end("app")
        assert units.told[1:] == ["kill --signal=SIGKILL -- app.service", "stop -- app.service"]
        assert not units.active.exists()
        assert await found.runner.is_empty("app")
        count = len(units.told)
        await found.runner.end("app")
        assert len(units.told) == count


async def test_a_unit_that_is_not_there_is_a_sentence(units: Units, tmp_path: Path) -> None:
    async with actions(tmp_path / "state", units.machine) as found:
        done = await found.run(None, action_script="systemd:nobody.service")
        assert not done.ok
        assert done.why == "systemctl start nobody.service: no such unit (5)"
        await found.runner.end("app")


async def test_without_systemd_it_is_refused_in_a_sentence(tmp_path: Path) -> None:
    machine = Machine(systemd_runs=tmp_path / "not-there")
    async with actions(tmp_path / "state", machine) as found:
        done = await found.run(None, action_script="systemd:app.service")
        assert done.why == (
            "systemd does not run on this member, so app.service cannot be a resource here"
        )


async def test_the_keeper_ends_units_when_its_daemon_is_gone(units: Units, tmp_path: Path) -> None:
    async with actions(tmp_path / "state", units.machine) as found:
        assert (await found.run(None, action_script="systemd:app.service")).ok
    assert units.told[1:] == ["kill --signal=SIGKILL -- app.service", "stop -- app.service"]
    assert Record(tmp_path / "state").units() == {}


async def test_a_new_keeper_ends_the_units_of_one_that_was_killed(
    units: Units, tmp_path: Path
) -> None:
    lost: list[list[str]] = []
    async with actions(tmp_path / "state", units.machine, lost.append) as found:
        assert (await found.run(None, action_script="systemd:app.service")).ok
        os.kill(found.keeper, signal.SIGKILL)
        await until_async(lambda: lost)
        assert lost == [["app"]]
        until(lambda: not units.active.exists())
        assert await found.runner.running() == []


@pytest.mark.parametrize(
    "words",
    [
        "start -- clufs-nobody.service",
        "stop -- clufs-nobody.service",
        "is-active -- clufs-nobody.service",
        "kill --signal=SIGKILL -- clufs-nobody.service",
    ],
)
def test_systemctl_understands_the_words(words: str) -> None:
    """It fails where systemd does not run, but not for its options; a wrong one would be told first."""
    program = shutil.which("systemctl")
    assert program is not None
    done = subprocess.run(
        [program, "--no-ask-password", "--no-pager", *words.split()],
        capture_output=True,
        text=True,
        env={"SYSTEMD_OFFLINE": "1"},
    )
    assert "option" not in done.stderr
    assert "Unknown" not in done.stderr
    wrong = subprocess.run([program, "--no-such-option"], capture_output=True, text=True)
    assert "option" in wrong.stderr
