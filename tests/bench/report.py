"""What was measured: rows with their targets, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A figure to reach: the ratio, or the figure itself where there is none, is at most `bound`."""

    bound: float
    at_least: bool = False

    def reached(self, figure: float) -> bool:
        """Whether a figure is within the bound."""
        return figure >= self.bound if self.at_least else figure <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{sign} {shown(self.bound)}"


@dataclass(frozen=True)
class Row:
    """One figure: the median over the rounds, and what it is compared with in the same rounds.

    key: stable, for programs. yardstick: the median of what it is divided by, which `against`
    names. ratio: the median of the rounds' ratios. rounds: the figure in each round.
    """

    key: str
    what: str
    measured: float
    unit: str
    against: str = ""
    yardstick: float | None = None
    ratio: float | None = None
    target: Target | None = None
    rounds: Sequence[float] = field(default=())

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.target.reached(self.measured if self.ratio is None else self.ratio)


def figure(
    key: str, what: str, unit: str, rounds: Sequence[float], target: Target | None = None
) -> Row:
    """A row that stands for itself."""
    return Row(key, what, statistics.median(rounds), unit, target=target, rounds=rounds)


def compared(
    key: str,
    what: str,
    unit: str,
    rounds: Sequence[float],
    against: str,
    yardstick: Sequence[float],
    target: Target | None = None,
) -> Row:
    """A row that is a ratio: both sides were measured in the same rounds."""
    ratios = [mine / other for mine, other in zip(rounds, yardstick, strict=True)]
    return Row(
        key,
        what,
        statistics.median(rounds),
        unit,
        against,
        statistics.median(yardstick),
        statistics.median(ratios),
        target,
        rounds,
    )


def shown(number: float) -> str:
    """A number with the digits that mean something."""
    if number >= 1000:
        return f"{number:,.0f}"
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


_HEADS = ("", "measured", "beside", "", "ratio", "target", "reached")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        f"{shown(row.measured)} {row.unit}",
        row.against,
        "" if row.yardstick is None else f"{shown(row.yardstick)} {row.unit}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.target is None else str(row.target),
        {None: "", True: "yes", False: "NO"}[row.reached],
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as text, in columns."""
    lines = [_HEADS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    text = []
    for line in lines:
        first, *rest = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        text.append("  ".join([first, *rest]).rstrip())
    return "\n".join(text)


def machine() -> dict[str, object]:
    """What the figures depend on, and the load while they are taken."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def write_json(path: Path, rows: Sequence[Row], before: dict[str, object]) -> None:
    """Keep everything that was measured. before: `machine()` as it was at the start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        "machine": before,
        "load_after": machine()["load"],
        "rows": [{**asdict(row), "reached": row.reached} for row in rows],
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")
