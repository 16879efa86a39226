"""Readable stories of CAA: what happens, and what follows. `python -m tests.caa.stories --rewrite` writes the
second part anew; inspect the difference, and commit only what you understand.

A story begins with the section of the manual (or of the facts) that it states and what it says.
Then stands who is there, then events, each behind `> `, each followed by what it gives rise to:

    [1] text        said to job 1; `[1] exit 0` is its end
    clock: ...      a change of its TARGET, state or counts, or an action that begins
    wake ...        when time is to be looked at

Every event takes a second. An action ends by `> ok clock` or `> fail clock why`.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from clufs.caa.interface import (
    ActionEnded,
    Balance,
    CheckFailed,
    ClockSet,
    Command,
    Drain,
    Effect,
    Ended,
    EndJob,
    Event,
    Maintain,
    MonitorChanged,
    Ordered,
    Registered,
    Relocate,
    RunAction,
    Save,
    Say,
    Start,
    Stop,
    Unregistered,
    Update,
    WakeAt,
    WhatIf,
)
from clufs.caa.profile import Profile, validate
from tests.caa.world import SUNDAY_S, World, profile

CASES = Path(__file__).parent / "cases"
TYPES = ("application", "network", "tape", "changer")


def tell(text: str) -> str:
    """Return the story with what follows from each event as it follows now."""
    return _Story().run(text)


class _Story:
    def __init__(self) -> None:
        self._world = World([])
        self._jobs = 0
        self._booted = False
        self._began = False
        self._shown: dict[str, tuple[str, int, int]] = {}
        self._targets: dict[tuple[str, str], str] = {}

    def run(self, text: str) -> str:
        lines: list[str] = []
        happened = False
        for line in text.splitlines():
            if line.startswith("> "):
                happened = True
                lines += [line, *self._event(line[2:])]
            elif not happened:
                if line and not line.startswith("#"):
                    self._set(shlex.split(line))
                lines.append(line)
        return "\n".join(lines) + "\n"

    # Who is there.

    def _set(self, words: Sequence[str]) -> None:
        world = self._world
        match words:
            case ["members", *members]:
                self._world = World(members)
            case [kind, name, *values] if kind in TYPES:
                world.add(profile(kind, name, dict(each.split("=", 1) for each in values)))
            case ["running", name, member]:
                world.runs(name, member)
            case ["unknown", name, member]:
                world.runs(name, member, "UNKNOWN")
            case ["holds", name, member]:
                world.holds.setdefault(name, set()).add(member)
            case ["record", name, *values]:
                self._record(name, dict(each.split("=", 1) for each in values))
            case ["online", name, *members]:
                world.online |= {(name, member): True for member in members}
            case ["acting", name, member, entry]:
                world.last_action += 1
                number = world.last_action
                entries = {"start": "start", "stop": "stop", "clear": "clear"}
                world.actions[number] = msgspec.convert(
                    {
                        "action": number,
                        "resource": name,
                        "member": member,
                        "entry": entries[entry],
                        "reason": "user",
                        "why": "",
                        "variables": {},
                        "job": 0,
                    },
                    RunAction,
                )
                world.holds.setdefault(name, set()).add(member)
            case ["drained", *members]:
                world.drained = tuple(members)
            case ["booted"]:
                self._booted = True
            case _:
                raise ValueError(f"nobody understands {words}")

    def _record(self, name: str, values: dict[str, str]) -> None:
        fields: dict[str, object] = dict(values)
        for number in ("restart_count",):
            if number in values:
                fields[number] = int(values[number])
        old = self._world.records[name]
        self._world.records[name] = msgspec.structs.replace(old, **fields)

    # What happens.

    def _event(self, text: str) -> list[str]:
        for name, record in self._world.records.items():
            self._shown.setdefault(name, _counts(record))
        words = shlex.split(text)
        if words[0] == "begin":
            return self._show(self._world.plan(booted=self._booted))
        if words[0] == "candidates":
            found = self._world.planner.candidates(words[1])
            return [f"{one.rank or '-'} {one.member}: {one.reason}" for one in found]
        if words[0] == "may" and words[1] == "unregister":
            why = self._world.planner.why_not_unregister(words[2])
            return [why or "yes"]
        if words[0] in ("ok", "fail") and not self._world.acts(words[1]):
            return [f"nothing is under way for {words[1]}"]
        self._world.now_s += 1.0
        return self._show(self._happen(words))

    def _happen(self, words: Sequence[str]) -> list[Effect]:
        world = self._world
        match words:
            case ["ok", name]:
                return world.end(world.of(name), True)
            case ["ok", name, member]:
                return world.end(world.of(name, member), True)
            case ["fail", name, *why]:
                return world.end(world.of(name), False, " ".join(why))
            case ["unheard", "lost", *members]:
                world.forget(members)
                return []
            case ["late", number]:
                return world.step(ActionEnded(int(number), True))
            case ["lost", *members]:
                return world.lose(members)
            case ["joined", member]:
                return world.join(member)
            case ["wait", seconds]:
                return world.wait_until(world.now_s - 1.0 + float(seconds))
            case ["until", time]:
                day, hour, minute = (int(part) for part in time.split(":"))
                return world.wait_until(SUNDAY_S + ((day * 24 + hour) * 60 + minute) * 60.0)
            case ["clock", "set", "by", seconds]:
                world.now_s += float(seconds)
                return world.step(ClockSet(float(seconds)))
            case ["takeover", *silent]:
                world.silent = set(silent)
                return world.plan()
            case ["heard", member]:
                return world.heard_of(member)
            case ["unheard", "gave", "up", name, member]:
                world.give_up(name, member)
                return []
            case ["boot", *members]:
                world.up = tuple(members)
                world.lives = {member: world.lives.get(member, 0) + 1 for member in members}
                return world.plan(booted=True)
            case _:
                return world.step(self._read(words))

    def _read(self, words: Sequence[str]) -> Event:
        world = self._world
        match words:
            case ["monitor", name, member, state]:
                world.online[name, member] = state == "ONLINE"
                return MonitorChanged(name, member, state == "ONLINE")
            case ["check", name, "fails", *why]:
                return CheckFailed(name, world.records[name].member, " ".join(why))
            case ["ended", name, member, *why]:
                world.holds.get(name, set()).discard(member)
                return Ended(name, member, " ".join(why))
            case ["gave", "up", name, member]:
                world.give_up(name, member)
                return Ended(name, member, f"{member} ended it by itself", failed=False)
            case ["register", kind, name, *values]:
                made = profile(kind, name, dict(each.split("=", 1) for each in values))
                world.add(made)
                return Registered(world.records[name], made)
            case ["unregister", name]:
                return Unregistered(name)
            case _:
                self._jobs += 1
                return Ordered(self._jobs, self._command(words))

    def _command(self, words: Sequence[str]) -> Command:
        program, *rest = words
        force, dry = "-f" in rest, "-n" in rest
        member = rest[rest.index("-c") + 1] if "-c" in rest else ""
        variables = dict(each.split("=", 1) for each in rest if each.startswith("USR_"))
        names = [each for each in rest if not each.startswith(("-", "USR_")) and each != member]
        if "-c" in rest and rest.count(member) > 1:
            names.append(member)
        name = names[0]
        match program:
            case "caa_start":
                return Start(name, member, force, variables, dry)
            case "caa_stop":
                return Stop(name, force, variables, dry)
            case "caa_relocate":
                return Relocate(name, member, force, variables, dry)
            case "caa_balance":
                return Balance(name, dry)
            case "caa_register":
                return Update(name, self._changed(name, names[1:]))
            case "maintenance":
                on, *held = names[1:]
                return Maintain(name, on == "on", *held[:1], *(int(each) for each in held[1:]))
            case "drain":
                return Drain(name, "off" not in names, dry)
            case "what-if":
                return WhatIf(name)
        raise ValueError(f"nobody understands {words}")

    def _changed(self, name: str, values: Sequence[str]) -> Profile:
        old = self._world.profiles[name].values()
        old |= dict(each.split("=", 1) for each in values)
        text = "".join(f"{key}={value}\n" for key, value in old.items())
        self._world.profiles[name] = validate(name, text.encode())
        return self._world.profiles[name]

    # What follows.

    def _show(self, effects: Sequence[Effect]) -> list[str]:
        lines: list[str] = []
        wake_s = 0.0
        for effect in effects:
            match effect:
                case Save():
                    lines += self._saved(effect)
                case Say():
                    lines.append(f"[{effect.job}] {effect.text}")
                case EndJob():
                    lines.append(f"[{effect.job}] exit {effect.exit}")
                case RunAction():
                    lines.append(_action(effect))
                case WakeAt():
                    wake_s = effect.time_s - self._world.now_s
        # Of the times wanted while others passed, the last counts.
        return [*lines, f"wake in {wake_s:.0f} s"] if wake_s > 0.0 else lines

    def _saved(self, save: Save) -> list[str]:
        lines = []
        for record in save.records:
            target, restarts, failures = self._shown.get(record.name, ("OFFLINE", 0, 0))
            name = record.name
            if record.target != target:
                lines.append(f"{name}: TARGET {record.target}")
            if record.restart_count != restarts:
                lines.append(f"{name}: RESTART_COUNT {record.restart_count}")
            if record.failure_count != failures:
                lines.append(f"{name}: FAILURE_COUNT {record.failure_count}")
            self._shown[name] = _counts(record)
            for one in record.history:
                way = one.before if one.before == one.after else f"{one.before} -> {one.after}"
                lines.append(f"{name}: {way}: {one.reason}")
            for monitor in record.monitors:
                key = (name, monitor.member)
                if self._targets.get(key, "ONLINE") != monitor.target:
                    lines.append(f"{name}: TARGET {monitor.target} on {monitor.member}")
                self._targets[key] = monitor.target
        return lines


def _counts(record: object) -> tuple[str, int, int]:
    target = getattr(record, "target", "")
    return target, getattr(record, "restart_count", 0), getattr(record, "failure_count", 0)


def _action(action: RunAction) -> str:
    given = "".join(f" {name}={value}" for name, value in action.variables.items())
    return f"{action.resource}: {action.entry} begins on {action.member} ({action.reason}){given}"


def main(arguments: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Compare, or with --rewrite write anew, the cases named, or all of them."""
    rewrite = "--rewrite" in arguments
    names = [each for each in arguments if not each.startswith("-")]
    paths = [CASES / f"{name}.txt" for name in names] or sorted(CASES.glob("*.txt"))
    different = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        now = tell(text)
        if now != text:
            different += 1
            say(f"{path.stem} {'rewritten' if rewrite else 'differs'}")
            if rewrite:
                path.write_text(now, encoding="utf-8")
    return int(different > 0 and not rewrite)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
