"""A member of three is lost: how long until its locks live elsewhere, and how long others stand still."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from clufs.cluster.authority import make_keys
from clufs.dlm.directory import directory_member
from tests.bench.cluster import Teller
from tests.bench.etcd import free_ports
from tests.bench.measure import Size
from tests.bench.recovering import NAMES
from tests.bench.report import Row, Target, figure

_LOST = 2


def measure(size: Size, directory: Path) -> Iterator[Row]:
    """All blocks have their master on the lost member, and a lock of each of the two others."""
    keys = directory / "keys-of-recovery"
    make_keys(keys, list(NAMES))
    blocks = size.recovered // 2
    with ExitStack() as stack:
        members = _members(stack, keys)
        members[_LOST].call("lock", count=blocks, mode="NL")
        for member in members[:_LOST]:
            member.tell("lock", count=blocks, mode="PR")
        for member in members[:_LOST]:
            member.hear()
        probes = _probes()
        # Each works on what the other masters.
        for member, name in zip(members, reversed(probes), strict=False):
            member.call("probe", name=name, seconds=0)
        for member, name in zip(members, probes, strict=False):
            member.tell("lose", lost=_LOST, probe=name, seconds=size.recovery_s)
        found = [member.hear() for member in members[:_LOST]]
    installed = min(one["view"] for one in found)
    locks = sum(one["locks"] for one in found)
    took = max(one["recovered"] for one in found) - installed
    what = f"recovery of {locks:,} locks, their master lost, from the view"
    yield figure("recovery", what, "s", [took], Target(2))
    blocked = max(_blocked_s(one["grants"], installed) for one in found) * 1000
    what = "meanwhile: a lock whose master and directory survive stands still"
    yield figure("recovery-blocked", what, "ms", [blocked], Target(200))


def _members(stack: ExitStack, keys: Path) -> list[Teller]:
    (port,) = free_ports(1)
    members = []
    for number in range(len(NAMES)):
        words = ["-m", "tests.bench.recovering", str(number), str(keys), str(port)]
        members.append(Teller([sys.executable, *words]))
        stack.callback(members[-1].close)
    return members


def _probes() -> list[str]:
    """Two names of which the directory is not lost."""
    every = (f"public/probe{number}" for number in range(100))
    return [n for n in every if directory_member(n.encode(), NAMES) != NAMES[_LOST]][:2]


def _blocked_s(grants: list[float], since: float) -> float:
    """The longest time without a grant, as far as it lies after `since`."""
    return max((after - max(before, since) for before, after in pairwise(grants) if after > since))
