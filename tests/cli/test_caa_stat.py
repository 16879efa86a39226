"""caa_stat, to the character: what the manual prints in 2.11 and 2.13, its options, its exit status."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clufs.cli.caa_stat import short
from tests.cli.caa_files import Clu

# Manual 2.11.
ALL = """\
NAME=clock
TYPE=application
TARGET=ONLINE
STATE=ONLINE on provolone

NAME=dhcp
TYPE=application
TARGET=ONLINE
STATE=ONLINE on polishham

NAME=named
TYPE=application
TARGET=ONLINE
STATE=ONLINE on polishham

NAME=network1
TYPE=network
TARGET=ONLINE on provolone
TARGET=ONLINE on polishham
STATE=ONLINE on provolone
STATE=ONLINE on polishham
"""
TABLE = """\
Name           Type           Target    State     Host
------------------------------------------------------------
cluster_lockd  application    ONLINE    ONLINE    provolone
dhcp           application    OFFLINE   OFFLINE
network1       network        ONLINE    ONLINE    provolone
network1       network        ONLINE    ONLINE    polishham
"""
VERBOSE = """\
NAME=cluster_lockd
TYPE=application
RESTART_ATTEMPTS=30
RESTART_COUNT=0
FAILURE_THRESHOLD=0
FAILURE_COUNT=0
TARGET=ONLINE
STATE=ONLINE on provolone

NAME=dhcp
TYPE=application
RESTART_ATTEMPTS=1
RESTART_COUNT=0
FAILURE_THRESHOLD=3
FAILURE_COUNT=1
TARGET=ONLINE
STATE=OFFLINE

NAME=network1
TYPE=network
FAILURE_THRESHOLD=0
FAILURE_COUNT=0 on provolone
FAILURE_COUNT=0 on polishham
TARGET=ONLINE on provolone
TARGET=ONLINE on polishham
STATE=ONLINE on provolone
STATE=OFFLINE on polishham
"""
VERBOSE_TABLE = """\
Name           Type           R/RA   F/FT   Target    State     Host
----------------------------------------------------------------------
cluster_lockd  application    0/30   0/0    ONLINE    ONLINE    provolone
dhcp           application    0/1    0/0    OFFLINE   OFFLINE
named          application    0/1    0/0    OFFLINE   OFFLINE
network1       network               0/5    ONLINE    ONLINE    provolone
network1       network               0/5    ONLINE    ONLINE    polishham
"""
# With REBALANCE where the alphabet has it.
PROFILE = """\
NAME=cluster_lockd
TYPE=application
ACTION_SCRIPT=cluster_lockd.scr
ACTIVE_PLACEMENT=0
AUTO_START=1
CHECK_INTERVAL=5
DESCRIPTION=Cluster lockd/statd
FAILOVER_DELAY=30
FAILURE_INTERVAL=60
FAILURE_THRESHOLD=1
HOSTING_MEMBERS=
OPTIONAL_RESOURCES=
PLACEMENT=balanced
REBALANCE=
REQUIRED_RESOURCES=
RESTART_ATTEMPTS=2
SCRIPT_TIMEOUT=60
"""
ON_BOTH = "ONLINE on provolone\nONLINE on polishham"
NONE_ON_BOTH = "0 on provolone\n0 on polishham"


@pytest.fixture
def clu(tmp_path: Path) -> Clu:
    return Clu(tmp_path)


def add_network(clu: Clu, state: str = ON_BOTH, **profile: object) -> None:
    clu.add("network1", "network", ON_BOTH, state, NONE_ON_BOTH, **profile)


def printed(clu: Clu, *arguments: str) -> str:
    said = clu.run("caa_stat", *arguments)
    assert (said.status, said.err) == (0, "")
    return said.out


def test_the_status_of_one_and_of_all(clu: Clu) -> None:
    add_network(clu)
    clu.add("clock", target="ONLINE", state="ONLINE on provolone")
    clu.add("dhcp", target="ONLINE", state="ONLINE on polishham")
    clu.add("named", target="ONLINE", state="ONLINE on polishham")
    assert printed(clu) == ALL
    assert printed(clu, "-l") == ALL
    assert printed(clu, "clock") == "".join(ALL.splitlines(True)[:4])
    assert printed(clu, "named", "clock") == "\n".join(
        "".join(ALL.splitlines(True)[at : at + 4]) for at in (10, 0)
    )


def test_a_resource_that_is_registered_and_no_more(clu: Clu) -> None:
    clu.add("dtcalc")
    assert printed(clu, "dtcalc") == (
        "NAME=dtcalc\nTYPE=application\nTARGET=OFFLINE\nSTATE=OFFLINE\n"
    )


def test_tables(clu: Clu) -> None:
    add_network(clu, FAILURE_THRESHOLD=5)
    clu.add("cluster_lockd", target="ONLINE", state="ONLINE on provolone", RESTART_ATTEMPTS=30)
    clu.add("dhcp")
    assert printed(clu, "-t") == TABLE
    clu.add("named")
    assert printed(clu, "-v", "-t") == VERBOSE_TABLE
    assert printed(clu, "dhcp", "-t", "-v", "named") == "".join(
        line for line in VERBOSE_TABLE.splitlines(True) if line.startswith(("Name", "-", "dhcp", "named"))
    )  # fmt: skip


def test_verbose(clu: Clu) -> None:
    add_network(clu, "ONLINE on provolone\nOFFLINE on polishham")
    clu.add("cluster_lockd", target="ONLINE", state="ONLINE on provolone", RESTART_ATTEMPTS=30)
    clu.add("dhcp", target="ONLINE", failures="1", FAILURE_THRESHOLD=3)
    assert printed(clu, "-v") == VERBOSE


def test_profiles(clu: Clu) -> None:
    given = {line.split("=")[0]: line.split("=")[1] for line in PROFILE.splitlines()[3:]}
    clu.add("cluster_lockd", **given)
    clu.add("zeta")
    assert printed(clu, "-p", "cluster_lockd") == PROFILE
    assert printed(clu, "-p").startswith(f"{PROFILE}\nNAME=zeta\n")
    assert printed(clu, "-f", "cluster_lockd") == (
        f"{PROFILE}RESTART_COUNT=0\nFAILURE_COUNT=0\nTARGET=OFFLINE\nSTATE=OFFLINE\n"
    )


def test_what_is_on_a_member(clu: Clu) -> None:
    add_network(clu, "ONLINE on provolone\nOFFLINE on polishham")
    clu.add("clock", target="ONLINE", state="ONLINE on provolone")
    clu.add("dhcp", target="OFFLINE", state="UNKNOWN on polishham")
    clu.add("named")
    assert printed(clu, "-c", "polishham") == (
        "NAME=dhcp\nTYPE=application\nTARGET=OFFLINE\nSTATE=UNKNOWN on polishham\n\n"
        "NAME=network1\nTYPE=network\nTARGET=ONLINE on polishham\nSTATE=OFFLINE on polishham\n"
    )
    assert printed(clu, "-t", "-c", "polishham").splitlines()[2:] == [
        "dhcp           application    OFFLINE   UNKNOWN   polishham",
        "network1       network        ONLINE    OFFLINE   polishham",
    ]
    assert printed(clu, "-c", "rye") == ""


def test_g_and_r_answer_by_exit_status(clu: Clu) -> None:
    clu.add("clock", target="ONLINE", state="ONLINE on provolone")
    clu.add("dhcp", target="ONLINE", state="UNKNOWN on rye")
    for arguments, status in (
        (["clock", "-g"], 0),
        (["-a", "clock", "-g"], 0),
        (["absent", "-g"], 1),
        (["clock", "-r"], 0),
        (["-a", "clock", "-r", "-c", "provolone"], 0),
        (["clock", "-r", "-c", "rye"], 1),
        (["dhcp", "-r"], 1),
        (["absent", "-r"], 1),
    ):
        said = clu.run("caa_stat", *arguments)
        assert (said.status, said.out, said.err) == (status, "", ""), arguments


def test_one_that_is_not_registered_is_named_and_the_others_printed(clu: Clu) -> None:
    clu.add("clock")
    clu.path("resources/idea.cap").write_text("NAME=idea\n")
    said = clu.run("caa_stat", "idea", "clock", "../status")
    assert said.status == 1
    assert said.out.startswith("NAME=clock\n")
    assert said.err == (
        "caa_stat: Could not find resource 'idea': it is not registered\n"
        "caa_stat: Could not find resource '../status': it is not registered\n"
    )
    assert clu.run("caa_stat", "idea", "-q").err == ""


@pytest.mark.parametrize(
    "arguments",
    [["-x"], ["-t", "-p"], ["-t", "-l"], ["-f", "-t"], ["-g"], ["-g", "a", "b"], ["-g", "-r", "a"],
     ["-a", "x"], ["-c"], ["--verbose"]],
)  # fmt: skip
def test_wrong_arguments(clu: Clu, arguments: list[str]) -> None:
    said = clu.run("caa_stat", *arguments)
    assert said.status == 2
    assert said.err.startswith("caa_stat: ")
    assert "usage: caa_stat [RESOURCE ...] [-v] [-l] [-q] [-c MEMBER]\n" in said.err


def test_without_a_clu(tmp_path: Path) -> None:
    clu = Clu(tmp_path)
    said = clu.run("caa_stat", CLU_ROOT=f"{tmp_path}/absent")
    where = f"{tmp_path}/absent/resources"
    assert (said.status, said.err) == (
        1,
        f"caa_stat: {where} is not there: is clufsd running?\n",
    )


def test_a_copy_of_the_tree_tells_the_same(clu: Clu, tmp_path: Path) -> None:
    add_network(clu)
    clu.add("clock", target="ONLINE", state="ONLINE on provolone")
    before = printed(clu, "-v")
    bundle = tmp_path / "bundle"
    shutil.copytree(clu.root / "resources", bundle / "resources")
    shutil.rmtree(clu.root / "resources")
    assert clu.run("caa_stat", "-v", CLU_ROOT=str(bundle)).out == before


def test_a_long_name_is_shown_by_its_ends() -> None:
    assert short("fourteen_chars") == "fourteen_chars"
    assert short("fifteen_charact") == "fif....charact"
    assert len(short("x" * 200)) == 14


def test_a_reader_that_goes_away_is_no_fault(clu: Clu) -> None:
    for at in range(3):
        clu.add(f"r{at}")
    command = f"{sys.executable} -m clufs.cli.caa_stat -p | true"
    environment = {"CLU_ROOT": str(clu.root), "PATH": os.environ["PATH"]}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
