"""What CAA does by itself: states follow targets, after failures, losses, joins, and by the clock.

`settle` is the heart: it looks at one resource and begins what its state asks for. It is called
for every resource that something has happened to, or to what it requires; resources that nobody
has claimed are never left where they should not be, unless a timer of theirs runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from clufs.caa.core import Core
from clufs.caa.groups import choices, dependents_online, group_of, in_maintenance, nowhere
from clufs.caa.interface import Reason
from clufs.caa.placement import DRAINED, Candidate, best, why_not
from clufs.caa.resources import (
    OFFLINE,
    ONLINE,
    UNKNOWN,
    Again,
    Monitor,
    Resource,
    is_down,
)
from clufs.caa.stories import End, Operation, Story, relocate, settle, stop
from clufs.timeouts import CAA_RETRY_FIRST_S, CAA_RETRY_MAX_S


class Recovery:
    """Keeps the resources of a core where they should be.

    timers: who is to be looked at when. drains: for each member, the jobs that wait until nothing
    leaves it any more, and the resources of which they have heard why they stay. leaving: of the
    drained members, those that only leave the cluster.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._table = core.table
        self.timers: dict[str, float] = {}
        self.drains: dict[str, dict[int, set[str]]] = {}
        self.leaving: set[str] = set()

    # One resource.

    def settle(self, resource: Resource) -> None:
        """Begin what the resource's state asks for, if anything does."""
        if resource.busy:
            return
        if resource.forgotten and resource.state == OFFLINE:
            self._table.remove(resource.name)
        elif not resource.is_application or resource.maintenance:
            return
        elif resource.state == ONLINE:
            self._keep(resource)
        elif is_down(resource):
            self._raise(resource)

    def _keep(self, resource: Resource) -> None:
        """Look whether an ONLINE application may stay."""
        if resource.target == OFFLINE:
            cause = "it is no longer registered" if resource.forgotten else "its target is OFFLINE"
            self._stop(resource, Reason.SYSTEM, cause)
            return
        why = why_not(resource.profile, self._table, resource.member)
        if why == DRAINED:
            self.leave(resource)
        elif why:
            self._requirement_lost(resource, why)

    def _requirement_lost(self, resource: Resource, why: str) -> None:
        """Fail over, restart here if RESTART_ATTEMPTS is not 0, or stop and wait (manual 2.2.2.1)."""
        table, member = self._table, resource.member
        lost = not all(table.online(name, member) for name in resource.profile.required)
        reason = Reason.DEPENDENCY if lost else Reason.SYSTEM
        here = member if resource.profile.restart_attempts else ""
        cause = f"{member}: {why}"
        again = Again(self._delayed(resource), cause, reason, prefer=here)
        self._stop(resource, reason, cause, again)

    def _raise(self, resource: Resource) -> None:
        """Start an application that should run, now, later, or as soon as a member can run it."""
        now_s = self._table.now_s
        again = resource.again or Again(now_s, "its target is ONLINE", Reason.SYSTEM)
        if again.at_s > now_s:
            self.timers[resource.name] = again.at_s
            return
        able = [one for one in self._table.ranked(resource) if one.eligible]
        if not able:
            return
        if not again.retry and all(one.member == again.avoid for one in able):
            self._later(resource, f"{again.cause}; no other member can run it", again.avoid)
            return
        if again.avoid and not again.retry:
            resource.retries += 1
        operation = self._operation("start", resource, again.reason, again.cause)
        self._core.begin(operation, self._started(operation, resource, again))

    def _started(self, operation: Operation, resource: Resource, again: Again) -> Story[int]:
        def choose() -> list[Candidate]:
            ranked = self._table.ranked(resource)
            others = [one for one in ranked if one.member != again.avoid]
            return others if best(others) else ranked

        end = yield from settle(self._table, operation, [resource], choose, again.prefer)
        if end is not End.UP:
            operation.progress(f"Could not start resource '{resource.name}'.")
        self.after(resource, end)
        return int(end is not End.UP)

    def after(self, resource: Resource, end: End) -> None:
        """Say when an application is tried again that could not be started."""
        if not is_down(resource):
            return
        if end is End.FAILED and best(self._table.ranked(resource)):
            self._later(resource, "no member started it")
        elif end is End.LOST:
            cause = "the member that was to start it was lost"
            resource.again = Again(self._delayed(resource), cause)

    def _later(self, resource: Resource, cause: str, avoid: str = "") -> None:
        """Try again after a while, after a longer one each time; on `avoid` only if nobody else can."""
        wait_s = _next_wait_s(resource)
        resource.retries += 1
        at_s = self._table.now_s + wait_s
        resource.again = Again(at_s, "tried again", avoid=avoid, retry=True)
        self.timers[resource.name] = at_s
        self._table.note(resource, f"{cause}; tried again in {wait_s:.0f} s")

    def _delayed(self, resource: Resource) -> float:
        return self._table.now_s + resource.profile.failover_delay_s

    def _stop(
        self, resource: Resource, reason: Reason, cause: str, again: Again | None = None
    ) -> None:
        operation = self._operation("stop", resource, reason, cause)
        self._core.begin(operation, self._stopped(operation, resource, again))

    def _stopped(self, operation: Operation, resource: Resource, again: Again | None) -> Story[int]:
        end = yield from stop(self._table, operation, resource, operation.cause)
        if end is End.UNKNOWN:
            return 1
        resource.again = again
        return 0

    def _operation(self, verb: str, resource: Resource, reason: Reason, cause: str) -> Operation:
        claims = frozenset([resource.name])
        return Operation(verb, resource.name, claims, reason, cause, self._core.tell)

    # Failures.

    def check_failed(self, resource: Resource, why: str) -> None:
        """Count a failure; restart here, relocate, or, at the threshold, stop (facts of CAA)."""
        self._calm(resource)
        if self._counted(resource):
            profile = resource.profile
            cause = (
                f"{len(resource.failure_times_s)} failures within {profile.failure_interval_s} s"
                f" reached FAILURE_THRESHOLD ({why})"
            )
            self._table.aim(resource, OFFLINE)
            self._stop(resource, Reason.FAILURE, cause)
            return
        again = self._restart(resource, why)
        self._stop(resource, again.reason, again.cause, again)

    def ended(self, resource: Resource, why: str, failed: bool = True) -> None:
        """Go on where an application has ceased to run on a member that is up; `failed`: it counts."""
        if resource.state == UNKNOWN:
            self._table.move(resource, OFFLINE, "", why)
            return
        self._calm(resource)
        if failed:
            again = self._restart(resource, why)
        else:
            again = Again(self._delayed(resource), why, Reason.SYSTEM, prefer=resource.member)
        self._table.move(resource, OFFLINE, "", why)
        resource.again = again

    def _restart(self, resource: Resource, why: str) -> Again:
        """Restart it where it was as often as RESTART_ATTEMPTS says, then elsewhere."""
        at_s = self._delayed(resource)
        attempts = resource.profile.restart_attempts
        self._table.touch(resource)
        if resource.restart_count < attempts:
            resource.restart_count += 1
            cause = f"{why}; restart {resource.restart_count} of {attempts}"
            return Again(at_s, cause, prefer=resource.member)
        cause = f"{why}; RESTART_ATTEMPTS ({attempts}) used up there"
        if not resource.retries:
            return Again(at_s, cause, Reason.SYSTEM, avoid=resource.member)
        wait_s = _next_wait_s(resource)
        resource.retries += 1
        cause += f" once more; tried again in {wait_s:.0f} s"
        at_s = max(at_s, self._table.now_s + wait_s)
        return Again(at_s, cause, Reason.SYSTEM, avoid=resource.member, retry=True)

    def _counted(self, resource: Resource) -> bool:
        """Count a check failure; True where FAILURE_THRESHOLD is reached within FAILURE_INTERVAL."""
        profile = resource.profile
        threshold, interval_s = profile.failure_threshold, profile.failure_interval_s
        if not threshold or not interval_s:
            return False
        since_s = self._table.now_s - interval_s
        recent = [at_s for at_s in resource.failure_times_s if at_s > since_s]
        resource.failure_times_s = (*recent, self._table.now_s)
        self._table.touch(resource)
        return len(resource.failure_times_s) >= threshold

    def _calm(self, resource: Resource) -> None:
        """Forget what failed before once it has run for long."""
        long_s = min(2 * _next_wait_s(resource), CAA_RETRY_MAX_S)
        checks_s = 2 * resource.profile.check_interval_s
        if self._table.now_s - resource.changed_s > max(long_s, checks_s):
            resource.retries = 0

    def shift(self, by_s: float) -> None:
        """The wall clock was set: what is due, and what was counted, is as far away as before."""
        self.timers = {name: at_s + by_s for name, at_s in self.timers.items()}
        for resource in self._table.resources.values():
            both: list[Resource | Monitor] = [resource, *resource.monitors.values()]
            for counted in both:
                if counted.failure_times_s:
                    counted.failure_times_s = tuple(at + by_s for at in counted.failure_times_s)
                    self._table.touch(resource)
            if resource.again is not None:
                resource.again = replace(resource.again, at_s=resource.again.at_s + by_s)
                self._table.touch(resource)

    # Monitors.

    def monitor_changed(self, resource: Resource, member: str, online: bool) -> None:
        """A monitor's word: the state follows, unless it is no longer monitored there."""
        monitor = resource.monitors.get(member)
        if monitor is None:
            monitor = resource.monitors[member] = Monitor()
            self._table.touch(resource)
        before = monitor.state
        monitor.online = online
        if monitor.state == before:
            return
        why = "its monitor found it" if online else "its monitor found it no more"
        if not online and self._monitor_failed(resource, monitor):
            monitor.target = OFFLINE
            why += "; FAILURE_THRESHOLD is reached: it is no longer monitored there"
        self._table.note_monitor(resource, member, before, why)

    def _monitor_failed(self, resource: Resource, monitor: Monitor) -> bool:
        profile = resource.profile
        if not profile.failure_threshold or not profile.failure_interval_s:
            return False
        since_s = self._table.now_s - profile.failure_interval_s
        recent = [at_s for at_s in monitor.failure_times_s if at_s > since_s]
        monitor.failure_times_s = (*recent, self._table.now_s)
        return len(monitor.failure_times_s) >= profile.failure_threshold

    # Members.

    def members_lost(self, gone: frozenset[str]) -> None:
        """What ran on these members runs no more; it is started elsewhere."""
        for resource in self._table.resources.values():
            if not resource.is_application:
                self._unwatched(resource, gone)
            elif resource.member in gone:
                self.host_lost(resource)
        self._core.lose(gone.__contains__)

    def end_holds(self) -> None:
        """Maintenance that a descriptor of a life that is over has held ends."""
        table = self._table
        lives = {member: table.incarnations.get(member, 0) for member in table.up}
        for resource in table.resources.values():
            over = [h for h in resource.holds if h.member and lives.get(h.member) != h.incarnation]
            if over:
                why = f": {over[0].member}, where it was held, was lost"
                table.hold(resource, resource.holds - frozenset(over), why)

    def host_lost(self, resource: Resource) -> None:
        """The member where it ran was lost: it is started wherever placement says."""
        member = resource.member
        self._calm(resource)
        why = self._table.lost(member)
        again = Again(self._delayed(resource), why)
        self._table.move(resource, OFFLINE, "", why)
        resource.again = again

    def _unwatched(self, resource: Resource, gone: frozenset[str]) -> None:
        for member in sorted(gone & resource.monitors.keys()):
            monitor = resource.monitors[member]
            before = monitor.state
            monitor.online = False
            if before == ONLINE:
                why = self._table.lost(member)
                self._table.note_monitor(resource, member, before, why)

    def members_came(self, joined: frozenset[str]) -> None:
        """More members: whoever waits for one is looked at; what failed to start is tried there."""
        for resource in self._table.resources.values():
            if is_down(resource):
                again = resource.again
                if again is not None and again.retry and joined:
                    resource.again = replace(again, at_s=self._table.now_s)
            elif joined and self._table.drained(resource.member):
                resource.again = None
            else:
                continue
            self._table.unsettle(resource.name)

    def replace_active(self, cause: str, after: str = "") -> None:
        """Judge the placement anew of applications with ACTIVE_PLACEMENT, those that look at `after`."""
        for name in sorted(self._table.resources):
            resource = self._table.resources[name]
            profile = resource.profile
            if after and after not in profile.required and after not in profile.optional:
                continue
            if profile.active_placement and resource.is_application:
                self.improve(resource, Reason.SYSTEM, cause)

    def better(self, resource: Resource) -> Candidate | None:
        """Return the member that placement would choose now, if it is not the one where it runs."""
        ranked = self._table.ranked(resource, where=resource.member)
        found = best(ranked)
        return None if found in ("", resource.member) else ranked[0]

    def improve(
        self, resource: Resource, reason: Reason, cause: str, jobs: Sequence[int] = ()
    ) -> bool:
        """Relocate an application that placement would put elsewhere; False if it stays."""
        if resource.busy or resource.maintenance or resource.state != ONLINE:
            return False
        if dependents_online(self._table, resource):
            return False
        found = self.better(resource)
        if found is None:
            return False
        operation = self._operation("relocate", resource, reason, cause)
        operation.jobs.extend(jobs)
        target = found.member

        def choose() -> list[Candidate]:
            ranked = self._table.ranked(resource)
            return [one for one in ranked if one.member == target]

        self._core.begin(operation, self._relocated(operation, [resource], choose))
        return True

    def _relocated(
        self, operation: Operation, group: Sequence[Resource], choose: Callable[[], list[Candidate]]
    ) -> Story[int]:
        end = yield from relocate(self._table, operation, group, choose)
        if end is End.UP:
            return 0
        operation.progress(f"Could not relocate resource {operation.resource}.")
        for one in group:
            self.after(one, end)
        return 1

    # Draining.

    def leave(self, resource: Resource) -> None:
        """Relocate an application away from a drained member, with all that goes with it, if it can."""
        table = self._table
        group = group_of(table, resource)
        if resource.again is not None and resource.again.at_s > table.now_s:
            self.timers[resource.name] = resource.again.at_s
            return
        if any(one.busy for one in group):
            self._core.wait_for(resource)
            return
        member = resource.member
        ranked = choices(table, resource, group, besides=member)
        held = in_maintenance(group)
        jobs = self.drains.get(member, {})
        if held or not best(ranked):
            for job, told in jobs.items():
                if resource.name not in told:
                    told.add(resource.name)
                    for line in [held] if held else nowhere(resource.name, ranked):
                        self._core.say(job, line)
            return
        claims = frozenset(one.name for one in group)
        cause = f"member {member} {'leaves' if member in self.leaving else 'is drained'}"
        operation = Operation(
            "relocate", resource.name, claims, Reason.SYSTEM, cause, self._core.tell
        )
        operation.jobs.extend(jobs)
        self._core.begin(operation, self._left(operation, resource, group, member))

    def end_drains(self) -> None:
        """End the jobs of members that nothing leaves any more; exit 1 where something stays."""
        for member in list(self.drains):
            here = [one for one in self._table.resources.values() if one.seat == member]
            if not any(one.busy or self._core.waits(one) for one in here):
                is_drained = member in self._table.drained_members
                stays = is_drained and any(one.state == ONLINE for one in here)
                for job in self.drains.pop(member):
                    self._core.release(job, int(stays))

    def _left(
        self, operation: Operation, resource: Resource, group: list[Resource], member: str
    ) -> Story[int]:
        def choose() -> list[Candidate]:
            return choices(self._table, resource, group, besides=member)

        code = yield from self._relocated(operation, group, choose)
        for one in group:
            if code and one.runs_on(member):
                self._later(one, f"it could not leave {member}")
        return code


def _next_wait_s(resource: Resource) -> float:
    """How long the application would wait before it is tried again."""
    return float(min(CAA_RETRY_FIRST_S * 2**resource.retries, CAA_RETRY_MAX_S))
