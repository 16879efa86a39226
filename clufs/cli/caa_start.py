"""caa_start: TARGET becomes ONLINE, and resources start (manual 2.6)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clufs.cli.caa_program import (
    Parser,
    Teller,
    Tree,
    command,
    control_line,
    in_order_of_need,
    run,
    split_variables,
)


def _parser() -> Parser:
    parser = Parser(
        "caa_start",
        "Start applications; restart networks, tapes and changers that failed too often.",
        "caa_start RESOURCE ... [-c MEMBER] [-f] [-n] [-q]\n"
        "caa_start [USR_NAME=VALUE] ... RESOURCE [-c MEMBER] [-f] [-n] [-q]\n"
        "caa_start -all [-n] [-q]",
    )
    parser.names("the resources; USR_NAME=VALUE counts instead of the profile's value")
    parser.add_argument("-c", metavar="MEMBER", help="start on this member")
    parser.flag("-f", "start or relocate what they require, too")
    parser.flag("-n", "print what would be done, and do nothing")
    parser.flag("-all", "every application that does not run")
    parser.quiet()
    return parser


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    names, variables = split_variables(options.names)
    if bool(names) == options.all or (options.all and (variables or options.c or options.f)):
        parser.error("name a resource, or say -all alone")
    tree = Tree()
    if options.all:
        idle = [each for each in tree.applications() if not each.is_online()]
        names = [each.name for each in in_order_of_need(idle)]
    words = ["-c", options.c] if options.c else []
    words += [flag for flag, given in (("-f", options.f), ("-n", options.n)) if given]
    line = control_line("start", *words, variables=variables)
    return Teller("caa_start", options.q).each(
        names, lambda name: command(tree, name, line, options.q)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Start all that are named, one by one; return 0 if all run, else 1 (2: wrong arguments)."""
    return run("caa_start", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
