"""One of two members is killed: how long until the quorum disk has made the other one quorate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tests.bench.measure import Size
from tests.bench.report import Row, Target, figure
from tests.cluster.lab import NAMES, Lab, within

_ROUNDS = 5
_PATIENCE_S = 60
_STAYS, _DIES = NAMES[:2]
_BREAKS = re.compile(r"(\d\d:\d\d:\d\d\.\d+) .*A new membership .* was formed\. Members left")
_DECIDED = re.compile(r"(\d\d:\d\d:\d\d\.\d+) .*within the primary component")


def measure(size: Size, directory: Path) -> Iterator[Row]:
    """By the log of the corosync that stays, from its new ring to its quorum there."""
    lab = Lab(directory / "quorum-disk")
    lab.do("up", "--members", "2", "--quorum-disk")
    try:
        took = [_kill(lab)]
        for _ in range(1, min(size.rounds, _ROUNDS)):
            lab.do("restart", _DIES)
            took.append(_kill(lab))
    finally:
        lab.run("down")
    what = "quorum disk decides: seconds from the membership change"
    yield figure("quorum-disk", what, "s", took, Target(2))


def _kill(lab: Lab) -> float:
    log = lab.directory / _STAYS / "corosync.log"
    begun = log.stat().st_size
    lab.do("kill", _DIES)

    def found() -> tuple[float, float] | None:
        with open(log) as lines:
            lines.seek(begun)
            text = lines.read()
        breaks = _BREAKS.search(text)
        decided = breaks and _DECIDED.search(text, breaks.end())
        return (_seconds(breaks[1]), _seconds(decided[1])) if breaks and decided else None

    if not within(_PATIENCE_S, found):
        raise RuntimeError(f"{_STAYS} does not become quorate")
    times = found()
    assert times is not None
    return (times[1] - times[0]) % 86400


def _seconds(clock: str) -> float:
    at = datetime.strptime(clock, "%H:%M:%S.%f")
    return at.hour * 3600 + at.minute * 60 + at.second + at.microsecond / 1e6
