"""The table of the tree: which files /clu has beside its locks, and what each shows and stores."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from clufs.errors import InvalidRequest, StaleValue
from clufs.member.facts import holds
from clufs.tree.items import Caller, Report, StaticDirectory, one_line
from clufs.tree.journals import timestamp
from clufs.tree.lock_reports import report
from clufs.tree.members import MembersDirectory
from clufs.tree.names import read_word, shown_word
from clufs.tree.reserved import LockReports

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.tree.cluster import Cluster
    from clufs.tree.lock_tree import LockTree
    from clufs.tree.member import Journals, Member


def sequencer(lock: Lock) -> str:
    """The fencing token of a granted lock: resource block, mode and a number that only grows."""
    assert lock.granted is not None
    return f"{shown_word(lock.rsb.name)} {lock.granted.name} {lock.number}"


class Facts:
    """Shows and stores of the table; each method is one file's."""

    def __init__(
        self,
        member: Member,
        cluster: Cluster,
        locks: LockTree,
        journals: Journals,
    ) -> None:
        self.member = member
        self.cluster = cluster
        self.locks = locks
        self.journals = journals

    def about_cluster(self, caller: Caller) -> bytes:
        cluster = self.cluster
        here = [facts.name for facts in cluster.members() if facts.state == "member"]
        return _facts(
            NAME=cluster.name,
            MEMBER=cluster.me,
            ENGINE=cluster.engine,
            VERSION=self.member.version,
            MEMBERS=" ".join(here),
            VIEW=cluster.view,
            STARTED=timestamp(self.member.started_s),
        )

    def quorum(self, caller: Caller) -> bytes:
        votes = self.cluster.votes()
        waits_for, disk_error = self.cluster.waits_for(), self.cluster.disk_error()
        return _facts(
            QUORATE=int(votes.quorate),
            VOTES=votes.present,
            EXPECTED_VOTES=votes.expected,
            QUORUM=votes.quorum,
            VIEW=self.cluster.view,
            **({"QUORUM_DISK": votes.disk} if votes.disk else {}),
            **({"WAITS_FOR": waits_for} if waits_for else {}),
            **({"DISK_FULL": disk_error} if disk_error else {}),
        )

    def fencing(self, caller: Caller) -> bytes:
        return self.journals.fencing.show()

    def deadlocks(self, caller: Caller) -> bytes:
        return self.journals.deadlocks.show()

    def errors(self, caller: Caller) -> bytes:
        return self.journals.refusals.show(caller.uid)

    def metrics(self, caller: Caller) -> bytes:
        return self.journals.metrics.text()

    def busiest(self, caller: Caller) -> bytes:
        return self.journals.busiest.show(self.locks, caller)

    def nothing(self, caller: Caller) -> bytes:
        return b""

    def check_sequencer(self, data: bytes, caller: Caller) -> Awaitable[None] | None:
        """Raises StaleValue unless the lock that the sequencer was read from is still held."""
        words = one_line(data).strip().split(b" ")
        if len(words) != 3 or not words[2].isdigit():
            raise InvalidRequest("a sequencer has three words: NAMESPACE/NAME MODE NUMBER")
        name, mode, number = read_word(words[0]), shown_word(words[1]), int(words[2])
        if self.locks.elsewhere.shared:
            return self._ask_sequencer(name, mode, number)
        block = self.locks.node.blocks.get(name)
        if block is None or not holds(block, mode, number):
            raise _not_held()
        return None

    async def _ask_sequencer(self, name: bytes, mode: str, number: int) -> None:
        if not await self.locks.elsewhere.holds(name, mode, number):
            raise _not_held()


def _not_held() -> StaleValue:
    return StaleValue("the lock of this sequencer is no longer held")


def _facts(**facts: object) -> bytes:
    return "".join(f"{key}={value}\n" for key, value in facts.items()).encode()


def build(root: StaticDirectory, facts: Facts) -> None:
    """Hang the table into the tree: status/ and members/."""
    member = facts.member.name
    status = StaticDirectory(b"status")
    for name, show in (
        (b"cluster", facts.about_cluster),
        (b"quorum", facts.quorum),
        (b"fencing", facts.fencing),
        (b"deadlocks", facts.deadlocks),
        (b"errors", facts.errors),
        (b"metrics", facts.metrics),
        (b"busiest", facts.busiest),
    ):
        status.add(Report(b"status/" + name, show))
    status.add(Report(b"status/sequencer", facts.nothing, facts.check_sequencer, 0o222))
    status.add(LockReports(facts.locks, lambda block: report(block, member, time.monotonic())))
    root.add(status)
    root.add(MembersDirectory(facts.cluster, facts.journals.fencing))
