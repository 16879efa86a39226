"""flock(2) on lock files: what programs that were never told about clufs do, and how it meets `echo EX`."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, Clu, Shell, until

Shells = Callable[..., Shell]


@pytest.fixture
def path(clu: Clu, name: str) -> Path:
    return clu.public / name


def report(clu: Clu, path: Path) -> list[str]:
    """The lines of the locks in a report; none where nothing is locked."""
    try:
        text = (clu.root / "status" / "locks" / "public" / path.name).read_text()
    except FileNotFoundError:
        return []
    queues = ("GRANTED", "CONVERTING", "WAITING")
    return [line for line in text.splitlines() if line.startswith(queues)]


def eventually(condition: Callable[[], object]) -> None:
    until(condition, "what the test waits for")


def waits(clu: Clu, path: Path, queue: str = "WAITING", count: int = 1) -> bool:
    return sum(line.startswith(queue) for line in report(clu, path)) == count


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CREAT, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def may(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_one_exclusive_or_many_shared(path: Path) -> None:
    with opened(path) as one, opened(path) as two, opened(path, os.O_WRONLY) as three:
        fcntl.flock(one, fcntl.LOCK_EX)
        assert not may(two, fcntl.LOCK_SH) and not may(two, fcntl.LOCK_EX)
        fcntl.flock(one, fcntl.LOCK_SH)
        assert may(two, fcntl.LOCK_SH) and may(three, fcntl.LOCK_SH)
        assert not may(three, fcntl.LOCK_EX)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_UN)
        assert may(three, fcntl.LOCK_EX)


def test_what_was_not_locked_can_be_unlocked(path: Path) -> None:
    with opened(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_UN)


def test_a_refused_upgrade_keeps_the_shared_lock(path: Path) -> None:
    with opened(path) as one, opened(path) as two, opened(path) as three:
        fcntl.flock(one, fcntl.LOCK_SH)
        fcntl.flock(two, fcntl.LOCK_SH)
        assert not may(one, fcntl.LOCK_EX)
        fcntl.flock(two, fcntl.LOCK_UN)
        assert not may(three, fcntl.LOCK_EX)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_the_last_close_releases(path: Path, flags: int) -> None:
    with opened(path) as other:
        with opened(path, flags) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            again = os.dup(fd)
        assert not may(other, fcntl.LOCK_EX)
        os.close(again)
        eventually(lambda: may(other, fcntl.LOCK_EX))


def test_two_who_share_may_both_upgrade(clu: Clu, path: Path, shell: Shells) -> None:
    # flock(2): the one lock is given up before the other is asked for, so nobody waits for ever.
    shells = [shell("bash", clu.public) for _ in range(2)]
    for one in shells:
        assert one.ask(f"exec 9>{path}; flock -s 9") == (0, "")
    for one in shells:
        one.tell('flock -x 9; echo "<$?>"')
    first, second = shells
    ready, _, _ = select.select([one.process.stdout for one in shells], [], [], PATIENCE_S)
    assert len(ready) == 1
    if first.process.stdout not in ready:
        first, second = second, first
    assert first.hear() == (0, "")
    assert [line.split()[:3] for line in report(clu, path)] == [
        ["GRANTED", "EX", "-"],
        ["WAITING", "-", "EX"],
    ]
    assert first.ask("flock -u 9") == (0, "")
    assert second.hear() == (0, "")


def test_a_script_that_lets_flock_lock_is_still_told_of(
    clu: Clu, path: Path, shell: Shells
) -> None:
    one = shell("dash", clu.public)
    assert one.ask(f"exec 9>{path}; flock 9") == (0, "")
    eventually(lambda: report(clu, path)[0].split()[5] == "flock,ended")


def test_echo_and_flock_exclude_each_other(clu: Clu, path: Path, shell: Shells) -> None:
    writer, locker = shell("dash", clu.public), shell("dash", clu.public)
    assert writer.ask(f"echo EX > {path}") == (0, "")
    assert locker.ask(f"flock -n {path} true") == (1, "")
    locker.tell(f'flock {path} true; echo "<$?>"')
    eventually(lambda: waits(clu, path))
    assert writer.ask(f"echo UN > {path}") == (0, "")
    assert locker.hear() == (0, "")
    with opened(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_SH)
        assert writer.ask(f"echo EX nowait > {path}")[0] != 0
        assert writer.ask(f"echo PR nowait > {path}") == (0, "")


def test_a_descriptor_has_one_lock_however_it_was_asked_for(
    clu: Clu, path: Path, shell: Shells
) -> None:
    one = shell("bash", clu.public)
    assert one.ask(f"exec 9<>{path}; flock 9; echo 'EX value=by flock' >&9; flock -s 9") == (0, "")
    assert [line.split()[:2] for line in report(clu, path)] == [["GRANTED", "PR"]]
    assert path.read_text() == "by flock\n"


def test_a_value_survives_who_locks_and_is_killed(clu: Clu, path: Path, shell: Shells) -> None:
    keeper = shell("dash", clu.public)
    assert keeper.ask(f"echo EX > {path}; echo 'NL value=precious' > {path}") == (0, "")
    process = subprocess.Popen(["flock", path, "sleep", "60"], start_new_session=True)
    eventually(lambda: len(report(clu, path)) == 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: len(report(clu, path)) == 1)
    assert path.read_text() == "precious\n"
    assert os.getxattr(path, "user.clu.valid") == b"1"


def test_the_report_names_the_process_and_the_command(clu: Clu, path: Path) -> None:
    process = subprocess.Popen(["flock", path, "sleep", "60"], start_new_session=True)
    try:
        eventually(lambda: len(report(clu, path)) == 1)
        words = report(clu, path)[0].split()
        assert words[:3] == ["GRANTED", "EX", "-"]
        assert (int(words[4]), words[5]) == (process.pid, "flock")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_flock_leaves_a_process_what_it_owns(clu: Clu, path: Path) -> None:
    own = path.with_name(path.name + "_own")
    fd = os.open(own, os.O_WRONLY | os.O_CREAT, 0o666)
    os.write(fd, b"EX\n")
    os.close(fd)
    with opened(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        own.unlink()
    assert report(clu, own) == []


def test_a_signal_ends_the_wait(path: Path) -> None:
    with opened(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        begin = time.monotonic()
        done = subprocess.run(["flock", "-w", "0.3", path, "true"], timeout=PATIENCE_S)
        assert done.returncode == 1
        assert time.monotonic() - begin < PATIENCE_S / 2


def test_a_crowd_of_blocked_callers_dies_at_once(clu: Clu, path: Path) -> None:
    with opened(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        crowd = [subprocess.Popen(["flock", path, "true"]) for _ in range(60)]
        eventually(lambda: waits(clu, path, count=60))
        for one in crowd:
            one.kill()
        assert {one.wait(PATIENCE_S) for one in crowd} == {-signal.SIGKILL}
        eventually(lambda: len(report(clu, path)) == 1)


def test_turns_are_taken_in_order(clu: Clu, path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with opened(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        crowd = []
        for number in range(8):
            crowd.append(subprocess.Popen(["flock", path, "sh", "-c", f"echo {number} >> {log}"]))
            eventually(lambda: waits(clu, path, count=len(crowd)))
        fcntl.flock(fd, fcntl.LOCK_UN)
        assert {one.wait(PATIENCE_S) for one in crowd} == {0}
    assert log.read_text().split() == [str(number) for number in range(8)]


@pytest.mark.parametrize("lock", [fcntl.flock, fcntl.lockf])
def test_other_files_are_refused_not_locked_on_this_member_alone(
    clu: Clu, lock: Callable[[object, int], None]
) -> None:
    with open(clu.root / "status" / "errors") as report, pytest.raises(OSError, match="No locks"):
        lock(report, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_threads_take_turns(clu: Clu, path: Path) -> None:
    """Each with a descriptor of its own, as processes do: flock(2) knows no deadlock."""
    errors: list[OSError | None] = []

    def take() -> None:
        with opened(path) as fd:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                errors.append(None)
            except OSError as error:
                errors.append(error)

    threads = [threading.Thread(target=take) for _ in range(5)]
    with opened(path) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for thread in threads:
            thread.start()
        eventually(lambda: errors or waits(clu, path, count=5))
    for thread in threads:
        thread.join()
    assert errors == [None] * 5
