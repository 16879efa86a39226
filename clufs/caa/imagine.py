"""Plans without deeds: the same planner, on a copy, with actions that succeed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from clufs.caa.interface import (
    ActionEnded,
    Command,
    Effect,
    EndJob,
    Event,
    MembersChanged,
    Ordered,
    RunAction,
    Say,
    Ticked,
    WakeAt,
    WhatIf,
)
from clufs.caa.records import OFFLINE, ONLINE, ResourceRecord

if TYPE_CHECKING:
    from clufs.caa.machine import Planner

_JOB = 1
_STEPS_MAX = 100_000
"""More than any plan has: ten thousand resources, each stopped and started a few times."""


def imagine(planner: Planner, now_s: float, command: Command) -> tuple[int, list[str]]:
    """Return the exit and the text of a command that nobody carries out. The planner is used up."""
    if isinstance(command, WhatIf):
        return _what_if(planner, now_s, command)
    run = _Run(planner, now_s)
    run.step(Ordered(_JOB, command))
    run.to_the_end(waits=False)
    return run.exit, run.lines or ["Nothing would be done."]


def placed(record: ResourceRecord, state: str, member: str) -> ResourceRecord:
    """Return the record with the application there."""
    return msgspec.structs.replace(record, state=state, member=member)


def _what_if(planner: Planner, now_s: float, command: WhatIf) -> tuple[int, list[str]]:
    if command.lost not in planner.table.up:
        return 1, [f"Member '{command.lost}' is not up."]
    ran = {one.name for one in planner.table.resources.values() if one.state == ONLINE}
    run = _Run(planner, now_s)
    left = tuple(member for member in planner.table.up if member != command.lost)
    run.step(MembersChanged(left))
    run.to_the_end(waits=True)
    for name in sorted(ran):
        resource = planner.table.resources[name]
        if resource.state == OFFLINE and resource.target == ONLINE:
            run.lines.append(f"'{name}' would stay down:")
            found = planner.candidates(name)
            run.lines += [f"  {one.member}: {one.reason}" for one in found]
    return 0, run.lines or [f"Nothing runs on member '{command.lost}'."]


class _Run:
    """Steps a planner through a future in which every action succeeds at once."""

    def __init__(self, planner: Planner, now_s: float) -> None:
        self._planner = planner
        self._now_s = now_s
        self._wake_s: float | None = None
        self._actions: list[RunAction] = []
        self.lines: list[str] = []
        self.exit = 0

    def step(self, event: Event) -> None:
        for effect in self._planner.step(self._now_s, event):
            self._take(effect)

    def _take(self, effect: Effect) -> None:
        match effect:
            case RunAction():
                self._actions.append(effect)
            case Say():
                self.lines.append(effect.text)
            case EndJob():
                self.exit = effect.exit
            case WakeAt():
                self._wake_s = effect.time_s

    def to_the_end(self, *, waits: bool) -> None:
        """Go on until nothing is under way. waits: also until no timer runs."""
        for _ in range(_STEPS_MAX):
            if self._actions:
                action = self._actions.pop(0)
                self.lines.append(_line(action))
                self.step(ActionEnded(action.action, True))
            elif waits and self._wake_s is not None:
                self._now_s, self._wake_s = self._wake_s, None
                self.step(Ticked())
            else:
                return


def _line(action: RunAction) -> str:
    what = f"Would {action.entry} '{action.resource}' on member '{action.member}'"
    return f"{what}: {action.why}"
