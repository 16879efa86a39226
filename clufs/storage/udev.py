"""The kernel's block devices as udev tells of them: those that are there, and those that come and go."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable
from pathlib import Path

import pyudev
import trio

from clufs.storage.devices import KernelDevice, device_of

log = logging.getLogger("clufsd")

_UDEVD = Path("/run/udev/control")
Came = Callable[[KernelDevice], None]
Went = Callable[[str], None]


async def watch(came: Came, went: Went) -> None:
    """Tell of every path to a LUN that the kernel has, and of each that comes (`came`) or goes (`went`, its node).

    Returns, after a line in the log, where there is no libudev.
    """
    try:
        context, monitor = _listen()
    except (ImportError, OSError) as error:
        log.warning("no device is watched: %s; apt-get install libudev1", error)
        return
    known: set[str] = set()

    def tell_all() -> None:
        """Also when more came than the socket has room for."""
        there = {}
        for device in context.list_devices(subsystem="block", DEVTYPE="disk"):
            found = _found(device)
            if found is not None:
                there[found.node] = found
        for node in known - there.keys():
            went(node)
        known.clear()
        known.update(there)
        for found in there.values():
            came(found)

    def tell(device: pyudev.Device) -> None:
        if device.action == "remove":
            known.discard(device.device_node or "")
            went(device.device_node or "")
            return
        found = _found(device)
        if found is not None:
            known.add(found.node)
            came(found)

    tell_all()
    while True:
        await trio.lowlevel.wait_readable(monitor.fileno())
        try:
            while (device := monitor.poll(0)) is not None:
                tell(device)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            tell_all()


def _listen() -> tuple[pyudev.Context, pyudev.Monitor]:
    """udev's own events, which come when its links are made; the kernel's where no udevd runs."""
    context = pyudev.Context()
    source = "udev" if _UDEVD.exists() else "kernel"
    monitor = pyudev.Monitor.from_netlink(context, source=source)
    monitor.filter_by("block")
    monitor.start()
    return context, monitor


def _found(device: pyudev.Device) -> KernelDevice | None:
    """What a device's properties say; it may be gone while they are read."""
    properties = dict(device.properties)
    wwid = ""
    parent = Path(device.sys_path) / "device" / "wwid"
    with contextlib.suppress(OSError):  # no SCSI device, or gone
        wwid = parent.read_text(errors="replace").strip()
    return device_of(properties, wwid)
