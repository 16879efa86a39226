"""What the check scripts of many applications do to locks: all of them are called every 10 s."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.cluster import Members
from tests.bench.inside import Inside
from tests.bench.measure import Size
from tests.bench.report import Row, Target, compared
from tests.bench.servers import Clufs, running
from tests.cluster.lab import NAMES, Lab

_ROUNDS = 3
_LOOK_S = 0.002
_AT_ONCE = 50
"""Applications that one shell in a member has to do with: it has 100 s."""
_PROFILE = "TYPE=application\nNAME={0}\nACTION_SCRIPT=bench.scr\nCHECK_INTERVAL=10\n"


def measure(size: Size, directory: Path) -> Iterator[Row]:
    """The 99th percentile of a lock and its release, before the applications run and while they do."""
    rounds = min(size.rounds, _ROUNDS)
    with running(clufs := Clufs(directory, "checked")):
        names = _register(clufs, size.resources)
        inside = Inside(clufs.public)
        calm = [inside.p99_us("checked", size.checked_s) for _ in range(rounds)]
        with ThreadPoolExecutor(size.clients) as threads:
            list(threads.map(lambda name: _start(clufs, name), names))
        busy = [inside.p99_us("checked", size.checked_s) for _ in range(rounds)]
        with ThreadPoolExecutor(size.clients) as threads:
            list(threads.map(lambda name: _start(clufs, name, "OFFLINE"), names))
    what = f"99th percentile of a lock, {size.resources} check scripts every 10 s"
    yield compared("checks", what, "us", busy, "without them", calm, Target(2))


def measure_members(size: Size, members: Members, directory: Path) -> Iterator[Row]:
    """The same on three members that have the applications together, of a lock that one of them uses."""
    lab, teller = members.lab, members.tellers[NAMES[0]]
    rounds = min(size.rounds, _ROUNDS)
    names = [f"app{count}" for count in range(size.resources)]
    _register_in(lab, directory, names)

    def p99_us() -> float:
        return float(teller.call("p99_us", name="checked", window_s=size.checked_s))

    calm = [p99_us() for _ in range(rounds)]
    _everywhere(lab, names, "echo ONLINE > /clu/resources/{}/target")
    busy = [p99_us() for _ in range(rounds)]
    _everywhere(lab, names, "echo OFFLINE > /clu/resources/{}/target && rmdir /clu/resources/{}")
    what = f"the same on three members that have these {size.resources} together"
    yield compared("checks-members", what, "us", busy, "without them", calm, Target(2))


def _register_in(lab: Lab, place: Path, names: list[str]) -> None:
    (place / "bench.scr").write_text("#!/bin/sh\nexit 0\n")
    lab.sh(NAMES[0], f"cp {place}/bench.scr /clu/scripts/ && chmod 755 /clu/scripts/bench.scr")
    for name in names:
        (place / f"{name}.cap").write_text(_PROFILE.format(name))
    made = f"cp {place}/{{}}.cap /clu/resources/ && mkdir /clu/resources/{{}}"
    _everywhere(lab, names, made)


def _everywhere(lab: Lab, names: list[str], command: str) -> None:
    """Run a command for each application, the members side by side. {}: its name."""
    text = command.replace("{}", "$name") + " || exit"

    def run(number: int) -> None:
        part = names[number :: len(NAMES)]
        for begin in range(0, len(part), _AT_ONCE):
            some = " ".join(part[begin : begin + _AT_ONCE])
            lab.sh(NAMES[number], f"for name in {some}; do {text}; done")

    with ThreadPoolExecutor(len(NAMES)) as threads:
        list(threads.map(run, range(len(NAMES))))


def _register(clufs: Clufs, number: int) -> list[str]:
    while "QUORATE=1" not in (clufs.root / "status" / "quorum").read_text():
        time.sleep(_LOOK_S)
    script = clufs.root / "scripts" / "bench.scr"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    resources = clufs.root / "resources"
    names = [f"app{count}" for count in range(number)]
    for name in names:
        (resources / f"{name}.cap").write_text(_PROFILE.format(name))
        (resources / name).mkdir()
    return names


def _start(clufs: Clufs, name: str, target: str = "ONLINE") -> None:
    (clufs.root / "resources" / name / "target").write_text(target)
