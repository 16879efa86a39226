"""caa_relocate: applications go to another member (manual 2.7)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clufs.cli.caa_program import (
    Parser,
    Teller,
    Tree,
    command,
    control_line,
    run,
    split_variables,
)


def _parser() -> Parser:
    parser = Parser(
        "caa_relocate",
        "Relocate applications, to a member or to the one that their placement policy chooses.",
        "caa_relocate RESOURCE ... [-c MEMBER] [-f] [-n] [-q]\n"
        "caa_relocate [USR_NAME=VALUE] ... RESOURCE [-c MEMBER] [-f] [-n] [-q]\n"
        "caa_relocate -s MEMBER [-c MEMBER] [-f] [-n] [-q]",
    )
    parser.names("the applications; USR_NAME=VALUE counts instead of the profile's value")
    parser.add_argument("-s", metavar="MEMBER", help="every application that runs on this member")
    parser.add_argument("-c", metavar="MEMBER", help="to this member")
    parser.flag("-f", "with all that they require and all that require them")
    parser.flag("-n", "print what would be done, and do nothing")
    parser.quiet()
    return parser


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    names, variables = split_variables(options.names)
    if bool(names) == bool(options.s) or (variables and not names):
        parser.error("name a resource, or say -s MEMBER")
    tree = Tree()
    if options.s:
        names = [each.name for each in tree.applications() if each.is_online(options.s)]
    words = ["-c", options.c] if options.c else []
    words += [flag for flag, given in (("-f", options.f), ("-n", options.n)) if given]
    line = control_line("relocate", *words, variables=variables)

    def relocate(name: str) -> int:
        # With -f one that went before may have taken this one along.
        if options.s and not options.n and not tree.resource(name).is_online(options.s):
            return 0
        return command(tree, name, line, options.q)

    return Teller("caa_relocate", options.q).each(names, relocate)


def main(argv: Sequence[str] | None = None) -> int:
    """Relocate all that are meant, one by one; return 0 if all are, else 1 (2: wrong arguments)."""
    return run("caa_relocate", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
