"""Which way a LUN keeps a lost member from writing, how long a takeover then takes at worst, and what nobody can
promise there: worked out before it is needed. Pure.

From the strongest to none; each LUN gets the first that it is fit for:

    pr-abort   its key is taken away and its commands are aborted
    pr         its key is taken away; what the array had taken in may still reach the medium
    lock-disk  one member at a time reserves the whole LUN (RESERVE(6)) and a reset takes the reservation from
               a lost one; a lost one that lives could reset it, too
    time       its lease on the LUNs of clufs has run out and a hardware watchdog has reset it
    person     somebody goes and looks

COMPARE AND WRITE fences nobody from blocks that others write without it: it lets the LUNs of clufs elect one of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clufs.storage.probe import Finding
from clufs.timeouts import LUN_COMMAND_S
from clufs.timeouts.lease import LeaseTimeline


class Kind(StrEnum):
    """How a LUN is fenced."""

    PR_ABORT = "pr-abort"
    PR = "pr"
    LOCK_DISK = "lock-disk"
    TIME = "time"
    PERSON = "person"
    NONE = "none"
    """Nothing is fenced by it: it is clufs' own, or found and not configured."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a LUN. None where nobody has tried it out.

    registers: it takes persistent reservations. aborts: it has PREEMPT AND ABORT. findings: of a probe.
    reserves: it has RESERVE(6). compares: it has COMPARE AND WRITE. reset_s: what a reset of it takes.
    """

    registers: bool | None = None
    aborts: bool | None = None
    findings: tuple[Finding, ...] = ()
    reserves: bool | None = None
    compares: bool | None = None
    reset_s: float = LUN_COMMAND_S

    @property
    def reservations_hold(self) -> bool:
        """May reservations be relied on? A LUN that has not been tried out is given the chance: a fencing that cannot
        be proved fails, and grants nothing."""
        return self.registers is not False and not any(one.grave for one in self.findings)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the cluster has. by_lun: the agent `lun` is configured. lost_s: from a member's last word to a view without
    it, at worst. agent_s: the agent's time. lease: the times of the LUNs of clufs; None without such LUNs.
    watchdog: a hardware one guards the lease of every member that has one now; unguarded: those of which that is not
    said. lock_disk: an agent takes such LUNs over. Without an agent a person decides."""

    by_lun: bool
    lost_s: float
    agent_s: float
    lease: LeaseTimeline | None = None
    watchdog: bool = False
    unguarded: tuple[str, ...] = ()
    lock_disk: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """takeover_s: the worst case from a member's last word to its locks, None where a person decides.
    because: why not a stronger one. cannot: what is not promised."""

    kind: Kind
    takeover_s: float | None
    steps: str
    because: str = ""
    cannot: tuple[str, ...] = ()

    def text(self) -> str:
        """The file `method`: a line for each thing."""
        takeover = "-" if self.takeover_s is None else f"{self.takeover_s:.1f}"
        lines = [f"METHOD={self.kind}", f"TAKEOVER_S={takeover}", f"STEPS={self.steps}"]
        lines += [f"WHY={self.because}"] if self.because else []
        return "".join(f"{line}\n" for line in [*lines, *(f"CANNOT={one}" for one in self.cannot)])


_LATE_WRITES = "a write that the array had taken in before the fencing may still reach the medium"
_PAUSED = "what a member read before it was lost may be old: only the LUN's own answer is new"


def choose(lun: Traits, around: Surroundings) -> Method:
    """The strongest way that a data LUN is fit for."""
    if around.by_lun and lun.reservations_hold:
        return _by_reservation(lun, around)
    why = _why_not(lun, around)
    if around.lock_disk and lun.reserves:
        return _by_lock_disk(lun, around, why)
    if around.by_lun and around.lease is not None and around.watchdog:
        return _by_time(around, around.lease, why)
    if around.lease is not None:
        without = f", and {', '.join(around.unguarded)} has none" if around.unguarded else ""
        why += f"; time counts only with a hardware watchdog on every member{without}"
    steps = "a person sees the member off, then: echo confirmed > /clu/members/MEMBER/fence"
    return Method(Kind.PERSON, None, steps, why, ("anything, before that person has looked",))


def none(role: str) -> Method:
    """Of a LUN that fences nobody."""
    why = {
        "clufs": "it is clufs' own: it carries the tombstones and leases by which the others are fenced",
    }.get(role, "it is not named in [[luns]]")
    return Method(Kind.NONE, None, "nothing is fenced by it", why)


def _by_reservation(lun: Traits, around: Surroundings) -> Method:
    cannot = [one.therefore for one in lun.findings if not one.grave]
    if lun.aborts is False and _LATE_WRITES not in cannot:
        cannot.append(_LATE_WRITES)
    if lun.aborts is None:
        cannot.append(f"where the array has no PREEMPT AND ABORT, which shows then: {_LATE_WRITES}")
    if lun.registers is None:
        cannot.append("anything, if the array takes no reservations: then no fencing is proved")
    takeover_s = around.lost_s + around.agent_s
    steps = (
        f"{around.lost_s:.1f} s until a view is without the member, then a tombstone, PREEMPT"
        f"{'' if lun.aborts is False else ' AND ABORT'} by every path, and the keys read back within"
        f" {around.agent_s:g} s; it is tried again until that is so"
    )
    kind = Kind.PR if lun.aborts is False else Kind.PR_ABORT
    return Method(kind, takeover_s, steps, "", (*cannot, _PAUSED))


def _by_lock_disk(lun: Traits, around: Surroundings, why: str) -> Method:
    takeover_s = around.lost_s + 2 * lun.reset_s
    steps = (
        f"{around.lost_s:.1f} s until a view is without the member, then LOGICAL UNIT RESET, {lun.reset_s:g} s"
        f" in which a holder that is well reserves it again, and RESERVE(6)"
    )
    return Method(
        Kind.LOCK_DISK,
        takeover_s,
        steps,
        why,
        (
            "several members at once on this LUN: its reservation bars all but one",
            "a lost member that runs on may reset the LUN and write before it is reserved again",
            _LATE_WRITES,
        ),
    )


def _by_time(around: Surroundings, lease: LeaseTimeline, why: str) -> Method:
    steps = (
        f"{around.lost_s:.1f} s until a view is without the member, then a tombstone and a word to it to stop;"
        f" its lease is not renewed, its watchdog fires by {lease.dead_s:.1f} s, and its last writes leave the queues:"
        f" {lease.takeover_s:.1f} s without a change of its record, seen on a majority of the LUNs of clufs"
    )
    cannot = (
        "anything against a watchdog that does not fire, or a clock that runs by more than 1 % off",
        "an end to a write that lies in a queue for longer than the kernel's timeout",
        "an end to the wait for a member that reads no word to stop and goes on with its lease",
    )
    return Method(Kind.TIME, around.lost_s + lease.by_time_s, steps, why, cannot)


def _why_not(lun: Traits, around: Surroundings) -> str:
    if not around.by_lun:
        return "no agent `lun` is configured in [fencing]"
    grave = [one.what for one in lun.findings if one.grave]
    return "; ".join(grave) or "it takes no persistent reservations"
