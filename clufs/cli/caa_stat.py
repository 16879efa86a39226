"""caa_stat: the status of resources, as the TruCluster manual prints it (2.11)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from clufs.cli.caa_program import (
    APPLICATION,
    Parser,
    Refused,
    Resource,
    Standing,
    Teller,
    Tree,
    run,
)
from clufs.errors import ClufsError

# A long name is shown by its ends, so that the columns stay in place.
_NAME_WIDTH = 14
_NAME_HEAD = 3
_NAME_TAIL = 7


def _parser() -> Parser:
    parser = Parser(
        "caa_stat",
        "The status of resources; of all of them if none is named.",
        "caa_stat [RESOURCE ...] [-v] [-l] [-q] [-c MEMBER]\n"
        "caa_stat [RESOURCE ...] -t [-v] [-q] [-c MEMBER]\n"
        "caa_stat -p [RESOURCE ...] [-q]\n"
        "caa_stat [-a] RESOURCE -g\n"
        "caa_stat [-a] RESOURCE -r [-c MEMBER]\n"
        "caa_stat -f [RESOURCE ...] [-q] [-c MEMBER]",
    )
    parser.names("the resources")
    parser.add_argument("-a", metavar="RESOURCE", help="the resource that -g or -r asks about")
    parser.add_argument("-c", metavar="MEMBER", help="only what is on this member")
    parser.flag("-v", "counts of restarts and failures, and their limits, too")
    parser.flag("-l", "as a list; so it is without -t")
    parser.flag("-t", "as a table")
    parser.flag("-p", "the registered profiles")
    parser.flag("-f", "profile and status")
    parser.flag("-g", "print nothing; exit status 0 if it is registered, else 1")
    parser.flag("-r", "print nothing; exit status 0 if it is ONLINE (on MEMBER), else 1")
    parser.quiet()
    return parser


def status(resource: Resource, verbose: bool = False, member: str = "") -> Iterator[str]:
    """The lines about one resource; member: of networks and the like, only those about it."""
    profile = resource.profile
    yield f"NAME={resource.name}"
    yield f"TYPE={resource.type}"
    if verbose:
        if resource.type == APPLICATION:
            yield f"RESTART_ATTEMPTS={profile.get('RESTART_ATTEMPTS', '')}"
            yield f"RESTART_COUNT={resource.restart_count}"
        yield f"FAILURE_THRESHOLD={profile.get('FAILURE_THRESHOLD', '')}"
        yield from _each("FAILURE_COUNT", resource.failure_counts, member)
    yield from _each("TARGET", resource.targets, member)
    yield from _each("STATE", resource.states, member)


def _each(key: str, standings: list[Standing], member: str) -> Iterator[str]:
    for each in standings:
        if not member or each.member in ("", member):
            yield f"{key}={each}"


def profile_and_status(resource: Resource, member: str = "") -> Iterator[str]:
    """The lines of -f: the registered profile, then what changes."""
    yield from resource.profile_text.splitlines()
    if resource.type == APPLICATION:
        yield f"RESTART_COUNT={resource.restart_count}"
    yield from _each("FAILURE_COUNT", resource.failure_counts, member)
    yield from _each("TARGET", resource.targets, member)
    yield from _each("STATE", resource.states, member)


def _is_on(resource: Resource, member: str) -> bool:
    return any(state.member == member for state in resource.states)


def short(name: str) -> str:
    """A name as the table shows it: a long one by its first 3 and last 7 characters."""
    if len(name) <= _NAME_WIDTH:
        return name
    return f"{name[:_NAME_HEAD]}....{name[-_NAME_TAIL:]}"


def table(resources: Sequence[Resource], verbose: bool = False, member: str = "") -> Iterator[str]:
    """The lines of -t: one for each resource and, of networks and the like, each member."""
    form = "{:<15}{:<15}{:<7}{:<7}{:<10}{:<10}{}" if verbose else "{0:<15}{1:<15}{4:<10}{5:<10}{6}"
    yield form.format("Name", "Type", "R/RA", "F/FT", "Target", "State", "Host")
    yield "-" * (70 if verbose else 60)
    for resource in resources:
        for state in resource.states or [Standing("", "")]:
            if not member or state.member == member:
                yield form.format(*_cells(resource, state)).rstrip()


def _cells(resource: Resource, state: Standing) -> list[str]:
    profile = resource.profile
    restarts = f"{resource.restart_count}/{profile.get('RESTART_ATTEMPTS', '')}"
    failures = _of(resource.failure_counts, state.member)
    return [
        short(resource.name),
        resource.type,
        restarts if resource.type == APPLICATION else "",
        f"{failures}/{profile.get('FAILURE_THRESHOLD', '')}",
        _of(resource.targets, state.member),
        state.what,
        state.member,
    ]


def _of(standings: list[Standing], member: str) -> str:
    """What is so on that member, or what is so whichever the member is."""
    return next((each.what for each in standings if each.member in ("", member)), "")


def _answer(parser: Parser, tree: Tree, options: argparse.Namespace) -> int:
    """-g and -r: by the exit status alone."""
    names = [*options.names, *([options.a] if options.a else [])]
    if len(names) != 1 or (options.g and options.r):
        parser.error("-g and -r ask about one resource")
    try:
        resource = tree.resource(names[0])
    except Refused:
        return Refused.exit_code
    return 0 if options.g or resource.is_online(options.c or "") else Refused.exit_code


def _blocks(resources: Sequence[Resource], options: argparse.Namespace) -> Iterator[list[str]]:
    for resource in resources:
        if options.p:
            yield resource.profile_text.splitlines()
        elif options.f:
            yield list(profile_and_status(resource, options.c or ""))
        else:
            yield list(status(resource, options.v, options.c or ""))


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    if [options.t, options.p, options.f, options.g or options.r].count(True) > 1 or (
        options.t and options.l
    ):
        parser.error("choose one of -l, -t, -p, -f, -g and -r")
    if options.a and not (options.g or options.r):
        parser.error("-a goes with -g or -r")
    tree = Tree()
    if options.g or options.r:
        return _answer(parser, tree, options)
    found: list[Resource] = []
    worst = 0
    teller = Teller("caa_stat", options.q)
    for name in options.names:
        try:
            found.append(tree.resource(name))
        except ClufsError as error:
            worst = teller.tell(error)
    if not options.names:
        found = tree.all()
    if options.c:
        found = [each for each in found if _is_on(each, options.c)]
    if options.t:
        lines = list(table(found, options.v, options.c or ""))
    else:
        lines = [line for block in _blocks(found, options) for line in ["", *block]][1:]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return worst


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is asked; return 0, or 1 if a resource is not registered or -r says no (2: usage)."""
    return run("caa_stat", _main, argv)


if __name__ == "__main__":
    sys.exit(main())
