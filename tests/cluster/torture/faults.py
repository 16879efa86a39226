"""What is done to a lab, and how it is made whole again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from clufs.errors import ClufsError
from tests.cluster.lab import NAMES, Lab

WHOLE_S = 180.0
"""How long a lab may take to have all members again after the last fault, on a machine that others use as well."""


@dataclass(frozen=True)
class Fault:
    """One fault: what is typed, how long it stays, what is typed to end it."""

    name: str
    begin: tuple[str, ...]
    lasts_s: float = 0.0
    end: tuple[str, ...] = ()


def draw(dice: random.Random, member: str = "", lasts_s: float = 0.0) -> Fault:
    """A fault, at random; of this member, and so long, if they are given."""
    first, other = dice.sample(NAMES, 2)
    if member:
        other = next(name for name in (other, first, *NAMES) if name != member)
    member = member or first
    lasts_s = lasts_s or dice.choice((0.5, 2.0, 4.0, 7.0))
    return dice.choice(
        (
            Fault("kill a member", ("kill", member)),
            Fault("kill clufsd", ("kill", member, "--what", "clufsd")),
            Fault("kill corosync", ("kill", member, "--what", "corosync")),
            Fault("restart corosync", ("restart", member, "--what", "corosync")),
            Fault("pause a member", ("pause", member), lasts_s, ("resume", member)),
            Fault(
                "pause clufsd",
                ("pause", member, "--what", "clufsd"),
                lasts_s,
                ("resume", member, "--what", "clufsd"),
            ),
            Fault(
                "pause corosync",
                ("pause", member, "--what", "corosync"),
                lasts_s,
                ("resume", member, "--what", "corosync"),
            ),
            Fault("cut a member", ("cut", member), lasts_s, ("heal",)),
            Fault("cut two from each other", ("cut", member, other), lasts_s, ("heal",)),
        )
    )


def strike(lab: Lab, fault: Fault) -> None:
    """Let it happen and end; who was fenced meanwhile cannot be resumed, which is no failure."""
    lab.run(*fault.begin)
    time.sleep(fault.lasts_s)
    if fault.end:
        lab.run(*fault.end)


def make_whole(lab: Lab, again: Callable[[str], None]) -> str:
    """Restart what is dead until all members are in; what is lacking in the end, or nothing.

    again: called with each member whose processes are new.
    """
    deadline = time.monotonic() + WHOLE_S
    lacking = ""
    while time.monotonic() < deadline:
        try:
            lacking = _lacking(lab, again)
        except (ClufsError, AssertionError) as error:
            lacking = str(error)
        if not lacking:
            return ""
        time.sleep(0.2)
    return lacking


def _lacking(lab: Lab, again: Callable[[str], None]) -> str:
    for name, state in lab.states().items():
        if state["member"] == "dead":
            lab.run("restart", name)
            again(name)
            return f"{name} was dead"
        for service in ("corosync", "clufsd"):
            if state[service] == "dead":
                lab.run("restart", name, "--what", service)
                return f"{service} of {name} was dead"
            if state[service] == "paused":
                lab.run("resume", name, "--what", service)
    for name in NAMES:
        status = lab.run("exec", name, "--", "cat", "/clu/status/cluster", "/clu/status/quorum")
        facts = dict(line.partition("=")[::2] for line in status.stdout.splitlines())
        if facts.get("QUORATE") != "1" or set(facts.get("MEMBERS", "").split()) != set(NAMES):
            return f"{name}: {' '.join(status.stdout.splitlines())} {status.stderr}"
        if "WAITS_FOR" in facts:
            return f"{name} waits for {facts['WAITS_FOR']}"
    return ""
