"""Programs that lock by files, unmodified, on members at once; and what a killed one leaves behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(180)

ROUNDS = 4
ONE, TWO, THREE = NAMES


class Way(NamedTuple):
    """How a shell script locks: `enter` fails while another is inside."""

    enter: str
    leave: str
    ends_with_process: bool = False


SHLOCK = "{ echo $$ > t.$M.$$; ln t.$M.$$ x.lock; s=$?; rm t.$M.$$; [ $s = 0 ]; }"
"""The algorithm of INN's shlock(1), which Debian has only within a news server."""

WAYS = {
    "dotlockfile": Way("dotlockfile -q -l -r 0 x.lock", "dotlockfile -u x.lock"),
    "procmail": Way("lockfile -r 0 x.lock", "rm -f x.lock"),
    "lockfile-progs": Way("lockfile-create -q -r 0 -l x.lock", "lockfile-remove -l x.lock"),
    "shlock": Way(SHLOCK, "rm x.lock"),
    "mkdir": Way("mkdir x.lock", "rmdir x.lock"),
    "emacs": Way('ln -s "root@$M.$$:1" .#x', "rm .#x"),
    "noclobber": Way("(set -C; echo $$ > x.lock)", "rm x.lock"),
    "flock": Way("{ exec 9>x.lock && flock -n 9; }", "exec 9>&-", ends_with_process=True),
}

CONTEND = """
n=0
while [ $n -lt {rounds} ]; do
    {way.enter} || {{ sleep 0.01; continue; }}
    mkdir $W/inside || echo "$M came in while another was inside" >> $W/wrong
    echo $(($(cat $W/count) + 1)) > $W/count
    rmdir $W/inside
    {way.leave}
    n=$((n + 1))
done 2>/dev/null
echo done
"""


class Place:
    """A directory of lockfiles where members contend, and one of this machine that sees who is inside."""

    def __init__(self, lab: Lab, witness: Path, name: str) -> None:
        self.lab = lab
        self.witness = witness
        self.directory = f"/clu/lockfiles/{name}"
        witness.mkdir()
        (witness / "count").write_text("0\n")
        lab.sh(ONE, f"mkdir {self.directory}")

    def script(self, member: str, lines: str) -> list[str]:
        head = f"cd {self.directory} || exit 9; export M={member} W={self.witness}\n"
        return ["sh", "-c", head + lines]

    def start(self, member: str, lines: str) -> subprocess.Popen[str]:
        return self.lab.start(member, *self.script(member, lines), stdout=subprocess.PIPE)

    def status(self, member: str, lines: str) -> int:
        return self.lab.run("exec", member, "--", *self.script(member, lines)).returncode

    def check(self, times: int) -> None:
        """So often somebody was inside, and never two."""
        assert not (self.witness / "wrong").exists()
        assert (self.witness / "count").read_text() == f"{times}\n"


@pytest.mark.parametrize("name", WAYS)
def test_two_members_contend_and_one_is_killed_inside(lab: Lab, tmp_path: Path, name: str) -> None:
    way, place = WAYS[name], Place(lab, tmp_path / "witness", name)
    contend = CONTEND.format(rounds=ROUNDS, way=way)
    contenders = [place.start(member, contend) for member in (ONE, TWO)]
    assert [one.communicate()[0] for one in contenders] == ["done\n", "done\n"]
    place.check(2 * ROUNDS)
    assert place.status(ONE, f"{way.enter} && kill -9 $$") not in (0, 1)
    if not way.ends_with_process:  # what is made by a program that ends stays, as on any disk
        assert place.status(TWO, way.enter) != 0
        assert place.status(THREE, way.leave) == 0
    assert within(10, lambda: place.status(TWO, f"{way.enter} && {way.leave}") == 0)


FILELOCK = """
import os, socket, sys
from filelock import SoftFileLock
socket.sethostname(sys.argv[1])
witness = sys.argv[2]
for n in range(int(sys.argv[3])):
    with SoftFileLock("x.lock", poll_interval=0.01):
        os.mkdir(witness + "/inside")
        with open(witness + "/count", "r+") as file:
            count = int(file.read()) + 1
            file.seek(0)
            file.write(f"{count}\\n")
        os.rmdir(witness + "/inside")
if sys.argv[3] == "0":
    SoftFileLock("x.lock").acquire()
    os.kill(os.getpid(), 9)
print("done")
"""


def test_filelock_of_python_contends_and_is_killed_inside(lab: Lab, tmp_path: Path) -> None:
    """In an ephemeral directory, where another member gets the lock of a process that was killed."""
    place = Place(lab, tmp_path / "witness", "filelock")
    lab.sh(ONE, f"setfattr -n user.clu.ephemeral -v 1 {place.directory}")
    (place.witness / "code.py").write_text(FILELOCK)
    run = f"unshare --uts {sys.executable} $W/code.py $M $W"
    contenders = [place.start(member, f"{run} {ROUNDS}") for member in (ONE, TWO)]
    assert [one.communicate()[0] for one in contenders] == ["done\n", "done\n"]
    place.check(2 * ROUNDS)
    assert place.status(ONE, f"{run} 0") not in (0, 1)
    assert place.status(TWO, f"{run} 1") == 0
    place.check(2 * ROUNDS + 1)


GIT = "git -c user.name=$M -c user.email=$M -c gc.auto=0"


def test_commits_of_git_on_two_members_wait_for_index_lock(lab: Lab, tmp_path: Path) -> None:
    place = Place(lab, tmp_path / "witness", "git")
    assert place.status(ONE, "git init -q -b main .") == 0
    commit = f"echo $n > $M && git add $M && {GIT} commit -q --allow-empty -m $M.$n"
    commits = f"for n in 1 2; do until {commit}; do sleep 0.05; done; done 2>/dev/null; echo done"
    contenders = [place.start(member, commits) for member in (ONE, TWO)]
    assert [one.communicate()[0] for one in contenders] == ["done\n", "done\n"]
    seen = f"cd {place.directory} && git log --format=%s | sort && git fsck --no-dangling && git status -s"
    assert lab.sh(THREE, seen).split() == [f"{m}.{n}" for m in sorted((ONE, TWO)) for n in (1, 2)]


def test_of_three_crontabs_one_runs(lab: Lab, tmp_path: Path) -> None:
    """`flock -n FILE COMMAND` on three members at once: the one that runs waits until all have tried."""
    place = Place(lab, tmp_path / "witness", "cron")
    run = "mkdir $W/ran.$M; until [ $(ls $W | grep -c tried) = 2 ]; do sleep 0.01; done"
    job = f"flock -n job sh -c '{run}' || mkdir $W/tried.$M; echo done"
    jobs = [place.start(member, job) for member in NAMES]
    assert [job.communicate()[0] for job in jobs] == ["done\n"] * 3
    assert len(list(place.witness.glob("ran.*"))) == 1


# ------------------------------------------------- what one was answered, the others see

TELLER = """
import errno, os, sys
os.chdir("/clu/lockfiles")
for line in sys.stdin:
    try:
        print(repr(eval(line)), flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""


class Teller:
    """A process on a member that evaluates what it is told: the answer, or the name of its errno."""

    def __init__(self, lab: Lab, member: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = lab.start(member, sys.executable, "-S", "-c", TELLER, **pipes)

    def ask(self, expression: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture
def tellers(lab: Lab) -> Iterator[list[Teller]]:
    with ExitStack() as stack:
        tellers = [Teller(lab, member) for member in NAMES]
        for teller in tellers:
            stack.callback(teller.close)
        yield tellers


def test_what_one_member_was_answered_the_others_see_at_once(tellers: list[Teller]) -> None:
    for turn in range(6):
        one, *others = tellers[turn % 3 :] + tellers[: turn % 3]
        assert one.ask("os.open('seen', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)").isdigit()
        fd = one.ask("max(map(int, os.listdir('/proc/self/fd')[:-1]))")
        steps = (
            (f"os.pwrite({fd}, b'{turn}', 0)", "open('seen').read()", repr(str(turn))),
            ("os.open('seen', os.O_CREAT | os.O_EXCL)", "os.stat('seen').st_nlink", "1"),
            ("os.link('seen', 'again')", "os.stat('seen').st_nlink", "2"),
            ("os.chmod('again', 0o640)", "oct(os.stat('seen').st_mode)", "'0o100640'"),
            ("os.rename('again', 'moved')", "os.path.lexists('again')", "False"),
            ("os.symlink('moved', 'link')", "open('link').read()", repr(str(turn))),
            ("os.unlink('link')", "os.readlink('link')", "ENOENT"),
            ("os.unlink('moved')", "os.stat('moved')", "ENOENT"),
            ("os.truncate('seen', 0)", "open('seen').read()", "''"),
            ("os.unlink('seen')", "sorted(set(os.listdir()) & {'seen', 'moved'})", "[]"),
        )
        for deed, look, shown in steps:
            one.ask(deed)
            assert [other.ask(look) for other in others] == [shown, shown], deed
        one.ask(f"os.close({fd})")


def test_names_and_numbers_are_the_same_on_every_member(lab: Lab) -> None:
    lab.sh(ONE, "cd /clu/lockfiles; mkdir -p same/a; echo x > same/a/f; ln same/a/f same/g")
    look = "cd /clu/lockfiles/same; stat -c '%n %i %h %A %u %g %s %y' . a a/f g"
    assert len({lab.sh(member, look) for member in NAMES}) == 1


# ------------------------------------------------- faults


@pytest.fixture
def whole(lab: Lab) -> Lab:
    """All are up and see lockfiles: whoever was fenced in the test before is started again."""
    for name in NAMES:
        if lab.state(name)[2] != "up":
            lab.revive(name)
    for name in NAMES:
        look = ("exec", name, "--", "ls", "/clu/lockfiles")
        assert within(60, lambda look=look: lab.run(*look).returncode == 0), name
    return lab


def test_a_member_that_stood_still_shows_nothing_of_before(whole: Lab) -> None:
    """What the others were answered meanwhile is there; or it cannot tell, or is fenced by then."""
    lab, file = whole, "/clu/lockfiles/paused"
    lab.sh(ONE, f"echo before > {file}")
    lab.do("pause", TWO, "--what", "clufsd")
    lab.sh(ONE, f"echo changed > {file}")
    lab.run("resume", TWO, "--what", "clufsd")
    assert lab.run("exec", TWO, "--", "cat", file).stdout in ("changed\n", "")
    assert lab.sh(THREE, f"cat {file}") == "changed\n"


def test_a_file_goes_with_a_member_once_that_is_fenced(whole: Lab) -> None:
    lab, directory = whole, "/clu/lockfiles/run"
    lab.sh(ONE, f"mkdir {directory}; setfattr -n user.clu.ephemeral -v 1 {directory}")
    hold = f"set -C; : > {directory}/lost; : > {directory}/../stays; exec sleep 1000"
    holder = lab.start(THREE, "sh", "-c", hold)
    assert within(10, lambda: "lost" in lab.sh(ONE, f"ls {directory}"))
    lab.do("kill", THREE)
    holder.communicate()
    gone = f"test -e {directory}/lost || grep -c ' {THREE} .* out ' /clu/status/fencing"
    assert within(60, lambda: lab.sh(ONE, f"{gone} || true") == "1\n")
    lab.sh(TWO, "ls /clu/lockfiles/stays && rm /clu/lockfiles/stays")


def test_a_member_alone_sees_and_changes_nothing(whole: Lab) -> None:
    lab = whole
    lab.sh(ONE, "cd /clu/lockfiles; mkdir alone; echo text > alone/f")
    lab.do("kill", ONE)
    lab.do("kill", TWO)
    quorum = "grep -c ^QUORATE=0 /clu/status/quorum || true"
    assert within(20, lambda: lab.sh(THREE, quorum) == "1\n")
    for line in (
        "cat alone/f",
        "ls alone",
        "touch alone/g",
        "mkdir alone/d",
        "ln alone/f alone/g",
        "mv alone/f alone/g",
        "rm -f alone/f",
        "stat alone",
    ):
        command = f"cd /clu/lockfiles && exec timeout 3 {line}"
        refused = lab.run("exec", THREE, "--", "sh", "-c", command)
        assert refused.returncode in (1, 2) and "Host is down" in refused.stderr, line
    assert lab.sh(THREE, "ls -d /clu/lockfiles") == "/clu/lockfiles\n"
    lab.do("restart", ONE)
    lab.do("restart", TWO)
    read = ("exec", ONE, "--", "cat", "/clu/lockfiles/alone/f")
    assert within(60, lambda: lab.run(*read).stdout == "text\n")


WRITER = """
cd /clu/lockfiles/power
n=0
while n=$((n + 1)); do
    echo $M > $M.$n && ln $M.$n $M.last.$n && rm -f $M.last.$((n - 1)) && echo $n
done
"""


def test_a_power_cut_of_all_members_loses_nothing_that_was_answered(
    whole: Lab, tmp_path: Path
) -> None:
    lab, place = whole, Place(whole, tmp_path / "witness", "power")
    writers = {member: place.start(member, WRITER) for member in (ONE, TWO)}
    for writer in writers.values():
        assert writer.stdout is not None
        while writer.stdout.readline() != "4\n":
            pass
    for member in NAMES:
        lab.do("kill", member)
    told = {member: writer.communicate()[0].split() for member, writer in writers.items()}
    for member in NAMES:
        lab.do("restart", member)
    look = "ls /clu/lockfiles/power"
    assert within(60, lambda: lab.run("exec", THREE, "--", "sh", "-c", look).returncode == 0)
    names = lab.sh(THREE, look).split()
    for member, numbers in told.items():
        last = int(numbers[-1]) if numbers else 4
        assert {f"{member}.{n}" for n in range(1, last + 1)} <= {*names}
        lasts = {name for name in names if name.startswith(f"{member}.last.")}
        assert lasts & {f"{member}.last.{n}" for n in (last, last + 1)}
        assert not lasts & {f"{member}.last.{n}" for n in range(1, last)}
