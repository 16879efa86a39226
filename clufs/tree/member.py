"""What one member tells of itself: its journals, and the facts that reports are made of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clufs.dlm.interface import CycleLock, FoundCycle
from clufs.tree.busiest import Busiest
from clufs.tree.journals import Deadlocks, Events, FencingLog, Refusals
from clufs.tree.lock_reports import cycle_line
from clufs.tree.metrics import Metrics
from clufs.tree.names import shown

if TYPE_CHECKING:
    from clufs.cluster.gate import Told
    from clufs.dlm.interface import Cycle
    from clufs.dlm.lock import Lock


@dataclass(frozen=True, slots=True)
class Member:
    """Who this member is. view: the number of the present membership; never used before."""

    name: str
    view: int
    version: str
    started_s: float = field(default_factory=time.time)
    id: int = 1
    votes: int = 1


class Journals:
    """Events, refusals, deadlocks and counters of one daemon, under one clock."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.events = Events(time.time)
        self.refusals = Refusals(time.time)
        self.deadlocks = Deadlocks(time.time)
        self.fencing = FencingLog(time.time)
        self.metrics = Metrics()
        self.busiest = Busiest()

    def fenced(self, told: Told) -> None:
        """The fencing gate has something to tell."""
        member, incarnation = told.life
        self.fencing.add(member, incarnation, told.agent, told.result, told.why)
        why = {"why": shown(told.why.encode())} if told.why else {}
        self.events.add(
            "fencing",
            member=member,
            incarnation=incarnation,
            agent=told.agent,
            result=told.result,
            **why,
        )

    def abnormal_release(self, lock: Lock) -> None:
        """A PW or EX lock went without a word: its value block is invalid (9.6.6)."""
        self.metrics.abnormal_releases += 1
        owner = lock.owner
        self.events.add(
            "value-invalid",
            file="locks/" + shown(lock.rsb.name),
            member=self.member.name,
            pid=getattr(owner, "pid", 0),
        )

    def deadlock(self, cycle: Cycle) -> None:
        """A deadlock was broken at a member alone."""
        name = self.member.name
        locks = [
            CycleLock(
                lock.rsb.name,
                *modes,
                name,
                lock.owner.pid,
                lock.owner.command,
                lock is cycle.victim,
            )
            for lock, modes in zip(cycle.locks, cycle.modes, strict=True)
        ]
        self.found_deadlock(FoundCycle(cycle.kind, tuple(locks)))

    def found_deadlock(self, cycle: FoundCycle) -> None:
        """A deadlock was broken somewhere in the cluster."""
        self.deadlocks.add(cycle.kind, [cycle_line(lock) for lock in cycle.locks])
        victim = next(lock for lock in cycle.locks if lock.is_victim)
        self.events.add(
            "deadlock",
            kind=cycle.kind,
            locks=len(cycle.locks),
            victim="locks/" + shown(victim.name),
            member=victim.member,
            pid=victim.pid,
        )
