"""clufs what-if: what the planner would do if something happened now; nothing does."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clufs.cli.caa_program import Parser, Refused, Tree


def _parser() -> Parser:
    parser = Parser(
        "clufs what-if",
        "Print what would be done if MEMBER were lost now, and do nothing.",
        "clufs what-if lost MEMBER",
    )
    parser.add_argument("what", choices=("lost",), help="the member is lost")
    parser.add_argument("member", metavar="MEMBER", help="a member, or self for this one")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the plan. Returns 0. Raises Refused, UsageError."""
    options = _parser().parse_args(argv)
    tree = Tree()
    try:
        text = (tree.member(options.member) / "if_lost").read_text(errors="replace")
    except OSError as error:
        raise Refused(f"member '{options.member}': {tree.why(error)}") from error
    sys.stdout.write(text)
    return 0
