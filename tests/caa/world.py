"""A cluster's executors, imagined: they run what a planner orders, hold its locks, and end when told.

The lock manager's promise is kept here as an assertion: who starts an application that another
member still holds has broken it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from clufs.caa.interface import (
    ActionEnded,
    Effect,
    Event,
    LocalTime,
    MembersChanged,
    RunAction,
    Save,
    SaveDrained,
    Ticked,
    UnderWay,
    WakeAt,
)
from clufs.caa.machine import Planner
from clufs.caa.profile import Profile, validate
from clufs.caa.records import ResourceRecord, absorb

DAY_S = 86_400
SUNDAY_S = 3 * DAY_S
"""A Sunday, 0:00: the epoch was a Thursday."""


def local(time_s: float) -> LocalTime:
    """A wall clock that nobody changes."""
    minutes = int(time_s // 60)
    day = minutes // 1440
    return LocalTime(day, (day + 4) % 7, minutes // 60 % 24, minutes % 60)


def profile(kind: str, name: str, values: Mapping[str, str]) -> Profile:
    """Return a profile with these values and what a resource of the type must have."""
    must = {
        "application": {"ACTION_SCRIPT": f"{name}.scr"},
        "network": {"SUBNET": "16.140.112.0"},
        "tape": {"DEVICE_NAME": "/dev/tape/tape1"},
        "changer": {"DEVICE_NAME": "/dev/changer/mc1"},
    }[kind]
    lines = {"NAME": name, "TYPE": kind, **must, **values}
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    return validate(name, text.encode())


class World:
    """Members, their executors, the registry's records, and whoever plans now."""

    def __init__(self, members: Iterable[str]) -> None:
        self.up = tuple(members)
        self.now_s = float(SUNDAY_S)
        self.records: dict[str, ResourceRecord] = {}
        self.profiles: dict[str, Profile] = {}
        self.online: dict[tuple[str, str], bool] = {}
        self.holds: dict[str, set[str]] = {}
        self.drained: tuple[str, ...] = ()
        self.actions: dict[int, RunAction] = {}
        self.wake_s: float | None = None
        self.clock = local
        self.last_action = 0
        self.silent: set[str] = set()
        self.told: set[int] = set()
        self.lives = dict.fromkeys(self.up, 1)
        self.given_up: dict[str, dict[str, str]] = {}
        self._planner: Planner | None = None

    @property
    def planner(self) -> Planner:
        assert self._planner is not None, "nobody plans yet"
        return self._planner

    def add(self, made: Profile) -> None:
        """Register a resource."""
        self.profiles[made.name] = made
        self.records[made.name] = ResourceRecord(made.name, profile=made.text())

    def runs(self, name: str, member: str, state: str = "ONLINE") -> None:
        """Have an application run on a member, and its record say so."""
        self.records[name] = msgspec.structs.replace(
            self.records[name],
            target="ONLINE",
            state=state,
            member=member,
            changed_ns=round(self.now_s * 1e9),
        )
        self.holds.setdefault(name, set()).add(member)

    def plan(self, *, booted: bool = False) -> list[Effect]:
        """Have somebody plan, from the records and from what the executors report."""
        if booted:
            self.holds.clear()
            self.actions.clear()
        running = {
            member: [name for name, held in self.holds.items() if member in held]
            for member in self.up
            if member not in self.silent
        }
        under_way = [
            UnderWay(one.action, one.resource, one.member, one.entry)
            for one in self.actions.values()
        ]
        self.wake_s = None
        heard = self._heard()
        under_way = [one for one in under_way if one.member in heard]
        self.told = {one.action for one in under_way}
        self._planner = Planner(
            self.records.values(),
            self.profiles,
            heard,
            running=running,
            given_up=self.given_up,
            under_way=under_way,
            monitors={} if booted else self.online,
            drained=self.drained,
            incarnations=self.lives,
            booted=booted,
            local=self.clock,
            first_action=self.last_action + 1,
        )
        return self.step(Ticked())

    def step(self, event: Event) -> list[Effect]:
        """Give the planner an event and carry out what follows."""
        effects = self.planner.step(self.now_s, event)
        for effect in effects:
            match effect:
                case Save():
                    for record in effect.records:
                        self.records[record.name] = absorb(self.records[record.name], record)
                case SaveDrained():
                    self.drained = effect.members
                case RunAction():
                    self._begin(effect)
                case WakeAt():
                    self.wake_s = effect.time_s
        return effects

    def _begin(self, action: RunAction) -> None:
        assert action.action > self.last_action, "numbers of actions grow"
        self.last_action = action.action
        assert action.member in self._heard(), f"{action} on a member that is not up"
        busy = [one for one in self.actions.values() if one.resource == action.resource]
        # One that was found elsewhere is stopped there while the start waits for its lock.
        strays = {one.member for one in busy if one.entry != "start" and one.reason == "unknown"}
        if action.entry == "start":
            apart = self.silent | (strays - {action.member})
            busy = [one for one in busy if one.member not in apart and one.action in self.told]
        else:
            busy = [one for one in busy if one.member == action.member]
        assert not busy, f"{action} while {busy} is under way"
        if action.entry == "start":
            held = self.holds.setdefault(action.resource, set())
            # Who waits for a silent member's lock gets it later, or never.
            assert held <= {action.member} | self.silent | strays, f"{action} while {held} hold it"
            if not held:
                held.add(action.member)
        self.actions[action.action] = action
        self.told.add(action.action)

    def end(self, action: RunAction, ok: bool, why: str = "") -> list[Effect]:
        """Have an action end; a start whose lock another member still holds has not got it."""
        del self.actions[action.action]
        held = self.holds.setdefault(action.resource, set())
        if action.entry == "start" and held - {action.member}:
            ok, why = False, "its lock was not granted"
        elif action.entry == "start":
            held.add(action.member)
        elif action.member not in held:
            ok, why = True, "there was nothing to stop"
        if ok and action.entry != "start":
            self.holds.get(action.resource, set()).discard(action.member)
        return self.step(ActionEnded(action.action, ok, why))

    def give_up(self, name: str, member: str) -> None:
        """Have a member that has lost quorum end an application."""
        self.holds[name].discard(member)
        self.given_up.setdefault(member, {})[name] = "quorum was lost"

    def acts(self, resource: str) -> bool:
        """Whether an action of the resource is under way."""
        return any(one.resource == resource for one in self.actions.values())

    def of(self, resource: str, member: str = "") -> RunAction:
        """Return the action under way for a resource, the one on `member` if there are two."""
        found = (one for one in self.actions.values() if one.resource == resource)
        return next(one for one in found if member in ("", one.member))

    def lose(self, members: Iterable[str]) -> list[Effect]:
        """Lose members: fenced, so nothing runs there any more."""
        self._empty(members)
        self.up = tuple(member for member in self.up if member not in set(members))
        return self.step(MembersChanged(self._heard(), incarnations=self.lives))

    def forget(self, members: Iterable[str]) -> None:
        """Have members lost and back in new lives, and nobody plan meanwhile."""
        self._empty(members)
        for member in members:
            self.lives[member] += 1

    def join(self, member: str) -> list[Effect]:
        """Have a member join, with a new life where it was up."""
        self._empty([member])
        if member not in self.up:
            self.up = (*self.up, member)
        self.lives[member] = self.lives.get(member, 0) + 1
        return self.step(MembersChanged(self._heard(), (member,), self.lives))

    def heard_of(self, member: str) -> list[Effect]:
        """A member that was silent when the planner began tells what it runs; orders of before have ended there."""
        self.silent.discard(member)
        self.up = (*(one for one in self.up if one != member), member)
        runs = [name for name in sorted(self.holds) if member in self.holds[name]]
        return self.step(MembersChanged(self._heard(), (member,), self.lives, {member: runs}))

    def _heard(self) -> tuple[str, ...]:
        return tuple(member for member in self.up if member not in self.silent)

    def _empty(self, members: Iterable[str]) -> None:
        gone = set(members)
        self.silent -= gone
        self.actions = {n: one for n, one in self.actions.items() if one.member not in gone}
        for held in self.holds.values():
            held -= gone
        for key in self.online:
            if key[1] in gone:
                self.online[key] = False

    def wait_until(self, time_s: float) -> list[Effect]:
        """Let time pass, with a Ticked wherever one was asked for."""
        effects: list[Effect] = []
        while self.wake_s is not None and self.wake_s <= time_s:
            self.now_s, self.wake_s = max(self.now_s, self.wake_s), None
            effects += self.step(Ticked())
        self.now_s = max(self.now_s, time_s)
        return effects
