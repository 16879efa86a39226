"""The lab: members in namespaces, what can be done to them, and that nothing of it is left."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clufs import config
from tests.cluster.lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(100)

UP = ("up", "up", "up")
DEAD = ("dead", "dead", "dead")

# Says which of the addresses it is given it can reach.
REACH = """
import socket, sys
for address in sys.argv[1:]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(0.3)
        line.connect((address, 7))
        line.send(b"hello")
        try:
            line.recv(10)
        except ConnectionRefusedError:  # by the machine that has the address
            print(address)
        except TimeoutError:
            pass
"""


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is no member's."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def init_of(lab: Lab, member: str) -> int:
    return int((lab.directory / f"{member}.init").read_text().split()[0])


def lives(pid: int) -> bool:
    """Whether one of the lab's processes is there, and not only waits for somebody to see it dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def agent(lab: Lab, name: str, configured: str = "provolone") -> list[str]:
    """The fencing agent's command line for a member, as clufs.toml of another says."""
    (only,) = config.load(lab.directory / configured / "clufs.toml").fencing.agents
    return [*only.command, name]


def fence(lab: Lab, name: str, by: str = "provolone") -> subprocess.CompletedProcess[str]:
    return lab.run("exec", by, "--", "env", "-i", *agent(lab, name, by))


# ------------------------------------------------------------------ up


def test_up_says_who_is_in_and_down_leaves_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    try:
        assert lab.do("up", "--members", "4", "--engine", "corosync", "--luns", "0") == (
            f"up in {lab.directory}: provolone polishham pepicelli m4\n"
        )
        assert [*lab.states()] == [*NAMES, "m4"]
        assert lab.all_up()
        records = [*lab.directory.glob("*.init"), lab.directory / "keeper.pid"]
        pids = [int(path.read_text().split()[0]) for path in records]
        assert len(pids) == 6
        # One was killed by somebody else.
        os.kill(pids[0], signal.SIGKILL)
    finally:
        done = lab.run("down")
    assert done.returncode == 0
    assert not lab.directory.exists()
    assert not [pid for pid in pids if lives(pid)]
    assert str(lab.directory) not in Path("/proc/self/mountinfo").read_text()
    for command in ("down", "status", "heal"):
        done = lab.run(command)
        assert (done.returncode, "no lab is up in" in done.stderr) == (2, True)


def test_members_are_told_of_the_cluster(lab: Lab) -> None:
    for name in NAMES:
        told = config.load(lab.directory / name / "clufs.toml")
        assert (told.member.name, told.engine.kind) == (name, "corosync")
        keys = sorted(path.name for path in Path(told.engine.keys).iterdir())
        assert keys == ["ca.pem", "member.pem"]


def test_doctor_finds_a_member_well(lab: Lab) -> None:
    toml = lab.directory / "polishham" / "clufs.toml"
    program = [sys.executable, "-m", "clufs.cli.clufs", "doctor", "--config", str(toml)]
    found = lab.do("exec", "polishham", "--", *program)
    assert "ok cluster clufs-lab: provolone polishham pepicelli\n" in found
    assert f"ok keys of polishham in {lab.directory}/keys/polishham\n" in found
    assert "MISSING" not in found


def test_a_member_has_a_root_of_its_own(lab: Lab) -> None:
    assert lab.sh("provolone", "ls /clu/locks; ls /run") == "public\ncorosync.pid\n"
    assert lab.sh("provolone", f"cat {lab.directory}/provolone/clufs.toml")
    # What is new in the machine's root directory or in the member's stays there.
    assert lab.sh("provolone", "touch /of-provolone && ls /of-provolone")
    assert not Path("/of-provolone").exists()


def test_two_labs_do_not_disturb_each_other(lab: Lab, tmp_path: Path) -> None:
    links = Path("/proc/net/dev").read_text().count("\n")
    had_mount_point = Path("/clu").exists()
    other = Lab(tmp_path / "other")
    other.do("up", "--members", "1")
    assert Path("/clu").exists() == had_mount_point
    assert Path("/proc/net/dev").read_text().count("\n") == links
    other.sh("provolone", "mkdir /clu/locks/other")
    other.do("cut", "provolone")
    assert lab.sh("provolone", "ls /clu/locks") == "public\n"
    assert "cut" not in lab.states()["provolone"]
    assert fence(lab, "provolone", by="polishham").returncode == 0
    assert lab.state("provolone") == DEAD
    assert other.state("provolone") == UP
    lab.revive("provolone")
    other.do("down")
    assert lab.all_up()
    assert lab.sh("provolone", "ls /clu/locks") == "public\n"


def test_two_at_once_for_one_directory(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    lines = [lab.line("up", "--members", "1") for _ in range(2)]
    started = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for line in lines]
    said = [process.communicate()[1] for process in started]
    try:
        assert sorted(process.returncode for process in started) == [0, 2]
        assert f"clufs lab: a lab is up in {lab.directory}: clufs lab down\n" in said
        assert lab.state("provolone") == UP
    finally:
        lab.run("down")


def test_up_leaves_alone_what_is_not_a_labs(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear\n")
    done = Lab(tmp_path).run("up")
    assert (done.returncode, "not empty and not a lab's" in done.stderr) == (2, True)
    for place in (tmp_path / "letter", tmp_path / "letter" / "lab"):
        done = Lab(place).run("up")
        words = f"clufs lab: {place}: Not a directory\n"
        assert (done.returncode, done.stderr) == (2, words)
        for deed in ("status", "down"):
            assert "no lab is up in" in Lab(place).run(deed).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


# ------------------------------------------------------------------ exec and shell


def test_exec_passes_everything_through(lab: Lab) -> None:
    script = "hostname; cat; echo $* >&2; exit 7"
    done = lab.run("exec", "polishham", "--", "sh", "-c", script, "-", "--", "-x", input="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "polishham\nin\n", "-- -x\n")
    assert lab.run("exec", "polishham", "--", "sh", "-c", "kill -9 $$").returncode == -9
    assert lab.run("exec", "polishham", "--", "pwd", cwd="/usr").stdout == "/usr\n"
    assert lab.run("exec", "polishham", "--", "sh", "-c", "yes | head -n 1").stderr == ""
    assert [lab.run("exec", "polishham", "--", x).returncode for x in ("/", "no-such")] == [
        126,
        127,
    ]


def test_a_command_ends_with_the_one_who_asked(alone: Lab, tmp_path: Path) -> None:
    caller = alone.start("provolone", "sleep", "4711", stdout=subprocess.DEVNULL)
    sleeps = "pgrep -f '^sleep 4711$' | wc -l"
    assert within(10, lambda: alone.sh("provolone", sleeps) == "1\n")
    caller.kill()
    caller.wait()
    assert within(10, lambda: alone.sh("provolone", sleeps) == "0\n")


def test_a_shell_has_its_terminal(alone: Lab) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        line = alone.line("shell", "provolone")
        os.execvpe(line[0], line, {**os.environ, "SHELL": "/bin/bash"})
    said = b""

    def says(text: bytes) -> bool:
        nonlocal said
        if select.select([terminal], [], [], 0.05)[0]:
            said += os.read(terminal, 4096)
        return text in said

    os.write(terminal, b"hostname -s; sleep 100\n")
    assert within(20, lambda: says(b"\rprovolone\r\n"))

    # Ctrl-Z and Ctrl-C reach what runs in the foreground, and nothing else. At its prompt a shell
    # takes no notice of a Ctrl-Z that came too early.
    def stopped() -> bool:
        os.write(terminal, b"\x1a")
        return within(0.5, lambda: says(b"Stopped"))

    assert within(20, stopped)
    said = b""
    os.write(terminal, b"fg\n")
    assert within(10, lambda: says(b"sleep 100"))
    time.sleep(0.5)
    os.write(terminal, b"\x03")
    os.write(terminal, b"echo was $?\n")
    assert within(10, lambda: says(b"\rwas 130\r\n"))
    os.write(terminal, b"exit 7\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    os.close(terminal)


def test_clu_get_info_reads_a_real_clu(alone: Lab) -> None:
    program = [sys.executable, "-m", "clufs.cli.clu_get_info"]
    said = alone.do("exec", "provolone", "--", *program, "-full")
    assert "\nmemberid for this member = 1\n" in said
    assert "        Hostname = provolone\n" in said
    assert "        Member state = UP\n" in said


# ------------------------------------------------------------------ faults


def test_a_member_dies_whole_and_comes_back(lab: Lab) -> None:
    lab.sh("provolone", f"echo kept > {lab.directory}/provolone/state/kept")
    sleep = lab.start("provolone", "sleep", "1000")
    assert within(10, lambda: lab.sh("provolone", "pgrep sleep || :"))
    lab.do("kill", "provolone")
    assert lab.state("provolone") == DEAD
    assert sleep.wait(10) == -signal.SIGKILL
    assert lab.run("exec", "provolone", "--", "true").returncode == 2
    lab.revive("provolone")
    assert lab.state("provolone") == UP
    assert lab.sh("provolone", f"cat {lab.directory}/provolone/state/kept") == "kept\n"


@pytest.mark.parametrize("what", ["clufsd", "corosync"])
def test_a_program_dies_and_comes_back(alone: Lab, what: str) -> None:
    at = ("member", "corosync", "clufsd").index(what)
    member = init_of(alone, "provolone")
    before = alone.sh("provolone", f"pgrep -f {what}")
    alone.do("kill", "provolone", "--what", what)
    assert alone.state("provolone")[at] == "dead"
    done = alone.run("pause", "provolone", "--what", what)
    assert f"clufs lab restart provolone --what {what}\n" in done.stderr
    for _ in range(2):
        alone.do("restart", "provolone", "--what", what)
        assert alone.state("provolone")[at] == "up"
        after = alone.sh("provolone", f"pgrep -f {what}")
        assert not set(after.split()) & set(before.split())
        before = after
    assert init_of(alone, "provolone") == member
    # Whichever it was that came back, all is well then.
    assert within(20, lambda: alone.run("exec", "provolone", "--", "ls", "/clu").returncode == 0)


@pytest.mark.parametrize(
    ("what", "paused"),
    [
        ("member", ("paused", "paused", "paused")),
        ("corosync", ("up", "paused", "up")),
        ("clufsd", ("up", "up", "paused")),
    ],
)
def test_what_is_paused_stands_still(alone: Lab, what: str, paused: tuple[str, ...]) -> None:
    assert alone.state("provolone") == UP
    alone.do("pause", "provolone", "--what", what)
    assert alone.state("provolone") == paused
    alone.do("resume", "provolone", "--what", what)
    assert alone.state("provolone") == UP


def reached(lab: Lab, member: str) -> set[str]:
    """Whom a member reaches."""
    addresses = {states["address"]: name for name, states in lab.states().items()}
    words = [sys.executable, "-S", "-c", REACH, *addresses]
    return {addresses[line] for line in lab.do("exec", member, "--", *words).split()}


def test_two_are_cut_from_each_other(quiet: Lab) -> None:
    everybody = set(NAMES)
    assert within(10, lambda: [reached(quiet, name) for name in NAMES] == [everybody] * 3)
    quiet.do("cut", "pepicelli", "provolone")
    assert quiet.states()["provolone"]["cut"] == "pepicelli"
    assert "cut" not in quiet.states()["polishham"]
    assert within(10, lambda: reached(quiet, "provolone") == {"provolone", "polishham"})
    assert within(10, lambda: reached(quiet, "polishham") == everybody)
    assert within(10, lambda: reached(quiet, "pepicelli") == {"pepicelli", "polishham"})
    quiet.do("heal")
    assert within(10, lambda: [reached(quiet, name) for name in NAMES] == [everybody] * 3)


def test_one_is_cut_off(quiet: Lab) -> None:
    quiet.do("cut", "polishham")
    assert quiet.states()["polishham"]["cut"] == "all"
    assert within(10, lambda: reached(quiet, "polishham") == {"polishham"})
    assert within(10, lambda: reached(quiet, "provolone") == {"provolone", "pepicelli"})
    quiet.do("heal")
    assert within(10, lambda: reached(quiet, "polishham") == set(NAMES))


def test_a_cut_holds_for_who_comes_back(quiet: Lab) -> None:
    quiet.do("cut", "polishham", "pepicelli")
    quiet.do("cut", "provolone")
    quiet.do("restart", "pepicelli")
    quiet.do("pause", "pepicelli", "--what", "clufsd")
    assert within(10, lambda: reached(quiet, "pepicelli") == {"pepicelli"})
    quiet.do("heal")
    assert within(10, lambda: reached(quiet, "pepicelli") == set(NAMES))


# ------------------------------------------------------------------ fencing


def test_a_member_is_fenced_from_inside_another(lab: Lab) -> None:
    sleep = lab.start("polishham", "sleep", "1000")
    assert within(10, lambda: lab.sh("polishham", "pgrep sleep || :"))
    init = init_of(lab, "polishham")
    # Twice: another member may repeat what the first one did.
    for by in ("provolone", "pepicelli"):
        done = fence(lab, "polishham", by)
        assert (done.returncode, done.stderr) == (0, "")
        assert not lives(init)
    assert sleep.wait(10) == -signal.SIGKILL
    assert lab.state("polishham") == DEAD
    assert lab.state("provolone") == lab.state("pepicelli") == UP
    lab.revive("polishham")
    assert lab.state("polishham") == UP


def test_a_paused_one_is_fenced_though_the_one_who_asked_dies(quiet: Lab) -> None:
    ask = f"""
import os, socket
os.chdir({str(quiet.directory)!r})
line = socket.socket(socket.AF_UNIX)
line.connect("fence.sock")
line.send(b"polishham")
os.kill(os.getpid(), 9)
"""
    sleep = quiet.start("polishham", "sleep", "1000")
    assert within(10, lambda: quiet.sh("polishham", "pgrep sleep || :"))
    quiet.do("pause", "polishham")
    assert quiet.run("exec", "provolone", "--", sys.executable, "-c", ask).returncode == -9
    assert within(10, lambda: quiet.state("polishham") == DEAD)
    assert sleep.wait(10) == -signal.SIGKILL
    quiet.do("restart", "polishham")
    quiet.do("pause", "polishham", "--what", "clufsd")


@pytest.mark.parametrize("name", ["switch", "keeper", "nobody", "", "../lab/provolone", "1"])
def test_nothing_but_a_member_is_fenced(lab: Lab, name: str) -> None:
    done = fence(lab, name)
    assert (done.returncode, done.stderr.startswith(f"no member {name!r}: ")) == (1, True)
    assert lab.all_up()


def test_a_stranger_with_a_members_number_is_not_killed(
    quiet: Lab, stranger: "subprocess.Popen[bytes]"
) -> None:
    quiet.do("kill", "polishham")
    record = quiet.directory / "polishham.init"
    written = record.read_text()
    started = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19]
    # The number was given away again.
    record.write_text(f"{stranger.pid} {written.split()[1]}\n")
    assert fence(quiet, "polishham").returncode == 0
    assert stranger.poll() is None
    # Or the record says something else than it should, or nothing.
    record.write_text(f"{stranger.pid} {started}\n")
    done = fence(quiet, "polishham")
    assert (done.returncode, "is not process 1 of a member" in done.stderr) == (1, True)
    assert stranger.poll() is None
    record.write_text("")
    done = fence(quiet, "polishham")
    assert (done.returncode, "not known to be dead" in done.stderr) == (1, True)
    record.write_text(written)
    quiet.do("restart", "polishham")
    quiet.do("pause", "polishham", "--what", "clufsd")


def test_others_than_root_fence_nobody(lab: Lab) -> None:
    command = ["setpriv", "--reuid", "65534", "--clear-groups", "--", *agent(lab, "polishham")]
    # Whatever bars its way: a directory, the socket or the interpreter.
    assert lab.run("exec", "provolone", "--", *command).returncode not in (0, -9)
    assert os.stat(lab.directory / "fence.sock").st_mode & 0o777 == 0o600
    assert lab.state("polishham") == UP


def test_without_the_keeper_nobody_is_dead(alone: Lab) -> None:
    keeper = int((alone.directory / "keeper.pid").read_text().split()[0])
    os.kill(keeper, signal.SIGKILL)
    assert within(10, lambda: fence(alone, "provolone").returncode == 1)
    assert "the lab's keeper" in fence(alone, "provolone").stderr
    assert alone.state("provolone") == UP


# ------------------------------------------------------------------ what is wrong, and down


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["up"], "a lab is up in "),
        (["lun", "status"], "this lab has no LUNs: clufs lab up --luns N"),
        (["kill", "nobody"], "no member 'nobody': provolone polishham pepicelli"),
        (["cut", "provolone", "provolone"], "a member cannot be cut from itself"),
        (["cut", *NAMES], "cut takes one member or two"),
    ],
)
def test_what_is_wrong_is_said(lab: Lab, words: list[str], sentence: str) -> None:
    done = lab.run(*words)
    assert (done.returncode, done.stderr.startswith(f"clufs lab: {sentence}")) == (2, True)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of somebody else's, with a file in it."""
    place = tmp_path / "a lab" / "theirs"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "theirs", place], check=True)
    (place / "file").write_text("theirs")
    yield place
    subprocess.run(["umount", "-l", place], check=False)


def test_a_lab_with_a_foreign_mount_in_it_stays_until_that_is_gone(mounted: Path) -> None:
    lab = Lab(mounted.parent)
    (lab.directory / "lab.json").write_text('{"members":1}\n')
    done = lab.run("down")
    assert done.returncode == 2
    assert done.stderr == f"clufs lab: {mounted} is mounted, and not the lab's: umount it first\n"
    assert (mounted / "file").read_text() == "theirs"
    subprocess.run(["umount", mounted], check=True)
    lab.do("down")
    assert not lab.directory.exists()


def test_a_lab_on_a_mount_point_leaves_that_empty(mounted: Path) -> None:
    (mounted / "lab.json").write_text('{"members":1}\n')
    Lab(mounted).do("down")
    assert mounted.is_mount()
    assert [*mounted.iterdir()] == []


def test_the_keeper_ends_with_its_directory(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text('{"members":1}\n')
    command = [sys.executable, "-m", "clufs.lab.keeper", str(tmp_path)]
    keeper = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == b"ready\n"
    (tmp_path / "lab.json").unlink()
    assert keeper.wait(10) == 0
    keeper.stdout.close()
