"""caa_stop: TARGET becomes OFFLINE, and applications stop (manual 2.9)."""

from __future__ import annotations

import argparse
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
        "caa_stop",
        "Stop applications.",
        "caa_stop RESOURCE ... [-f] [-n] [-q]\n"
        "caa_stop [USR_NAME=VALUE] ... RESOURCE [-f] [-n] [-q]\n"
        "caa_stop -c MEMBER ... [-f] [-n] [-q]\n"
        "caa_stop -all [-f] [-n] [-q]",
    )
    parser.names("the applications; USR_NAME=VALUE counts instead of the profile's value")
    parser.add_argument("-c", metavar="MEMBER", nargs="+", help="those that run on these members")
    parser.flag("-f", "stop those that require them too, and ignore stops that fail")
    parser.flag("-n", "print what would be done, and do nothing")
    parser.flag("-all", "every application")
    parser.quiet()
    return parser


def _names(tree: Tree, options: argparse.Namespace) -> list[str]:
    """The applications of -all or -c, those that require others before these."""
    found = [each for each in tree.applications() if not each.is_stopped()]
    if options.c:
        found = [each for each in found if {one.member for one in each.states} & {*options.c}]
    return [each.name for each in reversed(in_order_of_need(found))]


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    names, variables = split_variables(options.names)
    if [bool(names), bool(options.c), options.all].count(True) != 1 or (variables and not names):
        parser.error("name a resource, or say -c MEMBER or -all")
    tree = Tree()
    names = names or _names(tree, options)
    words = [flag for flag, given in (("-f", options.f), ("-n", options.n)) if given]
    line = control_line("stop", *words, variables=variables)
    return Teller("caa_stop", options.q).each(
        names, lambda name: command(tree, name, line, options.q)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Stop all that are meant, one by one; return 0 if all are stopped, else 1 (2: wrong arguments)."""
    return run("caa_stop", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
