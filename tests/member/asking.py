"""The members of tests.dlm.cluster with their Queries, whose messages go from hand to hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import trio

from clufs.dlm.rsb import ResourceBlock
from clufs.member.queries import Queries
from tests.dlm.cluster import MEMBERS, Cluster

BEGIN_S = 1_000_000.0
"""The wall clock at time 0 of the lock managers."""


class Words:
    """What a member says of itself."""

    def __init__(self, cluster: Cluster, member: str) -> None:
        self.node = cluster.nodes[member]

    def report(self, block: ResourceBlock) -> bytes:
        return b"".join(b"%d\n" % lock.id for lock in block.holders()) + self.node.member.encode()

    def names(self, directory: bytes) -> Iterable[bytes]:
        prefix = directory + b"/"
        names = {*self.node.blocks, *self.node.copies}
        return {name[len(prefix) :].partition(b"/")[0] for name in names if name.startswith(prefix)}

    def wall_s(self, monotonic_s: float) -> float:
        return BEGIN_S + monotonic_s


class Asking(Cluster):
    """silent: members that answer nothing. lost: what they were sent. heard: who was asked what."""

    def __init__(self, seed: int = 0, members: Sequence[str] = MEMBERS, **more: Any) -> None:
        super().__init__(seed, members, **more)
        self.view = list(members)
        self.silent: set[str] = set()
        self.lost: list[tuple[str, str, bytes]] = []
        self.messages = 0
        self.queries = {member: self._queries(member) for member in members}

    def _queries(self, member: str) -> Queries:
        def send(receiver: str, data: bytes) -> None:
            assert receiver != member
            self.messages += 1
            token = trio.lowlevel.current_trio_token()
            token.run_sync_soon(self._bring, member, receiver, data)

        queries = Queries(self.nodes[member], send, lambda: self.view)
        queries.witness = Words(self, member)
        return queries

    def _bring(self, sender: str, receiver: str, data: bytes) -> None:
        if receiver in self.silent:
            self.lost.append((sender, receiver, data))
        else:
            self.queries[receiver].received(sender, data)

    def late(self) -> None:
        """Those who were silent find what they were sent."""
        self.silent.clear()
        lost, self.lost = self.lost, []
        for sender, receiver, data in lost:
            self._bring(sender, receiver, data)

    def directory(self, name: bytes) -> str:
        return self.nodes[MEMBERS[0]].directory_member(name)

    def name_with_directory(self, member: str) -> bytes:
        """A name whose directory this member is."""
        return next(name for i in range(1000) if self.directory(name := b"db/n%d" % i) == member)
