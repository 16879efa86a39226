"""Without quorum, and expelled: who is told, who is killed, who lives, what is refused (contract 2)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clufs.fuse.owner_record import left_behind
from clufs.fuse.processes import is_gone
from tests.blackbox.clu import Clu, Shell, until
from tests.blackbox.program import Program

Shells = Callable[..., Shell]
Programs = Callable[..., Program]

KILL_MS = 1400
KILLS = f'[quorum]\non_lost_quorum = "kill"\nquorum_kill_ms = {KILL_MS}\n'

POLL = """
def events(fd, timeout=0):
    poller = select.poll()
    poller.register(fd, 0)
    names = {select.POLLHUP: "HUP", select.POLLERR: "ERR"}
    found = poller.poll(timeout)
    bits = found[0][1] if found else 0
    return sorted(name for bit, name in names.items() if bits & bit)
"""


class SwitchedClu(Clu):
    """A /clu whose quorum is in the test's hands."""

    program = (sys.executable, "-m", "tests.blackbox.switched")

    def switch(self, number: signal.Signals, event: str) -> None:
        """Have it happen, and see that it has."""
        before = self.happened(event)
        self.daemon.send_signal(number)
        until(lambda: self.happened(event) > before, event)

    def happened(self, event: str) -> int:
        return (self.root / "events").read_text().count(f"Z {event}")

    def lose_quorum(self) -> None:
        self.switch(signal.SIGUSR1, "quorum-lost")

    def regain_quorum(self) -> None:
        self.switch(signal.SIGUSR2, "quorum-back")

    def expel(self) -> None:
        """It is expelled and is back, all before this returns."""
        self.switch(signal.SIGHUP, "quorum-back")


def served(directory: Path, *options: str) -> Iterator[SwitchedClu]:
    clu = SwitchedClu(directory, *options)
    try:
        yield clu
    finally:
        clu.close()


@pytest.fixture
def clu(tmp_path: Path) -> Iterator[SwitchedClu]:
    yield from served(tmp_path)


@pytest.fixture
def killing_clu(tmp_path: Path) -> Iterator[SwitchedClu]:
    config = tmp_path / "clufs.toml"
    config.write_text(KILLS)
    yield from served(tmp_path, "--config", str(config))


def lives(one: Shell) -> bool:
    return one.ask("echo yes") == (0, "yes\n")


def killed(one: Shell | Program) -> bool:
    return bool(one.process.wait(20) == -signal.SIGKILL)


def is_there(pid: int) -> bool:
    """Whether a process that is no child of ours is there and no zombie."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not is_gone(pidfd)
    finally:
        os.close(pidfd)


# ------------------------------------------------------------------- quorum


def test_who_holds_hears_by_poll_that_quorum_is_gone_and_back(
    clu: SwitchedClu, program: Programs
) -> None:
    holder, onlooker = program(clu.public), program(clu.public)
    for one in (holder, onlooker):
        one.run(POLL)
        one.run("fd = own('f')")
    holder.run("say(fd, 'PR')")
    holder.begin("events(fd, None)")
    clu.lose_quorum()
    assert holder.hear() == ["ERR"]
    assert holder.run("events(fd)") == ["ERR"]
    assert onlooker.run("events(fd)") == []
    clu.regain_quorum()
    assert holder.run("events(fd)") == []
    assert "GRANTED PR" in clu.report("f")


def test_by_default_who_holds_goes_on(clu: SwitchedClu, shell: Shells) -> None:
    holder = shell(cwd=clu.public)
    holder.ask("exec 9<>f; echo EX >&9; echo PR > g")
    clu.lose_quorum()
    assert (clu.public / "f").is_file()
    assert os.getxattr(clu.public / "f", "user.clu.quorum") == b"0"
    assert lives(holder)
    assert holder.ask("echo UN >&9; exec 9>&-; rm g") == (0, "")
    assert os.listdir(clu.public) == []


def test_directories_are_not_changed_without_quorum_and_nobody_waits(clu: SwitchedClu) -> None:
    locks = clu.root / "locks"
    (locks / "db").mkdir()
    clu.lose_quorum()
    for change in (
        lambda: (locks / "new").mkdir(),
        lambda: (locks / "db").rmdir(),
        lambda: (locks / "db").chmod(0o700),
        lambda: os.open(locks / "db" / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    ):
        with pytest.raises(OSError) as refused:
            change()
        assert refused.value.errno == errno.EHOSTDOWN
        assert "EHOSTDOWN this member has no quorum" in clu.errors().splitlines()[-1]
    os.close(os.open(locks / "db" / "f", os.O_CREAT | os.O_WRONLY))
    clu.regain_quorum()
    (locks / "db").chmod(0o700)
    (locks / "db").rmdir()


def test_holders_are_killed_in_time_and_nobody_else(
    killing_clu: SwitchedClu, shell: Shells, program: Programs
) -> None:
    clu = killing_clu
    by_path, by_descriptor, waiter = (shell(cwd=clu.public) for _ in range(3))
    member, heir_of_none = program(clu.public), shell(cwd=clu.public)
    by_path.ask("echo PW > f")
    by_descriptor.ask("exec 9<>g; echo EX >&9")
    (clu.root / "groups" / "crew").mkdir()
    (clu.root / "groups" / "crew" / "procs").write_text(f"{member.pid}\n")
    member.ask("EX group=crew", "h")
    waiter.begin("exec 9<>g; echo EX >&9")  # another open of the same file
    clu.until_queued("g")
    heir_of_none.ask("exec 9<>g")
    begin = time.monotonic()
    clu.lose_quorum()
    assert lives(by_path) and lives(by_descriptor)
    assert killed(by_path) and killed(by_descriptor) and killed(member)
    assert time.monotonic() - begin < KILL_MS / 1000
    assert waiter.hear() == (0, "")
    assert lives(heir_of_none)
    log = clu.log.read_text()
    assert f"killed process {by_path.pid}: it held a lock, and quorum is gone" in log


def test_a_child_that_inherited_the_descriptor_is_killed(
    killing_clu: SwitchedClu, shell: Shells
) -> None:
    holder = shell(cwd=killing_clu.public)
    _, printed = holder.ask("exec 9<>f; echo EX >&9; sleep 1000 & echo $!; exec 9>&-")
    child = int(printed)
    killing_clu.lose_quorum()
    until(lambda: not killing_clu.report("f"), "the end of the lock")
    assert holder.process.wait(20) == -signal.SIGKILL  # it asked: the lock is its own as well
    until(lambda: not is_there(child), "the end of the child")


def test_quorum_that_comes_back_in_time_saves_the_holders(
    killing_clu: SwitchedClu, shell: Shells
) -> None:
    holder = shell(cwd=killing_clu.public)
    holder.ask("echo EX > f")
    killing_clu.lose_quorum()
    killing_clu.regain_quorum()
    time.sleep(KILL_MS / 1000 + 0.2)
    assert lives(holder)
    assert "GRANTED EX" in killing_clu.report("f")


# ---------------------------------------------------------------- expulsion


def test_expelled_its_holders_are_killed_and_nothing_is_left(
    clu: SwitchedClu, shell: Shells, program: Programs
) -> None:
    by_path, by_descriptor, innocent = (shell(cwd=clu.public) for _ in range(3))
    waiter, asker = program(clu.public), program(clu.public)
    by_path.ask("echo NL > f; echo EX > g; echo 'EX value=old' > g; echo EX > g.sub/s")
    _, heir = by_descriptor.ask("exec 9<>h; echo PR >&9; sleep 1000 & echo $!")
    innocent.ask("exec 9<>h; cat g")
    asker.ask("EX async", "g")
    waiter.begin_to_ask("EX", "g")
    clu.until_queued("g", 2)
    clu.expel()
    assert killed(by_path) and killed(by_descriptor) and not is_there(int(heir))
    assert waiter.hear() == "EHOSTDOWN"
    assert asker.ask("WAIT", "g") == "EHOSTDOWN"
    assert "EHOSTDOWN this member was expelled" in clu.errors()
    assert lives(innocent)
    innocent.ask("exec 9>&-")
    assert os.listdir(clu.public) == []
    assert os.listdir(clu.root / "status" / "locks" / "public") == []
    assert left_behind(clu.state / "owners") == ([], False)
    for one in (waiter, asker):
        assert one.ask("PR", "g") is None
    assert len(clu.queue("g", "GRANTED")) == 2
    assert (clu.public / "g").read_text() == ""


def test_what_the_member_held_itself_is_lost_and_can_be_asked_for_again(
    clu: SwitchedClu, program: Programs
) -> None:
    user = program(clu.public)
    user.run(POLL)
    user.run("fd = own('f')")
    user.run("say(fd, 'EX persistent')")
    clu.expel()
    assert user.run("events(fd)") == ["HUP"]
    assert user.run("say(fd, 'EX persistent')") is None
    assert user.run("events(fd)") == []
    assert "GRANTED EX" in clu.report("f")


@pytest.mark.parametrize("end", ["expelled", "without quorum"])
def test_who_has_made_a_file_that_ends_with_it_is_killed_as_who_holds_a_lock(
    killing_clu: SwitchedClu, program: Programs, end: str
) -> None:
    clu = killing_clu
    run = clu.root / "lockfiles" / "run"
    run.mkdir()
    os.setxattr(run, "user.clu.ephemeral", b"1")
    maker, removed, other = (program(run) for _ in range(3))
    make = "os.close(os.open({!r}, os.O_CREAT | os.O_EXCL))"
    maker.run(make.format("lock"))
    removed.run(make.format("gone") + "; os.unlink('gone')")
    other.run("open('lock').close()")
    if end == "expelled":
        clu.expel()
    else:
        clu.lose_quorum()
    assert killed(maker)
    assert removed.run("1 + 1") == other.run("1 + 1") == 2


def test_who_listens_has_a_moment(
    clu: SwitchedClu, shell: Shells, program: Programs, tmp_path: Path
) -> None:
    by_signal, by_poll = shell(cwd=clu.public), program(clu.public)
    by_signal.ask(f"trap 'echo lost > {tmp_path}/signal; exit 3' USR1; echo 'EX lost=USR1' > f")
    by_signal.begin("while :; do sleep 0.01; done")
    by_poll.run(POLL)
    by_poll.run("fd = own('g')")
    by_poll.run("say(fd, 'EX')")
    by_poll.begin(f"open('{tmp_path}/poll', 'w').write(*events(fd, None)); os._exit(4)")
    until(lambda: is_polling(by_poll), "poll(2)")
    clu.expel()
    assert by_signal.process.wait(20) == 3
    assert by_poll.process.wait(20) == 4
    assert ((tmp_path / "signal").read_text(), (tmp_path / "poll").read_text()) == ("lost\n", "HUP")
    assert " killed=0" in (clu.root / "events").read_text().split(" expelled ")[1]


def is_polling(one: Program) -> bool:
    return "poll" in Path(f"/proc/{one.pid}/wchan").read_text()  # our own child, which only polls


def test_who_listens_and_does_not_end_is_killed(clu: SwitchedClu, shell: Shells) -> None:
    holder = shell(cwd=clu.public)
    holder.ask("trap '' USR1; echo 'EX lost=USR1' > f")
    clu.expel()
    assert killed(holder)


def test_the_new_lock_manager_knows_the_groups(
    clu: SwitchedClu, shell: Shells, program: Programs
) -> None:
    crew = clu.root / "groups" / "crew"
    crew.mkdir()
    one, other = program(clu.public), program(clu.public)
    (crew / "procs").write_text(f"{one.pid}\n")
    clu.expel()
    # A group is stuck when its only process is: that closes the cycle.
    assert one.ask("EX group=crew", "a") is None
    other.ask("EX", "b")
    other.begin_to_ask("EX", "a")
    clu.until_queued("a")
    assert one.ask("EX", "b") == "EDEADLK"


# --------------------------------------------------------------- clufs run


@pytest.fixture
def running(clu: SwitchedClu, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`clufs run` with a command that lasts, and the command's pid."""
    pid_file = tmp_path / "pid"
    command = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 1000"
    one = subprocess.Popen(
        [sys.executable, "-m", "clufs.cli.clufs", "run", clu.public / "f", "--", "sh", "-c", command],
        text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    until(pid_file.exists, "the command")
    yield one, int(pid_file.read_text())
    one.kill()
    one.communicate()


def test_the_command_of_clufs_run_goes_on_without_quorum(
    clu: SwitchedClu, running: tuple[subprocess.Popen[str], int]
) -> None:
    one, command = running
    clu.lose_quorum()
    with pytest.raises(subprocess.TimeoutExpired):
        one.wait(1.0)
    used_s = sum(map(int, Path(f"/proc/{one.pid}/stat").read_text().split()[13:15])) / 100
    clu.regain_quorum()
    os.kill(command, signal.SIGTERM)
    assert one.wait(20) == 128 + signal.SIGTERM
    assert used_s < 0.5


def test_the_command_of_clufs_run_ends_with_the_lock(
    clu: SwitchedClu, running: tuple[subprocess.Popen[str], int]
) -> None:
    one, command = running
    clu.expel()
    assert one.wait(20) in (-signal.SIGKILL, 75)
    until(lambda: not is_there(command), "the end of the command")
