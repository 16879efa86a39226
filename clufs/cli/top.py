"""clufs top: members, resources and the busiest locks, live in the terminal, from the files of /clu."""

from __future__ import annotations

import argparse
import curses
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clufs.cli.clu_get_info import ROOT, ROOT_VARIABLE
from clufs.errors import InvalidRequest, ProgramError, UsageError
from clufs.tree.names import read_word

_USAGE = "usage: clufs top [-d SECONDS] [-n COUNT] [-b]"
_QUIT = ("q", "Q", "\x1b")
_QUEUES = ("granted", "converting", "waiting", "master")
_LOCKS_AT_LEAST = 5


@dataclass(frozen=True, slots=True)
class Look:
    """What the files of /clu said at one moment. requests: of all that are counted, by name."""

    when_s: float
    cluster: dict[str, str]
    quorum: dict[str, str]
    members: list[tuple[str, ...]]
    resources: list[tuple[str, ...]]
    requests: dict[str, int]


def look(root: Path) -> Look:
    """Read them. Raises ProgramError where there is no /clu."""
    cluster = _facts(root / "status" / "cluster")
    return Look(
        time.monotonic(),
        cluster,
        _facts(root / "status" / "quorum"),
        list(_members(root / "members")),
        list(_resources(root / "resources")),
        dict(_requests(root / "status" / "busiest")),
    )


def _facts(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise ProgramError(f"{path}: {error.strerror}: is clufsd running?") from error
    return dict(line.partition("=")[::2] for line in lines)


def _word(path: Path) -> str:
    """The first line of a file; what came or went meanwhile has none."""
    with suppress(OSError):
        return path.read_text(errors="replace").partition("\n")[0]
    return "-"


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text(errors="replace").splitlines()
    return []


def _directories(path: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(one for one in path.iterdir() if one.is_dir() and not one.is_symlink())
    return []


def _members(path: Path) -> Iterator[tuple[str, ...]]:
    for one in _directories(path):
        facts = (_word(one / key) for key in ("state", "votes", "incarnation", "address"))
        yield (one.name, *facts)


def _resources(path: Path) -> Iterator[tuple[str, ...]]:
    """A line for each resource and, for those that are watched on every member, each member."""
    for one in _directories(path):
        targets = dict(line.partition(" on ")[::-2] for line in _lines(one / "target"))
        for line in _lines(one / "state") or ["-"]:
            state, _, member = line.partition(" on ")
            target = targets.get(member) or targets.get("") or "-"
            yield (one.name, target, state, member)


def _requests(path: Path) -> Iterator[tuple[str, int]]:
    for line in _lines(path):
        count, _, name = line.partition(" ")
        if count.isdigit():
            yield name, int(count)


def rates(before: Look | None, now: Look) -> list[tuple[float, str]]:
    """Requests per second since the look before and names, the busiest first; what stood still is left out.

    A count that was halved in between has nothing to compare with, and is left out once.
    """
    if before is None:
        return []
    seconds = max(now.when_s - before.when_s, 1e-3)
    grown = ((now.requests[name] - before.requests.get(name, 0), name) for name in now.requests)
    return sorted(((n / seconds, name) for n, name in grown if n > 0), key=lambda x: (-x[0], x[1]))


def queues(root: Path, name: str) -> tuple[str, ...]:
    """How many hold, convert and wait, and who is master; dashes for a name that is gone."""
    try:
        path = root / "locks" / os.fsdecode(read_word(name.encode()))
        return tuple(os.getxattr(path, f"user.clu.{one}").decode() for one in _QUEUES)
    except (OSError, InvalidRequest):
        return ("-",) * len(_QUEUES)


# ------------------------------------------------- the screen


def screen(root: Path, before: Look | None, now: Look, height: int, width: int) -> list[str]:
    """The lines to show, no more than fit."""
    lines = [_headline(now), ""]
    lines += _table(("MEMBER", "STATE", "VOTES", "INCARNATION", "ADDRESS"), now.members)
    if now.resources:
        room = height - len(lines) - _LOCKS_AT_LEAST - 3
        resources = sorted(now.resources, key=_is_as_wanted)
        lines += ["", *_table(("RESOURCE", "TARGET", "STATE", "MEMBER"), resources, room)]
    room = max(height - len(lines) - 2, 0)
    locks = [
        (name, f"{rate:,.1f}", *queues(root, name)) for rate, name in rates(before, now)[:room]
    ]
    heads = ("LOCK", "REQUESTS/S", "GRANTED", "CONVERTING", "WAITING", "MASTER")
    lines += ["", *_table(heads, locks, room)]
    return [line[:width] for line in lines[:height]]


def _is_as_wanted(resource: tuple[str, ...]) -> bool:
    """Whether its state is its target; those that are not come first, each kind by name."""
    _, target, state, _ = resource
    return state == target


def _headline(now: Look) -> str:
    votes = f"{now.quorum.get('VOTES', '?')} of {now.quorum.get('EXPECTED_VOTES', '?')} votes"
    state = "quorate" if now.quorum.get("QUORATE") == "1" else "NO QUORUM"
    waits_for = now.quorum.get("WAITS_FOR")
    words = [
        f"cluster {now.cluster.get('NAME', '?')}, seen by {now.cluster.get('MEMBER', '?')}",
        f"view {now.quorum.get('VIEW', '?')}",
        f"{state}, {votes}",
    ]
    return "  ".join(words) + (f"  waits for {waits_for}" if waits_for else "")


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], room: int = 1000) -> list[str]:
    """Columns as wide as their widest word; numbers stand right. Rows that do not fit are counted."""
    shown = list(rows[: max(room, 0)])
    widths = [max(len(row[at]) for row in (heads, *shown)) for at in range(len(heads))]
    lines = [_row(row, widths) for row in (heads, *shown)]
    left = len(rows) - len(shown)
    return [*lines, f"... and {left} more"] if left else lines


def _row(row: tuple[str, ...], widths: list[int]) -> str:
    words = (
        word.rjust(width) if word[:1].isdigit() and at else word.ljust(width)
        for at, (word, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(words).rstrip()


# ------------------------------------------------- running


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; {_USAGE}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="clufs top",
        description="Members, resources and the locks that processes of this member ask for most. q ends it.",
    )
    parser.add_argument(
        "-d",
        type=_seconds,
        default=2.0,
        dest="delay_s",
        metavar="SECONDS",
        help="between two looks: 2",
    )
    parser.add_argument("-n", type=_count, default=0, dest="count", metavar="COUNT", help="looks")
    parser.add_argument(
        "-b", action="store_true", dest="batch", help="print one look after another"
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: seconds from 0.1 to 3600")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return value


def _print_looks(root: Path, delay_s: float, count: int) -> None:
    """One screen of whatever length after the other; count 0: for ever."""
    before = look(root)
    for number in itertools.count(1):
        time.sleep(delay_s)
        now = look(root)
        print(
            "\n".join(screen(root, before, now, sys.maxsize, sys.maxsize)), end="\n\n", flush=True
        )
        before = now
        if number == count:
            return


def _live(window: curses.window, root: Path, delay_s: float, count: int) -> None:
    """The first screen at once, without rates. A key wakes it: one of _QUIT ends it."""
    with suppress(curses.error):
        curses.curs_set(0)
    window.timeout(int(delay_s * 1000))
    before = None
    for number in itertools.count(1):
        now = look(root)
        height, width = window.getmaxyx()
        window.erase()
        for at, line in enumerate(screen(root, before, now, height, width - 1)):
            window.addstr(at, 0, line)
        window.refresh()
        before = now
        with suppress(curses.error):
            if window.getkey() in _QUIT:
                return
        if number == count:
            return


def main(argv: Sequence[str] | None = None) -> int:
    """Show until told to end. Raises UsageError, or ProgramError where there is no /clu."""
    options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    root = Path(os.environ.get(ROOT_VARIABLE, ROOT))
    look(root)
    with suppress(KeyboardInterrupt):
        if options.batch or not sys.stdout.isatty():
            _print_looks(root, options.delay_s, options.count)
        else:
            curses.wrapper(_live, root, options.delay_s, options.count)
    return 0
