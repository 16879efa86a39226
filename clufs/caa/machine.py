"""The planner of applications: events in, actions and records out.

`Planner.step(now_s, event)` takes one event and returns what follows from it. It knows no clock
and waits for nothing: an action goes out as `RunAction`, its end comes in as `ActionEnded`, and
meanwhile every other resource goes its own way. The member that holds the planner's lock has one;
the next to hold it builds another, from the records and from what the executors report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import singledispatchmethod

from clufs.caa import imagine
from clufs.caa.calendar import Calendar
from clufs.caa.commands import Commands, without_dry_run
from clufs.caa.core import Core
from clufs.caa.groups import why_not_unregister
from clufs.caa.interface import (
    ActionEnded,
    CheckFailed,
    ClockSet,
    Command,
    Effect,
    Ended,
    Event,
    Found,
    LocalClock,
    MembersChanged,
    MonitorChanged,
    Ordered,
    Reason,
    Registered,
    Save,
    SaveDrained,
    Stop,
    Ticked,
    UnderWay,
    Unregistered,
    Update,
    WakeAt,
    WhatIf,
)
from clufs.caa.placement import Candidate
from clufs.caa.profile import Profile
from clufs.caa.records import ResourceRecord
from clufs.caa.recovery import Recovery
from clufs.caa.resources import OFFLINE, ONLINE, Resource, Table
from clufs.caa.stories import Outcome
from clufs.caa.takeover import Takeover
from clufs.timeouts import CAA_JOINED_S


class Planner:
    """Plans for all resources.

    records, profiles: of every registered resource. up: the members, in the order in which
    equals are preferred. running: of each member, the applications whose lock its executor
    holds; given_up: those that it ended by itself, with all others, and why; under_way: the actions that
    executors run now. drained: as saved last. monitors: what members report of networks, tapes and
    changers: (resource, member) -> online. booted: the
    whole cluster was down. local: the wall clock that REBALANCE means; without it there is none.
    imagined: nothing is to be saved or said of what is not really done.
    """

    def __init__(
        self,
        records: Iterable[ResourceRecord],
        profiles: Mapping[str, Profile],
        up: Sequence[str],
        *,
        running: Mapping[str, Collection[str]] | None = None,
        given_up: Mapping[str, Mapping[str, str]] | None = None,
        under_way: Sequence[UnderWay] = (),
        monitors: Mapping[tuple[str, str], bool] | None = None,
        drained: Iterable[str] = (),
        incarnations: Mapping[str, int] | None = None,
        silent_s: Mapping[str, float] | None = None,
        booted: bool = False,
        local: LocalClock | None = None,
        first_action: int = 1,
        imagined: bool = False,
    ) -> None:
        self.table = Table(up, drained)
        self.table.incarnations = incarnations or {}
        self.table.silent_s = silent_s or {}
        next_action = max([first_action, *(each.action + 1 for each in under_way)])
        self._core = Core(self.table, next_action, muted=imagined)
        self._recovery = Recovery(self._core)
        self._commands = Commands(self._core, self._recovery)
        self._takeover = Takeover(
            self._core, self._recovery, running or {}, given_up or {}, under_way
        )
        self._monitors = dict(monitors or {})
        self._booted = booted
        self._begun = imagined
        self._calendar = Calendar(local) if local else None
        self._queue: list[tuple[int, Command]] = []
        self._joined: dict[str, float] = {}
        self._wake_s = float("inf")
        for record in sorted(records, key=lambda one: one.name):
            self.table.add(Resource(record, profiles[record.name]))
        if imagined:
            self.table.unsettled.clear()

    def step(self, now_s: float, event: Event) -> list[Effect]:
        """Take one event; return what is to be done, in order.

        Saves come first, ends of jobs after what is said to them, and at most one WakeAt.
        """
        self.table.now_s = now_s
        drained = set(self.table.drained_members)
        if not self._begun:
            self._begun = True
            self._begin()
        self._happened(event)
        self._timers_due()
        self._rebalance_due()
        self._settle_all()
        saves: list[Effect] = []
        records = self.table.take_changed()
        if records:
            saves.append(Save(records))
        if drained != self.table.drained_members:
            saves.append(SaveDrained(tuple(sorted(self.table.drained_members))))
        effects = [*saves, *self._core.effects, *self._core.endings, *self._wake()]
        self._core.effects.clear()
        self._core.endings.clear()
        return effects

    def candidates(self, resource: str) -> list[Candidate]:
        """Return what placement thinks of each member for the application now, the best first."""
        found = self.table.get(resource)
        if found is None:
            return []
        return self.table.ranked(found, where=found.member)

    def why_not_unregister(self, resource: str) -> str:
        """Return why a resource cannot be unregistered, a sentence, or an empty string (manual 2.10)."""
        found = self.table.get(resource)
        return why_not_unregister(self.table, found) if found else ""

    def records(self) -> list[ResourceRecord]:
        """Return the state of every resource, without its past."""
        return [one.record(whole=True) for one in self.table.resources.values()]

    def busy(self) -> bool:
        """Whether anything is under way: an action, or a command that waits for one."""
        return self._core.under_way() or bool(self._queue)

    def timers(self) -> Mapping[str, float]:
        """Which resources are looked at again when."""
        return self._recovery.timers

    def waiting_for(self) -> frozenset[str]:
        """The resources of commands that wait for something that is under way."""
        return frozenset(getattr(command, "resource", "") for _, command in self._queue)

    # The first step.

    def _begin(self) -> None:
        """What a record says of a monitor counts until its member says something else."""
        if self._booted:
            self._takeover.boot()
        else:
            self._takeover.go_on()
        self._recovery.end_holds()
        for (name, member), online in sorted(self._monitors.items()):
            self._hear(MonitorChanged(name, member, online))

    # Events.

    @singledispatchmethod
    def _happened(self, event: Event) -> None:
        raise TypeError(f"{event!r} is no event")

    @_happened.register
    def _order(self, event: Ordered) -> None:
        command = event.command
        planned = command if isinstance(command, WhatIf) else without_dry_run(command)
        if planned is not None:
            code, lines = imagine.imagine(self._imagined(), self.table.now_s, planned)
            for line in lines:
                self._core.say(event.job, line)
            self._core.end(event.job, code)
        elif self._waits(command) or not self._commands.take(event.job, command):
            if isinstance(command, Stop):
                self._aim_down(command)
            self._queue.append((event.job, command))

    def _waits(self, command: Command) -> bool:
        """Whether an earlier command that waits touches the same resource."""
        name = getattr(command, "resource", None)
        return name is not None and any(
            getattr(other, "resource", "") == name for _, other in self._queue
        )

    def _aim_down(self, command: Stop) -> None:
        """A stop's target counts at once, whatever it waits for (manual 2.9)."""
        resource = self.table.get(command.resource)
        if resource is not None:
            self.table.aim(resource, OFFLINE)

    @_happened.register
    def _end(self, event: ActionEnded) -> None:
        waited_s, ran_s, fenced_s = event.waited_s, event.ran_s, event.fenced_s
        outcome = Outcome(event.ok, event.why, False, waited_s, ran_s, fenced_s)
        self._core.action_ended(event.action, outcome)

    @_happened.register
    def _change_members(self, event: MembersChanged) -> None:
        before = frozenset(self.table.up)
        joined = frozenset(event.joined) & frozenset(event.up)
        gone = (before - frozenset(event.up)) | (joined & before)
        self.table.up = event.up
        self.table.incarnations = event.incarnations
        self.table.silent_s = event.silent_s
        if gone:
            self._recovery.members_lost(gone)
        self._recovery.end_holds()
        for member in sorted(joined & event.running.keys()):
            for name in event.running[member]:
                resource = self.table.get(name)
                if resource is not None and resource.is_application:
                    self._takeover.found(resource, member)
        came = joined | (frozenset(event.up) - before)
        if came:
            self._recovery.members_came(came)
            for member in came:
                self._joined[member] = self.table.now_s + CAA_JOINED_S
            self._settle_all()
            self._recovery.replace_active(f"member {', '.join(sorted(came))} joined")

    @_happened.register
    def _hear(self, event: MonitorChanged) -> None:
        resource = self.table.get(event.resource)
        if resource is None or resource.is_application or event.member not in self.table.up:
            return
        self._recovery.monitor_changed(resource, event.member, event.online)
        if event.online and self._joined.get(event.member, 0.0) > self.table.now_s:
            cause = f"member {event.member} joined"
            self._settle_all()
            self._recovery.replace_active(cause, after=event.resource)

    @_happened.register
    def _fail(self, event: CheckFailed) -> None:
        resource = self.table.get(event.resource)
        if resource is None or resource.busy or resource.maintenance:
            return
        if resource.runs_on(event.member):
            why = f"its check on {event.member} failed"
            self._recovery.check_failed(resource, why + (f" ({event.why})" if event.why else ""))

    @_happened.register
    def _cease(self, event: Ended) -> None:
        resource = self.table.get(event.resource)
        if resource is None or resource.member != event.member:
            return
        why = event.why or f"it runs no more on {event.member}"
        if not resource.busy:
            self._recovery.ended(resource, why, event.failed)
        elif self._core.acting(resource) is None:
            self.table.move(resource, OFFLINE, "", why)

    @_happened.register
    def _find(self, event: Found) -> None:
        resource = self.table.get(event.resource)
        if resource is not None and resource.is_application and event.member in self.table.up:
            self._takeover.found(resource, event.member)

    @_happened.register
    def _register(self, event: Registered) -> None:
        found = self.table.resources.get(event.record.name)
        if found is None:
            self.table.add(Resource(event.record, event.profile))
        elif found.forgotten:
            found.forgotten = False
            self.table.replace_profile(found, event.profile)
            self.table.aim(found, event.record.target)

    @_happened.register
    def _unregister(self, event: Unregistered) -> None:
        resource = self.table.get(event.resource)
        if resource is not None:
            resource.target = OFFLINE
            resource.forgotten = True
            resource.holds = frozenset()
            if resource.is_application:
                self.table.unsettle(resource.name)
            else:
                self.table.remove(resource.name)

    @_happened.register
    def _set_clock(self, event: ClockSet) -> None:
        self._recovery.shift(event.by_s)
        self._joined = {member: at_s + event.by_s for member, at_s in self._joined.items()}

    @_happened.register
    def _tick(self, event: Ticked) -> None:
        """Every step looks at the timers; who woke too early is told again."""
        self._wake_s = float("inf")

    # Until nothing is left to look at.

    def _settle_all(self) -> None:
        table, core = self.table, self._core
        while core.freed or table.unsettled:
            if core.freed:
                core.freed = False
                self._serve_queue()
            if table.unsettled:
                name = next(iter(table.unsettled))
                del table.unsettled[name]
                resource = table.resources.get(name)
                if resource is not None and not self._is_awaited(name):
                    self._recovery.settle(resource)
        self._recovery.end_drains()

    def _is_awaited(self, name: str) -> bool:
        """Whether a command for the resource waits and will decide: nothing is begun before it."""
        return any(
            getattr(command, "resource", "") == name and not isinstance(command, Update)
            for _, command in self._queue
        )

    def _serve_queue(self) -> None:
        queue, self._queue = self._queue, []
        for job, command in queue:
            if self._waits(command) or not self._commands.take(job, command):
                self._queue.append((job, command))
            else:
                name = getattr(command, "resource", "")
                if name in self.table.resources:
                    self.table.unsettle(name)

    # Time.

    def _timers_due(self) -> None:
        now_s = self.table.now_s
        timers = self._recovery.timers
        for name in [name for name, at_s in timers.items() if at_s <= now_s]:
            del timers[name]
            if name in self.table.resources:
                self.table.unsettle(name)

    def _rebalance_due(self) -> None:
        if self._calendar is None:
            return
        due = self._calendar.passed(self.table.now_s)
        if due is None:
            return
        self._settle_all()
        for name in sorted(self.table.resources):
            resource = self.table.resources[name]
            time = resource.profile.rebalance
            if time is not None and due(time):
                self._recovery.improve(resource, Reason.SYSTEM, f"REBALANCE={time.text}")

    def _wake(self) -> list[Effect]:
        times = list(self._recovery.timers.values())
        if self._calendar is not None and any(
            one.profile.rebalance for one in self.table.resources.values()
        ):
            times.append(self._calendar.next_s(self.table.now_s))
        wake_s = min(times, default=float("inf"))
        if wake_s == self._wake_s or not times:
            self._wake_s = wake_s
            return []
        self._wake_s = wake_s
        return [WakeAt(wake_s)]

    # Imagination.

    def _imagined(self) -> Planner:
        """Return a planner of the same state, in which all that is under way has succeeded."""
        records = []
        for one in self.table.resources.values():
            record = one.record(whole=True)
            if one.busy and one.is_application and not one.forgotten:
                where = one.seat if one.target == ONLINE else ""
                state = ONLINE if where else OFFLINE
                record = imagine.placed(record, state, where)
            records.append(record)
        copy = Planner(
            records,
            {one.name: one.profile for one in self.table.resources.values()},
            self.table.up,
            drained=self.table.drained_members,
            imagined=True,
        )
        for name, one in copy.table.resources.items():
            mine = self.table.resources[name].monitors
            one.monitors = {member: replace(monitor) for member, monitor in mine.items()}
        return copy
