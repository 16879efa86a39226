"""fcntl(2) on lock files: byte ranges, whose they are, and what ends them, by processes that know nothing of clufs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, Clu, Shell, until
from tests.blackbox.lockers import Locker

Lockers = Callable[[], Locker]


@pytest.fixture
def path(clu: Clu, name: str) -> Path:
    return clu.public / name


@pytest.fixture
def lockers() -> Iterator[Lockers]:
    started: list[Locker] = []

    def start() -> Locker:
        started.append(Locker())
        return started[-1]

    yield start
    for one in started:
        one.close()


def ranges(clu: Clu, path: Path, queue: str = "GRANTED") -> list[tuple[int, str, str]]:
    """Pid, mode and bytes of each lock on ranges in the report, the lowest first."""
    lines = [line.split() for line in clu.queue(path.name, queue)]
    mode = 1 if queue == "GRANTED" else 2
    found = [
        (int(words[4]), words[mode], words[7].removeprefix("bytes="))
        for words in lines
        if len(words) > 7 and words[7].startswith("bytes=")
    ]
    return sorted(found, key=lambda one: int(one[2].partition("-")[0]))


def waits(clu: Clu, path: Path, count: int = 1) -> None:
    until(lambda: len(ranges(clu, path, "WAITING")) == count, f"{count} waiting")


# ------------------------------------------------------------------ ranges


def test_readers_share_and_a_writer_is_alone(path: Path, lockers: Lockers) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "r", 0, 10) == "granted"
    assert two.do("set", its, "r", 5, 10) == "granted"
    assert two.do("set", its, "w", 9, 1) == "EAGAIN"
    assert two.do("set", its, "w", 10, 5) == "granted"
    assert one.do("set", mine, "r", 0, 11) == "EAGAIN"
    assert one.do("set", mine, "u") == "granted"
    assert two.do("set", its, "w", 9, 1) == "granted"


def test_ranges_are_split_merged_and_partly_unlocked(
    clu: Clu, path: Path, lockers: Lockers
) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 100) == "granted"
    assert one.do("set", mine, "u", 40, 20) == "granted"
    assert ranges(clu, path) == [(one.pid, "EX", "0-39,60-99")]
    assert two.do("set", its, "w", 40, 20) == "granted"
    assert two.do("set", its, "w", 39, 1) == "EAGAIN"
    assert one.do("set", mine, "r", 30, 10) == "granted"
    assert two.do("set", its, "r", 39, 1) == "granted"
    assert two.do("set", its, "r", 29, 1) == "EAGAIN"
    assert two.do("set", its, "u") == "granted"
    assert one.do("set", mine, "w", 0) == "granted"
    assert ranges(clu, path) == [(one.pid, "EX", "0-")]
    assert one.do("set", mine, "u") == "granted"
    assert clu.report(path.name) == ""


def test_many_small_ranges_become_one(clu: Clu, path: Path, lockers: Lockers) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    for byte in range(40):
        assert one.do("set", mine, "w", byte, 1) == "granted"
    held = ranges(clu, path)
    assert len(held) < 10 and held[0][2].startswith("0-")
    for byte in range(41):
        assert two.do("set", its, "r", byte, 1) == ("EAGAIN" if byte < 40 else "granted")
    assert one.do("set", mine, "u", 1, 38) == "granted"
    assert two.do("set", its, "w", 1, 38) == "granted"
    assert two.do("set", its, "w", 0, 1) == two.do("set", its, "w", 39, 1) == "EAGAIN"


def test_there_is_an_end_to_how_many_ranges_are_kept_apart(path: Path, lockers: Lockers) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    answers = [one.do("set", mine, "w", byte * 2, 1) for byte in range(1025)]
    assert answers == ["granted"] * 1024 + ["ENOLCK"]
    assert two.do("set", its, "w", 2046, 1) == "EAGAIN"
    assert two.do("set", its, "w", 2048, 1) == "granted"
    assert one.do("set", mine, "u", 0, 2000) == "granted"
    assert two.do("set", its, "w", 0, 2000) == "granted"


def test_an_upgrade_waits_for_the_other_reader_and_never_lets_go(
    clu: Clu, path: Path, lockers: Lockers
) -> None:
    one, two, three = lockers(), lockers(), lockers()
    mine, its, third = one.open(path), two.open(path), three.open(path)
    assert one.do("set", mine, "r", 0, 10) == two.do("set", its, "r", 0, 10) == "granted"
    one.tell("set", mine, "w", 0, 10, True)
    waits(clu, path)
    assert three.do("set", third, "w", 0, 1) == "EAGAIN"
    assert two.do("set", its, "u") == "granted"
    assert one.hear() == "granted"
    assert three.do("set", third, "r", 0, 1) == "EAGAIN"
    assert ranges(clu, path) == [(one.pid, "EX", "0-9")]


# ----------------------------------------------------------------- who is told


def test_getlk_names_the_range_the_mode_and_the_process(path: Path, lockers: Lockers) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert two.do("get", its, "w") == ["u", 0, 0, 0]
    assert one.do("set", mine, "w", 10, 5) == one.do("set", mine, "r", 30, 0) == "granted"
    assert two.do("get", its, "r") == ["w", 10, 5, one.pid]
    assert two.do("get", its, "w", 20) == ["r", 30, 0, one.pid]
    assert two.do("get", its, "r", 20) == ["u", 20, 0, 0]
    assert one.do("get", mine, "w") == ["u", 0, 0, 0], "nobody is in the way of itself"


def test_getlk_tells_of_flock_and_of_lines_too(
    path: Path, lockers: Lockers, shell: Callable[..., Shell]
) -> None:
    one, script = lockers(), shell("dash")
    mine = one.open(path)
    assert script.ask(f"echo EX > {path}") == (0, "")
    assert one.do("get", mine, "r") == ["w", 0, 0, script.pid]
    assert one.do("set", mine, "w") == "granted", "but they have nothing to do with each other"


def test_the_report_names_process_command_and_bytes(clu: Clu, path: Path, lockers: Lockers) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 7, 1) == "granted"
    two.tell("set", its, "r", 0, 0, True)
    waits(clu, path)
    (line,) = [line for line in clu.queue(path.name, "GRANTED") if "bytes=" in line]
    words = line.split()
    assert (words[1], int(words[4]), words[7]) == ("EX", one.pid, "bytes=7-7")
    assert words[5].startswith("python")
    (line,) = clu.queue(path.name, "WAITING")
    assert "bytes=0- waits for EX held by" in line and str(one.pid) in line
    assert path.name in os.listdir(clu.public)


# -------------------------------------------------------------------- owners


@pytest.mark.parametrize("how", ["rw", "r", "w"])
def test_any_close_of_the_file_by_the_process_ends_its_locks(
    path: Path, lockers: Lockers, how: str
) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 10) == "granted"
    other = one.open(path, how)
    assert one.do("close", other) is None
    assert two.do("set", its, "w", 0, 10) == "granted"


def test_a_close_of_a_copy_ends_them_too(path: Path, lockers: Lockers) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 10) == "granted"
    assert one.do("close", one.do("dup", mine)) is None
    assert two.do("set", its, "w", 0, 10) == "granted"


def test_a_child_neither_inherits_nor_ends_them(clu: Clu, path: Path, lockers: Lockers) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 10) == "granted"
    child = one.do("fork")
    assert one.do("kill", child) == child
    assert two.do("set", its, "w", 0, 10) == "EAGAIN"
    child = one.do("fork")
    assert one.do("close", mine) is None
    assert two.do("set", its, "w", 0, 10) == "granted", "though the child still has it open"
    assert one.do("kill", child) == child


@pytest.mark.parametrize("how", ["rw", "w"])
def test_who_is_killed_holds_nothing(path: Path, lockers: Lockers, how: str) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path, how), two.open(path)
    assert one.do("set", mine, "w", 0, 10) == "granted"
    child = one.do("fork")
    try:
        two.tell("set", its, "w", 0, 10, True)
        one.signal(signal.SIGKILL)
        assert two.hear() == "granted"
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_descriptor_holds_what_it_locked_until_its_last_close(
    path: Path, lockers: Lockers
) -> None:
    one, two = lockers(), lockers()
    mine, again, its = one.open(path), one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 10, False, True) == "granted"
    assert one.do("set", again, "w", 0, 10, False, True) == "EAGAIN", "two descriptors, two owners"
    assert one.do("set", again, "w", 0, 10) == "EAGAIN", "and neither is the process"
    assert one.do("close", again) is None
    copy = one.do("dup", mine)
    assert one.do("close", mine) is None
    assert two.do("set", its, "w", 0, 10) == "EAGAIN"
    assert one.do("close", copy) is None
    until(lambda: two.do("set", its, "w", 0, 10) == "granted", "the last close")


def test_a_descriptor_outlives_the_process_in_a_child(path: Path, lockers: Lockers) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 10, False, True) == "granted"
    child = one.do("fork")
    one.close()
    assert two.do("set", its, "w", 0, 10, False, True) == "EAGAIN"
    os.kill(child, signal.SIGKILL)
    until(lambda: two.do("set", its, "w", 0, 10) == "granted", "the last close")


def test_rm_gives_up_what_the_process_has_locked(clu: Clu, path: Path, lockers: Lockers) -> None:
    one = lockers()
    assert one.do("set", one.open(path), "w", 0, 10) == "granted"
    with pytest.raises(PermissionError):
        path.unlink()
    script = (
        f"import fcntl,os; f=open({str(path) + '2'!r},'w'); fcntl.lockf(f,2); os.unlink(f.name)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE_S)
    assert clu.report(path.name + "2") == ""


# -------------------------------------------------------------------- waiting


def test_a_signal_ends_the_wait_and_leaves_nothing(clu: Clu, path: Path, lockers: Lockers) -> None:
    one, two, three = lockers(), lockers(), lockers()
    mine, its, third = one.open(path), two.open(path), three.open(path)
    assert one.do("set", mine, "w", 0, 10) == "granted"
    three.tell("set", third, "w", 0, 10, True)
    waits(clu, path)
    three.close()
    waits(clu, path, 0)
    script = (
        "import fcntl,signal,sys\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, stop); signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
        f"f = open({str(path)!r}, 'r+')\n"
        "try: fcntl.lockf(f, fcntl.LOCK_EX)\n"
        "except KeyboardInterrupt: sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_S)
    assert done.returncode == 7
    assert ranges(clu, path, "WAITING") == []
    two.tell("set", its, "w", 5, 1, True)
    waits(clu, path)
    assert one.do("set", mine, "u", 5, 1) == "granted"
    assert two.hear() == "granted"


def test_threads_wait_for_different_bytes_and_one_unlocks_meanwhile(
    clu: Clu, path: Path, lockers: Lockers
) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 100, 10) == "granted"
    assert two.do("set", its, "w", 0, 2) == "granted"
    for byte in (0, 1):
        assert one.do("thread", "set", mine, "w", byte, 1, True) == "started"
    waits(clu, path, 2)
    assert one.do("set", mine, "u", 104, 2) == "granted"
    assert two.do("set", its, "w", 104, 2) == "granted"
    assert two.do("set", its, "u", 1, 1) == "granted"
    assert one.hear() == "granted"
    assert two.do("set", its, "u", 0, 1) == "granted"
    assert one.hear() == "granted"
    assert two.do("set", its, "r", 0, 1) == two.do("set", its, "r", 1, 1) == "EAGAIN"


def test_a_deadlock_is_refused_to_the_one_who_closes_it(
    clu: Clu, path: Path, lockers: Lockers
) -> None:
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 1) == two.do("set", its, "w", 1, 1) == "granted"
    one.tell("set", mine, "w", 1, 1, True)
    waits(clu, path)
    assert two.do("set", its, "w", 0, 1, True) == "EDEADLK"
    assert f"locks/public/{path.name}" in (clu.root / "status" / "deadlocks").read_text()
    assert two.do("set", its, "u", 1, 1) == "granted"
    assert one.hear() == "granted"


def test_descriptors_are_not_refused_for_a_deadlock(clu: Clu, path: Path, lockers: Lockers) -> None:
    """fcntl(2) looks for none with them: whoever has the descriptor may unlock it."""
    one, two = lockers(), lockers()
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 1, False, True) == "granted"
    assert two.do("set", its, "w", 1, 1, False, True) == "granted"
    one.tell("set", mine, "w", 1, 1, True, True)
    two.tell("set", its, "w", 0, 1, True, True)
    waits(clu, path, 2)
    assert not two.says_something(1.5)
    two.close()
    assert one.hear() == "granted"


def test_a_crowd_gets_its_turns(clu: Clu, path: Path, lockers: Lockers) -> None:
    one = lockers()
    mine = one.open(path)
    assert one.do("set", mine, "w") == "granted"
    script = f"import fcntl; f=open({str(path)!r},'r+'); fcntl.lockf(f,fcntl.LOCK_EX)"
    crowd = [subprocess.Popen([sys.executable, "-S", "-c", script]) for _ in range(12)]
    waits(clu, path, 12)
    for doomed in crowd[:4]:
        doomed.kill()
    assert {doomed.wait(PATIENCE_S) for doomed in crowd[:4]} == {-signal.SIGKILL}
    waits(clu, path, 8)
    assert one.do("set", mine, "u") == "granted"
    assert {other.wait(PATIENCE_S) for other in crowd[4:]} == {0}
    until(lambda: clu.report(path.name) == "", "nothing held")


def test_ping_pong_loses_no_increment(path: Path, lockers: Lockers, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    players = [lockers() for _ in range(3)]
    for one in players:
        one.tell("ping_pong", str(path), str(counter), 200, len(players) + 1)
    assert sum(one.hear() for one in players) == int(counter.read_text())


# --------------------------------------------------------- programs as they come


def test_sqlite_keeps_its_own_way_of_locking(path: Path, lockers: Lockers) -> None:
    """SQLite's locks: a byte for who is about to write, 510 for who reads, all of them for who writes."""
    pending, reserved, shared = 0x40000000, 0x40000001, 0x40000002
    reader, writer = lockers(), lockers()
    its, mine = reader.open(path), writer.open(path)
    for one, fd in ((reader, its), (writer, mine)):
        assert one.do("set", fd, "r", pending, 1) == "granted"
        assert one.do("set", fd, "r", shared, 510) == "granted"
        assert one.do("set", fd, "u", pending, 1) == "granted"
    assert writer.do("set", mine, "w", reserved, 1) == "granted"
    assert reader.do("set", its, "w", reserved, 1) == "EAGAIN"
    assert writer.do("set", mine, "w", pending, 1) == "granted"
    assert writer.do("set", mine, "w", shared, 510) == "EAGAIN"
    assert reader.do("set", its, "u") == "granted"
    assert writer.do("set", mine, "w", shared, 510) == "granted"
    assert reader.do("set", its, "r", pending, 1) == "EAGAIN"
    assert writer.do("set", mine, "r", shared, 510) == "granted"
    assert writer.do("set", mine, "u", pending, 2) == "granted"
    assert reader.do("set", its, "r", shared, 510) == "granted"


def test_dpkgs_way_of_locking(path: Path) -> None:
    """apt and dpkg: open read-write, F_SETLK on all of it, F_GETLK to say who is in the way."""
    script = (
        "import fcntl,os,struct,sys\n"
        f"fd = os.open({str(path)!r}, os.O_RDWR|os.O_CREAT|os.O_NOFOLLOW, 0o640)\n"
        "fl = struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0)\n"
        "try: fcntl.fcntl(fd, fcntl.F_SETLK, fl)\n"
        "except OSError:\n"
        "    print(struct.unpack('hhqqi', fcntl.fcntl(fd, fcntl.F_GETLK, fl))[4]); sys.exit(2)\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-S", "-c", script]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "locked\n"
    second = subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE_S)
    assert (second.returncode, second.stdout) == (2, f"{first.pid}\n")
    first.communicate("", PATIENCE_S)
    third = subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE_S)
    assert third.returncode == 0


def test_flock_and_fcntl_do_not_exclude_each_other(path: Path, lockers: Lockers) -> None:
    """Programs that lock a mailbox in both ways would wait for themselves."""
    one = lockers()
    assert one.do("set", one.open(path), "w") == "granted"
    done = subprocess.run(["flock", "-n", str(path), "true"], timeout=PATIENCE_S)
    assert done.returncode == 0


def test_a_file_of_lockfiles_is_locked_by_range_whatever_its_name(
    clu: Clu, name: str, lockers: Lockers
) -> None:
    one, two = lockers(), lockers()
    file = clu.root / "lockfiles" / name
    mine = one.open(file)
    assert one.do("set", mine, "w", 0, 10) == "granted"
    other = file.with_name(name + ".new")
    file.rename(other)
    its = two.open(other)
    assert two.do("set", its, "w", 5, 10) == "EAGAIN"
    assert two.do("get", its, "w", 5, 10) == ["w", 0, 10, one.pid]
    number = str(other.stat().st_ino)
    (line,) = [line for line in clu.queue(number, "GRANTED", ".lockfiles") if "bytes=" in line]
    assert line.split()[4] == str(one.pid) and line.endswith("bytes=0-9")
    assert one.do("close", mine) is None
    assert two.do("set", its, "w", 5, 10) == "granted"
    other.unlink()
