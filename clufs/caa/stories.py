"""What is done to applications, each as one story: a generator that yields actions and gets their outcomes.

A story runs beside all others; the resources that it claims are its own until it ends. It looks at
the state anew after every action: a member may have been lost, a target changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias, TypeVar

from clufs.caa.interface import Entry, Reason
from clufs.caa.placement import Candidate, why_not
from clufs.caa.resources import OFFLINE, ONLINE, UNKNOWN, Monitor, Resource, Table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Act:
    """An action that a story wants."""

    resource: str
    member: str
    entry: Entry
    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action ended. lost: its member was lost before it did."""

    ok: bool
    why: str = ""
    lost: bool = False
    waited_s: float = 0.0
    ran_s: float = 0.0
    fenced_s: float = 0.0


class End(Enum):
    """How an attempt to have an application run ended."""

    UP = "up"
    FAILED = "failed"
    LOST = "its member was lost"
    UNKNOWN = "unknown"
    GIVEN_UP = "no longer wanted"


Story: TypeAlias = Generator[Act, Outcome, T]
Tell: TypeAlias = Callable[["Operation", str], None]


@dataclass(slots=True, eq=False)
class Operation:
    """A story under way. claims: its resources. verb, resource, member: what it does, for who orders the same.

    jobs: who hears of it; lines: what they have heard. exit is theirs when it ends.
    """

    verb: str
    resource: str
    claims: frozenset[str]
    reason: Reason
    cause: str
    tell: Tell
    member: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    jobs: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def progress(self, text: str) -> None:
        """Say one of the manual's progress lines."""
        self.tell(self, text)


def chosen(cause: str, member: str, reason: str) -> str:
    """Return why a member, of all, in a sentence."""
    return f"{cause}; {member} was chosen: {reason}" if reason else cause


def start(
    table: Table, op: Operation, resource: Resource, member: str, why: str, again: bool = False
) -> Story[End]:
    """Start an application on a member; where that fails, call its stop entry there (manual 2.3.1).

    again: back where it was before, which the manual prints in other words.
    """
    name = resource.name
    table.reserve(resource, member)
    verb = "restart" if again else "start"
    op.progress(f"Attempting to {verb} '{name}' on member '{member}'")
    outcome = yield Act(name, member, "start", op.reason, why)
    return (yield from started(table, op, resource, member, why, outcome, again))


def started(
    table: Table,
    op: Operation,
    resource: Resource,
    member: str,
    why: str,
    outcome: Outcome,
    again: bool = False,
) -> Story[End]:
    """Go on where a start entry has ended."""
    name = resource.name
    if outcome.lost:
        op.progress(f"Remote start for {name} failed on member {member}")
        table.note(resource, f"the start on {member} was not finished: the member was lost")
        return End.LOST
    if outcome.ok:
        table.move(resource, ONLINE, member, why + _took(outcome))
        if not again:
            op.progress(f"Start of '{name}' on member '{member}' succeeded.")
        return End.UP
    if not again:
        op.progress(f"Start of '{name}' on member '{member}' failed.")
    failed = f"the start on {member} failed{_because(outcome)}"
    cleared = yield Act(name, member, "stop", Reason.FAILURE, failed)
    if cleared.ok or cleared.lost:
        table.note(resource, failed)
        return End.FAILED
    op.progress(f"Stop of '{name}' on member '{member}' failed.")
    failed += f", and so did its stop entry{_because(cleared)}"
    table.move(resource, UNKNOWN, member, failed)
    return End.UNKNOWN


def stop(
    table: Table, op: Operation, resource: Resource, why: str, *, force: bool = False
) -> Story[End]:
    """Stop an application where it is ONLINE; it is UNKNOWN then if that fails, unless `force` clears it."""
    name, member = resource.name, resource.member
    op.progress(f"Attempting to stop '{name}' on member '{member}'")
    outcome = yield Act(name, member, "stop", op.reason, why)
    return (yield from stopped(table, op, resource, member, why, outcome, force=force))


def stopped(
    table: Table,
    op: Operation,
    resource: Resource,
    member: str,
    why: str,
    outcome: Outcome,
    *,
    force: bool = False,
) -> Story[End]:
    """Go on where a stop entry has ended. UP never; GIVEN_UP is an application that is down now."""
    name = resource.name
    if outcome.lost:
        if resource.state != OFFLINE:
            table.move(resource, OFFLINE, "", f"member {member} was lost")
        return End.GIVEN_UP
    if outcome.ok:
        table.move(resource, OFFLINE, "", why + _took(outcome))
        op.progress(f"Stop of '{name}' on member '{member}' succeeded.")
        return End.GIVEN_UP
    op.progress(f"Stop of '{name}' on member '{member}' failed.")
    failed = f"the stop on {member} failed{_because(outcome)}"
    if force:
        return (yield from clear(table, op, resource, member, failed))
    table.move(resource, UNKNOWN, member, failed)
    return End.UNKNOWN


def clear(table: Table, op: Operation, resource: Resource, member: str, why: str) -> Story[End]:
    """End whatever an application left behind, without its script (from UNKNOWN the stop entry is not called)."""
    outcome = yield Act(resource.name, member, "clear", op.reason, why)
    if outcome.ok or outcome.lost:
        if resource.state != OFFLINE:
            table.move(resource, OFFLINE, "", f"{why}; whatever it had left behind was ended")
        return End.GIVEN_UP
    if resource.state != UNKNOWN:
        table.move(resource, UNKNOWN, member, f"{why}; ending what it had left behind failed, too")
    return End.UNKNOWN


def gather(
    table: Table,
    op: Operation,
    group: Sequence[Resource],
    member: str,
    reason: str,
    again: bool = False,
) -> Story[End]:
    """Have every application of the group run on the member. They stand in the order of starting.

    Those that run elsewhere are stopped first, whatever requires another before that.
    """
    for one in group:
        table.reserve(one, member)
    for one in reversed(group):
        if one.state == ONLINE and one.member != member:
            end = yield from stop(table, op, one, op.cause)
            if end is End.UNKNOWN:
                return end
            table.reserve(one, member)
    for one in group:
        if one.runs_on(member):
            continue
        if one.state == UNKNOWN:
            return End.UNKNOWN
        if one.target != ONLINE or one.forgotten:
            return End.GIVEN_UP
        left = frozenset(each.name for each in group) - {one.name}
        if why_not(one.profile, table, member, left):
            return End.FAILED
        why = chosen(op.cause, member, reason)
        end = yield from start(table, op, one, member, why, again)
        if end is not End.UP:
            return end
    return End.UP


def settle(
    table: Table,
    op: Operation,
    group: Sequence[Resource],
    choose: Callable[[], list[Candidate]],
    first: str = "",
) -> Story[End]:
    """Have the group run on the best member that starts it. choose: the members to consider, now.

    first: a member to try before the others if it is among them.
    """
    tried: set[str] = set()
    while True:
        left = [one for one in choose() if one.eligible and one.member not in tried]
        if not left:
            break
        best = next((one for one in left if one.member == first), left[0])
        end = yield from gather(table, op, group, best.member, best.reason)
        if end is not End.FAILED:
            return end
        tried.add(best.member)
    if tried:
        op.progress("No more members to consider")
    return End.FAILED


def relocate(
    table: Table,
    op: Operation,
    group: Sequence[Resource],
    choose: Callable[[], list[Candidate]],
) -> Story[End]:
    """Relocate the group; where no other member starts it, start it again where it was (manual 2.7)."""
    before = [(one, one.member) for one in group if one.state == ONLINE]
    origin = before[0][1] if before else ""
    end = yield from settle(table, op, group, choose)
    if end is End.FAILED:
        back = [one for one, where in before if where == origin]
        names = frozenset(one.name for one in back)
        if not any(one.forgotten or why_not(one.profile, table, origin, names) for one in back):
            yield from gather(table, op, back, origin, "no other member started it", again=True)
    return end


def watch_again(table: Table, resource: Resource, member: str, why: str) -> None:
    """Monitor a network, tape or changer again where it is no longer monitored."""
    for each in [member] if member else [*table.up]:
        monitor = resource.monitors.setdefault(each, Monitor())
        if monitor.target != ONLINE:
            before = monitor.state
            monitor.target, monitor.failure_times_s = ONLINE, ()
            table.note_monitor(resource, each, before, why)


def _because(outcome: Outcome) -> str:
    return f" ({outcome.why})" if outcome.why else ""


def _took(outcome: Outcome) -> str:
    """Return what an action took, where its executor said it."""
    parts = []
    if outcome.fenced_s:
        parts.append(f"{outcome.fenced_s:.2f} s for the fencing")
    if outcome.waited_s:
        parts.append(f"{outcome.waited_s:.2f} s for its lock")
    if outcome.ran_s:
        parts.append(f"{outcome.ran_s:.2f} s for its script")
    return f" ({', '.join(parts)})" if parts else ""
