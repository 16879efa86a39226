"""The resources as a planner sees them: states, targets, who requires whom, and what is to be saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from clufs.caa.interface import Reason
from clufs.caa.placement import Candidate, candidates
from clufs.caa.profile import Profile
from clufs.caa.records import (
    OFFLINE,
    ONLINE,
    UNKNOWN,
    AgainRecord,
    Hold,
    MonitorRecord,
    ResourceRecord,
    StartOrStop,
    Transition,
    state_text,
)


@dataclass(slots=True)
class Monitor:
    """A network, tape or changer on one member. online: what its monitor found last, watched or not."""

    target: str = ONLINE
    online: bool = False
    failure_times_s: tuple[float, ...] = ()

    @property
    def state(self) -> str:
        """ONLINE while it is monitored and found."""
        return ONLINE if self.online and self.target == ONLINE else OFFLINE


@dataclass(frozen=True, slots=True)
class Again:
    """When and how an application that should run is started again.

    at_s: not before. retry: because a start failed, so that a new member is reason enough not
    to wait. prefer, avoid: members.
    """

    at_s: float
    cause: str
    reason: Reason = Reason.FAILURE
    prefer: str = ""
    avoid: str = ""
    retry: bool = False

    @classmethod
    def of(cls, record: AgainRecord) -> Again:
        """What an earlier planner had in mind; a later version may have had reasons unknown here."""
        known = record.reason in [*Reason]
        reason = Reason(record.reason) if known else Reason.UNKNOWN
        return cls(record.at_s, record.cause, reason, record.prefer, record.avoid, record.retry)

    def record(self) -> AgainRecord:
        """What the next planner goes by."""
        return AgainRecord(
            self.at_s, self.cause, str(self.reason), self.prefer, self.avoid, self.retry
        )


class Resource:
    """One resource. What is not in its record is forgotten when another planner takes over.

    seat: the member where placement counts it: where it runs or is about to. ran_on: where it ran
    last. retries: starts that failed in a row. holds: what keeps it in maintenance. forgotten:
    unregistered while something was under way.
    """

    __slots__ = (
        "again",
        "busy",
        "changed_s",
        "failure_times_s",
        "forgotten",
        "holds",
        "incarnation",
        "member",
        "monitors",
        "name",
        "new_history",
        "new_profile",
        "new_runs",
        "profile",
        "ran_on",
        "restart_count",
        "retries",
        "seat",
        "state",
        "target",
    )

    def __init__(self, record: ResourceRecord, profile: Profile) -> None:
        self.name = record.name
        self.profile = profile
        self.target = record.target
        self.state = record.state
        self.member = record.member
        self.incarnation = record.incarnation
        self.restart_count = record.restart_count
        self.failure_times_s = record.failure_times_s
        self.holds = frozenset(record.holds or ([Hold()] if record.maintenance else []))
        self.changed_s = record.changed_ns / 1e9
        self.monitors = {
            one.member: Monitor(one.target, one.state == ONLINE, one.failure_times_s)
            for one in record.monitors
        }
        self.seat = record.member
        runs = record.starts_and_stops
        self.ran_on = record.member or (runs[-1].member if runs else "")
        self.again = Again.of(record.again) if record.again is not None else None
        self.retries = record.retries
        self.busy = False
        self.forgotten = False
        self.new_history: list[Transition] = []
        self.new_runs: list[StartOrStop] = []
        self.new_profile = ""

    @property
    def is_application(self) -> bool:
        """Whether it can be started and stopped; the others are only watched."""
        return self.profile.type == "application"

    @property
    def maintenance(self) -> bool:
        """Whether it is left alone."""
        return bool(self.holds)

    def runs_on(self, member: str) -> bool:
        """Whether it is an application ONLINE there."""
        return self.state == ONLINE and self.member == member

    def record(self, *, whole: bool = False) -> ResourceRecord:
        """Return what to save: what is new only, or, `whole`, with the profile's text."""
        return ResourceRecord(
            name=self.name,
            profile=self.profile.text() if whole else self.new_profile,
            target=self.target,
            state=self.state,
            member=self.member,
            incarnation=self.incarnation,
            restart_count=self.restart_count,
            failure_times_s=self.failure_times_s,
            maintenance=self.maintenance,
            changed_ns=round(self.changed_s * 1e9),
            monitors=tuple(
                MonitorRecord(member, one.target, one.state, one.failure_times_s)
                for member, one in sorted(self.monitors.items())
            ),
            history=tuple(self.new_history),
            starts_and_stops=tuple(self.new_runs),
            holds=tuple(sorted(self.holds, key=msgspec.structs.astuple)),
            again=self.again.record() if self.again is not None else None,
            retries=self.retries,
        )


class Table:
    """All resources, the members, and what has changed. It is the situation that placement looks at."""

    def __init__(self, up: Iterable[str], drained: Iterable[str] = ()) -> None:
        self.now_s = 0.0
        self.up: tuple[str, ...] = tuple(up)
        self.incarnations: Mapping[str, int] = {}
        self.silent_s: Mapping[str, float] = {}
        self.drained_members: set[str] = set(drained)
        self.resources: dict[str, Resource] = {}
        self.unsettled: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._dependents: dict[str, set[str]] = {}
        self._seats: Counter[str] = Counter()

    def add(self, resource: Resource) -> None:
        """Know a resource from now on; one of that name must not be there."""
        self.resources[resource.name] = resource
        self._link(resource, resource.profile)
        if resource.is_application and resource.seat:
            self._seats[resource.seat] += 1
        self.unsettle(resource.name)

    def remove(self, name: str) -> None:
        """Know a resource no longer."""
        resource = self.resources.pop(name)
        for required in resource.profile.required:
            self._dependents[required].discard(name)
        self.reserve(resource, "")
        self._changed.pop(name, None)
        self.unsettled.pop(name, None)

    def replace_profile(self, resource: Resource, profile: Profile) -> None:
        """Give a resource another profile, to be saved."""
        for required in resource.profile.required:
            self._dependents[required].discard(resource.name)
        self._link(resource, profile)
        resource.profile = profile
        resource.new_profile = profile.text()
        self.touch(resource)

    def _link(self, resource: Resource, profile: Profile) -> None:
        for required in profile.required:
            self._dependents.setdefault(required, set()).add(resource.name)

    def get(self, name: str) -> Resource | None:
        """Return the resource, or None for one that is not registered (any longer)."""
        found = self.resources.get(name)
        return None if found is None or found.forgotten else found

    def dependents(self, name: str) -> list[Resource]:
        """Return the resources that require `name`, sorted."""
        return [self.resources[each] for each in sorted(self._dependents.get(name, ()))]

    def lost(self, member: str) -> str:
        """Return what is said of a member that was lost, a clause."""
        why = f"member {member} was lost"
        silent_s = self.silent_s.get(member)
        return why if silent_s is None else f"{why}, {silent_s:.2f} s after it was last heard"

    # What placement asks.

    def drained(self, member: str) -> bool:
        """Whether nothing may be placed on the member."""
        return member in self.drained_members

    def online(self, resource: str, member: str) -> bool:
        """Whether the resource is ONLINE on the member."""
        found = self.resources.get(resource)
        if found is None:
            return False
        if found.is_application:
            return found.runs_on(member)
        monitor = found.monitors.get(member)
        return monitor is not None and monitor.state == ONLINE

    def applications(self, member: str, besides: str) -> int:
        """How many applications run on the member, or are being started there, `besides` not counted."""
        itself = self.resources.get(besides)
        mine = itself is not None and itself.is_application and itself.seat == member
        return self._seats[member] - mine

    def ranked(
        self, resource: Resource, *, where: str = "", granted: Collection[str] = ()
    ) -> list[Candidate]:
        """Return what placement thinks of the members now."""
        return candidates(resource.profile, self, where=where, granted=frozenset(granted))

    # What changes.

    def unsettle(self, name: str) -> None:
        """Have the resource and those that require it looked at before the step ends."""
        self.unsettled[name] = None
        for dependent in self._dependents.get(name, ()):
            self.unsettled[dependent] = None

    def touch(self, resource: Resource) -> None:
        """Have the resource saved."""
        self._changed[resource.name] = None

    def reserve(self, resource: Resource, member: str) -> None:
        """Count the application on that member, where it is about to run; empty for nowhere."""
        if not resource.is_application or resource.seat == member:
            return
        if resource.seat:
            self._seats[resource.seat] -= 1
        resource.seat = member
        if member:
            self._seats[member] += 1

    def aim(self, resource: Resource, target: str) -> None:
        """Set TARGET."""
        if resource.target != target:
            resource.target = target
            self.touch(resource)
            self.unsettle(resource.name)

    def move(self, resource: Resource, state: str, member: str, why: str) -> None:
        """Change an application's state, with the sentence that history keeps."""
        before = state_text(resource.state, resource.member)
        self._count_run(resource, state, member)
        resource.state, resource.member = state, member
        resource.incarnation = self.incarnations.get(member, 0)
        resource.changed_s = self.now_s
        if member:
            if state == ONLINE:
                if resource.ran_on not in ("", member):
                    resource.restart_count = 0
                resource.again = None
            resource.ran_on = member
            self.reserve(resource, member)
        elif not resource.busy:
            self.reserve(resource, "")
        self._remember(resource, before, state_text(state, member), why)
        self.unsettle(resource.name)

    def note(self, resource: Resource, why: str) -> None:
        """Write down something that changed no state: an attempt that failed, a target that was moved."""
        state = state_text(resource.state, resource.member)
        self._remember(resource, state, state, why)

    def hold(self, resource: Resource, holds: frozenset[Hold], why: str = "") -> None:
        """Change what keeps it in maintenance; history has it where that begins or ends."""
        if holds == resource.holds:
            return
        before, resource.holds = resource.maintenance, holds
        self.touch(resource)
        if before != resource.maintenance:
            self.note(resource, f"maintenance {'ended' if before else 'began'}{why}")
            self.unsettle(resource.name)

    def note_monitor(self, resource: Resource, member: str, before: str, why: str) -> None:
        """Write down that a network, tape or changer changed on a member."""
        after = state_text(resource.monitors[member].state, member)
        resource.changed_s = self.now_s
        self._remember(resource, state_text(before, member), after, why)
        self.unsettle(resource.name)

    def _remember(self, resource: Resource, before: str, after: str, why: str) -> None:
        resource.new_history.append(Transition(self.now_s, before, after, why))
        self.touch(resource)

    def _count_run(self, resource: Resource, state: str, member: str) -> None:
        """Note a start or stop for caa_report; what is UNKNOWN counts as not running."""
        ran, runs = resource.state == ONLINE, state == ONLINE
        if ran and not (runs and member == resource.member):
            resource.new_runs.append(StartOrStop(self.now_s, resource.member, "stop"))
        if runs and not (ran and member == resource.member):
            resource.new_runs.append(StartOrStop(self.now_s, member, "start"))

    def take_changed(self) -> tuple[ResourceRecord, ...]:
        """Return the records to save, and count them as saved."""
        changed = [self.resources[name] for name in self._changed if name in self.resources]
        self._changed.clear()
        saved = tuple(one.record() for one in changed if not one.forgotten)
        for one in changed:
            one.new_history.clear()
            one.new_runs.clear()
            one.new_profile = ""
        return saved


def is_down(resource: Resource) -> bool:
    """Whether it is an application that should run and does not."""
    return (
        resource.is_application
        and resource.target == ONLINE
        and resource.state == OFFLINE
        and not resource.maintenance
    )


__all__ = ["OFFLINE", "ONLINE", "UNKNOWN", "Again", "Monitor", "Resource", "Table", "is_down"]
