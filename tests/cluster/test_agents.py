"""Agents: exit status 0 and nothing else certifies; what is stopped leaves nothing behind."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from clufs.cluster.agents import CommandAgent, NoAgent, agent_of
from clufs.cluster.gate import AgentPlan
from clufs.dlm.interface import Life
from clufs.limits import AGENT_LINES_KEPT, AGENT_OUTPUT_BYTES

LONG_S = 20.0
SOON_S = 0.2


def sh(script: str, timeout_s: float = LONG_S) -> CommandAgent:
    """An agent that runs `script`; the member's name is $0."""
    return CommandAgent(("/bin/sh", "-c", script), timeout_s)


@pytest.mark.parametrize(
    ("script", "ok", "said"),
    [
        ("exit 0", True, "exit status 0"),
        ('echo "$0 is off"', True, "exit status 0: m4 is off"),
        ("echo one; echo two >&2", True, "exit status 0: one | two"),
        ("echo no route; exit 1", False, "exit status 1: no route"),
        ("exit 255", False, "exit status 255"),
        ("kill -9 $$", False, "died of SIGKILL"),
        ("kill -40 $$", False, "died of signal 40"),
        ("printf '\\377'", True, "exit status 0: \\xff"),
    ],
)
async def test_what_a_program_ends_with_is_its_verdict(script: str, ok: bool, said: str) -> None:
    verdict = await sh(script).fence(Life("m4", 1))
    assert (verdict.ok, verdict.said) == (ok, said)


async def test_a_program_that_is_not_there_certifies_nothing() -> None:
    verdict = await CommandAgent(("/nowhere/fence",), LONG_S).fence(Life("m4", 1))
    assert not verdict.ok
    assert verdict.said.startswith("/nowhere/fence cannot be run: ")


async def test_only_the_last_lines_are_kept() -> None:
    verdict = await sh("seq 1 50000").fence(Life("m4", 1))
    last = " | ".join(str(n) for n in range(50001 - AGENT_LINES_KEPT, 50001))
    assert (verdict.ok, verdict.said) == (True, f"exit status 0: {last}")
    verdict = await sh("head -c 100000 /dev/zero | tr '\\0' x").fence(Life("m4", 1))
    assert verdict.said == "exit status 0: " + AGENT_OUTPUT_BYTES * "x"


async def test_others_go_on_while_a_program_writes_without_end() -> None:
    turns = 0
    with trio.move_on_after(SOON_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sh("yes").fence, Life("m4", 1))
            while True:
                await trio.sleep(0.001)
                turns += 1
    assert turns > 10


# The agent's shell and a child of it write their pids; `gone` is true once neither is there.
TWO = 'sleep 1000 & echo $$ $! >"{0}.new"; mv "{0}.new" "{0}"; wait'


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()  # a child of our own making
    return any(line.startswith("State:\tZ") for line in fields)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LONG_S):
        while not condition():  # noqa: ASYNC110  (a process tells nobody but its parent)
            await trio.sleep(0.01)


async def test_no_answer_in_time_is_a_failure_and_the_whole_group_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    verdict = await sh(TWO.format(pids), timeout_s=1.0).fence(Life("m4", 1))
    assert (verdict.ok, verdict.said) == (False, "killed: no answer within 1 s")
    for pid in map(int, pids.read_text().split()):
        await until(lambda pid=pid: gone(pid))  # type: ignore[misc]


async def test_an_agent_that_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sh(TWO.format(pids)).fence, Life("m4", 1))
        await until(pids.exists)
        nursery.cancel_scope.cancel()
    for pid in map(int, pids.read_text().split()):
        await until(lambda pid=pid: gone(pid))  # type: ignore[misc]


async def test_the_verdict_does_not_wait_for_what_the_program_left_behind(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with trio.fail_after(LONG_S):
        verdict = await sh(f'sleep 1000 & echo $! >"{pid_file}"; echo off').fence(Life("m4", 1))
    assert (verdict.ok, verdict.said) == (True, "exit status 0: off")
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


async def test_descriptors_are_not_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for script in ("exit 0", "exit 1"):
        await sh(script).fence(Life("m4", 1))
    await sh("sleep 1000", timeout_s=0.01).fence(Life("m4", 1))
    await CommandAgent(("/nowhere/fence",), LONG_S).fence(Life("m4", 1))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_without_an_agent_nothing_is_certain() -> None:
    assert not (await NoAgent().fence(Life("m4", 1))).ok


def test_plans() -> None:
    agent = agent_of(AgentPlan("command", ("/sbin/fence_x", "-v"), 7.0))
    assert isinstance(agent, CommandAgent)
    assert (agent.command, agent.timeout_s) == (("/sbin/fence_x", "-v"), 7.0)
    assert isinstance(agent_of(AgentPlan("none")), NoAgent)
    assert AgentPlan("command", ("/sbin/fence_x", "-v")).name == "fence_x"


@pytest.mark.parametrize(("kind", "command"), [("command", ()), ("none", ("x",)), ("ipmi", ("x",))])
def test_what_is_no_plan_is_refused(kind: str, command: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="agent"):
        AgentPlan(kind, command)
