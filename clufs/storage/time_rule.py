"""Fencing by time: a member whose record on the LUNs of clufs has stood still for long enough is off. Pure.

It rests on one thing that no LUN can show: a hardware watchdog that the member's lease process has armed, as its
record says, and resets only while its lease stands. So:

    a majority of the LUNs of clufs     carries the lease; we count only what was seen on a majority, which
                                        shares a LUN with every majority by which it could have been renewed
    the sequence does not change        on our own clock, from the end of the read that first showed it to the
                                        beginning of the latest one: whatever we did not look at is no silence
    for `takeover_s` of *its* times     the lease is over, the watchdog has fired, and no write of it lies in a
                                        queue any more, our clock 1 % off (`timeouts.lease`)

A member that ends its life in order, as one does that is told to stop and can, lets its watchdog go and writes so into
its record, once all its holders are gone. That goodbye is as good, after the life of a queued write.

A record without either word, of another life, or on a LUN where anything is wrong with its slot proves nothing, and one
LUN on which it was seen to change refutes it: then a person confirms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clufs.errors import NotFenced
from clufs.storage.certificate import MemberKey
from clufs.storage.fencing import majority
from clufs.storage.lease import OnDisk
from clufs.storage.lease_wire import Seen
from clufs.timeouts.lease import QUEUED_WRITE_S


class NotYet(NotFenced):
    """Nothing speaks against it but that too little time has passed: `left_s` at least is missing."""

    def __init__(self, what: str, left_s: float) -> None:
        super().__init__(what)
        self.left_s = left_s


@dataclass(frozen=True, slots=True)
class Silence:
    """What one LUN of clufs has shown. sequence: of the record that stood there for silent_s at least, where needed_s
    are enough. ended: it is a goodbye."""

    disk: str
    sequence: int
    silent_s: float
    needed_s: float
    ended: bool = False

    def line(self) -> str:
        """For a person."""
        goodbye = " STATE=ENDED" * self.ended
        return f"DISK={self.disk} SEQUENCE={self.sequence}{goodbye} SILENT_S={self.silent_s:.1f}"


@dataclass(frozen=True, slots=True)
class TimeCertificate:
    """`victim` has said goodbye, or was reset by its hardware watchdog if that works and our clocks are no more than
    1 % apart; and its writes have left the queues. Nothing was asked of `lun`, and nothing was shown by it."""

    lun: str
    victim: int
    by: int
    time_ns: int
    silences: tuple[Silence, ...]

    def line(self) -> str:
        """All of it as one line."""
        needed_s = max(one.needed_s for one in self.silences)
        said = all(one.ended for one in self.silences)
        how = "it has said goodbye" if said else "its hardware watchdog has fired, if it works"
        head = (
            f"LUN={self.lun} VICTIM={self.victim:#018x} BY={self.by:#018x} TIME_NS={self.time_ns}"
            f" HOW={how}: silent for {needed_s:.1f} s and more"
        )
        return " ".join([head, *(one.line() for one in self.silences)])


def silence(
    victim: MemberKey, disks: Mapping[str, Seen | None], now_s: float
) -> tuple[Silence, ...]:
    """What proves that this life is over. disks: each LUN of clufs, with what its slots have shown of the member.
    now_s: on the clock of what they have shown.

    Raises NotYet while its time runs, NotFenced where time proves nothing.
    """
    silences, nothing, left_s = [], [], 0.0
    for disk, seen in disks.items():
        if seen is not None and seen.incarnation > victim.incarnation:
            raise NotFenced(f"incarnation {seen.incarnation} of it has been seen on {disk}")
        why = _no_witness(victim, seen)
        ended = seen is not None and seen.on_disk == OnDisk.ENDED
        needed_s = QUEUED_WRITE_S if ended or seen is None else seen.line.takeover_s
        if seen is not None and seen.incarnation == victim.incarnation:
            left_s = max(left_s, needed_s - (now_s - seen.changed_s))
        if why or seen is None:
            nothing.append(f"{disk}: {why}")
            continue
        silences.append(Silence(disk, seen.sequence, seen.silent_s, needed_s, ended))
        left_s = max(left_s, needed_s - seen.silent_s)
    if not disks or len(silences) < majority(len(disks)):
        raise NotFenced(f"time proves nothing: {'; '.join(nothing) or 'there is no LUN of clufs'}")
    if left_s > 0:
        raise NotYet(f"{left_s:.1f} s are left until it has surely written its last", left_s)
    return tuple(silences)


def _no_witness(victim: MemberKey, seen: Seen | None) -> str:
    """Why what a LUN shows cannot be counted, or empty."""
    if seen is None or seen.on_disk == OnDisk.ABSENT:
        return "it shows no record of it"
    if seen.incarnation != victim.incarnation:
        return f"its record is of incarnation {seen.incarnation}"
    if seen.flaws:
        return "something is wrong with its slot"
    if not seen.guarded and seen.on_disk != OnDisk.ENDED:
        return "no hardware watchdog guards it, its record says"
    return ""
