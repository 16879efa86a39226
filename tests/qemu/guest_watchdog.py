"""/dev/watchdog, which softdog is: armed by the first reset, let go in order, and fires when nobody resets it."""

from __future__ import annotations

import subprocess

import pytest

from clufs.storage.watchdog import Device
from tests.qemu.lio import BUSYBOX, until

DEVICE = "/dev/watchdog"


def dmesg() -> str:
    """What the kernel has said so far."""
    return subprocess.run([BUSYBOX, "dmesg"], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("modules")
def test_it_is_armed_and_let_go_in_order() -> None:
    dog = Device(DEVICE, 60)
    dog.pet()
    dog.pet()
    dog.let_go()
    assert "watchdog did not stop" not in dmesg()


@pytest.mark.usefixtures("modules")
def test_it_fires_when_nobody_resets_it() -> None:
    dog = Device(DEVICE, 1.5)
    dog.pet()
    # It would reset the machine: here it only says so (soft_noboot).
    until(lambda: "Triggered - Reboot ignored" in dmesg(), "the watchdog")
    dog.let_go()
