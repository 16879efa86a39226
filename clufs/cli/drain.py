"""clufs drain: applications leave a member, and none comes to it, until that is ended."""

from __future__ import annotations

from collections.abc import Sequence

from clufs.cli.caa_program import Parser, Tree, converse


def _parser() -> Parser:
    parser = Parser(
        "clufs drain",
        "Have every application that runs on MEMBER relocated, and none placed there until --off.",
        "clufs drain MEMBER [-n] [-q]\nclufs drain MEMBER --off [-q]",
    )
    parser.add_argument("member", metavar="MEMBER", help="a member, or self for this one")
    parser.flag("--off", "the member is drained no more; nothing moves back by that alone")
    parser.flag("-n", "print what would be done, and do nothing")
    parser.quiet()
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Drain a member or end it; return 0 if no application is left there, else 1. Raises Refused, UsageError."""
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    if options.off and options.n:
        parser.error("-n does not go with --off")
    tree = Tree()
    path = tree.member(options.member) / "drain"
    line = "0\n" if options.off else "1 -n\n" if options.n else "1\n"
    see = f"caa_stat -c {options.member} shows what runs there"
    return converse(tree, path, f"member '{options.member}'", line, options.q, see)
