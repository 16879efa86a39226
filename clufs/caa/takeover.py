"""How a planner begins: what the records say is compared with what the executors report.

After a boot nothing runs, and AUTO_START decides; otherwise a planner goes on where another was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from clufs.caa.core import Core
from clufs.caa.interface import Reason, UnderWay
from clufs.caa.recovery import Recovery
from clufs.caa.resources import OFFLINE, ONLINE, UNKNOWN, Again, Resource
from clufs.caa.stories import Act, End, Operation, Outcome, Story, started, stopped
from clufs.timeouts import CAA_RETRY_MAX_S

_CAUSE = "another member plans now"
_STRAY = "it runs on another member, too"
_BOOTED = "the cluster was down"


class Takeover:
    """What is done once, in a planner's first step."""

    def __init__(
        self,
        core: Core,
        recovery: Recovery,
        running: Mapping[str, Collection[str]],
        given_up: Mapping[str, Mapping[str, str]],
        under_way: Iterable[UnderWay],
    ) -> None:
        self._core = core
        self._table = core.table
        self._recovery = recovery
        self._running = running
        self._given_up = given_up
        self._strays: set[tuple[str, str]] = set()
        self._under_way: dict[str, list[UnderWay]] = {}
        for each in under_way:
            if each.member in self._table.up:
                self._under_way.setdefault(each.resource, []).append(each)

    def boot(self) -> None:
        """The whole cluster was down: nothing runs. AUTO_START=0 starts what should have run before.

        Unless a planner that was lost before it could save anything has begun with that: this one goes on.
        """
        for watched in self._table.resources.values():
            for member, monitor in watched.monitors.items():
                before, monitor.online = monitor.state, False
                if before == ONLINE:
                    self._table.note_monitor(watched, member, before, _BOOTED)
        for resource in self._applications():
            ran = resource.target == ONLINE
            if resource.state != OFFLINE:
                self._table.move(resource, OFFLINE, "", _BOOTED)
            resource.restart_count = resource.retries = 0
            resource.ran_on = ""
            resource.again = None
            if ran:
                resource.again = Again(0.0, "the cluster has booted", Reason.BOOT)
            elif resource.profile.auto_start:
                self._table.aim(resource, ONLINE)
                cause = "the cluster has booted, and AUTO_START is 1"
                resource.again = Again(0.0, cause, Reason.AUTOSTART)
            self._go_on_with(resource)

    def go_on(self) -> None:
        """Adopt what is under way, believe what runs, and miss what does not."""
        for resource in self._applications():
            # By the clock of another member, which may have been another.
            longest_s = max(resource.profile.failover_delay_s, CAA_RETRY_MAX_S)
            again, latest_s = resource.again, self._table.now_s + longest_s
            if again is not None and again.at_s > latest_s:
                resource.again = replace(again, at_s=latest_s)
        self._recovery.members_lost(frozenset(self._recorded()) - frozenset(self._table.up))
        for resource in self._applications():
            self._go_on_with(resource)

    def _go_on_with(self, resource: Resource) -> None:
        actions = sorted(self._under_way.get(resource.name, ()), key=lambda one: one.action)
        acting = {action.member for action in actions}
        holders = [one for one in self._holders(resource.name) if one not in acting]
        if actions and (not holders or actions[-1].entry == "start"):
            self._adopt(resource, actions)
            for member in holders:
                if resource.member == member:
                    why = f"it is being started on {actions[-1].member}"
                    self._table.move(resource, OFFLINE, "", why)
                self.found(resource, member)
            return
        for action in actions:
            self._core.adopt(self._unclaimed(resource), self._also(resource, action), action)
        if holders:
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
        life = self._table.incarnations.get(resource.member, 0)
        if resource.incarnation not in (0, life):
            self._recovery.host_lost(resource)
            return
        given_up = self._given_up.get(resource.member, {}).get(resource.name)
        why = f"it runs no more on {resource.member}" + (f": {given_up}" if given_up else "")
        self._recovery.ended(resource, why, failed=given_up is None)

    def found(self, resource: Resource, member: str) -> None:
        """Believe that it runs there; but while it is started elsewhere, have it stopped, to let that go on."""
        act = self._core.acting(resource)
        if resource.member == member or (act is not None and act.member == member):
            return
        if resource.state == OFFLINE and not resource.busy:
            self._table.move(resource, ONLINE, member, f"it was found running on {member}")
        elif (resource.name, member) not in self._strays:
            self._strays.add((resource.name, member))
            # It claims nothing: the start that waits for this member's lock has the resource.
            operation = self._unclaimed(resource)
            self._core.begin(operation, self._stray(resource, operation, [member]))

    def _found(self, resource: Resource, holders: list[str]) -> None:
        keep = resource.member if resource.member in holders else holders[0]
        if (resource.state, resource.member) not in ((ONLINE, keep), (UNKNOWN, keep)):
            self._table.move(resource, ONLINE, keep, f"it was found running on {keep}")
        strays = [member for member in holders if member != keep]
        if strays:
            operation = self._operation("stop", resource, _STRAY)
            self._core.begin(operation, self._stray(resource, operation, strays))

    def _stray(self, resource: Resource, operation: Operation, strays: list[str]) -> Story[int]:
        for member in strays:
            self._table.note(resource, f"it was found running on {member}, too: stopped there")
            yield from self._rid(resource, member, True)
            self._strays.discard((resource.name, member))
        return 0

    def _adopt(self, resource: Resource, actions: list[UnderWay]) -> None:
        """Wait for the action that an earlier planner ordered last, then go on by the target.

        There are more where members were silent before: whatever they start is found then.
        """
        *others, last = actions
        verb = "start" if last.entry == "start" else "stop"
        operation = self._operation(verb, resource, _CAUSE)
        self._table.reserve(resource, last.member)
        self._core.adopt(operation, self._adopted(resource, operation, last), last)
        for other in others:
            self._core.adopt(self._unclaimed(resource), self._also(resource, other), other)

    def _also(self, resource: Resource, action: UnderWay) -> Story[int]:
        outcome = yield Act(resource.name, action.member, action.entry, Reason.UNKNOWN, _CAUSE)
        if action.entry == "start" and outcome.ok:
            self.found(resource, action.member)
        elif not outcome.ok and not outcome.lost:
            yield from self._rid(resource, action.member, action.entry == "start")
        return 0

    def _rid(self, resource: Resource, member: str, by_script: bool) -> Story[None]:
        """Have an application run no longer on a member where it should not."""
        outcome = Outcome(False)
        if by_script:
            outcome = yield Act(resource.name, member, "stop", Reason.UNKNOWN, _STRAY)
        if not outcome.ok and not outcome.lost:
            outcome = yield Act(resource.name, member, "clear", Reason.UNKNOWN, _STRAY)
        if not outcome.ok and not outcome.lost and resource.state == OFFLINE:
            self._table.move(resource, UNKNOWN, member, f"it cannot be stopped on {member}")

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

    def _unclaimed(self, resource: Resource) -> Operation:
        nothing: frozenset[str] = frozenset()
        return Operation("stop", resource.name, nothing, Reason.UNKNOWN, _STRAY, self._core.tell)
