"""Members of a lab that are fenced by the LUNs they share: who stands still and goes on writes nothing any more.

Every writer stamps its sectors with the sequencer of the lock under which it writes.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.lab import Lab, within

SECTORS = 64
LOCK = "/clu/locks/public/sectors"
_WRITER = f"""
import os, sys, time

lun, rounds = sys.argv[1], int(sys.argv[2])
lock = os.open("{LOCK}", os.O_RDWR | os.O_CREAT)
os.write(lock, b"EX")
stamp = os.getxattr("{LOCK}", "user.clu.sequencer").ljust(512)
data = os.open(lun + "/data", os.O_RDWR)
print("granted", flush=True)
for number in range(rounds * {SECTORS}):
    os.pwrite(data, stamp, number % {SECTORS} * 512)
print("stamped " + stamp.decode().strip(), flush=True)
sys.stdin.readline()
"""
FOR_EVER, ONCE = 1 << 30, 1


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three members, a LUN for data and one of clufs' own, on our array."""
    found = Lab(tmp_path_factory.mktemp("lab") / "lab")
    array = shlex.join([sys.executable, "-m", "tests.array"])
    found.do("up", "--luns", "1", "--own-luns", "1", "--fence-by", "luns", "--array", array)
    yield found
    found.do("down")


@pytest.fixture(scope="module")
def lun(lab: Lab) -> str:
    """The directory of the LUN for data, once each member may write there."""
    url = lab.do("lun", "status").splitlines()[0].split()[-1]
    path = url.removeprefix("iscsi://").replace("/", ":")
    found = lab.sh("provolone", f"dirname $(dirname /clu/luns/*/paths/{path})").strip()
    keys = f"cat {found}/keys | cut -d' ' -f1 | sort | uniq | wc -l"
    assert within(20, lambda: lab.sh("provolone", keys) == "3\n"), lab.sh("provolone", keys)
    return found


def writer(lab: Lab, member: str, lun: str, rounds: int) -> subprocess.Popen[str]:
    """Asks for the lock, then stamps all sectors so many times."""
    command = [sys.executable, "-c", _WRITER, lun, str(rounds)]
    return lab.start(member, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stamps(lab: Lab, member: str, lun: str) -> set[str]:
    """All that the sectors carry now."""
    text = lab.sh(member, f"head -c {SECTORS * 512} {lun}/data | tr -d '\\0'")
    return {text[at : at + 512].strip() for at in range(0, len(text), 512)}


def incarnation(lab: Lab, member: str, of: str) -> int:
    return int(lab.sh(member, f"cat /clu/members/{of}/incarnation"))


def mend(lab: Lab, fault: str) -> None:
    """Let polishham go on. On a slow machine its disk lease has run out meanwhile, and its supervisor has killed it."""
    if fault == "cut":
        lab.do("heal")
    elif lab.run("resume", "polishham", "--what", "clufsd").returncode:
        lab.do("restart", "polishham", "--what", "clufsd")


def is_back(lab: Lab, member: str, after: int) -> bool:
    state = lab.sh("provolone", f"cat /clu/members/{member}/state")
    return state == "member\n" and incarnation(lab, "provolone", member) > after


def lose_paths(lab: Lab, member: str, lun: str) -> None:
    """Its own to the LUN for data; it knows others that have some."""
    lab.do("lun", "offline", "1", "--member", member)
    states = f"sed -n s/^STATE=//p {lun}/paths/*:*:* {lun}/paths/served:*"
    assert within(20, lambda: lab.sh(member, states).split() == ["down", "down", "up", "up"])


def test_the_way_of_fencing_is_known_before_it_is_needed(lab: Lab, lun: str) -> None:
    said = lab.sh("polishham", f"cat {lun}/method")
    assert said.startswith("METHOD=pr-abort\nTAKEOVER_S=")
    own = lab.sh("polishham", "cat /clu/luns/naa*/method | grep -A3 METHOD=none")
    assert "WHY=it is clufs' own" in own


@pytest.mark.parametrize(
    ("fault", "path"), [("pause", "direct"), ("cut", "direct"), ("pause", "served")]
)
def test_a_lost_member_writes_nothing_once_another_has_its_lock(
    lab: Lab, lun: str, fault: str, path: str
) -> None:
    before = incarnation(lab, "provolone", "polishham")
    if path == "served":
        lose_paths(lab, "polishham", lun)
    with writer(lab, "polishham", lun, FOR_EVER) as victim:
        assert said(victim) == "granted"
        assert within(10, lambda: len(stamps(lab, "provolone", lun)) == 1)
        (old,) = stamps(lab, "provolone", lun)
        lab.do(fault, "polishham", *(["--what", "clufsd"] if fault == "pause" else []))
        with writer(lab, "provolone", lun, ONCE) as heir:
            try:
                assert said(heir) == "granted"
                new = said(heir).removeprefix("stamped ")
                assert new != old
            finally:
                mend(lab, fault)
            assert within(40, lambda: is_back(lab, "polishham", before))
            assert stamps(lab, "provolone", lun) == {new}
            lab.do("lun", "online", "1")
            assert heir.stdin is not None
            heir.stdin.write("\n")
    # The first member of the view by its name runs the agents.
    log = lab.sh("pepicelli", "cat /clu/status/fencing /clu/members/polishham/fence")
    certificates = [line for line in log.splitlines() if " polishham " in line and " off " in line]
    assert certificates
    assert f" polishham {before} lun off LUN=naa." in certificates[-1]
    assert "HOW=preempted, commands aborted" in certificates[-1]
    with writer(lab, "polishham", lun, ONCE) as again:
        assert said(again) == "granted"
        assert said(again).startswith("stamped ")
        assert again.stdin is not None
        again.stdin.write("\n")


def test_who_has_no_path_goes_on_through_the_next_member_when_its_server_dies(
    lab: Lab, lun: str
) -> None:
    lose_paths(lab, "provolone", lun)
    write = f"dd of={lun}/data conv=sync,notrunc"
    lab.sh("provolone", f"echo through one | {write}")  # pepicelli, the first by its name
    lab.do("kill", "pepicelli")
    lab.sh("provolone", f"echo through the other | {write}")
    for name in ("provolone", "polishham"):
        assert lab.sh(name, f"head -n 1 {lun}/data") == "through the other\n"
    lab.revive("pepicelli")
    lab.do("lun", "online", "1")
