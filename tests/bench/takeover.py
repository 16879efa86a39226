"""A member is killed: how long until its application runs elsewhere, beside what that has to take.

That is detection, until the engine gives the member up, the fencing, and the start script. The rest
is clufs: views, the planner, the lock and the call of the script. `history` tells the parts; it
counts detection from the last word of the member, up to a keepalive before its end, so that what is
taken here is the time of the event `left`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from clufs.lab import plan, processes
from tests.bench.measure import Size
from tests.bench.report import Row, Target, figure
from tests.cluster.lab import NAMES, Lab, within
from tests.cluster.torture.faults import make_whole

_ROUNDS = 3
_SCRIPT = """#!/bin/sh
case $1 in
start) sleep 0.2; date +%s.%N > {place}/began ;;
esac
"""
_PARTS = {
    "fencing": r"([\d.]+) s for the fencing",
    "lock": r"([\d.]+) s for its lock",
    "script": r"([\d.]+) s for its script",
}
_PATIENCE_S = 60


def measure(size: Size, lab: Lab, directory: Path) -> Iterator[Row]:
    """One application, and each time the member that runs it is killed."""
    found: list[dict[str, float]] = []
    _register(lab, directory)
    for _ in range(min(size.rounds, _ROUNDS)):
        found.append(_kill(lab, directory))
        if make_whole(lab, lambda member: None):
            raise RuntimeError("the lab does not come back")
    whole = [one["whole"] * 1000 for one in found]
    yield figure("takeover", "a member killed: its application runs elsewhere", "ms", whole)
    what = "of that: until the engine gives it up"
    yield figure("takeover-detection", what, "ms", [one["detection"] * 1000 for one in found])
    for part in _PARTS:
        what = f"of that, as history tells: {part}"
        yield figure(f"takeover-{part}", what, "ms", [one[part] * 1000 for one in found])
    due = ("detection", "fencing", "script")
    rest = [(one["whole"] - sum(one[part] for part in due)) * 1000 for one in found]
    what = "beyond detection, fencing and its start script"
    yield figure("takeover-rest", what, "ms", rest, Target(300))


def _register(lab: Lab, place: Path) -> None:
    (place / "app.scr").write_text(_SCRIPT.format(place=place))
    profile = "TYPE=application\nNAME=app\nACTION_SCRIPT=app.scr\nCHECK_INTERVAL=0\n"
    (place / "app.cap").write_text(profile)
    lab.sh(
        NAMES[0],
        f"cp {place}/app.scr /clu/scripts/ && chmod 755 /clu/scripts/app.scr && cp {place}/app.cap"
        " /clu/resources/ && mkdir /clu/resources/app",
    )
    try:
        lab.sh(NAMES[0], "echo ONLINE > /clu/resources/app/target")
    except AssertionError as error:
        said = lab.sh(NAMES[0], "cd /clu/resources/app && cat history output candidates")
        raise RuntimeError(f"{error}{said}") from error


def _kill(lab: Lab, place: Path) -> dict[str, float]:
    """The seconds of the whole, and of each part that history tells."""
    killed = lab.sh(NAMES[0], "cat /clu/resources/app/host").strip()
    at = next(name for name in NAMES if name != killed)
    (place / "began").unlink()
    init = processes.living(plan.Lab(lab.directory).init(killed))
    assert init is not None
    killed_s = time.time()
    processes.kill([init], _PATIENCE_S)
    if not within(_PATIENCE_S, lambda: _runs(lab, at, killed)):
        raise RuntimeError("the application does not come back")
    began_s = float((place / "began").read_text())
    said = lab.sh(at, "tail -n 1 /clu/resources/app/history")
    parts = {part: re.search(words, said) for part, words in _PARTS.items()}
    return {
        "whole": began_s - killed_s,
        "detection": _left_s(lab, at, killed) - killed_s,
        **{part: float(hit[1]) if hit else 0.0 for part, hit in parts.items()},
    }


def _left_s(lab: Lab, at: str, member: str) -> float:
    """When that member saw the other one leave the view, by the wall clock."""
    line = lab.sh(at, f"grep ' left member={member} ' /clu/events | tail -n 1")
    return datetime.fromisoformat(line.split()[0]).timestamp()


def _runs(lab: Lab, at: str, killed: str) -> bool:
    state = lab.sh(at, "cat /clu/resources/app/state")
    return state.startswith("ONLINE") and killed not in state
