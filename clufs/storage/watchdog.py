"""What ends this member if its lease process cannot: /dev/watchdog, and the supervisor that stands in for it.

Once reset (`pet`), a watchdog wants to be reset again within its time. The hardware's resets the machine
otherwise; the supervisor kills the member's processes. Where there is a device both are used.
"""

from __future__ import annotations

import fcntl
import math
import os
import socket
import struct
from contextlib import suppress
from typing import Protocol

from clufs.errors import MissingPart

_SETTIMEOUT = 0xC0045706
_GETSUPPORT = 0x80285700
_INFO = struct.Struct("=II32s")
"""struct watchdog_info: options, firmware_version, identity."""
_MAGIC_CLOSE = 0x0100
"""WDIOF_MAGICCLOSE: it goes on when whoever opened it dies; others are stopped by any close(2)."""
_SOFTWARE = b"Software Watchdog"
"""softdog's identity: a kernel that hangs takes it along."""
_PET = struct.Struct("=cd")
_LET_GO = b"D"
FRAME_BYTES = 64


class Watchdog(Protocol):
    """Both methods raise OSError where it is gone. guards: it is armed, and nothing that runs here can stop it."""

    @property
    def guards(self) -> bool:
        """May others count on it?"""

    def pet(self) -> None:
        """Not now: begin to count anew. The first call arms it."""

    def let_go(self) -> None:
        """There is nothing left to watch over."""


class Device:
    """A kernel watchdog (Documentation/watchdog/watchdog-api.rst). It is armed by being opened."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = max(1, math.floor(timeout_s))
        self._descriptor = -1
        self._is_hardware = False

    @property
    def guards(self) -> bool:
        """A device that calls itself a software watchdog, as the kernel's softdog does, does not count, nor one that
        stops when this process dies."""
        return self._is_hardware and self._descriptor >= 0

    def pet(self) -> None:
        """Raises MissingPart if the device cannot be set to less than what the lease allows; OSError."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            self._set()
        os.write(self._descriptor, b"\0")

    def _set(self) -> None:
        wanted = struct.pack("i", self._timeout_s)
        (found,) = struct.unpack("i", fcntl.ioctl(self._descriptor, _SETTIMEOUT, wanted))
        if found > self._timeout_s:
            self.let_go()
            raise MissingPart(
                f"{self._path} fires after {found} s, the LUN was formatted for {self._timeout_s} s:"
                f" clufs lun format --watchdog {found}"
            )
        self._is_hardware = _is_hardware(self._descriptor)

    def let_go(self) -> None:
        """Close it with the word that disarms it, unless the kernel was told that nothing may (nowayout)."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.write(self._descriptor, b"V")
            os.close(self._descriptor)
            self._descriptor = -1


def _is_hardware(descriptor: int) -> bool:
    """A device that does not say what it is does not count, either."""
    try:
        said = fcntl.ioctl(descriptor, _GETSUPPORT, bytes(_INFO.size))
    except OSError:
        return False
    options, _, identity = _INFO.unpack(said)
    return bool(options & _MAGIC_CLOSE) and not bytes(identity).startswith(_SOFTWARE)


class Supervised:
    """The supervisor's line: a socket that it reads. The daemon holds it, too.

    trusted: somebody has promised that nothing can stop the supervisor; see clufs.toml(5).
    """

    def __init__(self, line: socket.socket, timeout_s: float, trusted: bool = False) -> None:
        self._line = line
        self._trusted = trusted
        self._is_armed = False
        self._pet = _PET.pack(b"P", timeout_s)

    def pet(self) -> None:
        """Raises OSError where the supervisor is gone; one that is slow has been told often enough."""
        with suppress(BlockingIOError):
            self._line.send(self._pet, socket.MSG_DONTWAIT)
            self._is_armed = True

    @property
    def guards(self) -> bool:
        """Only where somebody has said so: a machine that stands still takes its supervisor along."""
        return self._trusted and self._is_armed

    def let_go(self) -> None:
        """It watches over nothing from now on. Raises OSError."""
        self._line.send(_LET_GO)


def deadline(frame: bytes, now_s: float) -> float | None:
    """When the supervisor shall fire after this frame; None: not at all."""
    if frame == _LET_GO:
        return None
    _, timeout_s = _PET.unpack(frame)
    return now_s + float(timeout_s)
