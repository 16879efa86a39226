"""Paths kept open against our array on loopback: lost, back, slow, and none of them in another's way."""

import math
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from clufs.errors import PathLost
from clufs.storage import keeping, libiscsi
from clufs.storage.inventory import Change, PathState, SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.paths import LunPath
from clufs.storage.port_groups import AccessState
from tests.array.array import Array, Shape

A = "iqn.2026-01.org.clufs:a"


class Watched(Luns):
    """Luns that a test can wait for."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._changed = trio.Event()
        super().__init__(A, self._told, watches_devices=False)

    def _told(self, change: Change) -> None:
        self.changes.append(change)
        self._changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until what was told makes something true."""
        while not reached():
            self._changed = trio.Event()
            await self._changed.wait()

    @property
    def only(self) -> SharedLun:
        (lun,) = self.inventory.luns.values()
        return lun

    def states(self) -> list[PathState]:
        """Of the paths, in the order of the configuration."""
        return [path.state for path in self.inventory.configured()]


@asynccontextmanager
async def kept(array: Array) -> AsyncIterator[Watched]:
    """LUN 0 by all portals, all of them up."""
    luns = Watched()
    luns.expect("data", [array.url(0, portal) for portal in range(len(array.tcp_ports))])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(luns.serve)
        await luns.until(lambda: set(luns.states()) == {PathState.UP})
        yield luns
        nursery.cancel_scope.cancel()


async def write(opened: LunPath) -> None:
    await opened.device.write(0, b"x" * 512)


async def read(opened: LunPath) -> bytes:
    return await opened.device.read(0, 1)


UP, DOWN = PathState.UP, PathState.DOWN


async def test_a_path_that_is_cut_is_lost_at_once_and_back_when_it_is_mended() -> None:
    async with Array(Shape(portals=2)).serving() as array, kept(array) as luns:
        array.portal_down(0)
        await luns.until(lambda: luns.states() == [DOWN, UP])
        await luns.run(luns.only, write, writes=True)
        array.portal_down(0, False)
        await luns.until(lambda: luns.states() == [UP, UP])
        array.portal_down(1)
        await luns.until(lambda: luns.states() == [UP, DOWN])
        assert await luns.run(luns.only, read) == b"x" * 512


async def test_without_a_path_the_reason_of_each_is_told() -> None:
    async with Array(Shape(portals=2)).serving() as array, kept(array) as luns:
        for portal in (0, 1):
            array.portal_down(portal)
        await luns.until(lambda: luns.states() == [DOWN, DOWN])
        with pytest.raises(PathLost, match=r"naa\..*: no path works: 127.0.0.1:.*; 127.0.0.1:"):
            await luns.run(luns.only, read)


async def test_a_command_that_loses_its_path_goes_by_the_other_one() -> None:
    async with Array(Shape(portals=2)).serving() as array, kept(array) as luns:
        asked = 0

        async def ask(opened: LunPath) -> bytes:
            nonlocal asked
            asked += 1
            if asked == 1:
                array.portal_down([array.url(0, portal) for portal in (0, 1)].index(opened.url))
            return await opened.device.read(0, 1)

        assert await luns.run(luns.only, ask) == bytes(512)
        assert asked == 2


async def test_a_lun_that_is_offline_is_unwell_by_all_paths_until_it_is_back() -> None:
    async with Array(Shape(portals=2)).serving() as array, kept(array) as luns:
        array.online(0, False)
        for path in luns.only.paths.values():
            path.nudge()
        await luns.until(lambda: luns.states() == [DOWN, DOWN])
        assert all("NOT READY" in path.why for path in luns.only.paths.values())
        array.online(0, True)
        for path in luns.only.paths.values():
            path.nudge()
        await luns.until(lambda: luns.states() == [UP, UP])


async def test_a_lun_that_hangs_is_given_up_and_others_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "LUN_LOOK_S", 0.05)
    async with Array(Shape([2048, 2048])).serving() as array:
        luns = Watched()
        for lun in (0, 1):
            luns.expect("data", [array.url(lun)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(luns.serve)
            await luns.until(lambda: luns.states() == [UP, UP])
            by_url = {one.usable()[0].url: one for one in luns.inventory.luns.values()}
            hanging, other = (by_url[array.url(lun)] for lun in (0, 1))
            array.slow(0, math.inf)
            with trio.move_on_after(0.1):
                await luns.run(hanging, read)
            assert await luns.run(other, read) == bytes(512)
            nursery.cancel_scope.cancel()


async def test_power_at_the_array_costs_no_more_than_a_moment() -> None:
    async with Array(Shape(portals=2)).serving() as array, kept(array) as luns:
        begun = len(luns.changes)
        array.fail_power()
        await luns.until(lambda: [one.what for one in luns.changes[begun:]].count("path-up") == 2)
        assert luns.states() == [UP, UP]


async def test_who_waits_for_the_writes_under_way_waits_for_no_later_one() -> None:
    async with Array(Shape()).serving() as array, kept(array) as luns:
        ends = [trio.Event(), trio.Event()]

        async def write_until(end: trio.Event) -> None:
            async def ask(opened: LunPath) -> None:
                await end.wait()

            await luns.run(luns.only, ask, writes=True)

        async with trio.open_nursery() as nursery:
            await luns.drained()
            nursery.start_soon(write_until, ends[0])
            await trio.testing.wait_all_tasks_blocked(0.01)
            with trio.move_on_after(0.05) as waiting:
                await luns.drained()
            assert waiting.cancelled_caught
            nursery.start_soon(luns.drained)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.start_soon(write_until, ends[1])
            await trio.testing.wait_all_tasks_blocked(0.01)
            ends[0].set()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(nursery.child_tasks) == 1  # the second write
            ends[1].set()


async def test_nothing_is_written_by_a_path_that_is_held() -> None:
    async with Array(Shape(portals=2)).serving() as array, kept(array) as luns:
        first, second = luns.only.paths.values()
        first.held = "registering"
        await luns.run(luns.only, write, writes=True)
        second.held = "registering"
        with pytest.raises(PathLost, match="nothing is written now: registering"):
            await luns.run(luns.only, write, writes=True)
        assert await luns.run(luns.only, read) == b"x" * 512
        assert not [entry for entry in array.units[0].medium.log[1:]]


async def test_the_array_moves_a_lun_to_another_port() -> None:
    async with Array(Shape(portals=2)).serving() as array, kept(array) as luns:
        while not all(path.group for path in luns.only.paths.values()):  # noqa: ASYNC110 - not told
            await trio.sleep(0.001)
        before = luns.only.usable()[0]
        assert before.group is not None
        array.ports.set(before.group, AccessState.STANDBY, asked=False)
        await luns.run(luns.only, read)  # its unit attention says it
        await luns.until(lambda: bool(luns.only.transitions))
        assert luns.only.usable()[0] is not before
        assert (before.access, before.state) == (AccessState.STANDBY, UP)
        assert luns.changes[-1].what == "access-changed"


async def test_a_lun_that_grows_is_used_as_a_whole() -> None:
    async with Array(Shape([2048], portals=2)).serving() as array, kept(array) as luns:
        array.units[0].medium.grow(4096)
        for path in luns.only.paths.values():
            path.nudge()
        while luns.only.identity is None or luns.only.identity.blocks != 4096:  # noqa: ASYNC110
            await trio.sleep(0.001)
        await luns.run(luns.only, lambda path: path.device.write(4095, b"x" * 512), writes=True)
        assert luns.states() == [UP, UP]


async def test_a_file_that_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LUN_RETRY_MIN_S", 0.01)
    file = tmp_path / "disk"
    luns = Watched()
    luns.expect("data", [str(file)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(luns.serve)
        await luns.until(lambda: luns.states() == [DOWN])
        file.write_bytes(bytes(4096))
        await luns.until(lambda: luns.states() == [UP])
        assert luns.only.wwid.startswith("file.") and luns.only.wwid.endswith(":disk")
        await luns.run(luns.only, write)
        assert file.read_bytes() == b"x" * 512 + bytes(3584)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def loop_device(file: Path) -> AsyncIterator[str]:
    """A file as a block device of the kernel."""
    attach = ["losetup", "--find", "--show", str(file)]
    done = await trio.run_process(attach, capture_stdout=True)
    device = done.stdout.decode().strip()
    try:
        yield device
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["losetup", "--detach", device], check=False)


async def test_a_loop_device_is_a_lun_to_try_things_out(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(bytes(1 << 20))
    async with loop_device(file) as device:
        luns = Watched()
        luns.expect("data", [device])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(luns.serve)
            await luns.until(lambda: luns.states() == [UP])
            assert luns.only.wwid == f"file.{device[1:].replace('/', ':')}"
            await luns.run(luns.only, write, writes=True)
            nursery.cancel_scope.cancel()
    subprocess.run(["sync", file], check=True)
    assert file.read_bytes()[:512] == b"x" * 512


async def test_a_path_to_nowhere_keeps_nobody_waiting() -> None:
    luns = Watched()
    luns.expect("data", ["iscsi://127.0.0.1:1/iqn.x/0"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(luns.serve)
        await luns.until(lambda: luns.states() == [DOWN])
        assert not luns.inventory.luns
        assert "connecting failed" in luns.changes[0].why
        nursery.cancel_scope.cancel()


async def test_without_libiscsi_a_path_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libiscsi, "LIBRARY", "libiscsi.so.absent")
    libiscsi.library.cache_clear()
    luns = Watched()
    luns.expect("data", ["iscsi://127.0.0.1/iqn.x/0"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(luns.serve)
        await luns.until(lambda: luns.states() == [DOWN])
        assert "apt-get install libiscsi7" in luns.changes[0].why
        nursery.cancel_scope.cancel()
    libiscsi.library.cache_clear()
