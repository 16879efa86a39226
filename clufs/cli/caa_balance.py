"""caa_balance: applications go where their placement policy would have them now (manual 2.8)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clufs.cli.caa_program import Parser, Teller, Tree, command, control_line, run


def _parser() -> Parser:
    parser = Parser(
        "caa_balance",
        "Judge the placement of applications anew, one after the other, and relocate those that\n"
        "would be better placed on another member.",
        "caa_balance -all [-n] [-q]\ncaa_balance RESOURCE ... [-n] [-q]\n"
        "caa_balance -s MEMBER [-n] [-q]",
    )
    parser.names("the applications")
    parser.flag("-all", "every application that runs")
    parser.add_argument("-s", metavar="MEMBER", help="every application that runs on this member")
    parser.flag("-n", "print what would be done, and do nothing")
    parser.quiet()
    return parser


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    names: list[str] = options.names
    if [bool(names), bool(options.s), options.all].count(True) != 1:
        parser.error("name a resource, or say -s MEMBER or -all")
    tree = Tree()
    if not names:
        names = [each.name for each in tree.applications() if each.is_online(options.s or "")]
    line = control_line("balance", *(["-n"] if options.n else []))
    return Teller("caa_balance", options.q).each(
        names, lambda name: command(tree, name, line, options.q)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Balance all that are meant, one by one; return 0, or 1 if one failed (2: wrong arguments)."""
    return run("caa_balance", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
