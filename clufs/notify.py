"""What systemd is told: sd_notify(3), in the few lines that it takes."""

from __future__ import annotations

import contextlib
import os
import socket


def tell(**facts: object) -> None:
    """Send facts such as READY=1 or STATUS=text to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    text = "\n".join(f"{key}={value}" for key, value in facts.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(text.encode(), address)


def watchdog_period_s() -> float | None:
    """How often WATCHDOG=1 is due (half of what systemd allows), None if it does not watch."""
    usec = os.environ.get("WATCHDOG_USEC")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(usec) / 2e6 if usec and pid == str(os.getpid()) else None
