"""A member of three is lost: how long until its locks live elsewhere, and how long others stand still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from clufs.dlm.directory import directory_member
from tests.bench.cluster import Members, lab_up
from tests.bench.measure import Size
from tests.bench.report import Row, Target, figure
from tests.cluster.lab import NAMES, within

_HOME, _MASTER, _LOST = NAMES
_PATIENCE_S = 60.0
_PROBES = 4


def measure(size: Size, directory: Path) -> Iterator[Row]:
    """All blocks have their master on the lost member, and a lock of each of the two others."""
    with lab_up(directory / "recovery") as members:
        names = size.recovered // 2
        _fill(members, names)
        probes = _probes()
        for name in probes:
            members.tellers[_MASTER].call("write", name=name, line="NL persistent")
            members.tellers[_HOME].call("write", name=name, line="NL")
        begin = time.time()
        members.tellers[_HOME].tell("grants_s", names=probes, seconds=size.recovery_s)
        time.sleep(0.2)
        members.lab.do("kill", _LOST)
        views, ends = _recovered(members, begin)
        grants = members.tellers[_HOME].hear()
    locks = f"{names * 2:,} locks whose master is lost"
    took = max(ends) - min(views)
    yield figure("recovery", f"recovery of {locks}, from the view", "s", [took], Target(2))
    blocked = max(_blocked_s(times, min(views)) for times in grants) * 1000
    what = "meanwhile: a lock whose master and directory survive stands still"
    yield figure("recovery-blocked", what, "ms", [blocked], Target(200))


def _fill(members: Members, names: int) -> None:
    members.tellers[_LOST].call("hold", prefix="r", first=0, count=names, line="NL")
    for member in (_HOME, _MASTER):
        members.tellers[member].tell("hold", prefix="r", first=0, count=names, line="PR")
    for member in (_HOME, _MASTER):
        members.tellers[member].hear()


def _probes() -> list[str]:
    """Names of which the directory is not lost."""
    every = (f"probe{number}" for number in range(100))
    found = [n for n in every if directory_member(f"public/{n}".encode(), NAMES) != _LOST]
    return found[:_PROBES]


def _recovered(members: Members, since: float) -> tuple[list[float], list[float]]:
    """When the survivors had the view without the lost member, and when they had recovered."""
    views: list[float] = []
    ends: list[float] = []
    for member in (_HOME, _MASTER):

        def events(what: str, member: str = member) -> list[float]:
            lines = members.lab.do("exec", member, "--", "cat", "/clu/events").splitlines()
            times = [_seconds(line) for line in lines if line.split()[1] == what]
            return [one for one in times if one >= since]

        if not within(_PATIENCE_S, lambda events=events: events("recovered")):
            raise RuntimeError(f"{member} did not recover")
        views.append(events("view")[-1])
        ends.append(events("recovered")[-1])
    return views, ends


def _seconds(event: str) -> float:
    return datetime.fromisoformat(event.split()[0]).timestamp()


def _blocked_s(grants: list[float], since: float) -> float:
    """The longest time without a grant, as far as it lies after `since`."""
    return max((after - max(before, since) for before, after in pairwise(grants) if after > since))
