"""fcntl(2) on real members: bytes exclude each other across the cluster, and end with their process or member."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.blackbox.lockers import PROGRAM, Locker
from tests.cluster.lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(150)

FIRST, SECOND, THIRD = NAMES
PUBLIC = Path("/clu/locks/public")

Lockers = Callable[[str], Locker]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all stories; but for the last two each gets it whole."""
    lab = Lab(tmp_path_factory.mktemp("fcntl") / "lab")
    lab.do("up")
    yield lab
    assert lab.run("down").returncode == 0


@pytest.fixture
def lockers(lab: Lab) -> Iterator[Lockers]:
    """Starts a process in a member that locks as it is told."""
    started: list[Locker] = []

    def start(member: str) -> Locker:
        started.append(Locker(lab.line("exec", member, "--", sys.executable, "-S", str(PROGRAM))))
        return started[-1]

    yield start
    for one in started:
        with suppress(ProcessLookupError):
            one.process.send_signal(signal.SIGTERM)
        one.close()


def kill(lab: Lab, member: str, locker: Locker) -> None:
    lab.do("exec", member, "--", "kill", "-9", str(locker.pid))


def report(lab: Lab, member: str, name: str) -> list[str]:
    text = lab.sh(member, f"cat /clu/status/locks/public/{name} 2> /dev/null || :")
    return [line for line in text.splitlines() if " bytes=" in line]


def waits(lab: Lab, name: str, count: int = 1) -> None:
    def waiting() -> int:
        return sum(line.startswith("WAITING") for line in report(lab, THIRD, name))

    assert within(20, lambda: waiting() == count)


@pytest.mark.parametrize("path", [PUBLIC / "split", Path("/clu/lockfiles/split")])
def test_bytes_that_one_member_gives_up_another_gets(
    lab: Lab, lockers: Lockers, path: Path
) -> None:
    one, two = lockers(FIRST), lockers(SECOND)
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 100) == "granted"
    assert two.do("set", its, "w", 40, 20) == "EAGAIN"
    assert two.do("get", its, "r", 40, 20) == ["w", 0, 100, 0], "a process of another member"
    two.tell("set", its, "w", 40, 20, True)
    assert not two.says_something(0.3)
    assert one.do("set", mine, "u", 40, 20) == "granted"
    assert two.hear() == "granted"
    assert one.do("get", mine, "w") == ["w", 40, 20, 0]
    assert two.do("set", its, "r", 39, 2) == "EAGAIN"
    assert one.do("set", mine, "r", 30, 10) == "granted"
    assert two.do("set", its, "r", 39, 1) == "granted"
    assert one.do("close", mine) is None
    assert within(5, lambda: two.do("set", its, "w", 0, 0) == "granted")


def test_every_member_reports_who_holds_and_awaits_which_bytes(lab: Lab, lockers: Lockers) -> None:
    one, two = lockers(FIRST), lockers(SECOND)
    path = PUBLIC / "reported"
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 1) == "granted"
    assert two.do("set", its, "r", 7, 1, False, True) == "granted"
    two.tell("set", its, "r", 0, 5, True)
    waits(lab, "reported")
    for member in NAMES:
        lines = [line.split() for line in report(lab, member, "reported")]
        assert {(words[0], words[3], int(words[4]), words[7]) for words in lines} == {
            ("GRANTED", FIRST, one.pid, "bytes=0-0"),
            ("GRANTED", SECOND, two.pid, "bytes=7-7"),
            ("WAITING", SECOND, two.pid, "bytes=0-4"),
        }
        assert lab.sh(member, "ls /clu/locks/public").split() == ["reported"]
    kill(lab, FIRST, one)
    assert two.hear() == "granted"


def test_ping_pong_between_two_members_loses_no_increment(
    lab: Lab, lockers: Lockers, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    players = [lockers(FIRST), lockers(SECOND), lockers(SECOND)]
    for one in players:
        one.tell("ping_pong", str(PUBLIC / "table"), str(counter), 120, len(players) + 1)
    assert sum(one.hear() for one in players) == int(counter.read_text())


def test_a_deadlock_over_two_members_is_refused_to_one(lab: Lab, lockers: Lockers) -> None:
    one, two = lockers(FIRST), lockers(SECOND)
    path = PUBLIC / "knot"
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 1) == two.do("set", its, "w", 1, 1) == "granted"
    one.tell("set", mine, "w", 1, 1, True)
    waits(lab, "knot")
    assert two.do("set", its, "w", 0, 1, True) == "EDEADLK"
    assert "locks/public/knot" in lab.sh(THIRD, "cat /clu/status/deadlocks")
    assert two.do("set", its, "u") == "granted"
    assert one.hear() == "granted"


def test_descriptors_that_wait_for_each_other_are_not_refused(lab: Lab, lockers: Lockers) -> None:
    one, two = lockers(FIRST), lockers(SECOND)
    path = PUBLIC / "described"
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 1, False, True) == "granted"
    assert two.do("set", its, "w", 1, 1, False, True) == "granted"
    one.tell("set", mine, "w", 1, 1, True, True)
    two.tell("set", its, "w", 0, 1, True, True)
    waits(lab, "described", 2)
    assert not two.says_something(3)
    kill(lab, SECOND, two)
    assert one.hear() == "granted"


def test_a_crontab_line_runs_on_one_member_at_a_time(lab: Lab, tmp_path: Path) -> None:
    """`flock -n` in three crontabs, and a job that locks by fcntl(2) itself."""
    script = f"flock -n {PUBLIC}/cron sh -c 'echo ran >> {tmp_path}/ran; sleep 2' || echo busy >> {tmp_path}/busy"
    started = [lab.start(member, "sh", "-c", script) for member in NAMES]
    assert [one.wait(30) for one in started] == [0, 0, 0]
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert (tmp_path / "busy").read_text() == "busy\n" * 2


def test_python_programs_take_turns_after_one_that_is_killed(lab: Lab, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    script = (
        "import fcntl,sys\n"
        "for turn in range(30):\n"
        f"    with open('{PUBLIC}/turns', 'w') as lock:\n"
        "        fcntl.lockf(lock, fcntl.LOCK_EX)\n"
        f"        with open({str(counter)!r}, 'r+') as file:\n"
        "            value = int(file.read()); file.seek(0); file.write(str(value + 1))\n"
    )
    stuck = (
        f"import fcntl,time; f = open('{PUBLIC}/turns', 'w'); fcntl.lockf(f, fcntl.LOCK_EX)\n"
        "import os; print(os.getpid(), flush=True); time.sleep(60)"
    )
    pipe = subprocess.PIPE
    holder = lab.start(THIRD, sys.executable, "-S", "-c", stuck, stdout=pipe)
    assert holder.stdout is not None
    pid = holder.stdout.readline().strip()
    players = [lab.start(one, sys.executable, "-S", "-c", script) for one in (FIRST, SECOND)]
    waits(lab, "turns", 2)
    lab.do("exec", THIRD, "--", "kill", "-9", pid)
    assert [one.wait(60) for one in players] == [0, 0]
    holder.communicate(timeout=20)
    assert counter.read_text() == "60"


SQLITE = """
import os, sqlite3, sys
db = sqlite3.connect("/clu/lockfiles/shared.db", timeout=60, isolation_level=None)
for turn in range(int(sys.argv[1])):
    db.execute("begin immediate")
    (value,) = db.execute("select value from counter").fetchone()
    db.execute("update counter set value = ?", (value + 1,))
    if len(sys.argv) > 2:
        print(os.getpid(), flush=True)
        sys.stdin.read()
    db.execute("commit")
"""


def test_sqlite_shares_a_database_over_two_members_and_survives_a_killed_writer(lab: Lab) -> None:
    """Unmodified, with its rollback journal beside the database."""
    make = "create table counter (value); insert into counter values (0)"
    program = [sys.executable, "-S", "-c"]
    lab.do(
        "exec", THIRD, "--", *program,
        f"import sqlite3; sqlite3.connect('/clu/lockfiles/shared.db').executescript('{make}')",
    )  # fmt: skip
    pipe = subprocess.PIPE
    killed = lab.start(THIRD, *program, SQLITE, "1", "stop", stdin=pipe, stdout=pipe)
    assert killed.stdout is not None
    pid = killed.stdout.readline().strip()
    players = [lab.start(one, *program, SQLITE, "6") for one in (FIRST, SECOND)]
    lab.do("exec", THIRD, "--", "kill", "-9", pid)
    killed.communicate(timeout=20)
    assert [one.wait(90) for one in players] == [0, 0]
    read = (
        "import sqlite3; db = sqlite3.connect('/clu/lockfiles/shared.db')\n"
        "print(*db.execute('select * from counter'))"
    )
    assert lab.do("exec", THIRD, "--", *program, read) == "(12,)\n"


def test_a_lost_members_bytes_are_free_once_it_is_fenced(lab: Lab, lockers: Lockers) -> None:
    one, two = lockers(FIRST), lockers(SECOND)
    path = PUBLIC / "lost"
    mine, its = one.open(path), two.open(path)
    assert one.do("set", mine, "w", 0, 10) == two.do("set", its, "w", 20, 10) == "granted"
    two.tell("thread", "set", its, "w", 0, 40, True)
    assert two.hear() == "started"
    waits(lab, "lost")
    lab.do("kill", FIRST)
    assert two.hear() == "granted"
    assert FIRST in lab.sh(SECOND, "cat /clu/status/fencing")
    assert [line.split()[7] for line in report(lab, THIRD, "lost")] == ["bytes=0-39"]


def test_nothing_is_granted_in_the_minority(lab: Lab, lockers: Lockers) -> None:
    """The last story: it is told on what the one before has left, and leaves a member dead."""
    one = lockers(SECOND)
    path = PUBLIC / "alone"
    mine, free = one.open(path), one.open(PUBLIC / "free")
    assert one.do("set", mine, "w", 0, 10) == "granted"
    for other in (FIRST, THIRD):
        lab.run("kill", other)
    assert within(20, lambda: "QUORATE=0" in lab.sh(SECOND, "cat /clu/status/quorum"))
    assert one.do("set", free, "w", 0, 10) == "EHOSTDOWN"
    assert one.do("set", mine, "w", 20, 1) == "EHOSTDOWN"
    assert one.do("get", mine, "w", 20, 1) == "EHOSTDOWN"
    assert one.do("set", mine, "u", 5, 2) == "granted", "what is given up needs nobody"
    one.tell("set", free, "w", 0, 1, True)
    assert not one.says_something(0.5)
    lab.do("restart", THIRD)
    assert one.says_something(30) and one.hear() == "granted"
