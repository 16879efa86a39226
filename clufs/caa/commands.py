"""Commands: what caa_start, caa_stop, caa_relocate and the others refuse, say and set going (manual 2.6 to 2.9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from clufs.caa.core import Core
from clufs.caa.groups import (
    choices,
    dependents_online,
    group_of,
    in_maintenance,
    nowhere,
    required,
    required_elsewhere,
    required_online,
    unknown,
    with_dependents,
)
from clufs.caa.interface import (
    Balance,
    Command,
    Drain,
    Maintain,
    Reason,
    Relocate,
    Start,
    Stop,
    Update,
    WhatIf,
)
from clufs.caa.placement import Candidate, best
from clufs.caa.records import Hold
from clufs.caa.recovery import Recovery
from clufs.caa.resources import OFFLINE, ONLINE, UNKNOWN, Resource
from clufs.caa.stories import End, Operation, Story, clear, relocate, settle, stop, watch_again


class Commands:
    """Takes commands. Each answers whether it was taken; one that must wait for others is given again."""

    def __init__(self, core: Core, recovery: Recovery) -> None:
        self._core = core
        self._table = core.table
        self._recovery = recovery

    def take(self, job: int, command: Command) -> bool:
        """Refuse the command, begin it, or do it; False where what it touches is not free yet."""
        if isinstance(command, Drain):
            self._drain(job, command)
            return True
        if isinstance(command, WhatIf):
            raise TypeError("a what-if is imagined, never taken")
        resource = self._table.get(command.resource)
        if resource is None:
            self._core.refuse(job, f"Could not find resource '{command.resource}'.")
            return True
        match command:
            case Start():
                return self._start(job, command, resource)
            case Stop():
                return self._stop(job, command, resource)
            case Relocate():
                return self._relocate(job, command, resource)
            case Balance():
                return self._balance(job, resource)
            case Update():
                return self._update(job, command, resource)
            case Maintain():
                return self._maintain(job, command, resource)

    # Starting.

    def _start(self, job: int, command: Start, resource: Resource) -> bool:
        core, member = self._core, command.member
        if not resource.is_application:
            self._watch(job, command, resource)
            return True
        if resource.maintenance:
            self._only_aim(job, resource, ONLINE)
            return True
        if self._joined(job, "start", resource, member):
            return True
        if resource.busy:
            return False
        if resource.state == ONLINE:
            self._table.aim(resource, ONLINE)
            core.say(job, _running(resource))
            core.end(job, int(member not in ("", resource.member)))
            return True
        group = group_of(self._table, resource) if command.force else [resource]
        refusal = in_maintenance(group) or unknown(group)
        if not refusal and not command.force:
            refusal = required_elsewhere(self._table, resource, member)
        if refusal:
            core.refuse(job, refusal)
            return True
        if _busy(group):
            return False
        self._begin_start(job, command, resource, group)
        return True

    def _begin_start(
        self, job: int, command: Start, resource: Resource, group: Sequence[Resource]
    ) -> None:
        if command.force:
            self._watch_required(group, command.member, f"'{resource.name}' requires it")

        def choose() -> list[Candidate]:
            return self._choose(resource, group, command.member, "")

        ranked = choose()
        if not best(ranked):
            self._core.refuse(job, *self._misplaced(resource, ranked, command.member))
            return
        operation = self._operation("start", job, command, resource, group)
        for one in group:
            self._fresh(one)
            self._table.aim(one, ONLINE)
        self._core.begin(operation, self._started(operation, resource, group, choose))

    def _choose(
        self, resource: Resource, group: Sequence[Resource], member: str, besides: str
    ) -> list[Candidate]:
        """Return the members for a group; those first where most of it runs already."""
        found = choices(self._table, resource, group, besides=besides)
        if member:
            return [one for one in found if one.member == member]

        def stays(candidate: Candidate) -> int:
            return sum(one.runs_on(candidate.member) for one in group)

        return sorted(found, key=lambda one: (not one.eligible, -stays(one)))

    def _misplaced(self, resource: Resource, ranked: Sequence[Candidate], member: str) -> list[str]:
        if not member:
            return nowhere(resource.name, ranked)
        reason = ranked[0].reason if ranked else "it is not up"
        return [f"Resource '{resource.name}' cannot run on member '{member}': {reason}."]

    def _started(
        self,
        operation: Operation,
        resource: Resource,
        group: Sequence[Resource],
        choose: Callable[[], list[Candidate]],
    ) -> Story[int]:
        end = yield from settle(self._table, operation, group, choose)
        if end is End.UP:
            return 0
        operation.progress(f"Could not start resource '{resource.name}'.")
        for one in group:
            self._recovery.after(one, end)
        return 1

    def _watch(self, job: int, command: Start, resource: Resource) -> None:
        """Monitor a network, tape or changer again (manual 2.6)."""
        if command.member and command.member not in self._table.up:
            self._core.refuse(job, f"Member '{command.member}' is not up.")
            return
        watch_again(self._table, resource, command.member, "caa_start ordered it")
        code = 0
        for member in [command.member] if command.member else self._table.up:
            online = self._table.online(resource.name, member)
            state = f"is monitored and is {ONLINE if online else OFFLINE}"
            self._core.say(job, f"Resource '{resource.name}' {state} on member '{member}'.")
            code = code or int(not online)
        self._core.end(job, code)

    def _watch_required(self, group: Sequence[Resource], member: str, why: str) -> None:
        """Under -f, what is required and no longer monitored is monitored again (manual 2.6)."""
        for one in group:
            for each in required(self._table, one):
                if not each.is_application:
                    watch_again(self._table, each, member, why)

    # Stopping.

    def _stop(self, job: int, command: Stop, resource: Resource) -> bool:
        core = self._core
        if not resource.is_application:
            core.refuse(job, _not_an_application(resource, "stopped"))
            return True
        if resource.maintenance:
            self._only_aim(job, resource, OFFLINE)
            return True
        group = with_dependents(self._table, resource) if command.force else [resource]
        refusal = in_maintenance(group)
        if not refusal and not command.force:
            refusal = dependents_online(self._table, resource)
        if refusal:
            core.refuse(job, refusal)
            return True
        for one in group:
            self._table.aim(one, OFFLINE)
        if self._joined(job, "stop", resource, ""):
            return True
        if _busy(group):
            return False
        for one in group:
            self._fresh(one)
        if all(one.state == OFFLINE for one in group):
            core.say(job, f"Resource '{resource.name}' is not running.")
            core.end(job, 0)
            return True
        operation = self._operation("stop", job, command, resource, group)
        core.begin(operation, self._stopped(operation, group, command.force))
        return True

    def _stopped(self, operation: Operation, group: Sequence[Resource], force: bool) -> Story[int]:
        for one in group:
            end = End.GIVEN_UP
            if one.state == ONLINE:
                end = yield from stop(self._table, operation, one, operation.cause, force=force)
            elif one.state == UNKNOWN:
                end = yield from self._cleared(operation, one)
            if end is End.UNKNOWN:
                operation.progress(f"Could not stop resource '{operation.resource}'.")
                return 1
        return 0

    def _cleared(self, operation: Operation, resource: Resource) -> Story[End]:
        """The way out of UNKNOWN: its stop entry is not called (manual 2.3)."""
        name, member = resource.name, resource.member
        operation.progress(f"Attempting to stop '{name}' on member '{member}'")
        end = yield from clear(self._table, operation, resource, member, operation.cause)
        how = "failed." if end is End.UNKNOWN else "succeeded."
        operation.progress(f"Stop of '{name}' on member '{member}' {how}")
        return end

    # Relocating.

    def _relocate(self, job: int, command: Relocate, resource: Resource) -> bool:
        core, table, member = self._core, self._table, command.member
        if not resource.is_application:
            core.refuse(job, _not_an_application(resource, "relocated"))
            return True
        if self._joined(job, "relocate", resource, member or "any"):
            return True
        if resource.busy:
            return False
        if resource.state == ONLINE and resource.member == member:
            core.say(job, _running(resource))
            core.end(job, 0)
            return True
        group = group_of(table, resource) if command.force else [resource]
        refusal = in_maintenance(group) or unknown(group) or _not_online(resource)
        if not refusal and not command.force:
            refusal = required_online(table, resource) or dependents_online(table, resource)
        if refusal:
            core.refuse(job, refusal)
            return True
        if _busy(group):
            return False
        if command.force:
            self._watch_required(group, member, f"'{resource.name}' requires it")
        self._begin_relocation(job, command, resource, group)
        return True

    def _begin_relocation(
        self, job: int, command: Relocate, resource: Resource, group: Sequence[Resource]
    ) -> None:
        besides = resource.member

        def choose() -> list[Candidate]:
            found = choices(self._table, resource, group, besides=besides)
            return [one for one in found if command.member in ("", one.member)]

        ranked = choose()
        if not best(ranked):
            lines = self._misplaced(resource, ranked, command.member)
            lines.append(f"Could not relocate resource {resource.name}.")
            self._core.refuse(job, *lines)
            return
        operation = self._operation("relocate", job, command, resource, group)
        for one in group:
            self._fresh(one)
            self._table.aim(one, ONLINE)
        self._core.begin(operation, self._relocated(operation, group, choose))

    def _relocated(
        self, operation: Operation, group: Sequence[Resource], choose: Callable[[], list[Candidate]]
    ) -> Story[int]:
        end = yield from relocate(self._table, operation, group, choose)
        if end is End.UP:
            return 0
        operation.progress(f"Could not relocate resource {operation.resource}.")
        for one in group:
            self._recovery.after(one, end)
        return 1

    def _balance(self, job: int, resource: Resource) -> bool:
        core = self._core
        if resource.busy:
            return False
        refusal = "" if resource.is_application else _not_an_application(resource, "balanced")
        refusal = refusal or in_maintenance([resource]) or unknown([resource])
        refusal = refusal or _not_online(resource)
        if refusal:
            core.refuse(job, refusal)
            return True
        if self._recovery.better(resource) is None:
            core.say(job, f"Resource {resource.name} is already well placed")
            core.say(job, f"  {resource.name} is placed optimally. No relocation is needed.")
            core.end(job, 0)
            return True
        refusal = dependents_online(self._table, resource)
        if refusal:
            core.refuse(job, refusal)
            return True
        self._fresh(resource)
        self._recovery.improve(resource, Reason.USER, "caa_balance ordered it", [job])
        return True

    # Others.

    def _update(self, job: int, command: Update, resource: Resource) -> bool:
        if resource.busy:
            return False
        if command.profile.type != resource.profile.type:
            kind = resource.profile.type
            self._core.refuse(job, f"Resource '{resource.name}' is of type {kind} and stays so.")
            return True
        self._table.replace_profile(resource, command.profile)
        self._table.unsettle(resource.name)
        self._core.end(job, 0)
        return True

    def _maintain(self, job: int, command: Maintain, resource: Resource) -> bool:
        if not resource.is_application:
            self._core.refuse(job, _not_an_application(resource, "in maintenance"))
            return True
        if resource.busy:
            return False
        holds: frozenset[Hold] = frozenset()
        if command.on or command.member:
            life = self._table.incarnations.get(command.member, 0)
            hold = frozenset([Hold(command.member, life, command.holder)])
            holds = resource.holds | hold if command.on else resource.holds - hold
        self._table.hold(resource, holds)
        self._core.end(job, 0)
        return True

    def _drain(self, job: int, command: Drain) -> None:
        """The job ends when none of the member's applications is on its way; those that are busy leave later."""
        core, table, member = self._core, self._table, command.member
        if not command.on:
            table.drained_members.discard(member)
            self._recovery.leaving.discard(member)
            self._recovery.members_came(frozenset())
            core.end(job, 0)
            return
        if member not in table.drained_members and command.leaves:
            self._recovery.leaving.add(member)
        elif not command.leaves:
            self._recovery.leaving.discard(member)
        table.drained_members.add(member)
        core.hold(job)
        self._recovery.drains.setdefault(member, {})[job] = set()
        for one in [one for one in table.resources.values() if one.seat == member]:
            operation = core.of(one)
            if operation is None and one.state == ONLINE:
                self._recovery.leave(one)
            elif operation is not None and job not in operation.jobs:
                core.join(operation, job)

    # Common parts.

    def _only_aim(self, job: int, resource: Resource, target: str) -> None:
        """In maintenance TARGET changes and nothing else."""
        self._table.aim(resource, target)
        what = f"Resource '{resource.name}' is in maintenance: its target is {target}"
        self._core.say(job, f"{what}, nothing else is done.")
        self._core.end(job, 0)

    def _joined(self, job: int, verb: str, resource: Resource, member: str) -> bool:
        """Join the operation under way that does what is ordered, if there is one."""
        operation = self._core.of(resource)
        if operation is None or (operation.verb, operation.resource) != (verb, resource.name):
            return False
        if resource.target != (OFFLINE if verb == "stop" else ONLINE):
            return False
        if member not in ("", operation.member):
            return False
        self._core.join(operation, job)
        return True

    def _fresh(self, resource: Resource) -> None:
        """A command makes past failures forgotten."""
        if resource.again or resource.retries or resource.restart_count:
            resource.again = None
            resource.retries = resource.restart_count = 0
            self._table.touch(resource)

    def _operation(
        self,
        verb: str,
        job: int,
        command: Start | Stop | Relocate,
        resource: Resource,
        group: Sequence[Resource],
    ) -> Operation:
        member = "" if isinstance(command, Stop) else command.member
        variables: Mapping[str, str] = command.variables
        return Operation(
            verb,
            resource.name,
            frozenset(one.name for one in group),
            Reason.USER,
            f"caa_{verb} ordered it",
            self._core.tell,
            member=member or ("any" if verb == "relocate" else ""),
            variables=variables,
            jobs=[job],
        )


def without_dry_run(command: Command) -> Command | None:
    """Return what a dry run would do; None for a command that is none."""
    if isinstance(command, Start | Stop | Relocate | Balance | Drain) and command.dry_run:
        return replace(command, dry_run=False)
    return None


def _busy(group: Sequence[Resource]) -> bool:
    return any(one.busy for one in group)


def _running(resource: Resource) -> str:
    return f"Resource '{resource.name}' is already running on member '{resource.member}'."


def _not_online(resource: Resource) -> str:
    return "" if resource.state == ONLINE else f"Resource '{resource.name}' is not ONLINE."


def _not_an_application(resource: Resource, what: str) -> str:
    kind = resource.profile.type
    return f"Resource '{resource.name}' is of type {kind}: only applications can be {what}."
