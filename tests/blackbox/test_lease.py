"""A member with a LUN of clufs' own lives by its lease there: without it nothing is granted, and nobody goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from clufs.storage.own_lun import OwnLun, Wish, format_own, open_own
from clufs.storage.paths import initiator_name, open_path
from clufs.storage.records import LeaseState, LunMessage, MemberRecord, Word
from tests.blackbox.clu import Clu, Shell, running, until

QUICK = Wish("provolone", members=4, io_timeout_s=0.4, watchdog_s=2)


class Disk:
    """The plain file that is the LUN, as a stranger with access to it sees it."""

    def __init__(self, directory: Path, wish: Wish = QUICK) -> None:
        self.file = directory / "lun"
        self.file.write_bytes(bytes(4 << 20))

        async def form() -> None:
            async with open_path(str(self.file), initiator_name("format")) as path:
                await format_own(path.device, wish)

        trio.run(form)

    def record(self) -> tuple[int, MemberRecord]:
        """Sequence and record of the member."""

        async def look(lun: OwnLun) -> tuple[int, MemberRecord]:
            pair = dict(await lun.read_slots(1))[1].record
            assert pair.record is not None
            return pair.sequence, pair.record

        return trio.run(self._with, look)

    def poison(self, incarnation: int) -> None:
        """Another member has it stop."""

        async def tell(lun: OwnLun) -> None:
            await lun.tell(LunMessage(lun.header.cluster, 1, incarnation, Word.STOP, 2))

        trio.run(self._with, tell)

    async def _with(self, use):  # type: ignore[no-untyped-def]
        async with open_path(str(self.file), initiator_name("stranger")) as path:
            return await use(await open_own(path.device))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.fixture
def clu(tmp_path: Path, disk: Disk) -> Iterator[Clu]:
    yield from member(tmp_path, disk)


def member(tmp_path: Path, disk: Disk) -> Iterator[Clu]:
    """A member with that LUN."""
    config = tmp_path / "clufs.toml"
    config.write_text(
        f'[member]\nname = "provolone"\n[storage]\nwatchdog = ""\n[[luns]]\nurl = "{disk.file}"\nrole = "clufs"\n'
    )
    yield from running(tmp_path, "--config", str(config))


@pytest.fixture
def holder(clu: Clu) -> Iterator[Shell]:
    yield from holding(clu)


def holding(clu: Clu) -> Iterator[Shell]:
    """A shell that holds a lock."""
    shell = Shell()
    assert shell.ask(f"echo EX > {clu.public}/held") == (0, "")
    yield shell
    shell.close()


def events(clu: Clu, what: str) -> list[str]:
    lines = (clu.root / "events").read_text().splitlines()
    return [line for line in lines if line.split()[1] == what]


def incarnation(clu: Clu) -> int:
    return int((clu.root / "members/self/incarnation").read_text())


def is_granted(clu: Clu) -> bool:
    """Whether a lock can be had at once."""
    command = [sys.executable, "-m", "clufs.cli.clufs", "run", "-n", str(clu.public / "new")]
    return subprocess.run([*command, "--", "true"], capture_output=True).returncode == 0


def lease_process(clu: Clu) -> int:
    children = Path(f"/proc/{clu.daemon.pid}/task/{clu.daemon.pid}/children").read_text().split()
    found = [
        int(pid)
        for pid in children
        if b"clufs.storage.lease_process" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    assert len(found) == 1
    return found[0]


def ended(shell: Shell) -> int:
    return shell.process.wait(20)


def test_the_heartbeat_is_shown_and_ends_with_a_goodbye(clu: Clu, disk: Disk) -> None:
    (directory,) = (clu.root / "luns").iterdir()
    slots = directory / "slots"
    until(lambda: " ON_DISK=alive HEARD=1 STATE=IN " in slots.read_text(), "its own heartbeat")
    (line,) = slots.read_text().splitlines()
    shown = dict(word.split("=") for word in line.split())
    assert shown["MEMBER"] == "provolone"
    until(lambda: disk.record()[0] > int(shown["SEQUENCE"]), "another beat")
    assert disk.record()[1].view == 1
    assert clu.stop() == 0
    assert disk.record()[1].state == LeaseState.ENDED


def test_the_heart_beats_on_while_the_daemon_stands_still(clu: Clu, disk: Disk) -> None:
    clu.daemon.send_signal(signal.SIGSTOP)
    try:
        sequence, _ = disk.record()
        until(lambda: disk.record()[0] >= sequence + 8, "eight beats, longer than a lease")
    finally:
        clu.daemon.send_signal(signal.SIGCONT)
    until(lambda: is_granted(clu), "the view is confirmed")
    assert not events(clu, "life-ended")


def test_a_lease_process_that_stands_still_costs_the_daemon_and_the_holders_their_lives(
    clu: Clu, holder: Shell
) -> None:
    pid = lease_process(clu)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert clu.ended() == -signal.SIGKILL
        assert ended(holder) == -signal.SIGKILL
    finally:
        os.kill(pid, signal.SIGKILL)
    until(lambda: "killed the daemon and 1 lock owners" in clu.log.read_text(), "its last word")


def test_the_supervisor_kills_the_holders_of_a_daemon_that_is_killed(
    clu: Clu, holder: Shell
) -> None:
    clu.daemon.kill()
    assert ended(holder) == -signal.SIGKILL
    clu.ended()
    clu.start()
    assert is_granted(clu)


def test_a_lease_that_was_in_danger_and_is_renewed_costs_nobody_anything(tmp_path: Path) -> None:
    """Meanwhile nothing is granted; who holds a lock keeps it."""
    disk = Disk(tmp_path, Wish("provolone", members=4, io_timeout_s=1, watchdog_s=60))
    with contextmanager(member)(tmp_path, disk) as clu, contextmanager(holding)(clu) as holder:
        pid = lease_process(clu)
        os.kill(pid, signal.SIGSTOP)
        try:
            quorum = clu.root / "status/quorum"
            until(lambda: "its lease on the LUNs of clufs" in quorum.read_text(), "the danger")
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: is_granted(clu), "grants again")
        assert not events(clu, "life-ended")
        assert holder.ask(f"echo UN > {clu.public}/held") == (0, "")


def test_a_poisoned_member_ends_its_holders_and_comes_back_as_a_new_incarnation(
    clu: Clu, disk: Disk, holder: Shell
) -> None:
    before = incarnation(clu)
    disk.poison(before)
    assert ended(holder) == -signal.SIGKILL
    until(lambda: incarnation(clu) > before and is_granted(clu), "a new life")
    (line,) = events(clu, "life-ended")
    assert "member 2 told this incarnation to stop" in line.replace("\\040", " ")
    assert clu.daemon.poll() is None


def test_without_its_lun_a_member_grants_nothing_and_ends_its_holders(
    clu: Clu, disk: Disk, holder: Shell
) -> None:
    saved = disk.file.with_suffix(".saved")
    shutil.copy(disk.file, saved)
    os.truncate(disk.file, 0)
    until(lambda: not is_granted(clu), "no more grants")
    assert ended(holder) == -signal.SIGKILL
    quorum = clu.root / "status/quorum"
    until(lambda: "its lease on the LUNs of clufs" in quorum.read_text(), "what is waited for")
    assert not is_granted(clu)
    with saved.open("rb") as whole, disk.file.open("r+b") as lun:
        lun.write(whole.read())
    until(lambda: is_granted(clu), "a new life")
    assert clu.daemon.poll() is None


def test_another_clusters_lun_is_not_touched(tmp_path: Path, disk: Disk) -> None:
    config = tmp_path / "clufs.toml"
    config.write_text(
        f'[member]\nname = "feta"\n[storage]\nwatchdog = ""\n[[luns]]\nurl = "{disk.file}"\nrole = "clufs"\n'
    )
    before = disk.file.read_bytes()
    program = [sys.executable, "-m", "clufs.cli.clufsd", str(tmp_path / "clu")]
    (tmp_path / "clu").mkdir()
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*program, "--state", str(tmp_path / "state"), "--config", str(config)], stderr=output
        ) as daemon,
    ):
        until(lambda: "of another cluster: it belongs to provolone" in log.read_text(), "a word")
        daemon.terminate()
    assert disk.file.read_bytes() == before
