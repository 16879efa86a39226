"""Networks and devices are told ONLINE and OFFLINE by the kernel's events, on real links and devices."""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from clufs.actions import device
from clufs.actions.monitors import MachineMonitors
from tests.actions.machine import WAIT_S

# ------------------------------------------------------------------- networks

PROGRAM = """
import sys, trio
from clufs.actions.monitors import MachineMonitors

async def main():
    monitors = MachineMonitors(lambda name, online: print(name, int(online), flush=True))
    for subnet in sys.argv[1:]:
        monitors.watch(subnet, "network", subnet)
    await monitors.serve()

trio.run(main)
"""


class Namespace:
    """A network namespace of its own, which ends with the monitor that runs in it."""

    def __init__(self, *subnets: str) -> None:
        words = ["unshare", "--net", sys.executable, "-c", PROGRAM]
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            [*words, *subnets], stdout=subprocess.PIPE, text=True, cwd=root
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())

    def ip(self, command: str) -> None:
        """Run ip(8) in it."""
        self.batch([command])

    def batch(self, commands: list[str]) -> None:
        """Run ip(8) in it, once for many commands."""
        words = ["nsenter", "-t", str(self.process.pid), "--net", "ip", "-batch", "-"]
        subprocess.run(words, check=True, input="\n".join(commands), text=True)

    def told(self, count: int = 1) -> set[str]:
        """What the monitor tells next."""
        return {self._lines.get(timeout=WAIT_S) for _ in range(count)}

    def silent(self) -> bool:
        """Whether it has told nothing more."""
        return self._lines.empty()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def cable(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A monitor of the subnets that the test names, on one end of a cable."""
    subnets = request.param
    made = Namespace(*subnets)
    try:
        assert made.told(len(subnets)) == {f"{subnet} 0" for subnet in subnets}
        made.ip("link add here type veth peer name there")
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("cable", [["10.9.8.0"]], indirect=True)
def test_a_subnet_is_online_with_link_carrier_and_address(cable: Namespace) -> None:
    cable.ip("addr add 10.9.8.7/24 dev here")
    cable.ip("link set here up")  # no carrier: the other end is down
    assert cable.silent()
    cable.ip("link set there up")
    assert cable.told() == {"10.9.8.0 1"}
    cable.ip("link set there down")
    assert cable.told() == {"10.9.8.0 0"}
    cable.ip("link set there up")
    assert cable.told() == {"10.9.8.0 1"}
    cable.ip("link set here down")
    assert cable.told() == {"10.9.8.0 0"}
    cable.ip("link set here up")
    assert cable.told() == {"10.9.8.0 1"}
    cable.ip("addr del 10.9.8.7/24 dev here")
    assert cable.told() == {"10.9.8.0 0"}
    cable.ip("addr add 10.9.8.6/24 dev here")
    assert cable.told() == {"10.9.8.0 1"}
    cable.ip("link del here")
    assert cable.told() == {"10.9.8.0 0"}


@pytest.mark.parametrize("cable", [["10.9.8.0", "10.9.8.128", "10.9.0.0"]], indirect=True)
def test_the_mask_is_the_addresss_own(cable: Namespace) -> None:
    cable.ip("link set here up")
    cable.ip("link set there up")
    cable.ip("addr add 10.9.8.200/25 dev here")
    assert cable.told() == {"10.9.8.128 1"}
    cable.ip("addr add 10.9.8.201/16 dev here")
    assert cable.told() == {"10.9.0.0 1"}
    cable.ip("addr del 10.9.8.200/25 dev here")
    assert cable.told() == {"10.9.8.128 0"}


@pytest.mark.parametrize("cable", [["2001:db8:9::", "fe80::"]], indirect=True)
def test_ipv6_counts_when_the_address_is_certain(cable: Namespace) -> None:
    cable.ip("addr add 2001:db8:9::7/64 dev here nodad")
    cable.ip("link set here up")
    cable.ip("link set there up")
    # The link-local address is tentative for a second or so.
    assert cable.told(2) == {"2001:db8:9:: 1", "fe80:: 1"}
    cable.ip("addr del 2001:db8:9::7/64 dev here")
    assert cable.told() == {"2001:db8:9:: 0"}


@pytest.mark.parametrize("cable", [["10.9.8.0"]], indirect=True)
def test_a_second_address_keeps_a_subnet_online(cable: Namespace) -> None:
    cable.ip("link set here up")
    cable.ip("link set there up")
    cable.ip("addr add 10.9.8.7/24 dev here")
    assert cable.told() == {"10.9.8.0 1"}
    cable.ip("addr add 10.9.8.8/24 dev there")
    cable.ip("addr del 10.9.8.7/24 dev here")
    cable.ip("addr del 10.9.8.8/24 dev there")
    assert cable.told() == {"10.9.8.0 0"}
    assert cable.silent()


@pytest.mark.parametrize("cable", [["10.9.8.0"]], indirect=True)
def test_more_events_than_the_kernel_keeps_end_with_the_truth(cable: Namespace) -> None:
    cable.ip("link set here up")
    cable.ip("link set there up")
    cable.process.send_signal(signal.SIGSTOP)
    storm = [
        f"addr add 10.{n // 250}.{n % 250}.1/24 dev here" for n in range(2500)
    ]  # 10.9.8.1, too
    cable.batch(storm)
    cable.process.send_signal(signal.SIGCONT)
    assert cable.told() == {"10.9.8.0 1"}
    cable.process.send_signal(signal.SIGSTOP)
    cable.batch([line.replace("addr add", "addr del") for line in storm])
    cable.ip("link set there down")
    cable.process.send_signal(signal.SIGCONT)
    assert cable.told() == {"10.9.8.0 0"}


# -------------------------------------------------------------------- devices

_LOOP_CTL_ADD, _LOOP_CTL_REMOVE = 0x4C80, 0x4C81
_FIRST_LOOP = 700


class Loop:
    """A loop device, in place of a drive that is plugged in and out: the kernel makes and removes it."""

    def __init__(self) -> None:
        self._control = os.open("/dev/loop-control", os.O_RDWR)
        number = _FIRST_LOOP
        while not self._plugged(number):
            number += 1
        self.number = number
        self.path = Path(f"/dev/loop{number}")

    def _plugged(self, number: int) -> bool:
        try:
            fcntl.ioctl(self._control, _LOOP_CTL_ADD, number)
        except FileExistsError:
            return False
        return True

    def plug(self) -> None:
        assert self._plugged(self.number)

    def unplug(self) -> None:
        """Remove it, as soon as nobody looks at it."""
        while self.path.exists():
            try:
                fcntl.ioctl(self._control, _LOOP_CTL_REMOVE, self.number)
            except OSError as error:
                if error.errno != 16:
                    raise

    def close(self) -> None:
        self.unplug()
        os.close(self._control)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    try:
        yield made
    finally:
        made.close()


class Told:
    """What a monitor in this process tells."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[tuple[str, bool]](100)
        self.monitors = MachineMonitors(self.tell)

    def tell(self, resource: str, online: bool) -> None:
        self._send.send_nowait((resource, online))

    async def next(self) -> tuple[str, bool]:
        with trio.fail_after(WAIT_S):
            return await self._receive.receive()

    @property
    def silent(self) -> bool:
        return self._receive.statistics().current_buffer_used == 0


@asynccontextmanager
async def watching() -> AsyncIterator[Told]:
    told = Told()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(told.monitors.serve)
        yield told
        nursery.cancel_scope.cancel()


async def test_a_device_that_goes_and_comes_is_told(loop: Loop, tmp_path: Path) -> None:
    link = tmp_path / "tape1"
    link.symlink_to(loop.path)
    async with watching() as told:
        told.monitors.watch("direct", "tape", str(loop.path))
        assert await told.next() == ("direct", True)
        told.monitors.watch("link", "changer", str(link))
        assert await told.next() == ("link", True)
        loop.unplug()
        assert {await told.next(), await told.next()} == {("direct", False), ("link", False)}
        loop.plug()
        assert {await told.next(), await told.next()} == {("direct", True), ("link", True)}
        told.monitors.unwatch("link")
        loop.unplug()
        assert await told.next() == ("direct", False)
        assert told.silent


async def test_what_is_watched_anew_is_told_anew(loop: Loop) -> None:
    async with watching() as told:
        told.monitors.watch("drive", "tape", "/dev/no-such-drive")
        assert await told.next() == ("drive", False)
        told.monitors.watch("drive", "tape", str(loop.path))
        assert await told.next() == ("drive", True)
        told.monitors.watch("drive", "tape", str(loop.path))
        assert await told.next() == ("drive", True)


async def test_a_device_that_does_not_answer_is_offline_and_delays_nobody(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    real = device.answers

    def answers(name: str) -> bool:
        if name == "/dev/stuck":
            answer.wait(WAIT_S)
            return True
        return real(name)

    monkeypatch.setattr(device, "answers", answers)
    monkeypatch.setattr("clufs.actions.monitors.DEVICE_LOOK_S", 0.2)
    async with watching() as told:
        told.monitors.watch("stuck", "tape", "/dev/stuck")
        told.monitors.watch("good", "tape", str(loop.path))
        assert {await told.next(), await told.next()} == {("stuck", False), ("good", True)}
        answer.set()
        assert await told.next() == ("stuck", True)


@pytest.mark.parametrize(
    ("name", "answers"),
    [("/dev/null", True), ("/dev/no-such-drive", False), ("/etc/passwd", False), ("/dev", False)],
)
def test_only_a_device_answers(name: str, answers: bool) -> None:
    assert device.answers(name) is answers


def test_a_link_in_a_circle_and_a_node_without_device_do_not_answer(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert not device.answers(str(tmp_path / "a"))
    os.mknod(tmp_path / "gone", 0o20600, os.makedev(9, 0x80))  # a tape drive that is not there
    assert not device.answers(str(tmp_path / "gone"))


def test_a_drive_is_never_opened_by_a_name_that_rewinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mknod(tmp_path / "st0", 0o20600, os.makedev(9, 0))
    os.mknod(tmp_path / "nst0", 0o20600, os.makedev(9, 0x80))
    opened: list[str] = []

    def fake_open(path: object, flags: int) -> int:
        opened.append(str(path))
        raise OSError(16, "in use")

    monkeypatch.setattr(os, "open", fake_open)
    assert device.answers(str(tmp_path / "st0"))  # whoever uses it has it open: it answers
    assert opened == [str(tmp_path / "nst0")]
    (tmp_path / "nst0").unlink()
    assert not device.answers(str(tmp_path / "st0"))
    assert len(opened) == 1
