"""A lab whose members share LUNs: the same names everywhere, one's bytes read by the other, and every fault seen.

Played twice: on our own array, and on tgtd.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.lab import NAMES, Lab, within

LUNS, OWN = 2, 1
OUTSIDER = "iqn.2026-01.org.example:outsider"
_REGISTER = f"""
import sys, trio
from clufs.storage.carrier import Lun
from clufs.storage.iscsi import iscsi_lun
from clufs.storage.reservations import register, reserve, unregister

async def main():
    async with iscsi_lun(sys.argv[1], "{OUTSIDER}", 1) as carrier:
        lun = Lun(carrier)
        await register(lun, 0xabc)
        await reserve(lun, 0xabc)
        print("reserved", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        await unregister(lun)

trio.run(main)
"""


@pytest.fixture(scope="module", params=["array", "tgtd"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three members, two LUNs for data, one of clufs' own."""
    found = Lab(tmp_path_factory.mktemp("lab") / "lab")
    words = ["--luns", str(LUNS), "--own-luns", str(OWN)]
    if request.param == "array":
        words += ["--array", shlex.join([sys.executable, "-m", "tests.array"])]
    found.do("up", *words)
    yield found
    found.do("down")


def wwids(lab: Lab, member: str) -> list[str]:
    return lab.sh(member, "ls /clu/luns | grep ^naa").split()


@pytest.fixture(scope="module")
def directories(lab: Lab) -> list[str]:
    """The directory of each LUN in its order, once every member has all its paths."""
    up = "grep -l PATH=direct $(grep -l STATE=up /clu/luns/naa*/paths/*) | wc -l"
    for name in NAMES:
        assert within(20, lambda name=name: int(lab.sh(name, up)) == 2 * (LUNS + OWN))
    paths = [line.split()[-1] for line in lab.do("lun", "status").splitlines()]
    files = [path.removeprefix("iscsi://").replace("/", ":") for path in paths]
    find = "; ".join(f"dirname $(dirname /clu/luns/*/paths/{file})" for file in files)
    return lab.sh("provolone", find).split()


def states(lab: Lab, member: str, lun: str) -> list[str]:
    """Of the member's own paths, by their names."""
    return lab.sh(member, f"cat {lun}/paths/*:*:* | sed -n s/^STATE=//p").split()


@pytest.fixture
def lun(directories: list[str]) -> str:
    """The directory of LUN 1."""
    return directories[0]


@pytest.fixture
def other(directories: list[str]) -> str:
    """That of LUN 2, which no fault concerns."""
    return directories[1]


@pytest.fixture
def mended(lab: Lab, lun: str) -> Iterator[None]:
    """Whatever a test does to LUN 1, it is there again for the next one."""
    yield
    lab.do("lun", "online", "1")
    for name in NAMES:
        assert within(20, lambda name=name: states(lab, name, lun) == ["up", "up"])


def test_every_member_sees_the_same_luns(lab: Lab) -> None:
    seen = {name: wwids(lab, name) for name in NAMES}
    assert len(seen["provolone"]) == LUNS + OWN
    assert seen["polishham"] == seen["pepicelli"] == seen["provolone"]
    roles = [line.split()[1] for line in lab.do("lun", "status").splitlines()]
    assert roles == ["role=data"] * LUNS + ["role=clufs"] * OWN


def test_what_one_writes_another_reads(lab: Lab, lun: str, other: str) -> None:
    write = f"yes from provolone | dd of={lun}/data bs=64k count=4 iflag=fullblock conv=notrunc"
    lab.sh("provolone", write)
    there = f"dd if={lun}/data bs=64k count=4 | cksum"
    here = "yes from provolone | dd bs=64k count=4 iflag=fullblock | cksum"
    beside = f"head -c 512 {other}/data | tr -d '\\0' | wc -c"
    found, wanted, rest = lab.sh("polishham", f"{there}; {here}; {beside}").splitlines()
    assert (found, rest) == (wanted, "0")


def test_an_outsiders_registration_shows_on_every_member(lab: Lab, lun: str) -> None:
    url = lab.do("lun", "status").splitlines()[0].split()[-1]
    outsider = lab.start("pepicelli", sys.executable, "-c", _REGISTER, url, stdin=-1, stdout=-1)
    assert outsider.stdin is not None and outsider.stdout is not None
    with outsider:
        assert outsider.stdout.readline() == "reserved\n"
        for name in NAMES:
            said = lab.sh(name, f"cat {lun}/keys {lun}/reservation")
            assert said.startswith("KEY=0x0000000000000abc")
            assert "\nTYPE=write_exclusive_registrants_only\n" in said
        barred = lab.run(
            "exec", "provolone", "--", "dd", "if=/dev/zero", f"of={lun}/data", "count=1"
        )
        assert "Invalid exchange" in barred.stderr
        outsider.stdin.write("\n")
        outsider.stdin.flush()
        assert outsider.wait(20) == 0
    write = f"dd if=/dev/zero of={lun}/data count=1 conv=notrunc"
    assert lab.sh("provolone", f"{write}; cat {lun}/keys") == ""


@pytest.mark.usefixtures("mended")
def test_a_path_cut_for_one_member_shows_there_alone(lab: Lab, lun: str) -> None:
    lab.do("lun", "offline", "1", "--member", "polishham", "--path", "1")
    assert within(10, lambda: states(lab, "polishham", lun) == ["down", "up"])
    assert states(lab, "provolone", lun) == ["up", "up"]
    assert "offline for polishham by path 1" in lab.do("lun", "status")
    lab.sh("polishham", f"echo by the other path | dd of={lun}/data conv=sync,notrunc")
    assert lab.sh("provolone", f"head -n 1 {lun}/data") == "by the other path\n"


@pytest.mark.usefixtures("mended")
def test_a_member_without_a_path_reads_and_writes_through_another(lab: Lab, lun: str) -> None:
    lab.do("lun", "offline", "1", "--member", "polishham")
    assert within(10, lambda: states(lab, "polishham", lun) == ["down", "down"])
    served = lab.sh("polishham", f"cat {lun}/paths/served:provolone")
    assert served == "PATH=served\nMEMBER=provolone\nSTATE=up\n"
    down = f"sed -n s/^STATE=//p {lun}/paths/served:polishham"
    assert within(10, lambda: lab.sh("provolone", down) == "down\n")
    write = f"yes from polishham | dd of={lun}/data bs=64k count=8 iflag=fullblock conv=notrunc"
    lab.sh("polishham", write)
    wanted = lab.sh("polishham", "yes from polishham | dd bs=64k count=8 iflag=fullblock | cksum")
    for name in NAMES:
        assert lab.sh(name, f"dd if={lun}/data bs=64k count=8 | cksum") == wanted
    lab.do("lun", "online", "1")
    assert within(20, lambda: states(lab, "polishham", lun) == ["up", "up"])
    assert within(10, lambda: lab.sh("provolone", down) == "up\n")


@pytest.mark.usefixtures("mended")
def test_a_lun_that_is_gone_is_still_listed_and_nobody_else_waits(
    lab: Lab, lun: str, other: str
) -> None:
    lab.do("lun", "offline", "1")
    assert within(10, lambda: states(lab, "provolone", lun) == ["down", "down"])
    failed = lab.run("exec", "provolone", "--", "head", "-c", "512", f"{lun}/data")
    assert "Link has been severed" in failed.stderr
    lab.sh("provolone", f"ls -lR /clu/luns; head -c 512 {other}/data > /dev/null")
    assert "no path works" in lab.sh("provolone", "tail -n 9 /clu/status/errors")


@pytest.mark.usefixtures("mended")
def test_a_slow_lun_is_slow_and_the_others_are_not(lab: Lab, lun: str, other: str) -> None:
    lab.do("lun", "slow", "1", "--seconds", "1.5")
    silent = lab.run("exec", "provolone", "--", "cat", f"{lun}/keys")
    assert "timed out" in silent.stderr
    lab.sh("provolone", f"cat {other}/keys; echo EX > /clu/locks/public/beside")


def test_an_array_that_restarts_is_found_again_with_what_was_written(lab: Lab, lun: str) -> None:
    lab.sh("pepicelli", f"echo survives | dd of={lun}/data conv=sync,notrunc")
    begun = lab.sh("provolone", "wc -l < /clu/events")
    lab.do("lun", "restart")
    news = f"tail -n +{int(begun) + 1} /clu/events | grep -c path-up"
    assert within(20, lambda: int(lab.sh("provolone", f"{news} || :")) >= 2 * (LUNS + OWN))
    assert lab.sh("provolone", f"head -n 1 {lun}/data") == "survives\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("offline", "9"), "no LUN 9: 1 to 3"),
        (("slow",), "lun slow: which LUN?"),
        (("restart", "1"), "lun restart: of the whole array"),
        (("slow", "1", "--member", "m9"), "no member 'm9'"),
        (("slow", "1", "--seconds", "0"), "seconds, up to 3600"),
        (("melt", "1"), "invalid choice: 'melt'"),
    ],
)
def test_a_wrong_fault_is_refused_in_words(lab: Lab, words: tuple[str, ...], why: str) -> None:
    done = lab.run("lun", *words)
    assert done.returncode != 0
    assert why in done.stderr
