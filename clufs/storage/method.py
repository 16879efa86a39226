"""Which way a LUN keeps a lost member from writing, how long a takeover then takes at worst, and what nobody can
promise there: worked out before it is needed. Pure.

From the strongest to none; each LUN gets the first that it is fit for:

    pr-abort   its key is taken away and its commands are aborted
    pr         its key is taken away; what the array had taken in may still reach the medium
    lock-disk  a reset ends its commands, and one member has the whole LUN reserved for itself (RESERVE(6)) until the
               lost one is known to be off; whatever ends the reservation ends the fencing, too (`lock_disk`)
    time       its lease on the LUNs of clufs has run out and a hardware watchdog has reset it
    person     somebody goes and looks

Registrations exclude RESERVE(6), so an array whose registrations fence nobody has no lock disk either. COMPARE AND
WRITE fences nobody from blocks that others write without it, and by it a fenced member writes as well as any, if it
knows what stands there: it may let the LUNs of clufs elect one of two, and is no method here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clufs.storage.probe import Finding
from clufs.timeouts import LUN_KEYS_LOOK_S
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
    reserves: it has RESERVE(6), by sessions of our own.
    """

    registers: bool | None = None
    aborts: bool | None = None
    findings: tuple[Finding, ...] = ()
    reserves: bool | None = None

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
    said. Without an agent a person decides."""

    by_lun: bool
    lost_s: float
    agent_s: float
    lease: LeaseTimeline | None = None
    watchdog: bool = False
    unguarded: tuple[str, ...] = ()


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
    if around.by_lun and lun.reserves and lun.registers is False:
        return _by_lock_disk(around, why)
    if around.by_lun and lun.registers is False:
        why += "; it knows no RESERVE(6), or has no path iscsi://"
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


def _by_lock_disk(around: Surroundings, why: str) -> Method:
    steps = (
        f"{around.lost_s:.1f} s until a view is without the member, then a tombstone, LOGICAL UNIT RESET, RESERVE(6),"
        " CLEAR TASK SET, and by every path a session that is nobody's and must be refused, within"
        f" {around.agent_s:g} s; who has done that keeps it reserved until the lost member is known to be off"
    )
    cannot = (
        "use of it by anybody else meanwhile: one path of one member is served until the lost one is back as a new"
        " incarnation, has said goodbye, has been reset by a hardware watchdog, or that member is told `confirmed`",
        "anything while the reservation is not there: it ends with that member or its session, with any reset and with"
        f" the array's power; it is made again within {LUN_KEYS_LOOK_S:g} s, and the event lun-reserved tells of that",
        f"where the array has no CLEAR TASK SET, which shows then: {_LATE_WRITES}",
    )
    return Method(Kind.LOCK_DISK, around.lost_s + around.agent_s, steps, why, cannot)


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
