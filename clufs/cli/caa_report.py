"""caa_report: how much of the time each application was up (TruCluster manual 5.3.1)."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from clufs.caa.uptime import Availability, Event, availability
from clufs.cli.caa_program import APPLICATION, Parser, Refused, Resource, Tree, run, values

# What -b and -e take, in the local time zone.
_FORMS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M:%S",
    "%m/%d/%Y",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
)
_TRANSITION = re.compile(r"(?P<before>.*?) -> (?P<after>.*?): ")
_WIDTHS = "{:<20}{:<25}{:>10}"


def _parser() -> Parser:
    parser = Parser(
        "caa_report",
        "How much of the time each application was up, from its starts and stops.",
        "caa_report [-o | -s | -h | -a RESOURCE] [-b TIME] [-e TIME]",
        add_help=False,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-o", action="store_true", help="only applications that were up")
    which.add_argument("-s", action="store_true", help="every application; so it is without -o")
    which.add_argument("-a", metavar="RESOURCE", help="only this application")
    which.add_argument("-h", "--help", action="help", help="show this and exit")
    parser.add_argument(
        "-b", metavar="TIME", help="from then on (the first start), like '2026-11-21 17:15'"
    )
    parser.add_argument("-e", metavar="TIME", help="until then (now)")
    return parser


def read_time(text: str) -> float:
    """The wall clock of a date, with or without a time of day. Raises ValueError."""
    for form in _FORMS:
        try:
            return datetime.strptime(text, form).timestamp()
        except ValueError:
            continue
    raise ValueError(f"'{text}' is no time like '2026-11-21 17:15' or '11/21/2026'")


def _stamp(text: str) -> float:
    """The wall clock of a time as clufs writes it, 2026-11-21T05:06:07.890Z. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()


def events(resource: Resource) -> Iterator[Event]:
    """Its starts and stops, as far as they are kept: from `uptime` or, without it, `history`."""
    for line in (resource.uptime or resource.history).splitlines():
        stamp, _, rest = line.partition(" ")
        try:
            time_s = _stamp(stamp)
        except ValueError as error:
            raise Refused(f"{resource.directory}: '{line}' does not begin with a time") from error
        if resource.uptime:
            yield Event(time_s, rest.startswith("start "))
        elif found := _TRANSITION.match(rest):
            before, after = (found[side].startswith("ONLINE") for side in ("before", "after"))
            if before != after:
                yield Event(time_s, after)


def _when(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).strftime("%a %b %d %H:%M:%S %Y")


def _lines(name: str, found: Availability | None) -> Iterator[str]:
    if found is None:
        yield _WIDTHS.format(name, "NEVER STARTED", "0.00 %")
        return
    yield _WIDTHS.format(name, _when(found.begin_s), "").rstrip()
    yield _WIDTHS.format("", _when(found.end_s), f"{found.per_cent:.2f} %")


def report(cluster: str, found: Sequence[tuple[str, Availability | None]]) -> str:
    """All that is printed."""
    head = f"Application Availability Report for {cluster}"
    lines = ["", f"        {head}", f"        {'-' * len(head)}", ""]
    lines += [_WIDTHS.format("Applications", "starting/ending", "uptime"), "-" * 55]
    lines += [line for name, one in found for line in _lines(name, one)]
    return "".join(f"{line}\n" for line in lines)


def _cluster(tree: Tree) -> str:
    try:
        text = (tree.root / "status" / "cluster").read_bytes()
    except OSError:
        return str(tree.root)
    return values(text, "status/cluster").get("NAME", str(tree.root))


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        begin_s, end_s = (None if t is None else read_time(t) for t in (options.b, options.e))
    except ValueError as error:
        parser.error(str(error))
    if begin_s is not None and end_s is not None and end_s <= begin_s:
        parser.error("-e is not later than -b")
    tree = Tree()
    resources = [tree.resource(options.a)] if options.a else tree.applications()
    if options.a and resources[0].type != APPLICATION:
        raise Refused(f"resource '{options.a}' is no application")
    now_s = time.time()
    found = [(each.name, availability(events(each), now_s, begin_s, end_s)) for each in resources]
    if options.o:
        found = [(name, one) for name, one in found if one and one.up_s > 0]
    sys.stdout.write(report(_cluster(tree), found))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; return 0, or 1 for a resource that is not registered (2: wrong arguments)."""
    return run("caa_report", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
