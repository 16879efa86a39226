"""Which networks and devices this member watches: those that are registered, as their profiles say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from clufs.actions.interface import MonitorKind, Monitors
from clufs.caa.records import ResourceRecord
from clufs.daemon.applications.commands import profile_of
from clufs.errors import MissingPart

log = logging.getLogger("clufsd")

_KINDS: dict[str, MonitorKind] = {"network": "network", "tape": "tape", "changer": "changer"}


class Watching:
    """Keeps the monitors to what is registered. forget: told of a resource that is watched no more."""

    def __init__(
        self,
        monitors: Monitors,
        resources: Callable[[], Mapping[str, ResourceRecord]],
        forget: Callable[[str], None],
    ) -> None:
        self._monitors = monitors
        self._resources = resources
        self._forget = forget
        self._watched: dict[str, tuple[MonitorKind, str]] = {}

    async def serve(self) -> None:
        """Watch until cancelled; without udev what is watched stays as it was found last."""
        try:
            await self._monitors.serve()
        except* MissingPart as group:
            log.error("tapes and changers are not watched: %s", group.exceptions[0])

    def compare(self, name: str) -> None:
        """This resource may be registered, changed or unregistered."""
        wanted = self._wanted(self._resources().get(name))
        if wanted == self._watched.get(name):
            return
        if wanted is not None:
            self._watched[name] = wanted
            self._monitors.watch(name, *wanted)
        else:
            del self._watched[name]
            self._monitors.unwatch(name)
            self._forget(name)

    def compare_all(self) -> None:
        """Any resource may."""
        for name in {*self._resources(), *self._watched}:
            self.compare(name)

    def _wanted(self, record: ResourceRecord | None) -> tuple[MonitorKind, str] | None:
        profile = profile_of(record) if record is not None else None
        kind = _KINDS.get(profile.type) if profile is not None else None
        if profile is None or kind is None:
            return None
        return kind, profile.subnet or profile.device_name
