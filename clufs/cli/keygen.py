"""clufs keygen: the keys by which the members of a cluster know each other."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from clufs.errors import UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; usage: clufs keygen --dir DIR MEMBER...")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="clufs keygen",
        description="Make an authority for the cluster in DIR, and in DIR/MEMBER the keys of each"
        " member, to be copied to that machine. With an authority already in DIR, members are added.",
    )
    parser.add_argument("--dir", required=True, type=Path, metavar="DIR", help="where the keys go")
    parser.add_argument("members", nargs="+", metavar="MEMBER", help="a member's name")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the keys and print where those of each member are."""
    options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    # Loaded here: it takes longer than all else in this program.
    from clufs.cluster.authority import make_keys

    for name, place in zip(options.members, make_keys(options.dir, options.members), strict=True):
        print(f"{name}: {place}")
    return 0
