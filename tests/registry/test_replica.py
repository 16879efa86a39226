"""The replica, move by move: what is committed when, and what a view change leaves of it."""

from __future__ import annotations

from clufs.registry.commands import PutNamespace
from clufs.registry.messages import Synced
from tests.registry.cluster import Cluster


def up(*votes: int) -> Cluster:
    cluster = Cluster(votes)
    for one in cluster.votes:
        cluster.start(one)
    cluster.part(list(cluster.votes))
    cluster.settle()
    return cluster


def namespace(name: bytes) -> PutNamespace:
    return PutNamespace(name, 1, 1, 0o700, new=True)


def test_three_apply_one_command_and_its_proposer_is_answered() -> None:
    cluster = up(1, 1, 1)
    id = cluster.propose(2, namespace(b"db"))
    cluster.settle()
    assert cluster.promised == {id: None}
    assert all(b"db" in cluster.up[one].replica.state.namespaces for one in (1, 2, 3))
    assert all(Synced(cluster.view) in cluster.told[one] for one in (1, 2, 3))
