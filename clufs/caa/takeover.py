"""How a planner begins: what the records say is compared with what the executors report.

After a boot nothing runs, and AUTO_START decides; otherwise a planner goes on where another was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from clufs.caa.core import Core
from clufs.caa.interface import Reason, UnderWay
from clufs.caa.recovery import Recovery
from clufs.caa.resources import OFFLINE, ONLINE, UNKNOWN, Again, Resource
from clufs.caa.stories import Act, End, Operation, Story, started, stopped

_CAUSE = "another member plans now"


class Takeover:
    """What is done once, in a planner's first step."""

    def __init__(
        self,
        core: Core,
        recovery: Recovery,
        running: Mapping[str, Collection[str]],
        under_way: Iterable[UnderWay],
    ) -> None:
        self._core = core
        self._table = core.table
        self._recovery = recovery
        self._running = running
        self._under_way = {each.resource: each for each in under_way}

    def boot(self) -> None:
        """The whole cluster was down: nothing runs. AUTO_START=0 starts what should have run before."""
        for watched in self._table.resources.values():
            for monitor in watched.monitors.values():
                monitor.online = False
        for resource in self._applications():
            ran = resource.target == ONLINE
            if resource.state != OFFLINE:
                self._table.move(resource, OFFLINE, "", "the cluster was down")
            resource.restart_count = 0
            resource.ran_on = ""
            if ran:
                resource.again = Again(0.0, "the cluster has booted", Reason.BOOT)
            elif resource.profile.auto_start:
                self._table.aim(resource, ONLINE)
                cause = "the cluster has booted, and AUTO_START is 1"
                resource.again = Again(0.0, cause, Reason.AUTOSTART)

    def go_on(self) -> None:
        """Adopt what is under way, believe what runs, and miss what does not."""
        self._recovery.members_lost(frozenset(self._recorded()) - frozenset(self._table.up))
        for resource in self._applications():
            action = self._under_way.get(resource.name)
            holders = self._holders(resource.name)
            if action is not None and action.member in self._table.up:
                self._adopt(resource, action)
            elif holders:
                self._found(resource, holders)
            elif resource.state != OFFLINE:
                self._missing(resource)

    def _applications(self) -> list[Resource]:
        return [one for one in self._table.resources.values() if one.is_application]

    def _holders(self, name: str) -> list[str]:
        return [member for member in self._table.up if name in self._running.get(member, ())]

    def _recorded(self) -> set[str]:
        """The members that the records speak of."""
        found = {one.member for one in self._applications() if one.member}
        return found.union(*(one.monitors for one in self._table.resources.values()))

    def _missing(self, resource: Resource) -> None:
        self._recovery.ended(resource, f"it runs no more on {resource.member}")

    def _found(self, resource: Resource, holders: list[str]) -> None:
        keep = resource.member if resource.member in holders else holders[0]
        if (resource.state, resource.member) not in ((ONLINE, keep), (UNKNOWN, keep)):
            self._table.move(resource, ONLINE, keep, f"it was found running on {keep}")
        strays = [member for member in holders if member != keep]
        if strays:
            operation = self._operation("stop", resource, "it runs on another member, too")
            self._core.begin(operation, self._stray(resource, operation, strays))

    def _stray(self, resource: Resource, operation: Operation, strays: list[str]) -> Story[int]:
        for member in strays:
            stray = f"it ran on {resource.member} and on {member}"
            self._table.note(resource, f"{stray}; it is stopped on {member}")
            outcome = yield Act(resource.name, member, "stop", operation.reason, stray)
            if not outcome.ok and not outcome.lost:
                yield Act(resource.name, member, "clear", operation.reason, stray)
        return 0

    def _adopt(self, resource: Resource, action: UnderWay) -> None:
        """Wait for an action that an earlier planner ordered, then go on by the target."""
        verb = "start" if action.entry == "start" else "stop"
        operation = self._operation(verb, resource, _CAUSE)
        self._table.reserve(resource, action.member)
        self._core.adopt(operation, self._adopted(resource, operation, action), action)

    def _adopted(self, resource: Resource, operation: Operation, action: UnderWay) -> Story[int]:
        member = action.member
        outcome = yield Act(resource.name, member, action.entry, operation.reason, _CAUSE)
        if action.entry == "start":
            end = yield from started(
                self._table,
                operation,
                resource,
                member,
                "an earlier planner had it started",
                outcome,
            )
            self._recovery.after(resource, end)
            return int(end is not End.UP)
        if resource.state == OFFLINE and (outcome.ok or outcome.lost):
            return 0
        end = yield from stopped(
            self._table, operation, resource, member, "an earlier planner had it stopped", outcome
        )
        return int(end is End.UNKNOWN)

    def _operation(self, verb: str, resource: Resource, cause: str) -> Operation:
        claims = frozenset([resource.name])
        return Operation(verb, resource.name, claims, Reason.UNKNOWN, cause, self._core.tell)
