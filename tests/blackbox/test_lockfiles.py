"""/clu/lockfiles on one member: an ordinary small directory, and files that end with their makers."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from clufs.limits import LOCKFILE_MAX_BYTES
from tests.blackbox.clu import Clu, running, until
from tests.blackbox.people import ALICE, BOB, CAROL, ROOT, Person
from tests.blackbox.program import Program
from tests.registry.table_files import CALLS, RealFiles, outcome

Programs = Callable[..., Program]


@pytest.fixture(scope="module")
def clu() -> Iterator[Clu]:
    """A /clu whose disk is memory: each change here waits for it."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as directory:
        Path(directory).chmod(0o755)
        yield from running(Path(directory))


@pytest.fixture
def here(clu: Clu, name: str) -> Iterator[Path]:
    """A directory in lockfiles for one test, which everybody may use, as /tmp."""
    path = clu.root / "lockfiles" / name
    path.mkdir()
    path.chmod(0o1777)
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)


# ------------------------------------------------- as any directory


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(calls=st.lists(CALLS, min_size=10, max_size=25))
def test_calls_in_any_order_end_as_in_any_directory(
    here: Path, calls: list[tuple[Any, ...]]
) -> None:
    before = os.umask(0)
    with (
        tempfile.TemporaryDirectory(dir=here.parents[2]) as plain,
        tempfile.TemporaryDirectory(dir=here) as ours,
    ):
        real, clu = RealFiles(Path(plain)), RealFiles(Path(ours))
        for name, *arguments in calls:
            told = outcome(getattr(clu, name), tuple(arguments))
            assert told == outcome(getattr(real, name), tuple(arguments)), (name, arguments)
        assert clu.seen() == real.seen()
    os.umask(before)


def test_of_many_who_make_one_file_one_does(here: Path) -> None:
    line = "set -C; for n in 1 2 3 4 5 6 7 8 9; do echo $$ 2>/dev/null > $n && echo $n; done; true"
    racers = [
        subprocess.Popen(["sh", "-c", line], cwd=here, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    won = {racer.pid: racer.communicate()[0].split() for racer in racers}
    assert sorted(name for names in won.values() for name in names) == [*"123456789"]
    for pid, names in won.items():
        assert all((here / name).read_text() == f"{pid}\n" for name in names)


def test_lines_that_many_append_are_whole(here: Path) -> None:
    line = "for n in 1 2 3 4 5; do echo $0 $n >> log; done"
    for writer in [subprocess.Popen(["sh", "-c", line, name], cwd=here) for name in "abcd"]:
        assert writer.wait() == 0
    lines = (here / "log").read_text().splitlines()
    assert sorted(lines) == [f"{name} {n}" for name in "abcd" for n in range(1, 6)]


def test_a_directory_has_times_owners_and_modes_as_everywhere(here: Path) -> None:
    def facts(path: Path) -> tuple[object, ...]:
        found = path.stat()
        mode = stat.filemode(found.st_mode)
        return mode, found.st_uid, found.st_gid, found.st_atime_ns, found.st_mtime_ns

    assert ROOT.runs("umask 027; mkdir d; : > d/f", here)[0] == 0
    os.chown(here / "d", 1001, 1003)
    os.chmod(here / "d", 0o2770)
    os.utime(here / "d" / "f", ns=(5, 7))
    assert facts(here / "d")[:3] == ("drwxrws---", 1001, 1003)
    assert facts(here / "d" / "f") == ("-rw-r-----", 0, 0, 5, 7)
    (here / "d" / "g").touch()
    (here / "d" / "e").mkdir()
    assert facts(here / "d" / "g")[2] == 1003
    assert facts(here / "d" / "e")[0][:7] == "drwxr-s" and facts(here / "d" / "e")[2] == 1003


@pytest.mark.parametrize(
    ("who", "command", "number"),
    [
        (BOB, "rm alices", errno.EPERM),  # sticky, as /tmp is
        (BOB, "mv alices other", errno.EPERM),
        (BOB, "cat alices", errno.EACCES),
        (CAROL, "cat alices", 0),
        (CAROL, "echo x >> alices", errno.EACCES),
        (BOB, "chmod 666 alices", errno.EPERM),
        (BOB, "chgrp 1002 alices", errno.EPERM),
        (BOB, "ls closed", errno.EACCES),
        (BOB, "echo x > closed/f", errno.EACCES),
        (BOB, "setfattr -n user.clu.ephemeral -v 1 closed", errno.EACCES),
        (ALICE, "chown 1002 alices", errno.EPERM),
        (ALICE, "echo x >> alices; rm alices", 0),
    ],
)
def test_who_may_do_what(here: Path, who: Person, command: str, number: int) -> None:
    done = ALICE.runs("umask 027; echo secret > alices; mkdir -m 700 closed", here)
    assert done == (0, "")
    status, said = who.runs(command, here)
    assert (status != 0, os.strerror(number) in said) == (number != 0, number != 0), said


def test_a_name_made_meanwhile_is_opened_as_its_mode_says(here: Path) -> None:
    """Two open with O_CREAT what neither finds: the second gets what the first has made, or EACCES."""
    loop = "for n in 0 1 2 3 4 5 6 7 8 9; do echo $0 2>/dev/null >> f$n || echo refused f$n; done"
    racers = {
        who: subprocess.Popen(
            ["sh", "-c", f"umask 077; {loop}", str(who.uid)],
            cwd=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            **who.options,  # type: ignore[call-overload]
        )
        for who in (ALICE, BOB)
    }
    said = {who: racer.communicate()[0] for who, racer in racers.items()}
    for n in range(10):
        owner = (here / f"f{n}").stat().st_uid
        assert (here / f"f{n}").read_text() == f"{owner}\n"
        loser = BOB if owner == ALICE.uid else ALICE
        assert f"refused f{n}" in said[loser]


def test_an_unlinked_file_goes_on_for_who_has_it_open(here: Path) -> None:
    fd = os.open(here / "f", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"before")
    os.unlink(here / "f")
    (here / "f").write_text("another")
    os.pwrite(fd, b"AFTER", 3)
    os.ftruncate(fd, 7)
    assert (os.pread(fd, 99, 0), os.fstat(fd).st_nlink, os.fstat(fd).st_size) == (b"befAFTE", 0, 7)
    os.close(fd)
    assert (here / "f").read_text() == "another"


def test_bounds_are_told_as_any_file_system_tells_them(here: Path) -> None:
    with (here / "big").open("wb", buffering=0) as file:
        file.write(bytes(LOCKFILE_MAX_BYTES))
        with pytest.raises(OSError) as raised:
            file.write(b"x")
        assert raised.value.errno == errno.EFBIG
        assert os.fstat(file.fileno()).st_size == LOCKFILE_MAX_BYTES
    with pytest.raises(OSError) as raised:
        (here / ("n" * 256)).touch()
    assert raised.value.errno == errno.ENAMETOOLONG
    with pytest.raises(OSError) as raised:
        os.mkfifo(here / "pipe")
    assert raised.value.errno == errno.EPERM


@pytest.mark.parametrize("made", [os.symlink, os.link])
def test_links_are_made_in_lockfiles_only(
    clu: Clu, here: Path, made: Callable[[Path, Path], None]
) -> None:
    (here / "f").touch()
    with pytest.raises(OSError) as raised:
        made(here / "f", clu.public / "f")
    assert raised.value.errno == errno.EPERM
    with pytest.raises(OSError) as raised:
        os.rename(here / "f", clu.root / "templates" / "f")
    assert raised.value.errno == errno.EXDEV


def test_programs_that_copy_and_edit_find_what_they_expect(here: Path, tmp_path: Path) -> None:
    commands = f"""
        mkdir -p a/b; echo one > a/b/f; ln a/b/f a/g; ln -s b/f a/s; chmod 640 a/b/f
        sed -i --follow-symlinks s/one/two/ a/s; cat a/s a/g; cp -a a c; diff -r a c
        tar cf {tmp_path}/t c && tar xf {tmp_path}/t -C {tmp_path} && diff -r c {tmp_path}/c
        ln c/g c/h; rsync -aH c/ r/; diff -r c r; stat -c %h r/g
        mv -n c/g c/h; mv c/b/f {tmp_path}/f; du -sb r; find . -type l | sort; rm -r c r a; ls
    """
    told = "two\none\n2\n11\tr\n./a/s\n./c/s\n./r/s\n"
    assert ROOT.runs(commands, here) == (0, told)


def test_all_is_there_after_a_kill_of_the_daemon(clu: Clu, here: Path) -> None:
    assert ROOT.runs("echo text > f; ln f g; ln -s f s; mkdir -m 700 d; chown 7:8 d", here)[0] == 0
    before = RealFiles(here).seen()
    clu.stop(signal.SIGKILL)
    clu.start()
    assert RealFiles(here).seen() == before
    assert (here / "d").stat().st_uid == 7


# ------------------------------------------------- files that end with their makers


@pytest.fixture
def run(here: Path) -> Path:
    """An ephemeral directory."""
    os.setxattr(here, "user.clu.ephemeral", b"1")
    assert os.getxattr(here, "user.clu.ephemeral") == b"1"
    return here


EXCLUSIVE = "os.close(os.open({!r}, os.O_CREAT | os.O_EXCL | os.O_WRONLY))"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_file_ends_with_its_maker(
    run: Path, program: Programs, end: signal.Signals | None
) -> None:
    maker = program(run)
    maker.run(EXCLUSIVE.format("mine"))
    maker.run("os.link('mine', 'again'); os.rename('mine', 'renamed')")
    (run / "anothers").touch()
    host, pid = os.getxattr(run / "renamed", "user.clu.maker").split()
    assert (host, int(pid)) == (os.uname().nodename.encode(), maker.process.pid)
    if end is None:
        assert maker.process.stdin is not None
        maker.process.stdin.close()
    else:
        maker.process.send_signal(end)
    until(lambda: os.listdir(run) == ["anothers"], "the end of the file")


def test_only_what_was_made_exclusively_ends(run: Path, program: Programs) -> None:
    maker = program(run)
    maker.run("open('kept', 'w').close(); os.mkdir('below')")
    maker.run(EXCLUSIVE.format("below/ends"))
    maker.process.kill()
    until(lambda: os.listdir(run / "below") == [], "the end of the file below")
    assert sorted(os.listdir(run)) == ["below", "kept"]
    os.setxattr(run, "user.clu.ephemeral", b"0")
    maker = program(run)
    maker.run(EXCLUSIVE.format("stays"))
    maker.process.kill()
    maker.process.wait()
    assert ROOT.runs("sync; ls", run) == (0, "below\nkept\nstays\n")


def test_who_removed_its_file_is_no_maker_any_more(clu: Clu, run: Path, program: Programs) -> None:
    """A daemon that starts after a kill ends whoever still holds, and nobody else."""
    keeps, removed = program(run), program(run)
    keeps.run(EXCLUSIVE.format("kept"))
    removed.run(EXCLUSIVE.format("removed"))
    removed.run("os.unlink('removed')")
    clu.stop(signal.SIGKILL)
    clu.start()
    assert keeps.process.wait(20) == -signal.SIGKILL
    assert removed.process.poll() is None
    assert os.listdir(run) == []


def test_the_attribute_is_0_or_1_and_a_directorys(here: Path) -> None:
    (here / "f").touch()
    for path, value, number in (
        (here, b"yes", errno.EINVAL),
        (here / "f", b"1", errno.EOPNOTSUPP),
    ):
        with pytest.raises(OSError) as raised:
            os.setxattr(path, "user.clu.ephemeral", value)
        assert raised.value.errno == number


# ------------------------------------------------- flock(2) on them


def may_lock(fd: int, how: int) -> bool:
    """Whether flock(2) gives it at once."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_flock_is_the_files_whatever_its_name(here: Path) -> None:
    (here / "f").touch()
    one = os.open(here / "f", os.O_RDONLY)
    fcntl.flock(one, fcntl.LOCK_EX)
    os.link(here / "f", here / "linked")
    os.rename(here / "f", here / "renamed")
    for name in ("linked", "renamed"):
        other = os.open(here / name, os.O_RDONLY)
        assert not may_lock(other, fcntl.LOCK_SH)
        os.close(other)
    (here / "f").touch()
    other = os.open(here / "f", os.O_RDONLY)
    assert may_lock(other, fcntl.LOCK_EX)
    os.close(one)
    again = os.open(here / "linked", os.O_RDONLY)
    until(lambda: may_lock(again, fcntl.LOCK_EX), "the release by the close")
    os.close(again)
    os.close(other)


def test_who_waits_for_flock_on_a_file_is_in_the_report(
    clu: Clu, here: Path, program: Programs
) -> None:
    (here / "f").touch()
    number = str((here / "f").stat().st_ino)
    holder, waiter = program(here), program(here)
    for one in (holder, waiter):
        one.run("import fcntl; fd = os.open('f', os.O_RDONLY)")
    holder.run("fcntl.flock(fd, fcntl.LOCK_SH)")
    waiter.begin("fcntl.flock(fd, fcntl.LOCK_EX)")
    until(lambda: clu.queue(number, "WAITING", ".lockfiles"), "the wait")
    assert clu.queue(number, "GRANTED", ".lockfiles")[0].split()[1] == "PR"
    holder.process.kill()
    assert waiter.hear() is None
    assert clu.queue(number, "GRANTED", ".lockfiles")[0].split()[1] == "EX"


@pytest.mark.parametrize("directory", ["lockfiles", "locks/public"])
def test_who_held_by_flock_does_not_outlive_a_kill_of_the_daemon(
    clu: Clu, program: Programs, directory: str
) -> None:
    holder = program(clu.root / directory)
    holder.run("import fcntl; fd = os.open('held', os.O_RDONLY | os.O_CREAT)")
    holder.run("fcntl.flock(fd, fcntl.LOCK_EX)")
    clu.stop(signal.SIGKILL)
    clu.start()
    assert holder.process.wait(20) == -signal.SIGKILL
