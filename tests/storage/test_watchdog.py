"""A watchdog is set to the LUN's time, reset, and let go with the word that the kernel wants."""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path

import pytest

from clufs.errors import MissingPart
from clufs.storage.watchdog import FRAME_BYTES, Device, Supervised, deadline

NOT_LESS_S = 30


def board(fires_s: int, identity: bytes = b"iTCO_wdt", options: int = 0x8180) -> object:
    """An ioctl(2) of a device that can be set to at least so many seconds, and calls itself so."""

    def ioctl(descriptor: int, request: int, wanted: bytes) -> bytes:
        if request == 0x80285700:  # WDIOC_GETSUPPORT: _IOR('W', 0, struct watchdog_info)
            if not identity:
                raise OSError(25, "not a typewriter")
            return struct.pack("II32s", options, 0, identity)
        assert request == 0xC0045706  # WDIOC_SETTIMEOUT: _IOWR('W', 6, int)
        (seconds,) = struct.unpack("i", wanted)
        return struct.pack("i", max(seconds, fires_s))

    return ioctl


def test_a_device_is_opened_by_the_first_reset_and_closed_with_v(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", board(1))
    file = tmp_path / "watchdog"
    file.touch()
    device = Device(str(file), 60.0)
    assert file.read_bytes() == b""
    device.pet()
    device.pet()
    assert file.read_bytes() == b"\0\0"
    device.let_go()
    assert file.read_bytes() == b"\0\0V"
    device.let_go()


@pytest.mark.parametrize(
    ("identity", "options", "counts"),
    [
        (b"iTCO_wdt", 0x8180, True),
        (b"iTCO_wdt", 0x8080, False),  # without WDIOF_MAGICCLOSE
        (b"Software Watchdog", 0x8180, False),
        (b"", 0x8180, False),
    ],
)
def test_others_may_count_on_hardware_that_is_armed_and_on_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: bytes, options: int, counts: bool
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", board(1, identity, options))
    file = tmp_path / "watchdog"
    file.touch()
    device = Device(str(file), 60.0)
    assert not device.guards
    device.pet()
    assert device.guards == counts
    device.let_go()
    assert not device.guards


def test_a_supervisor_counts_only_where_somebody_has_said_so() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for trusted in (False, True):
            line = Supervised(ours, 2.5, trusted)
            assert not line.guards
            line.pet()
            assert line.guards == trusted


def test_a_device_that_fires_too_late_is_refused_and_disarmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", board(NOT_LESS_S))
    file = tmp_path / "watchdog"
    file.touch()
    with pytest.raises(MissingPart, match="fires after 30 s, the LUN was formatted for 10 s"):
        Device(str(file), 10.0).pet()
    assert file.read_bytes() == b"V"


def test_the_supervisor_reads_what_the_lease_process_writes() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        line = Supervised(ours, 2.5)
        line.pet()
        assert deadline(theirs.recv(FRAME_BYTES), 100.0) == 102.5
        line.let_go()
        assert deadline(theirs.recv(FRAME_BYTES), 100.0) is None


def test_a_supervisor_that_reads_nothing_does_not_hold_us_up() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            line = Supervised(ours, 2.5)
            for _ in range(100_000):
                line.pet()
        with pytest.raises(ConnectionError):
            line.pet()
