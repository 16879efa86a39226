"""The quorum disk's replica, move by move: what a change of its keeper within a view leaves as it was."""

from __future__ import annotations

import pytest

from clufs.cluster.voice import DISK_ID
from clufs.registry import filling
from clufs.registry import messages as m
from clufs.registry.commands import CommandId, PutNamespace
from clufs.registry.log import Stored
from clufs.registry.replica import Replica
from tests.registry.cluster import Cluster, Member


class DiskCluster(Cluster):
    """Three members of one vote and a disk of two; its replica moves from one keeper to the next."""

    def __init__(self) -> None:
        super().__init__((1, 1, 1))
        self.votes = {DISK_ID: 2, **self.votes}
        self.disks[DISK_ID] = Stored()
        self.full[DISK_ID] = self.stuck[DISK_ID] = False
        self.lives[DISK_ID] = 0
        self.shrunk = False

    def begin(self, *members: int) -> None:
        """One view of these, with the disk in it from the beginning."""
        for one in members:
            self.start(one)
        self.start(DISK_ID)
        self.part([DISK_ID, *members])
        ring = self.up[DISK_ID].ring
        assert ring is not None
        ring.members = members
        self.settle()

    def hand_over(self, by: int) -> None:
        """Another keeper has taken the disk; what the former one had not said is never heard."""
        ring, delivered = self.up[DISK_ID].ring, self.up[by].delivered
        assert ring is not None
        replica = Replica(DISK_ID, self.votes, self.disks[DISK_ID], 0)
        self.up[DISK_ID] = Member(replica, ring, False, delivered)
        self.do(DISK_ID, replica.installed(ring.view, ring.members))
        self.do(DISK_ID, replica.told_by(self.up[by].replica))

    def check_disk(self, one: int) -> None:
        super().check_disk(one)
        if one == DISK_ID:
            acked = self.acked.get(DISK_ID, 0)
            self.shrunk |= self.disks[DISK_ID].last < acked
            self.acked[DISK_ID] = max(acked, self.disks[DISK_ID].last)

    def put(self, one: int, name: bytes) -> CommandId:
        id = self.propose(one, PutNamespace(name, 1, 1, 0o700, new=True))
        self.settle()
        return id


def test_the_disk_commits_with_one_member() -> None:
    cluster = DiskCluster()
    cluster.begin(1)
    id = cluster.put(1, b"db")
    assert cluster.promised == {id: None}
    assert cluster.disks[DISK_ID].last == 1


def test_the_next_keeper_fetches_what_the_disk_lacks() -> None:
    cluster = DiskCluster()
    cluster.begin(1, 2, 3)
    cluster.stuck[DISK_ID] = True
    for name in (b"a", b"b", b"c"):
        cluster.put(1, name)
    assert cluster.disks[DISK_ID].last == 0
    cluster.stuck[DISK_ID] = False
    cluster.hand_over(by=2)
    cluster.settle()
    assert cluster.disks[DISK_ID].last == 3


def test_what_the_former_keeper_had_on_the_disk_counts_though_it_did_not_say_so() -> None:
    cluster = DiskCluster()
    cluster.begin(1, 2)
    cluster.stuck[2] = True
    cluster.stuck[DISK_ID] = True
    id = cluster.put(1, b"db")
    write = cluster.up[DISK_ID].write
    assert write is not None and id not in cluster.promised
    cluster.disks[DISK_ID] = cluster.disks[DISK_ID].after(write)
    cluster.stuck[DISK_ID] = False
    cluster.hand_over(by=2)
    cluster.settle()
    assert cluster.promised == {id: None}


def test_what_the_disk_has_acknowledged_is_on_it_while_its_keeper_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the entries come one by one from the leader, and it is not known which of them are committed."""
    cluster = DiskCluster()
    cluster.begin(1, 2, 3)
    cluster.stuck.update({1: True, 2: True, 3: True})
    for name in (b"a", b"b", b"c"):
        cluster.put(1, name)
    assert cluster.disks[DISK_ID].last == 3
    monkeypatch.setattr(filling, "REGISTRY_PART_BYTES", 1)
    cluster.hand_over(by=2)
    cluster.settle()
    assert not cluster.shrunk
    cluster.stuck.update({1: False, 2: False, 3: False})
    cluster.settle()
    assert len(cluster.promised) == 3


def test_the_disk_leads_only_where_no_member_has_as_much() -> None:
    cluster = DiskCluster()
    cluster.begin(1)
    assert not cluster.up[1].replica.disk_leads
    cluster.put(1, b"db")
    cluster.crash(1)
    cluster.crash(DISK_ID)
    cluster.begin(2)
    assert cluster.up[2].replica.disk_leads
    assert list(cluster.up[2].replica.state.namespaces) == [b"db"]


def test_a_full_disk_of_the_only_member_gives_nothing_up_that_the_quorum_disk_has() -> None:
    cluster = DiskCluster()
    cluster.begin(1)
    cluster.full[1] = True
    id = cluster.put(1, b"db")
    assert cluster.given_up == {}
    cluster.full[1] = False
    cluster.do(1, cluster.up[1].replica.retry())
    cluster.settle()
    assert cluster.promised == {id: None}


def test_nobody_else_speaks_for_the_disk_twice() -> None:
    """A second tail of a member is none; one of the disk is its next keeper's."""
    cluster = DiskCluster()
    cluster.begin(1, 2)
    replica = cluster.up[1].replica
    tail = m.encode(m.Tail(m.VERSION, tuple(replica.votes.items()), 0, 0, 0, b"", m.OLDEST))
    replica.said(2, tail)
    assert replica.dropped == 1
    replica.said(DISK_ID, tail)
    assert replica.dropped == 1
