"""The table of the tree: which files /clu has beside its locks, and what each shows and stores."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from clufs.errors import InvalidRequest, StaleValue
from clufs.tree.items import Caller, Link, Report, StaticDirectory, one_line
from clufs.tree.journals import timestamp
from clufs.tree.lock_reports import MirroredDirectory, report
from clufs.tree.names import read_word, shown_word

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.dlm.node import Node
    from clufs.tree.lock_tree import LockTree
    from clufs.tree.member import Journals, Member


def sequencer(lock: Lock) -> str:
    """The fencing token of a granted lock: resource block, mode and a number that only grows."""
    assert lock.granted is not None
    return f"{shown_word(lock.rsb.name)} {lock.granted.name} {lock.number}"


class Facts:
    """Shows and stores of the table; each method is one file's."""

    def __init__(self, member: Member, node: Node, journals: Journals) -> None:
        self.member = member
        self.node = node
        self.journals = journals

    def cluster(self, caller: Caller) -> bytes:
        member = self.member
        return _facts(
            NAME=member.name,
            ENGINE="embedded",
            VERSION=member.version,
            MEMBERS=member.name,
            VIEW=member.view,
            STARTED=timestamp(member.started_s),
        )

    def quorum(self, caller: Caller) -> bytes:
        votes = self.member.votes
        return _facts(QUORATE=1, VOTES=votes, EXPECTED_VOTES=votes, QUORUM=votes // 2 + 1)

    def deadlocks(self, caller: Caller) -> bytes:
        return self.journals.deadlocks.show()

    def errors(self, caller: Caller) -> bytes:
        return self.journals.refusals.show(caller.uid)

    def metrics(self, caller: Caller) -> bytes:
        return self.journals.metrics.text()

    def nothing(self, caller: Caller) -> bytes:
        return b""

    def check_sequencer(self, data: bytes, caller: Caller) -> None:
        """Raises StaleValue unless the lock that the sequencer was read from is still held."""
        words = one_line(data).strip().split(b" ")
        if len(words) != 3 or not words[2].isdigit():
            raise InvalidRequest("a sequencer has three words: NAMESPACE/NAME MODE NUMBER")
        block = self.node.blocks.get(read_word(words[0]))
        lock = block.holder_of(int(words[2])) if block is not None else None
        if lock is None or lock.granted is None or lock.granted.name.encode() != words[1]:
            raise StaleValue("the lock of this sequencer is no longer held")

    def member_fact(self, key: str) -> Callable[[Caller], bytes]:
        """One fact of this member, as a file shows it."""
        member = self.member
        value = {
            "id": member.id,
            "state": "member",
            "votes": member.votes,
            "address": "-",
            "version": member.version,
            "incarnation": member.view,
        }[key]
        text = f"{value}\n".encode()
        return lambda caller: text


def _facts(**facts: object) -> bytes:
    return "".join(f"{key}={value}\n" for key, value in facts.items()).encode()


MEMBER_FACTS = ("id", "state", "votes", "address", "version", "incarnation")


def build(root: StaticDirectory, facts: Facts, locks: LockTree) -> None:
    """Hang the table into the tree: status/ and members/."""
    member = facts.member.name
    status = StaticDirectory(b"status")
    for name, show in (
        (b"cluster", facts.cluster),
        (b"quorum", facts.quorum),
        (b"deadlocks", facts.deadlocks),
        (b"errors", facts.errors),
        (b"metrics", facts.metrics),
    ):
        status.add(Report(b"status/" + name, show))
    status.add(Report(b"status/sequencer", facts.nothing, facts.check_sequencer, 0o222))
    status.add(MirroredDirectory(locks.root, lambda block: report(block, member, time.monotonic())))
    root.add(status)
    members = StaticDirectory(b"members")
    own = StaticDirectory(b"members/" + member.encode())
    for key in MEMBER_FACTS:
        own.add(Report(own.path + b"/" + key.encode(), facts.member_fact(key)))
    members.add(own)
    members.add(Link(b"members/self", member.encode()))
    root.add(members)
