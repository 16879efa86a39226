"""kill -9 and start again: who held a lock is killed before anybody else gets it, the innocent live."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, Clu, Shell
from tests.blackbox.lockers import Locker


@pytest.fixture
def outside(shell: Callable[..., Shell], own_clu: Clu) -> Callable[..., Shell]:
    """Starts shells that stand outside, with the path of the lock file in $f."""

    def start(**options: object) -> Shell:
        one = shell(**options)
        one.ask(f"f={own_clu.public}/f; d={own_clu.public}; stands() {{ cd $d; }}")
        return one

    return start


def killed(one: Shell) -> bool:
    """Whether the shell was killed by SIGKILL."""
    try:
        return one.process.wait(PATIENCE_S) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        return False


def lives(one: Shell) -> bool:
    return one.ask("echo yes") == (0, "yes\n")


def kill_and_start(clu: Clu) -> None:
    assert clu.stop(signal.SIGKILL) == -signal.SIGKILL
    clu.start()


def test_the_stale_mount_is_cleared_and_locking_goes_on(
    own_clu: Clu, outside: Callable[..., Shell]
) -> None:
    own_clu.stop(signal.SIGKILL)
    with pytest.raises(OSError, match="not connected"):
        os.listdir(own_clu.root)
    own_clu.start()
    assert outside().ask("echo EX > $f; cat $f; echo UN > $f") == (0, "")
    assert f"cleared the stale mount on {own_clu.root}" in own_clu.log.read_text()


@pytest.mark.parametrize("mode", ["NL", "CR", "EX"])
def test_a_process_that_held_a_lock_is_killed(
    own_clu: Clu, outside: Callable[..., Shell], mode: str
) -> None:
    holder = outside()
    assert holder.ask(f"echo {mode} > $f")[0] == 0
    kill_and_start(own_clu)
    assert killed(holder)
    assert f"killed process {holder.pid}" in own_clu.log.read_text()
    assert f" owner-killed pid={holder.pid}\n" in (own_clu.root / "events").read_text()


def test_a_process_with_a_descriptor_open_for_reading_and_writing_is_killed(
    own_clu: Clu, outside: Callable[..., Shell]
) -> None:
    holder, heir = outside(), outside()
    holder.ask("exec 9<>$f; echo EX >&9")
    heir.ask("exec 9<>$f")
    kill_and_start(own_clu)
    assert killed(holder) and killed(heir)


def test_a_child_that_inherited_the_descriptor_is_killed(
    own_clu: Clu, outside: Callable[..., Shell]
) -> None:
    holder = outside()
    _, printed = holder.ask("exec 9<>$f; echo EX >&9; sleep 60 & echo $!")
    child = int(printed)
    holder.ask("exec 9>&-")
    kill_and_start(own_clu)
    assert lives(holder)
    assert holder.ask(f"wait {child}")[0] == 128 + signal.SIGKILL


def test_all_of_a_group_are_killed(own_clu: Clu, outside: Callable[..., Shell]) -> None:
    (own_clu.root / "groups" / "crew").mkdir()
    members = [outside(), outside()]
    for member in members:
        member.ask(f"echo $$ > {own_clu.root}/groups/crew/procs")
    assert members[0].ask("echo 'EX group=crew' > $f") == (0, "")
    kill_and_start(own_clu)
    assert all(killed(member) for member in members)


def test_a_process_that_was_granted_its_lock_after_a_wait_is_killed(
    own_clu: Clu, outside: Callable[..., Shell]
) -> None:
    first, second = outside(), outside()
    first.ask("echo EX > $f")
    second.begin("echo EX > $f")
    own_clu.until_queued("f")
    first.ask("echo UN > $f")
    assert second.hear() == (0, "")
    kill_and_start(own_clu)
    assert killed(second)
    assert lives(first)


@pytest.mark.parametrize(
    "line",
    [
        "echo EX > $f; echo UN > $f",
        "exec 9<>$f; echo EX >&9; exec 9>&-",
        "cat $f; ls $d; exec 9<$d/../../events",
        "stands",
        "exec 9<>/dev/null",
        "echo 'EX nowait strict value' > $f",
    ],
)
def test_the_innocent_live(own_clu: Clu, outside: Callable[..., Shell], line: str) -> None:
    innocent = outside()
    innocent.ask(line)
    kill_and_start(own_clu)
    assert lives(innocent)
    assert "killed process" not in own_clu.log.read_text()


def test_a_waiter_is_told_when_the_daemon_is_killed_and_lives(
    own_clu: Clu, outside: Callable[..., Shell]
) -> None:
    holder, waiter = outside(), outside()
    holder.ask("echo EX > $f")
    waiter.begin("echo EX > $f")
    own_clu.until_queued("f")
    own_clu.stop(signal.SIGKILL)
    assert waiter.hear()[0] != 0
    own_clu.start()
    assert lives(waiter)
    assert killed(holder)


def test_a_killed_daemon_may_be_killed_again_and_again(
    own_clu: Clu, outside: Callable[..., Shell]
) -> None:
    for _ in range(3):
        holder = outside()
        holder.ask("echo EX > $f")
        kill_and_start(own_clu)
        assert killed(holder)
    text = Path("/proc/self/mountinfo").read_text()
    assert text.count(f" {own_clu.root} ") == 1


def test_an_orderly_end_leaves_nobody_to_be_killed(
    own_clu: Clu, outside: Callable[..., Shell]
) -> None:
    holder = outside()
    holder.ask("exec 8<>$f; echo NL >&8; echo CR > $f")
    own_clu.stop()
    own_clu.start()
    assert lives(holder)


def test_owners_are_killed_even_when_somebody_unmounted_before(
    own_clu: Clu, outside: Callable[..., Shell]
) -> None:
    holder = outside()
    holder.ask("echo EX > $f")
    own_clu.stop(signal.SIGKILL)
    subprocess.run(["umount", "-l", own_clu.root], check=True)
    own_clu.start()
    assert killed(holder)


STAYS = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(fd, b"PW\\n")
print("holds", flush=True)
time.sleep(60)
"""


@pytest.fixture
def zombie(own_clu: Clu) -> Iterator[subprocess.Popen[str]]:
    """A holder whose parent, this test, does not wait for it."""
    command = [sys.executable, "-S", "-c", STAYS, str(own_clu.public / "f")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def test_a_zombie_counts_as_gone(own_clu: Clu, zombie: subprocess.Popen[str]) -> None:
    kill_and_start(own_clu)
    assert zombie.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_damaged_record_is_told_and_not_guessed(own_clu: Clu) -> None:
    own_clu.stop(signal.SIGKILL)
    (own_clu.state / "owners").write_bytes(b"garbage" * 100)
    words = [*own_clu.program, own_clu.root, "--state", own_clu.state]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 74
    record = own_clu.state / "owners"
    assert done.stderr == f"clufsd: {record} is not an owner record of clufs; move it away\n"
    record.unlink()
    own_clu.start()


@pytest.mark.parametrize("of_descriptor", [False, True])
def test_who_locks_bytes_by_fcntl_is_killed(own_clu: Clu, of_descriptor: bool) -> None:
    one, innocent = Locker(), Locker()
    try:
        mine = one.open(own_clu.public / "f")
        assert one.do("set", mine, "w", 0, 1, False, of_descriptor) == "granted"
        kill_and_start(own_clu)
        assert one.process.wait(PATIENCE_S) == -signal.SIGKILL
        its = innocent.open(own_clu.public / "f")
        assert innocent.do("set", its, "w", 0, 1) == "granted"
    finally:
        one.close()
        innocent.close()
