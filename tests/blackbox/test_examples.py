"""The examples do what they say, in every shell, several at once where that is the point."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import SHELLS, Clu, until

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NINE_ONE = EXAMPLES / "example-9-1"
SCRIPTS = sorted([*EXAMPLES.glob("*.sh"), *NINE_ONE.iterdir()])

# As the manual prints them (the arrows as `->`, the one long line not broken).
MASTER = """\
api_ex_master: grab a EX mode lock
api_ex_master: value block read
api_ex_master: expected empty value block got <>
api_ex_master: start client and wait for the blocking notification to continue
api_ex_master: blk_and_go hold the lock for a couple of seconds
api_ex_master: blk_and_go sleeping
api_ex_master: blk_and_go sleeping
api_ex_master: blk_and_go sleeping
api_ex_master: blk_and_go setting done
api_ex_master: now convert (EX->EX) to write the value block <abc>
api_ex_master: blk_rtn: down convert to NL
api_ex_master: waiting for blocking notification
api_ex_master: trying to get the lock back as PR to read value block
api_ex_master: value block read
api_ex_master: expected <efg> got <efg>
api_ex_master done
""".splitlines()
CLIENT = """\
    api_ex_client: grab a NL mode lock
    api_ex_client: value block read
    api_ex_client: expected empty value block got <>
    api_ex_client: converting to NL->EX to get the value block.
    api_ex_client: should see blocking routine run on master
    api_ex_client: blk_rtn: dequeue EX lock to write value block <>
    api_ex_client: hold the lock for a couple of seconds
    api_ex_client: sleeping
    api_ex_client: sleeping
    api_ex_client: sleeping
    api_ex_client: value block read
    api_ex_client: expected <abc> got <abc>
    api_ex_client: sleeping waiting for blocking notification
    api_ex_client: done
""".splitlines()
NOTIFIED = ("blk_rtn:", "hold the lock", "sleeping")
"""How the lines of the routines begin that a signal starts, among the others at any place."""


class Script:
    """One running example; what it prints goes to a file, to be looked at while it runs."""

    def __init__(self, clu: Clu, kind: str, log: Path, script: Path, *arguments: str) -> None:
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*kind.split(), str(script), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "CLU_ROOT": str(clu.root)},
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def says(self, text: str) -> None:
        """Wait until a line of its output holds this text."""
        until(lambda: text in self.log.read_text(), f"{text!r} in {self.lines}")

    def ends(self) -> int:
        """Wait for the end; the exit status. How long an example sleeps is its own affair."""
        return self.process.wait()


Start = Callable[..., Script]


@pytest.fixture
def start(clu: Clu, kind: str, tmp_path: Path) -> Iterator[Start]:
    """Starts examples in one kind of shell, and ends what still runs after the test."""
    scripts: list[Script] = []

    def run(name: str, *arguments: str) -> Script:
        log = tmp_path / f"{len(scripts)}.log"
        scripts.append(Script(clu, kind, log, EXAMPLES / name, *arguments))
        return scripts[-1]

    yield run
    for script in scripts:
        script.process.kill()
        script.process.wait()
    until(lambda: list(clu.public.iterdir()) == [], "no lock is left")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that starts examples runs in every shell."""
    if "start" in metafunc.fixturenames:
        metafunc.parametrize("kind", SHELLS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_an_example_opens_with_what_it_shows(script: Path) -> None:
    head, *rest = script.read_text().splitlines()
    assert head == "#!/bin/sh"
    count = next(at for at, line in enumerate(rest) if not line.startswith("#"))
    assert 3 <= count <= 6
    assert "CLU_ROOT" in "".join(rest[:count])
    assert os.access(script, os.X_OK)


def test_every_example_has_its_line_in_the_readme() -> None:
    linked = set(re.findall(r"\]\((.*?)/?\)", (EXAMPLES / "README.md").read_text()))
    assert linked == {entry.name for entry in EXAMPLES.iterdir()} - {"README.md"}


def test_mutex_lets_one_in_at_a_time(start: Start, tmp_path: Path) -> None:
    number, inside = tmp_path / "number", tmp_path / "inside"
    number.write_text("0\n")
    step = f"mkdir {inside} && n=$(cat {number}) && echo $((n + 1)) > {number} && rmdir {inside}"
    scripts = [start("mutex.sh", "sh", "-c", step) for _ in range(20)]
    assert [script.ends() for script in scripts] == [0] * 20
    assert number.read_text() == "20\n"


def test_mutex_passes_the_exit_status_and_lets_go_when_it_is_told_to_end(
    clu: Clu, start: Start
) -> None:
    assert start("mutex.sh", "sh", "-c", "exit 7").ends() == 7
    holder, waiter = start("mutex.sh", "sleep", "0.5"), None
    holder.says("is inside")
    waiter = start("mutex.sh", "true")
    clu.until_queued("mutex")
    waiter.process.terminate()
    assert waiter.ends() == -signal.SIGTERM
    assert clu.queue("mutex", "WAITING") == []
    holder.process.terminate()
    assert holder.ends() == 1


def test_counter_loses_nothing(clu: Clu, start: Start) -> None:
    scripts = [start("counter.sh", "10") for _ in range(8)]
    assert [script.ends() for script in scripts] == [0] * 8
    assert (clu.public / "counter").read_text() == "80\n"
    assert start("counter.sh", "1").ends() == 0
    assert (clu.public / "counter").read_text() == "81\n"
    assert start("counter.sh", "end").ends() == 0
    assert not (clu.public / "counter").exists()


def test_leader_is_one_of_many_and_the_next_takes_over(clu: Clu, start: Start) -> None:
    first = start("leader.sh")
    first.says("leads")
    second = start("leader.sh")
    clu.until_queued("leader", 1)
    third = start("leader.sh")
    clu.until_queued("leader", 2)
    assert (clu.public / "leader").read_text() == f"{first.pid}\n"
    first.process.kill()
    second.says("leads")
    takes_over = second.lines[1]
    assert takes_over == f"{second.pid} takes over from {first.pid}, who died"
    assert third.lines == [f"{third.pid} stands by"]
    second.process.terminate()
    assert second.ends() == 0
    third.says("leads")
    assert third.lines == [f"{third.pid} stands by", f"{third.pid} leads"]


def test_leader_that_stands_by_can_be_told_to_end(clu: Clu, start: Start) -> None:
    start("leader.sh").says("leads")
    second = start("leader.sh")
    clu.until_queued("leader")
    second.process.terminate()
    assert second.ends() == -signal.SIGTERM
    assert clu.queue("leader", "WAITING") == []


def test_doorbell_stays_until_somebody_else_wants_in(clu: Clu, start: Start) -> None:
    first = start("doorbell.sh")
    first.says("is inside")
    time.sleep(1.5)
    assert first.process.poll() is None
    second = start("doorbell.sh")
    asked = time.monotonic()
    second.says("is inside")
    assert time.monotonic() - asked < 1.0, "the bell is heard in the middle of the work"
    assert first.ends() == 0
    assert first.lines == [f"{first.pid} is inside", f"{first.pid} hears the bell and goes"]
    third = start("doorbell.sh")
    third.says("is inside")
    assert second.ends() == 0
    assert third.process.poll() is None


def test_cache_reads_again_only_when_a_writer_was_there(
    clu: Clu, start: Start, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.write_text("old\n")
    readers = [start("cache.sh", str(data)) for _ in range(3)]
    for reader in readers:
        reader.says("version 0, read: old")
        reader.says("version 0, cached: old")
    assert start("cache.sh", str(data), "new").ends() == 0
    for reader in readers:
        reader.says("version 1, cached: new")
        assert [line for line in reader.lines if "read" in line] == [
            "version 0, read: old",
            "version 1, read: new",
        ]
    data.write_text("behind the lock's back\n")
    assert start("cache.sh", str(data), "newer").ends() == 0
    for reader in readers:
        reader.says("version 2, cached: newer")


def test_deadlock_tells_one_of_the_two(clu: Clu, start: Start) -> None:
    script = start("deadlock.sh")
    assert script.ends() == 0
    said = script.lines[:4]
    assert {line for line in said if "asks" in line} == {
        "one holds deadlock-left and asks for deadlock-right",
        "two holds deadlock-right and asks for deadlock-left",
    }
    loser = next(line for line in said if "give up" in line).split()[0]
    assert f"{'two' if loser == 'one' else 'one'} holds both" in said
    refused, head, *locks = script.lines[4:]
    victim = refused.split()[1]
    assert " EDEADLK a deadlock" in refused
    assert re.fullmatch(r"DEADLOCK \d+ \S+ multi-resource", head)
    assert len(locks) == 4
    assert [line.split()[5] for line in locks if line.endswith("VICTIM")] == [victim]
    assert all(line.split()[0].startswith("locks/public/deadlock-") for line in locks)


def test_example_9_1_prints_what_the_manual_prints(clu: Clu, start: Start) -> None:
    master = start("example-9-1/api_ex_master")
    master.says("start client")
    client = start("example-9-1/api_ex_client")
    assert (client.ends(), master.ends()) == (0, 0)
    assert in_order(master.lines) == in_order(MASTER)
    assert in_order(client.lines) == in_order(CLIENT)
    assert sorted(client.lines) == sorted(CLIENT)
    assert [path.name for path in (clu.root / "locks").iterdir()] == ["public"]


def in_order(lines: list[str]) -> tuple[list[str], list[str]]:
    """What main prints, and what the routine prints that a notification starts at any time."""
    split: tuple[list[str], list[str]] = ([], [])
    for line in lines:
        said = line.partition(": ")[2]
        routine = said.startswith(NOTIFIED) and not said.endswith("notification")
        split[routine].append(line)
    return split
