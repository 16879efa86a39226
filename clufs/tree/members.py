"""/clu/members: a directory for each configured member, and `self`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from clufs.errors import InvalidRequest, NoSuchName
from clufs.tree.cluster import CONFIRMED, OFF, Cluster, FenceWord, MemberFacts
from clufs.tree.items import Caller, Item, Link, Report, StaticDirectory, one_line
from clufs.tree.names import shown

if TYPE_CHECKING:
    from clufs.tree.journals import FencingLog

SELF = b"self"
_WORDS: dict[bytes, FenceWord] = {b"off": OFF, b"confirmed": CONFIRMED}


def _address(facts: MemberFacts) -> str:
    host = f"[{facts.address}]" if ":" in facts.address else facts.address
    return f"{host}:{facts.port}" if facts.port else host


FACTS: dict[bytes, Callable[[MemberFacts], object]] = {
    b"id": lambda facts: facts.id,
    b"state": lambda facts: facts.state,
    b"votes": lambda facts: facts.votes,
    b"address": lambda facts: _address(facts) or "-",
    b"version": lambda facts: facts.version or "-",
    b"incarnation": lambda facts: facts.incarnation or "-",
}


class MembersDirectory(StaticDirectory):
    """Follows the configuration: a member added to it while the daemon runs appears.

    more: adds to the directory of each, as it appears, what others know of the member of that name.
    """

    __slots__ = ("cluster", "log", "more")

    def __init__(self, cluster: Cluster, log: FencingLog) -> None:
        super().__init__(b"members")
        self.cluster = cluster
        self.log = log
        self.more: Callable[[StaticDirectory, str], None] = lambda directory, member: None
        self.add(Link(b"members/self", cluster.me.encode()))

    def _follow(self) -> None:
        configured = [facts.name.encode() for facts in self.cluster.members()]
        for name in self.entries.keys() - {SELF, *configured}:
            del self.entries[name]
        for name in configured:
            if name not in self.entries:
                directory = _member(self.cluster, self.log, name)
                self.more(directory, name.decode())
                self.add(directory)

    def find(self, name: bytes) -> Item | None:
        self._follow()
        return super().find(name)

    def names(self) -> Iterator[tuple[bytes, Item]]:
        self._follow()
        return super().names()


def _member(cluster: Cluster, log: FencingLog, name: bytes) -> StaticDirectory:
    directory = StaticDirectory(b"members/" + name)
    for key, fact in FACTS.items():
        directory.add(Report(directory.path + b"/" + key, _shows(cluster, name, fact)))
    member = name.decode()

    def last(caller: Caller) -> bytes:
        return log.last_of(member)

    def store(data: bytes, caller: Caller) -> Awaitable[None]:
        word = _WORDS.get(one_line(data).strip())
        if word is None:
            raise InvalidRequest(f"'{shown(data.strip())}' is not a word for this: off, confirmed")
        return cluster.fence(member, word, f"uid {caller.uid} on {cluster.me}")

    directory.add(Report(directory.path + b"/fence", last, store, 0o644))
    return directory


def _shows(
    cluster: Cluster, name: bytes, fact: Callable[[MemberFacts], object]
) -> Callable[[Caller], bytes]:
    member = name.decode()

    def show(caller: Caller) -> bytes:
        for facts in cluster.members():
            if facts.name == member:
                return f"{fact(facts)}\n".encode()
        raise NoSuchName(f"{member} is not configured any more")

    return show
