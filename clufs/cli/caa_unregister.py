"""caa_unregister: CAA knows resources no longer (manual 2.10)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clufs.cli.caa_program import Parser, Refused, Teller, Tree, run


def _parser() -> Parser:
    parser = Parser(
        "caa_unregister",
        "Unregister resources. One that is ONLINE or that another requires is refused.",
        "caa_unregister RESOURCE ... [-q]",
    )
    parser.names("the resources")
    parser.quiet()
    return parser


def unregister(tree: Tree, name: str) -> int:
    """Unregister a resource; its profile stays. Raises Refused."""
    directory = tree.directory(name)
    try:
        directory.rmdir()
    except OSError as error:
        raise Refused(f"resource '{name}': {tree.why(error)}") from error
    return 0


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    if not options.names:
        parser.error("name a resource")
    tree = Tree()
    return Teller("caa_unregister", options.q).each(
        options.names, lambda name: unregister(tree, name)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Unregister all that are named, one by one; return 0 if all are, else 1 (2: wrong arguments)."""
    return run("caa_unregister", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
