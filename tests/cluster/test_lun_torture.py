"""The judge of the torture of LUNs, and that it finds a fencing that fences nobody.

`make torture-luns FAULTS=1000 SEED=1` is the long one.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import clufs
from tests.array.journal import Entry, Journal, Reader
from tests.cluster.torture.stamps import SECTORS, Judge, Stamp

_FAULTS_MAX = 20


def stamp(sequencer: int, member: str = "provolone", incarnation: int = 1, count: int = 1) -> Stamp:
    return Stamp("quick", sequencer, member, incarnation, f"file:w0:{sequencer}", count)


def test_a_journal_is_read_while_it_grows(tmp_path: Path) -> None:
    journal, reader = Journal(tmp_path / "journal"), Reader(tmp_path / "journal")
    note = journal.of(1)
    note(5, b"five".ljust(1024, b"\0"), "iqn.a")
    (first,) = reader.more()
    assert first == Entry(first.time_ns, 1, 5, b"five".ljust(1024, b"\0"), "iqn.a")
    note(6, bytes(512), "iqn.b")
    journal.close()
    whole = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(whole[:-1])
    assert list(reader.more()) == []  # not all of it is there
    (tmp_path / "journal").write_bytes(whole)
    assert [(one.lba, one.data) for one in reader.more()] == [(6, bytes(512))]


def test_a_sector_under_an_older_lock_is_found() -> None:
    judge = Judge()
    judge.wrote(1, 0, stamp(7).encode() + stamp(7, count=2).encode())
    judge.wrote(2, 0, stamp(8, "polishham").encode())
    judge.wrote(3, 1, stamp(7, count=3).encode())  # nobody has written there since
    assert judge.violations == []
    judge.wrote(1_000_000_000, 0, stamp(7, count=4).encode())
    (found,) = judge.violations
    assert "on provolone 1 under 7, its 4. came 1.000 s after" in found


def test_two_under_one_lock_are_found() -> None:
    judge = Judge()
    judge.wrote(1, 0, stamp(7).encode())
    judge.wrote(2, 1, stamp(7, "polishham").encode())
    assert len(judge.violations) == 1


def test_what_is_no_stamp_or_lies_elsewhere_is_found() -> None:
    judge = Judge()
    judge.wrote(1, 0, bytes(512))
    judge.wrote(1, SECTORS, stamp(7).encode())
    assert len(judge.violations) == 2
    judge.wrote(1, 2 * SECTORS, bytes(512))  # behind all areas
    assert len(judge.violations) == 2


@pytest.mark.parametrize("told_first", [True, False])
def test_a_write_after_its_lifes_certificate_is_found(told_first: bool) -> None:
    judge = Judge()
    judge.wrote(5, 0, stamp(7, incarnation=3).encode())
    if told_first:
        judge.certified("provolone", 3, time_ns=10)
    judge.wrote(9, 0, stamp(7, incarnation=3, count=2).encode())
    judge.wrote(11, 1, stamp(8, "provolone", incarnation=4).encode())
    judge.wrote(11, 1, stamp(9, "polishham", incarnation=2).encode())
    assert judge.violations == []
    judge.wrote(11, 2, stamp(7, incarnation=3, count=3).encode())
    judge.certified("provolone", 3, time_ns=10)
    assert len(judge.violations) == 1


@pytest.mark.timeout(300)
def test_a_fencing_that_fences_nobody_is_found(tmp_path: Path) -> None:
    """An agent that certifies without taking a key away: an application on the device itself writes on."""
    there = Path(clufs.__file__).parent
    shutil.copytree(there, tmp_path / "clufs", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").symlink_to(there.parent / "tests")
    fencing = tmp_path / "clufs" / "storage" / "fencing.py"
    text = fencing.read_text()
    for line, instead in (
        ("    for victim in victims:\n", "    for victim in ():\n"),
        ("return sorted(key for key in found if self._victim.ends(key))", "return []"),
    ):
        assert text.count(line) == 1
        text = text.replace(line, instead)
    fencing.write_text(text)
    words = ["--only-cuts", "--faults", str(_FAULTS_MAX), "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.torture.luns", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " came " in done.stdout.partition("VIOLATION")[2], done.stdout
