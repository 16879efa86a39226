"""Watches this member's networks and devices: looks when the kernel or udev tells of a change, never by the clock."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

import pyudev
import trio

from clufs.actions import device
from clufs.actions.interface import MonitorKind, Tell
from clufs.actions.netlink import RouteSocket
from clufs.caa.subnets import is_in
from clufs.errors import MissingPart
from clufs.timeouts import DEVICE_LOOK_S, DEVICE_PAUSE_S

_UDEVD = Path("/run/udev/control")


@dataclass(slots=True, eq=False)
class _Watched:
    """A resource. online: as told last; None if never."""

    resource: str
    where: str
    online: bool | None = None
    looking: bool = False
    again: bool = False
    """A device that somebody waits for already, and that may have changed meanwhile."""


class MachineMonitors:
    """Implements `clufs.actions.interface.Monitors`."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._networks: dict[str, _Watched] = {}
        self._devices: dict[str, _Watched] = {}
        self._networks_asked, self._devices_asked = trio.Event(), trio.Event()

    def watch(self, resource: str, kind: MonitorKind, where: str) -> None:
        """Watch a SUBNET or a DEVICE_NAME, anew if it was watched."""
        self.unwatch(resource)
        if kind == "network":
            self._networks[resource] = _Watched(resource, where)
            self._networks_asked.set()
        else:
            self._devices[resource] = _Watched(resource, where)
            self._devices_asked.set()

    def unwatch(self, resource: str) -> None:
        """Tell nothing more of it."""
        self._networks.pop(resource, None)
        self._devices.pop(resource, None)

    async def serve(self) -> None:
        """Look and tell until cancelled. Raises MissingPart when there is a device to watch and no libudev."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_networks)
            nursery.start_soon(self._watch_devices, nursery)

    def _found(self, watched: _Watched, online: bool) -> None:
        current = self._networks.get(watched.resource, self._devices.get(watched.resource))
        if current is watched and watched.online != online:
            watched.online = online
            self._tell(watched.resource, online)

    # ------------------------------------------------------------------- networks

    async def _watch_networks(self) -> None:
        # Before the first look: what changes after it is told.
        route = RouteSocket()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_on_events, route)
                while True:
                    await self._networks_asked.wait()
                    self._networks_asked = trio.Event()
                    addresses = route.usable()
                    for watched in list(self._networks.values()):
                        self._found(watched, is_in(watched.where, addresses))
        finally:
            route.close()

    async def _ask_on_events(self, route: RouteSocket) -> None:
        while True:
            await trio.lowlevel.wait_readable(route.fileno())
            route.take_events()
            self._networks_asked.set()

    # -------------------------------------------------------------------- devices

    async def _watch_devices(self, nursery: trio.Nursery) -> None:
        # Not before there is something to watch: devices of any kind make events.
        await self._devices_asked.wait()
        nursery.start_soon(self._ask_on_device_events, _device_events())
        while True:
            await self._devices_asked.wait()
            self._devices_asked = trio.Event()
            for watched in list(self._devices.values()):
                watched.again = watched.looking
                if not watched.looking:
                    watched.looking = True
                    nursery.start_soon(self._look, watched)
            await trio.sleep(DEVICE_PAUSE_S)

    async def _ask_on_device_events(self, monitor: pyudev.Monitor) -> None:
        while True:
            await trio.lowlevel.wait_readable(monitor.fileno())
            try:
                while monitor.poll(0) is not None:
                    pass
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # too many to be kept are a change, too
                    raise
            self._devices_asked.set()

    async def _look(self, watched: _Watched) -> None:
        """Open a device. One that does not answer in time is OFFLINE until it does."""
        answers: list[bool] = []

        async def open_it() -> None:
            answers.append(await _in_a_thread_of_its_own(watched.where))
            waiting.cancel()

        async with trio.open_nursery() as nursery:
            waiting = trio.CancelScope(deadline=trio.current_time() + DEVICE_LOOK_S)
            nursery.start_soon(open_it)
            with waiting:
                await trio.sleep_forever()
            self._found(watched, answers == [True])
        watched.looking = False
        self._found(watched, answers == [True])
        if watched.again:
            self._devices_asked.set()


async def _in_a_thread_of_its_own(name: str) -> bool:
    """A device that never answers keeps no other from being looked at."""
    own = trio.CapacityLimiter(1)
    return await trio.to_thread.run_sync(device.answers, name, limiter=own, abandon_on_cancel=True)


def _device_events() -> pyudev.Monitor:
    """Events of devices: udev's, which come when its links are made; the kernel's where no udevd runs.

    Raises MissingPart.
    """
    source = "udev" if _UDEVD.exists() else "kernel"
    try:
        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source=source)
        monitor.start()
    except (ImportError, OSError) as error:
        raise MissingPart(f"no device can be watched: {error}; apt-get install libudev1") from error
    return monitor
