"""What is run for an application: made of its profile, the files of the registry and who ordered it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal

from clufs.actions.interface import ActionSpec
from clufs.caa.action_script import NamedScript, parse_action_script
from clufs.caa.environment import action_environment
from clufs.caa.interface import Reason
from clufs.caa.profile import Profile, read
from clufs.caa.records import ResourceRecord
from clufs.daemon.applications.messages import Order
from clufs.registry.files import FileRecord

_SCRIPTS = b"scripts/"


class RegistrySpecs:
    """Implements the executor's `Specs` on what the registry has applied here."""

    def __init__(
        self,
        files: Callable[[], Mapping[bytes, FileRecord]],
        resources: Callable[[], Mapping[str, ResourceRecord]],
    ) -> None:
        self._files = files
        self._resources = resources

    def spec(self, order: Order, entry: Literal["start", "stop", "check"]) -> ActionSpec:
        """The action of this entry."""
        is_ordered = entry == order.entry
        record = None if is_ordered else self._resources().get(order.resource)
        profile = _read(order.profile if record is None else record.profile)
        reason = Reason(order.reason) if is_ordered else Reason.SYSTEM
        return ActionSpec(
            order.resource,
            entry,
            profile.action_script,
            self._script(profile),
            action_environment(
                profile.values(),
                reason,
                order.locale if is_ordered else "",
                order.variables if is_ordered else None,
            ),
            profile.script_timeout_s,
        )

    def _script(self, profile: Profile) -> bytes | None:
        named = parse_action_script(profile.action_script)
        if not isinstance(named, NamedScript):
            return None
        record = self._files().get(_SCRIPTS + named.name.encode())
        return record.data if record is not None else None

    def check_interval_s(self, order: Order) -> float:
        """CHECK_INTERVAL of the profile of now; 0 for never, and while maintenance lasts."""
        record = self._resources().get(order.resource)
        if record is None or record.maintenance:
            return 0.0
        return _read(record.profile).check_interval_s


@lru_cache(maxsize=1024)
def _read(text: str) -> Profile:
    return read(text)
