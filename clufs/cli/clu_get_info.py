"""clu_get_info: the cluster and its members, from the files of /clu, as the TruCluster manual prints it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clufs.errors import ClufsError

ROOT_VARIABLE = "CLU_ROOT"
ROOT = "/clu"


class NotAMember(ClufsError):
    """There is no cluster here, or not the member that was asked for."""


@dataclass(frozen=True, slots=True)
class Member:
    """One directory of /clu/members."""

    name: str
    id: int
    up: bool
    votes: str
    address: str
    version: str
    incarnation: str

    @property
    def interconnect(self) -> str:
        """Where the other members reach it: its address without the port, or its name."""
        host = self.address.rpartition(":")[0] if ":" in self.address else self.address
        return self.name if host == "-" else host.strip("[]")


def _facts(path: Path) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in path.read_text().splitlines())


def _read_member(directory: Path) -> Member:
    def fact(key: str) -> str:
        return (directory / key).read_text().strip()

    return Member(
        name=directory.name,
        id=int(fact("id")),
        up=fact("state") == "member",
        votes=fact("votes"),
        address=fact("address"),
        version=fact("version"),
        incarnation=fact("incarnation"),
    )


class Cluster:
    """What the files say, read once. Raises NotAMember if they are not there."""

    def __init__(self, root: Path) -> None:
        try:
            self.facts = _facts(root / "status" / "cluster")
            self.quorum = _facts(root / "status" / "quorum")
            directories = [path for path in (root / "members").iterdir() if not path.is_symlink()]
            self.members = sorted((_read_member(path) for path in directories), key=lambda m: m.id)
            own = os.readlink(root / "members" / "self")
        except OSError as error:
            raise NotAMember(
                f"this system is not a cluster member: {error.filename}: {error.strerror}"
            ) from error
        self.me = next(member for member in self.members if member.name == own)

    def member(self, number: int) -> Member:
        """The member of that id. Raises NotAMember."""
        for member in self.members:
            if member.id == number:
                return member
        raise NotAMember(f"no member with memberid {number} is configured")


def _about_cluster(cluster: Cluster, full: bool) -> Iterator[str]:
    yield f"    Cluster information for cluster {cluster.facts['NAME']}"
    yield ""
    yield f"Number of members configured in this cluster = {len(cluster.members)}"
    yield f"memberid for this member = {cluster.me.id}"
    if full:
        yield f"Cluster expected votes = {cluster.quorum['EXPECTED_VOTES']}"
        yield f"Current votes = {cluster.quorum['VOTES']}"
        yield f"Votes required for quorum = {cluster.quorum['QUORUM']}"


def _about_member(member: Member, full: bool) -> Iterator[str]:
    yield f"        Cluster memberid = {member.id}"
    yield f"        Hostname = {member.name}"
    yield f"        Cluster interconnect IP name = {member.interconnect}"
    yield f"        Member state = {'UP' if member.up else 'DOWN'}"
    if full:
        yield f"        Member cluster version = {member.version}"
        yield f"        Member incarnation = {member.incarnation}"
        yield f"        Member votes = {member.votes}"


def report(cluster: Cluster, members: Sequence[Member], full: bool) -> str:
    """All that is printed, of these members."""
    lines = ["", *_about_cluster(cluster, full), "", "    Information on each cluster member", ""]
    for member in members:
        lines += [*_about_member(member, full), ""]
    return "".join(f"{line}\n" for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clu_get_info", description="Information about the cluster and its members."
    )
    parser.add_argument("-full", action="store_true", help="votes, versions and incarnations too")
    parser.add_argument("-q", action="store_true", help="print nothing; see the exit status")
    parser.add_argument("-m", metavar="MEMBERID", type=int, help="about this member only")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is asked; 0, or with -q whether this member, or the one asked for, is up."""
    options = _parser().parse_args(argv)
    try:
        cluster = Cluster(Path(os.environ.get(ROOT_VARIABLE) or ROOT))
        asked = cluster.me if options.m is None else cluster.member(options.m)
    except NotAMember as error:
        if not options.q:
            print(f"clu_get_info: {error}", file=sys.stderr)
        return error.exit_code
    if options.q:
        return 0 if asked.up else NotAMember.exit_code
    members = cluster.members if options.m is None else [asked]
    sys.stdout.write(report(cluster, members, options.full))
    return 0


if __name__ == "__main__":
    sys.exit(main())
