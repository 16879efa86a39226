"""Trying out a LUN's reservations before anything depends on them: what the array gets wrong, in words.

It takes two I_T nexuses of our own, one in the part of the victim, and a block that nothing else uses.
Whatever it registers it takes back; registrations of others are not touched, and a reservation that the
cluster has made already is used as it is. What cannot be tried without loss of power or a write caught
on its way (does APTPL keep its word, does PREEMPT AND ABORT really abort) is believed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import trio

from clufs.errors import CheckCondition, LunError, ReservationConflict
from clufs.storage import commands as c
from clufs.storage.carrier import Carrier, Lun
from clufs.storage.reservations import (
    preempt,
    read_capabilities,
    read_keys,
    register,
    reserve,
    unregister,
)
from clufs.storage.sense import Sense
from clufs.timeouts import LUN_COMMAND_S

REGISTRATIONS_PREEMPTED = (0x2A, 0x05)


@dataclass(frozen=True, slots=True)
class Finding:
    """what: what the array does. therefore: what cannot be promised. grave: its reservations fence nobody."""

    what: str
    therefore: str
    grave: bool = False


@dataclass(slots=True)
class Report:
    """What a probe found, in the order of its steps. aborts: the array has PREEMPT AND ABORT."""

    path: str
    findings: list[Finding] = field(default_factory=list)
    aborts: bool = False

    @property
    def usable(self) -> bool:
        """Can this LUN be fenced by its reservations?"""
        return not any(one.grave for one in self.findings)

    def lines(self) -> list[str]:
        """For a person, one for each finding."""
        if not self.findings:
            return [f"{self.path}: reservations work as they should"]
        return [f"{self.path}: {one.what}; {one.therefore}" for one in self.findings]


class _Enough(Exception):
    """A grave finding: further steps mean nothing."""


@dataclass(slots=True)
class _Probe:
    fencer: Lun
    victim: Lun
    keys: tuple[int, int]
    write: c.Write16
    block: bytes
    heard: list[Sense]
    report: Report

    def note(self, what: str, therefore: str, grave: bool = False) -> None:
        self.report.findings.append(Finding(what, therefore, grave))
        if grave:
            raise _Enough

    async def run(self) -> None:
        await self.look()
        await self.enter()
        await self.fence()
        await self.try_victim()

    async def look(self) -> None:
        """What it says of itself."""
        try:
            said = await read_capabilities(self.fencer)
        except CheckCondition:
            return  # what it can do shows
        if not said.aptpl:
            self.note(
                "it cannot keep registrations through loss of power (APTPL)",
                "when the array loses power, a fenced member that still runs writes until a member has reserved again",
            )

    async def enter(self) -> None:
        """Register both, reserve, write as the victim: all of that must work."""
        try:
            for lun, key in zip((self.fencer, self.victim), self.keys, strict=True):
                await register(lun, key, aptpl=True)
        except CheckCondition as refusal:
            self.note(
                f"it does not take registrations ({refusal})",
                "nobody is fenced by them",
                grave=True,
            )
        known = (await read_keys(self.fencer)).keys
        if not set(self.keys) <= set(known):
            self.note("it does not show who is registered", "no fencing can be proved", grave=True)
        try:
            await reserve(self.fencer, self.keys[0])
        except LunError as error:
            self.note(f"it cannot be reserved in our way ({error})", "nobody is fenced", grave=True)
        try:
            await self.victim.run(self.write, self.block)
        except ReservationConflict:
            self.note(
                "it bars writes of the registered", "members cannot use it together", grave=True
            )

    async def fence(self) -> None:
        """Preempt the victim, and read the keys."""
        before = await read_keys(self.fencer)
        try:
            self.report.aborts = await preempt(self.fencer, *self.keys)
        except LunError as error:
            self.note(f"it does not preempt ({error})", "nobody is fenced", grave=True)
        if not self.report.aborts:
            self.note(
                "it has no PREEMPT AND ABORT",
                "a write that it had taken in before the fencing may still reach the medium afterwards",
            )
        after = await read_keys(self.fencer)
        if self.keys[1] in after.keys:
            self.note("a preempted key stays registered", "no fencing can be proved", grave=True)
        if after.generation == before.generation:
            self.note(
                "it does not count changes of registrations", "two readings cannot be told apart"
            )

    async def try_victim(self) -> None:
        """The victim must not write, may read, and should have heard."""
        self.heard.clear()
        try:
            await self.victim.run(self.write, self.block)
            self.note("a fenced member can still write", "nobody is fenced", grave=True)
        except ReservationConflict:
            pass
        codes = {one.code for one in self.heard}
        if not codes:
            self.note(
                "who is fenced is not told", "a fenced member finds out by its next write only"
            )
        elif REGISTRATIONS_PREEMPTED not in codes:
            said = ", ".join(str(one) for one in self.heard)
            self.note(
                f"who is fenced is told otherwise ({said})",
                "the cause of a fencing may be shown wrongly",
            )
        try:
            await self.victim.run(c.Read16(self.write.lba, self.write.blocks))
        except ReservationConflict:
            self.note("a fenced member cannot even read", "it cannot find its tombstone")


async def probe(
    fencer: Carrier, victim: Carrier, keys: tuple[int, int], lba: int, block: bytes
) -> Report:
    """Try out a LUN through two nexuses, with the keys of fencer and victim, writing `block` at `lba`.

    block: whole blocks of 512 bytes; b"" where somebody's data lies: a write of no blocks meets reservations as well.
    The keys must be nobody else's. If nobody had reserved, the probe does, and its reservation ends with it:
    members reserve afterwards. Returns what was found; raises LunError where the LUN itself fails.
    """
    heard: list[Sense] = []
    report = Report(fencer.path)
    one, other = Lun(fencer), Lun(victim, heard.append)
    steps = _Probe(
        one, other, keys, c.Write16(lba, len(block) // 512, fua=True), block, heard, report
    )
    try:
        with contextlib.suppress(_Enough):
            await steps.run()
    finally:
        with trio.move_on_after(LUN_COMMAND_S) as scope:
            scope.shield = True
            for lun in (other, one):
                with contextlib.suppress(LunError):
                    await unregister(lun)
    return report
