"""Three members on a real lab: what one does to a lock, the others see and wait for."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.cluster.lab import NAMES, Lab, within
from tests.cluster.torture.faults import make_whole

pytestmark = pytest.mark.timeout(120)

FIRST, SECOND, THIRD = NAMES
HOLD = "echo EX > /clu/locks/public/{0} && echo held && read line && echo 'UN {1}' > /clu/locks/public/{0}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all stories; each gets it whole."""
    lab = Lab(tmp_path_factory.mktemp("members") / "lab")
    lab.do("up")
    yield lab
    assert lab.run("down").returncode == 0


@pytest.fixture(autouse=True)
def whole(lab: Lab) -> Iterator[None]:
    """All members are in, before and after."""
    yield
    lab.run("heal")
    assert make_whole(lab, lambda member: None) == ""


class Holder:
    """A dash on a member that holds a lock in EX until it is told to release it."""

    def __init__(self, lab: Lab, member: str, name: str, words: str = "") -> None:
        pipe = subprocess.PIPE
        script = HOLD.format(name, words)
        self.process = lab.start(member, "dash", "-c", script, stdin=pipe, stdout=pipe)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def release(self) -> None:
        """Let go; returns when it has."""
        self.process.communicate("go on\n", timeout=20)
        assert self.process.returncode == 0


def waits(lab: Lab, member: str, name: str) -> bool:
    return f" {member} " in next(
        (line for line in report(lab, name).splitlines() if line.startswith("WAITING")), ""
    )


def report(lab: Lab, name: str, member: str = THIRD) -> str:
    return lab.sh(member, f"cat /clu/status/locks/public/{name} 2> /dev/null || :")


def facts(lab: Lab, member: str, path: str) -> dict[str, str]:
    text = lab.sh(member, f"cat /clu/{path}")
    return dict(line.partition("=")[::2] for line in text.splitlines())


def test_a_lock_is_handed_from_one_member_to_another_with_its_value(lab: Lab) -> None:
    lab.sh(THIRD, "echo NL persistent > /clu/locks/public/page")
    holder = Holder(lab, FIRST, "page", "value=page 41")
    waiter = lab.start(
        SECOND,
        "dash",
        "-c",
        "echo EX > /clu/locks/public/page; cat /clu/locks/public/page; echo UN > /clu/locks/public/page",
        stdout=subprocess.PIPE,
    )
    assert within(10, lambda: waits(lab, SECOND, "page"))
    assert f"waits for EX held by {pid_of(lab, 'page', FIRST)} (dash) on {FIRST}" in report(
        lab, "page"
    )
    holder.release()
    assert waiter.communicate(timeout=20)[0] == "page 41\n"
    lab.sh(THIRD, "echo UN persistent > /clu/locks/public/page")


def pid_of(lab: Lab, name: str, member: str) -> str:
    line = next(line for line in report(lab, name).splitlines() if f" {member} " in line)
    return line.split()[4]


def test_every_member_lists_and_reads_what_is_held_elsewhere(lab: Lab) -> None:
    holder = Holder(lab, FIRST, "seen")
    for member in NAMES:
        assert lab.sh(member, "ls /clu/locks/public") == "seen\n"
        assert f"GRANTED EX - {FIRST}" in report(lab, "seen", member)
    holder.release()
    for member in NAMES:
        assert lab.sh(member, "ls /clu/locks/public") == ""


def test_a_namespace_made_on_one_member_is_there_on_all(lab: Lab) -> None:
    lab.sh(FIRST, "mkdir -m 700 /clu/locks/db")
    for member in NAMES:
        assert within(5, lambda: lab.sh(member, "stat -c %a /clu/locks/db || :") == "700\n")  # noqa: B023
    assert lab.run("exec", SECOND, "--", "mkdir", "/clu/locks/db").returncode == 1
    lab.sh(THIRD, "rmdir /clu/locks/db")
    assert lab.run("exec", THIRD, "--", "ls", "/clu/locks/db").returncode == 2


def test_a_sequencer_is_good_on_every_member_until_the_lock_is_released(lab: Lab) -> None:
    holder = lab.start(
        FIRST,
        "dash",
        "-c",
        "echo EX > /clu/locks/public/token; getfattr --only-values -n user.clu.sequencer"
        " /clu/locks/public/token; echo; read line; echo UN > /clu/locks/public/token",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    check = f"echo '{holder.stdout.readline().strip()}' > /clu/status/sequencer"
    for member in NAMES:
        assert lab.run("exec", member, "--", "sh", "-c", check).returncode == 0
    holder.communicate("go on\n", timeout=20)
    for member in NAMES:
        assert lab.run("exec", member, "--", "sh", "-c", check).returncode != 0
        assert "ESTALE" in lab.sh(member, "tail -n 1 /clu/status/errors")


def test_nowait_is_refused_at_once_by_another_member(lab: Lab) -> None:
    holder = Holder(lab, FIRST, "busy")
    done = lab.run("exec", SECOND, "--", "sh", "-c", "echo PR nowait > /clu/locks/public/busy")
    assert done.returncode != 0
    assert "EAGAIN" in lab.sh(SECOND, "tail -n 1 /clu/status/errors")
    holder.release()


def test_flock_excludes_on_every_member_and_a_killed_holder_lets_go(lab: Lab) -> None:
    path = "/clu/locks/public/flocked"
    script = f"exec flock {path} sh -c 'echo in; exec sleep 100'"
    holder = lab.start(FIRST, "dash", "-c", script, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == "in\n"
    assert lab.run("exec", SECOND, "--", "flock", "-n", path, "true").returncode == 1
    assert lab.run("exec", SECOND, "--", "flock", "-s", "-w", "0.2", path, "true").returncode == 1
    waiter = lab.start(SECOND, "flock", path, "echo", "granted", stdout=subprocess.PIPE)
    assert within(10, lambda: waits(lab, SECOND, "flocked"))
    # The lock lives as long as anybody has the descriptor: flock, and what it has started.
    lab.sh(FIRST, f"kill -9 $(awk '/^GRANTED/ {{print $5}}' /clu/status{path[4:]}) $(pidof sleep)")
    assert waiter.communicate(timeout=20)[0] == "granted\n"
    holder.communicate(timeout=20)


def test_a_deadlock_over_two_members_is_found_and_shown_whole(lab: Lab) -> None:
    script = (
        "echo EX > /clu/locks/public/{0}; sleep 1; echo EX > /clu/locks/public/{1} && echo has both"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    one = lab.start(FIRST, "dash", "-c", script.format("left", "right"), **pipes)
    other = lab.start(SECOND, "dash", "-c", script.format("right", "left"), **pipes)
    outputs = [process.communicate(timeout=30)[0] for process in (one, other)]
    assert sorted(outputs) == ["", "has both\n"]
    for member in NAMES:
        shown = lab.sh(member, "cat /clu/status/deadlocks")
        last = shown[shown.rindex("DEADLOCK") :]
        assert last.count("locks/public/left") == last.count("locks/public/right") == 2
        assert last.count("VICTIM") == 1
        assert FIRST in last
        assert SECOND in last


def test_a_holder_elsewhere_is_signalled_on_its_own_member(lab: Lab) -> None:
    script = (
        "trap 'echo heard; echo UN > /clu/locks/public/polite' USR1;"
        "echo EX signal=USR1 > /clu/locks/public/polite; echo held; sleep 20 > /dev/null & wait; wait"
    )
    holder = lab.start(FIRST, "bash", "-c", script, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    lab.sh(SECOND, "echo EX timeout=10 > /clu/locks/public/polite")
    assert holder.stdout.readline() == "heard\n"
    holder.kill()
    holder.communicate()


def test_when_a_member_dies_it_is_fenced_and_the_waiter_goes_on(lab: Lab) -> None:
    lab.sh(THIRD, "echo NL persistent > /clu/locks/public/inherit")
    holder = Holder(lab, FIRST, "inherit")
    waiter = lab.start(
        SECOND,
        "sh",
        "-c",
        "echo EX > /clu/locks/public/inherit && getfattr --only-values -n user.clu.valid"
        " /clu/locks/public/inherit",
        stdout=subprocess.PIPE,
    )
    assert within(10, lambda: waits(lab, SECOND, "inherit"))
    lab.do("kill", FIRST)
    assert waiter.communicate(timeout=40)[0].strip() == "0"
    holder.process.communicate()
    fencing = lab.sh(SECOND, "cat /clu/status/fencing")
    assert FIRST in fencing
    lab.sh(THIRD, "echo UN persistent > /clu/locks/public/inherit")


def test_who_is_cut_off_is_fenced_and_the_others_go_on(lab: Lab) -> None:
    holder = Holder(lab, FIRST, "cut")
    lab.do("cut", FIRST)
    lab.sh(SECOND, "echo EX > /clu/locks/public/cut")
    assert lab.state(FIRST)[0] == "dead"
    holder.process.communicate()


def test_who_is_left_alone_grants_nothing_until_the_others_are_back(lab: Lab) -> None:
    holder = Holder(lab, FIRST, "mine")
    for other in (SECOND, THIRD):
        lab.do("kill", other)
    assert within(20, lambda: facts(lab, FIRST, "status/quorum")["QUORATE"] == "0")
    assert "not heard of: polishham pepicelli" in facts(lab, FIRST, "status/quorum")["WAITS_FOR"]
    done = lab.run("exec", FIRST, "--", "sh", "-c", "echo EX nowait > /clu/locks/public/alone")
    assert done.returncode != 0
    assert "EHOSTDOWN" in lab.sh(FIRST, "tail -n 1 /clu/status/errors")
    assert "GRANTED EX" in report(lab, "mine", FIRST)
    waiter = lab.start(FIRST, "sh", "-c", "echo EX > /clu/locks/public/alone")
    lab.do("restart", SECOND)
    assert waiter.wait(30) == 0
    holder.release()


def test_a_clean_leave_is_no_loss_and_hands_over_what_was_mastered(lab: Lab) -> None:
    lab.sh(FIRST, "echo EX > /clu/locks/public/kept; echo 'NL persistent' > /clu/locks/public/kept")
    lab.sh(SECOND, "echo NL persistent > /clu/locks/public/kept")
    lab.sh(
        FIRST,
        "echo EX > /clu/locks/public/kept; echo 'UN value=as it was' > /clu/locks/public/kept",
    )
    lab.do("exec", FIRST, "--", "umount", "/clu")
    assert within(20, lambda: lab.sh(SECOND, f"cat /clu/members/{FIRST}/state") == "down\n")
    assert lab.sh(SECOND, "cat /clu/locks/public/kept") == "as it was\n"
    assert "VALID=1" in report(lab, "kept")
    assert "WAITS_FOR" not in facts(lab, SECOND, "status/quorum")
    lab.do("restart", FIRST, "--what", "clufsd")
    lab.sh(SECOND, "echo UN persistent > /clu/locks/public/kept")


def test_mastership_goes_to_the_member_that_does_the_work_while_a_lock_stands(lab: Lab) -> None:
    def messages() -> float:
        text = lab.sh(SECOND, "cat /clu/status/metrics")
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        return float(values['clufs_streams_total{what="messages_sent"}'])

    path = "/clu/locks/public/worked"
    work = f"for turn in $(seq 40); do echo EX > {path}; echo 'UN value=41' > {path}; done"
    lab.sh(FIRST, f"echo NL persistent > {path}")
    assert f"MASTER={FIRST}" in report(lab, "worked", SECOND)
    before = messages()
    lab.sh(SECOND, work)
    assert within(10, lambda: f"MASTER={SECOND}" in report(lab, "worked", SECOND))
    moved = messages()
    assert moved > before
    lab.sh(SECOND, work)
    assert messages() == moved
    assert f"MASTER={SECOND}" in report(lab, "worked", FIRST)
    assert f"GRANTED NL - {FIRST}" in report(lab, "worked", FIRST)
    assert lab.sh(THIRD, f"cat {path}") == "41\n"
    lab.sh(FIRST, f"echo UN persistent > {path}")


def test_a_stranger_on_the_stream_port_is_refused_counted_and_changes_nothing(lab: Lab) -> None:
    def refused() -> float:
        text = lab.sh(SECOND, "cat /clu/status/metrics")
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        kinds = ("strangers", "garbage", "torn")
        return sum(float(values[f'clufs_streams_total{{what="{kind}"}}']) for kind in kinds)

    before = refused()
    knock = "import socket; s = socket.create_connection(('10.77.0.2', 7788)); s.send(b'let me in'); s.close()"
    lab.do("exec", FIRST, "--", "python3", "-c", knock)
    assert within(10, lambda: refused() > before)
    lab.sh(FIRST, "echo EX > /clu/locks/public/unmoved")
    lab.sh(SECOND, "echo EX > /clu/locks/public/unmoved")


def test_events_tell_the_story(lab: Lab) -> None:
    events = lab.sh(SECOND, "cat /clu/events")
    assert " view number=" in events
    assert " recovered view=" in events
    assert " fencing member=" in events
