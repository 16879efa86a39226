"""Action scripts are run as the manual says, and all that they start can be ended."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from clufs.actions.record import Record
from clufs.caa.environment import action_environment
from clufs.caa.interface import Reason
from tests.actions.machine import (
    ENVIRONMENT,
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
    until_async,
)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Actions]:
    async with actions(tmp_path / "state") as found:
        yield found


# --------------------------------------------------------------------- running


async def test_the_environment_is_exactly_the_one_given(here: Actions) -> None:
    environment = action_environment(
        {"NAME": "app", "AUTO_START": "1", "USR_DEBUG": "a b"}, Reason.BOOT, "C C C C C C"
    )
    done = await here.run("#!/bin/sh\nexec env", environment=environment)
    found = dict(line.split("=", 1) for line in done.output.decode().splitlines())
    found.pop("PWD")  # a shell's own
    assert found == environment
    assert found["PATH"] == "/sbin:/usr/sbin:/usr/bin"


@pytest.mark.parametrize("entry", ["start", "stop", "check"])
async def test_the_entry_is_the_argument(here: Actions, entry: str) -> None:
    done = await here.run('#!/bin/sh\necho "$#:$1"', entry)  # type: ignore[arg-type]
    assert done.ok
    assert done.output == f"1:{entry}\n".encode()


async def test_the_exit_status_decides(here: Actions) -> None:
    done = await here.run("#!/bin/sh\nexit 3", "check")
    assert (done.ok, done.exit_status, done.timed_out) == (False, 3, False)
    assert done.why == "the check entry of app.scr ended with exit status 3"


async def test_a_script_that_dies_of_a_signal_fails(here: Actions) -> None:
    done = await here.run("#!/bin/sh\nkill -SEGV $$")
    assert (done.ok, done.exit_status) == (False, -signal.SIGSEGV)
    assert "SIGSEGV" in done.why


async def test_a_script_without_a_shell_line_is_run_by_sh(here: Actions) -> None:
    assert (await here.run("echo $1 > /dev/stderr")).output == b"start\n"


async def test_a_script_that_cannot_be_run_says_why(here: Actions) -> None:
    done = await here.run("#!/nowhere/sh\n")
    assert (done.ok, done.exit_status) == (False, None)
    assert "No such file" in done.why


async def test_an_environment_that_cannot_be_one_is_a_sentence(here: Actions) -> None:
    done = await here.run("exit 0", environment={**ENVIRONMENT, "USR_A=B": "x", "USR_N": "a\0b"})
    assert (done.ok, done.exit_status) == (False, None)
    assert "Invalid argument" in done.why


async def test_a_state_directory_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with actions(Path("state")) as found:
        assert (await found.run("exit 0")).ok


async def test_cgroups_that_somebody_removed_are_made_again(here: Actions) -> None:
    place = Record(here.state).cgroup()
    if place is not None:
        place.rmdir()
    assert (await here.run("exit 0")).ok


async def test_no_script_is_a_sentence(here: Actions) -> None:
    done = await here.run(None)
    assert done.why == "there is no action script app.scr in /clu/scripts"


async def test_a_script_is_the_daemons_user_alone_may_see(here: Actions) -> None:
    done = await here.run('#!/bin/sh\nstat -c %a "$0" "$(dirname "$0")"; whoami')
    assert done.output.split()[:2] == [b"700", b"700"]


async def test_a_script_is_ordinary(here: Actions) -> None:
    """Nothing of what the daemon has for itself: signals, limits, descriptors, terminal."""
    script = (
        "#!/bin/sh\numask; ulimit -Sn; pwd; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l;"
        " grep -E 'SigIgn|SigBlk' /proc/self/status; read x || echo nothing"
    )
    lines = (await here.run(script)).output.decode().splitlines()
    assert lines[0] == "0022"
    assert int(lines[1]) <= 1024
    assert lines[2:4] == ["/", "0"]
    assert lines[4] == "4"  # 0, 1, 2 and the directory itself
    of_libc = 0b11 << 31  # 32 and 33 are glibc's own: its posix_spawn(3) has them ignored
    assert [int(line.split()[1], 16) & ~of_libc for line in lines[5:7]] == [0, 0]
    assert lines[7] == "nothing"


async def test_a_new_text_does_not_disturb_who_runs_the_old_one(here: Actions) -> None:
    async with trio.open_nursery() as nursery:
        old: list[bytes] = []

        async def run_old() -> None:
            done = await here.run("#!/bin/sh\necho begun\nsleep 0.5\necho old\n", on_line=started)
            old.append(done.output)

        begun = trio.Event()

        def started(line: str) -> None:
            begun.set()

        nursery.start_soon(run_old)
        await begun.wait()
        new = await here.run("#!/bin/sh\nexit 9; exit 9; exit 9; exit 9\n", "check")
        assert new.exit_status == 9
    assert old == [b"begun\nold\n"]


async def test_many_run_at_once(here: Actions) -> None:
    done: list[bool] = []

    async def check(number: int) -> None:
        result = await here.run(f"exit {number % 2}", "check", resource=f"app{number}")
        done.append(result.ok == (number % 2 == 0))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(check, number)
    assert done == [True] * 40


# ---------------------------------------------------------------------- output


async def test_lines_come_as_they_are_printed(here: Actions) -> None:
    lines: list[str] = []
    seen = trio.Event()

    def on_line(line: str) -> None:
        lines.append(line)
        seen.set()

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            script = "#!/bin/sh\necho one\nread go < $USR_FIFO\nprintf 'two\\nthree'"
            await here.run(
                script, on_line=on_line, environment={**ENVIRONMENT, "USR_FIFO": str(fifo)}
            )

        fifo = here.state / "fifo"
        os.mkfifo(fifo)
        nursery.start_soon(run)
        with trio.fail_after(WAIT_S):
            await seen.wait()
        assert lines == ["one"]
        await trio.to_thread.run_sync(fifo.write_text, "go\n")
    assert lines == ["one", "two", "three"]


async def test_every_line_of_much_output_comes(here: Actions) -> None:
    lines: list[str] = []
    done = await here.run("#!/bin/sh\nseq 1 200000", on_line=lines.append)
    assert lines == [str(number) for number in range(1, 200_001)]
    assert len(done.output) == 65536
    assert done.output.endswith(b"\n200000\n")
    assert here.runner.output("app") == done.output


async def test_output_is_kept_by_resource_over_actions(here: Actions) -> None:
    await here.run("echo started")
    await here.run("echo other", resource="other")
    await here.run("echo checked", "check")
    assert here.runner.output("app") == b"started\nchecked\n"
    here.runner.forget("app")
    assert here.runner.output("app") == b""
    assert not (here.state / "actions/scripts/app").exists()


async def test_who_keeps_the_pipe_open_does_not_hold_the_action_up(here: Actions) -> None:
    """The application's further output is kept."""
    fifo = here.state / "fifo"
    os.mkfifo(fifo)
    environment = {**ENVIRONMENT, "USR_FIFO": str(fifo)}
    done = await here.run(
        "#!/bin/sh\n( read go < $USR_FIFO; echo later; sleep 60 ) &\necho now\n",
        environment=environment,
    )
    assert done.output == b"now\n"
    await trio.to_thread.run_sync(fifo.write_text, "go\n")
    await until_async(lambda: here.runner.output("app") == b"now\nlater\n")
    await here.runner.end("app")


async def test_a_flood_in_the_background_keeps_its_end_and_delays_nobody(here: Actions) -> None:
    done = await here.run("#!/bin/sh\n( seq 1 3000000; echo the end; sleep 60 ) & exit 0\n")
    assert done.ok
    assert (await here.run("exit 0", "check")).ok
    await until_async(lambda: here.runner.output("app").endswith(b"\nthe end\n"))
    assert len(here.runner.output("app")) == 65536
    await here.runner.end("app")


# ------------------------------------------------------------------ SCRIPT_TIMEOUT


async def test_out_of_time_the_action_is_killed_with_all_of_it(
    either: Actions, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    script = daemonised(marks) + f"time.sleep({WAIT_S})\n"
    done = await either.run(script, timeout_s=1.5)
    assert (done.ok, done.timed_out, done.exit_status) == (False, True, None)
    assert "did not end within 1.5 s (SCRIPT_TIMEOUT)" in done.why
    assert len(pids(marks)) == 2
    await until_async(lambda: not any(map(is_alive, pids(marks))))
    await either.runner.end("app")


async def test_a_check_out_of_time_leaves_the_application_alone(
    either: Actions, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "check").mkdir()
    assert (await either.run(daemonised(tmp_path / "app"))).ok
    check = daemonised(tmp_path / "check") + f"time.sleep({WAIT_S})\n"
    assert (await either.run(check, "check", timeout_s=1.5)).timed_out
    await until_async(lambda: not any(map(is_alive, pids(tmp_path / "check"))))
    assert sum(map(is_alive, pids(tmp_path / "app"))) == 1
    assert await either.runner.running() == ["app"]
    await either.runner.end("app")


async def test_cancelled_it_is_killed(either: Actions, tmp_path: Path) -> None:
    with trio.move_on_after(1.0) as scope:
        await either.run(daemonised(marks_in(tmp_path)) + f"time.sleep({WAIT_S})\n")
    assert scope.cancelled_caught
    await until_async(lambda: not any(map(is_alive, pids(tmp_path / "marks"))))
    await either.runner.end("app")
    assert await either.runner.is_empty("app")


# ---------------------------------------------------------------------- ending


@pytest.mark.parametrize("nasty", [daemonised, hopping, undead, crowd, moved])
async def test_all_that_was_started_is_ended(
    either: Actions, tmp_path: Path, nasty: Callable[[Path], str]
) -> None:
    marks = marks_in(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    assert (await either.run(daemonised(other), resource="other")).ok
    assert (await either.run(nasty(marks))).ok
    await until_async(lambda: pids(marks))
    assert not await either.runner.is_empty("app")
    with trio.fail_after(WAIT_S):
        await either.runner.end("app")
    assert await either.runner.is_empty("app")
    count = len(pids(marks))
    assert not any(map(is_alive, pids(marks)))
    assert await either.runner.running() == ["other"]
    assert sum(map(is_alive, pids(other))) == 1
    await trio.sleep(0.1)
    assert len(pids(marks)) == count  # nobody goes from pid to pid any more


async def test_ending_ends_an_action_under_way(either: Actions) -> None:
    results = []

    async def start() -> None:
        results.append(await either.run("#!/bin/sh\necho on\nsleep 60", on_line=lambda _: on.set()))

    on = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await on.wait()
        await either.runner.end("app")
    assert not results[0].ok


async def test_ending_what_does_not_run_is_done_at_once(either: Actions) -> None:
    await either.runner.end("never")
    assert await either.runner.is_empty("never")


async def test_each_end_waits_for_what_was_started_before_it(
    either: Actions, tmp_path: Path
) -> None:
    marks = marks_in(tmp_path)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            # Those that are under way when an end comes fail.
            await either.run(daemonised(marks))
            nursery.start_soon(either.runner.end, "app")
        await either.run(daemonised(marks))
        await either.runner.end("app")
        assert not any(map(is_alive, pids(marks)))


async def test_nothing_is_left_when_the_runner_is_cancelled(tmp_path: Path) -> None:
    marks = marks_in(tmp_path)
    async with actions(tmp_path / "state") as found:
        assert (await found.run(daemonised(marks))).ok
    assert not any(map(is_alive, pids(marks)))


# ------------------------------------------------------------- scripts elsewhere


async def test_a_script_elsewhere_is_run_from_its_path(here: Actions) -> None:
    script = Path("/run") / f"clufs-test-{os.getpid()}.scr"
    script.write_text('#!/bin/sh\necho "$0"\n')
    script.chmod(0o755)
    try:
        done = await here.run(None, action_script=str(script))
    finally:
        script.unlink()
    assert done.output == f"{script}\n".encode()


@pytest.mark.parametrize("what", ["mode", "owner", "directory", "not executable", "missing"])
async def test_a_script_that_others_may_write_is_refused(here: Actions, what: str) -> None:
    directory = Path("/run") / f"clufs-test-{os.getpid()}"
    directory.mkdir(mode=0o755)
    script = directory / "app.scr"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    try:
        match what:
            case "mode":
                script.chmod(0o775)
            case "owner":
                os.chown(script, 1000, 0)
            case "directory":
                directory.chmod(0o757)
            case "not executable":
                script.chmod(0o644)
            case "missing":
                script.unlink()
        done = await here.run(None, action_script=str(script))
    finally:
        script.unlink(missing_ok=True)
        directory.rmdir()
    assert (done.ok, done.exit_status) == (False, None)
    assert str(script) in done.why
    assert "is not run" in done.why


async def test_the_directories_of_the_state_are_private(here: Actions) -> None:
    for place in (here.state / "actions").rglob("*"):
        assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0, place
