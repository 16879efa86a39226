"""The lease process and its supervisor: real processes on a plain file, or on an array that fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
import trio
import trio.testing

from clufs.storage.lease import OnDisk, Standing
from clufs.storage.lease_line import LeaseLine, lease_of
from clufs.storage.lease_wire import Looked, Said, Seen, Settings
from clufs.storage.own_lun import Wish, format_own, open_own
from clufs.storage.paths import initiator_name, open_path
from clufs.storage.records import LeaseState, LunMessage, MemberRecord, Word, bitmap
from clufs.storage.watchdog import Supervised
from tests.array.array import Array, Shape

QUICK = Wish("lab", members=4, io_timeout_s=0.25, watchdog_s=1.5)
BOOT_ID = "00000000-0000-0000-0000-00000000000"
PROVOLONE, POLISHHAM = 1, 2


async def formatted(url: str) -> str:
    async with open_path(url, initiator_name("format")) as path:
        await format_own(path.device, QUICK)
    return url


async def plain_file(directory: Path, name: str = "lun") -> str:
    (directory / name).write_bytes(bytes(4 << 20))
    return await formatted(str(directory / name))


@asynccontextmanager
async def an_array() -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """A formatted LUN of an array, and what switches that off."""
    array, power = Array(Shape()), trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        with power:
            async with array.serving():
                task_status.started()
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        yield await formatted(array.url()), power.cancel
        power.cancel()


class Life:
    """A life of a member: its lease, and in the place of its daemon a process that only sleeps."""

    def __init__(self, line: LeaseLine, daemon: subprocess.Popen[bytes]) -> None:
        self.line = line
        self.daemon = daemon
        self.news = trio.Event()
        self.ends = trio.Event()

    def changed(self) -> None:
        if self.line.over:
            self.ends.set()
        self.news.set()
        self.news = trio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        with trio.fail_after(30):
            while not true():
                await self.news.wait()

    def sees(self, member: int, lun: int = 0) -> Seen | None:
        return next((one for one in self.line.seen(lun) if one.member == member), None)

    async def killed(self) -> int:
        """How the daemon ended."""
        with trio.fail_after(30):
            return await trio.to_thread.run_sync(self.daemon.wait)


@asynccontextmanager
async def life(
    directory: Path,
    member: int,
    *urls: str,
    incarnation: int = 5,
    machine: int = 0,
    trusts: bool = False,
) -> AsyncIterator[Life]:
    settings = Settings(
        [[url] for url in urls],
        initiator_name(f"m{member}"),
        "lab",
        member,
        incarnation,
        f"{BOOT_ID}{machine or member}",
        members=2,
        trusts_supervisor=trusts,
    )
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as daemon:
        module = [sys.executable, "-m", "clufs.fuse.supervisor", "{}"]
        mount = directory / f"mount{member}"
        mount.mkdir(exist_ok=True)
        supervisor = [*module, str(daemon.pid), str(mount), str(directory / f"owners{member}")]
        found: list[Life] = []
        try:
            async with lease_of(
                settings, supervisor, lambda: [one.changed() for one in found]
            ) as line:
                found.append(Life(line, daemon))
                try:
                    with trio.fail_after(30):
                        assert await line.settled() == ""
                    yield found[0]
                finally:
                    line.let_go()
        finally:
            daemon.kill()


async def test_a_lease_process_that_hangs_from_the_first_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One that got as far as a lease is ended by its watchdog; before, nothing else would tell."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    settings = Settings([["/dev/null"]], "iqn.a", "lab", PROVOLONE, 5, f"{BOOT_ID}1", members=2)
    ours.setblocking(False)
    with theirs, ours, trio.socket.from_stdlib_socket(ours) as end:
        line = LeaseLine(os.getpid(), settings, end, Supervised(theirs, 0), lambda: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.listen)
            assert await line.settled() == "the lease process has said nothing for 30 s"
            nursery.cancel_scope.cancel()
    assert line.standing() == Standing.FAILED


async def test_two_members_see_each_other_and_a_goodbye_is_no_death(tmp_path: Path) -> None:
    url = await plain_file(tmp_path)
    async with life(tmp_path, PROVOLONE, url) as provolone:
        async with life(tmp_path, POLISHHAM, url, incarnation=9) as polishham:
            polishham.line.say(
                Said(LeaseState.IN, votes=1, quorate=True, view=7, heard=bitmap({PROVOLONE}))
            )

            def alive() -> bool:
                seen = provolone.sees(POLISHHAM)
                return seen is not None and (seen.view, seen.on_disk) == (7, OnDisk.ALIVE)

            await provolone.until(alive)
            seen = provolone.sees(POLISHHAM)
            assert seen is not None
            assert (seen.incarnation, seen.votes, seen.hears) == (9, 1, {PROVOLONE})
            assert provolone.line.neighbours([POLISHHAM], frozenset())[POLISHHAM].words == (
                "unheard on the network, alive on disk"
            )

        def ended() -> bool:
            seen = provolone.sees(POLISHHAM)
            return seen is not None and seen.on_disk == OnDisk.ENDED

        await provolone.until(ended)
        assert provolone.line.standing() == Standing.GOOD
        assert not provolone.line.over


async def test_a_lease_process_that_stands_still_is_the_end_of_the_member(tmp_path: Path) -> None:
    url = await plain_file(tmp_path)
    async with life(tmp_path, PROVOLONE, url) as provolone:
        os.kill(provolone.line.pid, signal.SIGSTOP)
        try:
            assert await provolone.killed() == -signal.SIGKILL
        finally:
            os.kill(provolone.line.pid, signal.SIGCONT)


async def test_the_poison_stops_this_incarnation_and_the_supervisor_a_deaf_daemon(
    tmp_path: Path,
) -> None:
    url = await plain_file(tmp_path)
    async with life(tmp_path, PROVOLONE, url) as provolone:
        async with open_path(url, initiator_name("fencer")) as path:
            lun = await open_own(path.device, "lab")
            ours = lun.header.cluster
            await lun.tell(LunMessage(ours, PROVOLONE, 4, Word.STOP, POLISHHAM))
            looks = provolone.line.looks[0].sequence
            await provolone.until(lambda: provolone.line.looks[0].sequence > looks + 2)
            assert not provolone.line.over  # that was for the incarnation before
            await lun.tell(LunMessage(ours, PROVOLONE, 5, Word.STOP, POLISHHAM))
            await provolone.until(lambda: bool(provolone.line.over))
        assert provolone.line.over == "member 2 told this incarnation to stop"
        assert provolone.line.standing() == Standing.FAILED
        # Our daemon is asleep, and does nothing about it.
        assert await provolone.killed() == -signal.SIGKILL


async def test_a_member_has_another_one_stopped_through_the_lun(tmp_path: Path) -> None:
    url = await plain_file(tmp_path)
    async with (
        life(tmp_path, PROVOLONE, url) as provolone,
        life(tmp_path, POLISHHAM, url, incarnation=9) as polishham,
    ):
        provolone.line.poison(POLISHHAM, 8)
        provolone.line.poison(POLISHHAM, 9)
        await polishham.until(lambda: bool(polishham.line.over))
        assert polishham.line.over == "member 1 told this incarnation to stop"
        assert provolone.line.standing() == Standing.GOOD


async def test_a_lease_process_that_is_killed_is_noticed(tmp_path: Path) -> None:
    url = await plain_file(tmp_path)
    async with life(tmp_path, PROVOLONE, url) as provolone:
        os.kill(provolone.line.pid, signal.SIGKILL)
        await provolone.until(lambda: bool(provolone.line.over))
        assert provolone.line.over == "the lease process has ended"


async def test_without_its_lun_the_lease_ends_by_itself(tmp_path: Path) -> None:
    async with an_array() as (url, switch_off), life(tmp_path, PROVOLONE, url) as provolone:
        switch_off()
        standings = set()

        def over() -> bool:
            standings.add(provolone.line.standing())
            return bool(provolone.line.over)

        await provolone.until(over)
        assert standings == {Standing.GOOD, Standing.WARNED, Standing.FAILED}
        assert provolone.line.over.startswith(f"not renewed for 2 s: {url}: ")
        assert await provolone.killed() == -signal.SIGKILL


async def test_one_lun_of_three_may_be_lost(tmp_path: Path) -> None:
    files = [await plain_file(tmp_path, name) for name in ("a", "b")]
    async with an_array() as (url, switch_off), life(tmp_path, PROVOLONE, *files, url) as provolone:
        await provolone.until(lambda: provolone.sees(PROVOLONE, 2) is not None)
        switch_off()
        await provolone.until(lambda: bool(provolone.line.trouble()))
        at_s = provolone.line.looks[0].beat_s
        fail_s = provolone.line.line.fail_s
        await provolone.until(lambda: provolone.line.looks[0].beat_s > at_s + 1.5 * fail_s)
        assert provolone.line.standing() == Standing.GOOD
        assert provolone.daemon.poll() is None


async def test_who_takes_a_nodeid_twice_is_stopped(tmp_path: Path) -> None:
    """Two machines with one nodeid: one of them finds the other's record in its slot."""
    url, over = await plain_file(tmp_path), trio.Event()
    async with (
        life(tmp_path, PROVOLONE, url) as provolone,
        life(tmp_path, PROVOLONE, url, machine=7) as double,
    ):
        provolone.ends, double.ends = over, over
        with trio.fail_after(30):
            await over.wait()
        words = "another machine writes as the member with nodeid 1"
        assert words in (provolone.line.over, double.line.over)


@pytest.mark.parametrize("boot", [True])
async def test_frames_come_back_as_they_were_sent(boot: bool) -> None:
    seen = Seen(
        2,
        OnDisk.SLOW,
        LeaseState.IN,
        1,
        True,
        3,
        9,
        1 << 40,
        7,
        bitmap({1, 64}),
        5.5,
        61.0,
        10_000,
        60_000,
    )
    looked = Looked(
        1, Standing.WARNED, boot, 250, 1500, 3.5, 4.5, 4.75, 99, "für alle", (seen,) * 64
    )
    assert Looked.decode(looked.encode()) == looked
    said = Said(LeaseState.LEAVING, 2, True, 1 << 50, 1 << 63, bitmap({1, 64}))
    assert Said.decode(said.encode()) == said


async def test_a_late_write_of_an_earlier_life_is_no_double(tmp_path: Path) -> None:
    """It came back as a new incarnation while a write of the one before was still in the array."""
    url = await plain_file(tmp_path)
    async with life(tmp_path, PROVOLONE, url, incarnation=5) as provolone:
        async with open_path(url, initiator_name("array")) as path:
            lun = await open_own(path.device, "lab")
            earlier = MemberRecord(lun.header.cluster, PROVOLONE, 4, UUID(f"{BOOT_ID}1").int)
            for _ in range(4):
                sequence = provolone.line.looks[0].sequence
                await lun.write_record(earlier, sequence)
                await provolone.until(
                    lambda seen=sequence: provolone.line.looks[0].sequence > seen + 1
                )
        assert not provolone.line.over
        assert provolone.line.standing() == Standing.GOOD


async def test_the_record_says_whether_others_may_count_on_a_watchdog(tmp_path: Path) -> None:
    url = await plain_file(tmp_path)
    async with (
        life(tmp_path, PROVOLONE, url) as provolone,
        life(tmp_path, POLISHHAM, url, trusts=True) as polishham,
    ):
        # The first record is written before anything is armed.
        await polishham.until(lambda: (one := polishham.sees(POLISHHAM)) and one.guarded)
        await provolone.until(lambda: (one := provolone.sees(POLISHHAM)) and one.guarded)
        seen = provolone.sees(POLISHHAM)
        assert seen is not None and (seen.io_timeout_ms, seen.watchdog_ms) == (250, 1500)
        mine = provolone.sees(PROVOLONE)
        assert mine is not None and not mine.guarded
