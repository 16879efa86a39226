"""udev's events, as pyudev gives them: those that are there, those that come and go, and more than it has room for."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from clufs.storage import udev
from clufs.storage.devices import KernelDevice


class Disk:
    """A device of pyudev's."""

    def __init__(self, node: str, wwn: str, action: str = "add") -> None:
        self.device_node, self.action, self.sys_path = node, action, "/sys/absent"
        self.properties = {"DEVNAME": node, "DEVTYPE": "disk", "ID_BUS": "scsi", "ID_WWN": wwn}


class Kernel:
    """Context and monitor in one. there: the devices; queue: what the monitor has to tell."""

    def __init__(self) -> None:
        self.there: list[Disk] = []
        self.queue: list[Disk | OSError] = []
        self._readable, self._ring = os.pipe2(os.O_NONBLOCK)

    def tell(self, *news: Disk | OSError) -> None:
        """Let the monitor's socket have something."""
        self.queue += news
        os.write(self._ring, b"x")

    def list_devices(self, **_: str) -> Iterator[Disk]:
        return iter(self.there)

    def fileno(self) -> int:
        return self._readable

    def poll(self, timeout: float) -> Disk | None:
        if not self.queue:
            os.read(self._readable, 100)
            return None
        found = self.queue.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    def close(self) -> None:
        os.close(self._readable)
        os.close(self._ring)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    found = Kernel()
    monkeypatch.setattr(udev, "_listen", lambda: (found, found))
    yield found
    found.close()


def wwn(number: int) -> str:
    return f"0x{number:016x}"


A, B, C = Disk("/dev/sda", wwn(1)), Disk("/dev/sdb", wwn(1)), Disk("/dev/sdc", wwn(2))


class Told:
    def __init__(self) -> None:
        self.there: dict[str, str] = {}

    def came(self, device: KernelDevice) -> None:
        self.there[device.node] = device.wwid

    def went(self, node: str) -> None:
        self.there.pop(node, None)


async def watched(kernel: Kernel, play: Callable[[Told], Any]) -> None:
    told = Told()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(udev.watch, told.came, told.went)
        await trio.testing.wait_all_tasks_blocked()
        await play(told)
        nursery.cancel_scope.cancel()


async def settled(kernel: Kernel) -> None:
    """Until the monitor was emptied."""
    while kernel.queue:  # noqa: ASYNC110
        await trio.sleep(0.001)
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_devices_that_are_there_come_and_go(kernel: Kernel) -> None:
    kernel.there = [A, Disk("/dev/vda", "")]

    async def play(told: Told) -> None:
        assert told.there == {"/dev/sda": "naa.0000000000000001"}
        kernel.tell(B, C, Disk("/dev/sda", wwn(1), "remove"))
        await settled(kernel)
        assert told.there == {
            "/dev/sdb": "naa.0000000000000001",
            "/dev/sdc": "naa.0000000000000002",
        }

    await watched(kernel, play)


async def test_events_that_were_lost_are_made_up_for(kernel: Kernel) -> None:
    kernel.there = [A, B]

    async def play(told: Told) -> None:
        kernel.there = [B, C]
        kernel.tell(OSError(errno.ENOBUFS, "No buffer space available"))
        await settled(kernel)
        assert set(told.there) == {"/dev/sdb", "/dev/sdc"}

    await watched(kernel, play)


async def test_the_devices_of_this_machine_can_be_asked_for() -> None:
    told = Told()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(udev.watch, told.came, told.went)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert all(wwid.split(".")[0] in ("naa", "eui", "t10", "scsi") for wwid in told.there.values())


async def test_without_udev_nothing_is_watched_and_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise ImportError("no libudev")

    monkeypatch.setattr(udev, "_listen", missing)
    told = Told()
    await udev.watch(told.came, told.went)
    assert "apt-get install libudev1" in caplog.text
