"""caa_register: resources become known to CAA, or get a new profile (manual 2.5)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clufs.cli.caa_program import (
    Parser,
    Refused,
    Teller,
    Tree,
    after_required,
    command,
    run,
    values,
)
from clufs.errors import ProfileRefused


def _parser() -> Parser:
    parser = Parser(
        "caa_register",
        "Register resources with CAA. Each needs a valid profile, resources/RESOURCE.cap.",
        "caa_register RESOURCE ... [-u] [-q]",
    )
    parser.names("the resources")
    parser.flag("-u", "they are registered already: take their profiles anew")
    parser.quiet()
    return parser


def register(tree: Tree, name: str) -> int:
    """Register a resource by its profile. Raises Refused."""
    if not name or "/" in name:
        raise Refused(f"'{name}' is no name of a resource")
    cap = tree.resources / f"{name}.cap"
    if not cap.exists() and not cap.with_suffix(".cap.refused").exists():
        raise Refused(f"resource '{name}' has no profile {cap}")
    try:
        (tree.resources / name).mkdir()
    except FileExistsError as error:
        raise Refused(f"resource '{name}' is registered already") from error
    except OSError as error:
        raise Refused(f"resource '{name}': {tree.why(error)}") from error
    return 0


def in_order(tree: Tree, names: Sequence[str]) -> list[str]:
    """The names, each after those that its profile requires: only what is registered can be required."""

    def required(name: str) -> list[str]:
        try:
            text = (tree.resources / f"{name}.cap").read_bytes()
            return values(text, f"{name}.cap").get("REQUIRED_RESOURCES", "").split()
        except (OSError, ValueError, ProfileRefused):
            return []  # registering it says why

    return after_required({name: required(name) for name in names})


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    if not options.names:
        parser.error("name a resource")
    tree = Tree()
    teller = Teller("caa_register", options.q)
    if options.u:
        return teller.each(options.names, lambda name: command(tree, name, "update\n", options.q))
    return teller.each(in_order(tree, options.names), lambda name: register(tree, name))


def main(argv: Sequence[str] | None = None) -> int:
    """Register all that are named, one by one; return 0 if all are, else 1 (2: wrong arguments)."""
    return run("caa_register", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
