"""The replica, move by move: what is committed when, and what a view change leaves of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clufs import limits
from clufs.registry import filling, replica
from clufs.registry import messages as m
from clufs.registry.commands import CommandId, DropNamespace, Entry, MemberOut, PutNamespace
from clufs.registry.files import PutFile
from clufs.registry.log import Snapshot, Stored
from clufs.registry.replica import Replica
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


def names(cluster: Cluster, one: int) -> list[bytes]:
    return sorted(cluster.up[one].replica.state.namespaces)


def restart(cluster: Cluster, *members: int) -> None:
    for one in members:
        cluster.crash(one)
    for one in members:
        cluster.start(one)
    cluster.part(list(cluster.up))


def test_three_apply_one_command_and_its_proposer_is_answered() -> None:
    cluster = up(1, 1, 1)
    id = cluster.propose(2, namespace(b"db"))
    cluster.settle()
    assert cluster.promised == {id: None}
    assert all(names(cluster, one) == [b"db"] for one in (1, 2, 3))
    assert all(m.Synced(cluster.view) in cluster.told[one] for one in (1, 2, 3))


def test_what_a_member_proposes_when_it_is_told_comes_behind_what_has_waited() -> None:
    cluster = Cluster((1, 1, 1))
    for one in cluster.votes:
        cluster.start(one)
        cluster.propose(one, namespace(b"has waited %d" % one))
        cluster.eager[one] = namespace(b"told %d" % one)
    cluster.part([1, 2, 3])
    cluster.settle()
    assert not cluster.eager
    assert len(cluster.promised) == 6


def test_what_a_member_proposes_when_its_view_is_back_comes_behind_what_has_waited() -> None:
    cluster = up(1, 1, 1)
    for one in cluster.votes:
        cluster.lose_quorum(one)
        cluster.propose(one, namespace(b"has waited %d" % one))
        cluster.eager[one] = namespace(b"told %d" % one)
    cluster.settle()
    assert len(cluster.promised) == 6


def test_a_refusal_is_the_same_everywhere_and_reaches_its_proposer() -> None:
    cluster = up(1, 1, 1)
    cluster.propose(1, namespace(b"db"))
    cluster.settle()
    id = cluster.propose(2, namespace(b"db"))
    cluster.settle()
    assert cluster.promised[id] == "namespace 'db' is there already"
    told = [cluster.told[one][-1] for one in (1, 3)]
    assert told == [m.Applied(2, id, namespace(b"db"), cluster.promised[id])] * 2


def test_nothing_is_applied_before_a_majority_has_it_on_disk() -> None:
    cluster = up(1, 1, 1)
    cluster.stuck.update({2: True, 3: True})
    id = cluster.propose(1, namespace(b"db"))
    cluster.settle()
    assert cluster.disks[1].last == 1
    assert [names(cluster, one) for one in (1, 2, 3)] == [[], [], []]
    cluster.stuck[2] = False
    cluster.settle()
    assert cluster.promised == {id: None}
    assert [names(cluster, one) for one in (1, 2, 3)] == [[b"db"]] * 3


def test_votes_count_not_members() -> None:
    cluster = up(3, 1, 1)
    cluster.stuck[1] = True
    cluster.propose(2, namespace(b"db"))
    cluster.settle()
    assert cluster.promised == {}
    cluster.stuck.update({1: False, 2: True, 3: True})
    cluster.settle()
    assert len(cluster.promised) == 1


def test_an_entry_of_an_older_view_may_be_overwritten_until_the_new_view_has_it() -> None:
    """As in Raft's figure 8: `old` is on the disks of 1, 2 and 3, and yet not committed."""
    cluster = Cluster((1, 1, 1, 1, 1))
    old = Entry(1, 2, CommandId(1, 0, 1), namespace(b"old"))
    new = Entry(1, 3, CommandId(5, 0, 1), namespace(b"new"))
    for one in (1, 2, 3):
        cluster.disks[one] = Stored(adopted=2, entries=(old,), origin=b"all")
    cluster.disks[4] = Stored(adopted=1, origin=b"all")
    cluster.disks[5] = Stored(adopted=3, entries=(new,), origin=b"all")
    cluster.view = 3
    for one in (1, 2, 3):
        cluster.start(one)
    cluster.stuck[2] = cluster.stuck[3] = True
    cluster.part([1, 2, 3])
    cluster.settle()
    assert cluster.disks[1].adopted > 3
    assert cluster.truth == {}
    for one in (1, 2, 3):
        cluster.crash(one, written=False)
    cluster.stuck = dict.fromkeys(cluster.votes, False)
    for one in (3, 4, 5):
        cluster.start(one)
    cluster.part([3, 4, 5])
    cluster.settle()
    assert names(cluster, 3) == [b"new"]
    for one in (1, 2):
        cluster.start(one)
    cluster.part([1, 2, 3, 4, 5])
    cluster.settle()
    assert [names(cluster, one) for one in cluster.up] == [[b"new"]] * 5


def test_a_side_of_a_broken_ring_with_the_longer_tail_does_not_win_over_what_was_committed() -> (
    None
):
    """3 never sees 1's command and delivers two of its own after the hole; 1 and 2 answer it."""
    cluster = up(1, 1, 1)
    ring = cluster.up[1].ring
    assert ring is not None
    id = cluster.propose(1, namespace(b"committed"))
    while not (cluster.promised and cluster.up[2].replica.applied):
        one = cluster.random.choice([1, 2])
        assert not cluster.up[3].sending
        cluster.step_of(one)
    heard = cluster.up[3].delivered
    for name in (b"lost 1", b"lost 2", b"lost 3"):
        cluster.propose(3, namespace(name))
    ring.order += [(3, body) for body in cluster.up[3].sending]
    cluster.up[3].sending = []
    del ring.order[heard:-3]
    cluster.crash(1)
    cluster.part([3], [2])
    cluster.part([2, 3])
    cluster.settle()
    assert id in cluster.promised
    assert names(cluster, 2) == names(cluster, 3)
    assert b"committed" in names(cluster, 3)
    assert len(names(cluster, 3)) == 4


def test_a_command_cut_off_by_a_view_change_takes_effect_once() -> None:
    cluster = up(1, 1, 1)
    cluster.part([1, 2], [3])
    cluster.settle()
    id = cluster.propose(3, namespace(b"db"))
    cluster.settle()
    assert cluster.promised == {}
    cluster.part([1, 2, 3])
    cluster.settle()
    assert cluster.promised == {id: None}
    assert [entry.id for entry in cluster.truth.values()] == [id]


def test_a_moment_without_quorum_loses_nothing() -> None:
    cluster = up(1, 1, 1)
    ids = [cluster.propose(one, namespace(b"n%d" % one)) for one in (1, 2, 3)]
    for one in (1, 2, 3):
        cluster.lose_quorum(one)
        ids.append(cluster.propose(one, namespace(b"m%d" % one)))
        cluster.settle()
    assert cluster.promised == dict.fromkeys(ids)


def test_what_is_on_disk_while_there_is_no_quorum_is_acknowledged_afterwards() -> None:
    cluster = up(1, 1, 1)
    cluster.stuck[2] = cluster.stuck[3] = True
    id = cluster.propose(1, namespace(b"db"))
    cluster.settle()
    cluster.lose_quorum(2)
    cluster.do_what(2, "disk")
    cluster.settle()
    assert cluster.promised == {id: None}


def test_what_a_full_disk_missed_is_not_taken_for_what_it_has() -> None:
    """3 applies 1's command with its disk full; on that is another at the same place, never committed."""
    cluster = Cluster((1, 1, 1))
    stale = Entry(1, 1, CommandId(3, 0, 1), namespace(b"never"))
    cluster.disks[3] = Stored(adopted=1, entries=(stale,), origin=b"all")
    for one in (1, 2):
        cluster.disks[one] = Stored(adopted=2, origin=b"all")
    cluster.view = 2
    for one in (1, 2, 3):
        cluster.start(one)
    cluster.full[3] = True
    cluster.part([1, 2, 3])
    cluster.settle()
    cluster.propose(1, namespace(b"db"))
    cluster.settle()
    assert names(cluster, 3) == [b"db"]
    assert cluster.disks[3].entries == (stale,)
    cluster.full[3] = False
    cluster.part([1, 2, 3])
    cluster.settle()
    assert cluster.disks[3].entries == cluster.disks[1].entries


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_of_all_at_any_moment_loses_nothing_acknowledged(seed: int) -> None:
    for steps in range(0, 120, 3):
        cluster = Cluster((1, 1, 1), seed)
        for one in cluster.votes:
            cluster.start(one)
        cluster.part([1, 2, 3])
        for at in range(steps):
            if at % 10 == 0:
                cluster.propose(at % 3 + 1, namespace(b"n%d" % at))
            cluster.step()
        promised = dict(cluster.promised)
        restart(cluster, 1, 2, 3)
        cluster.settle()
        applied = [entry.id for entry in cluster.truth.values()]
        assert all(id in applied for id in promised)
        assert names(cluster, 1) == names(cluster, 2) == names(cluster, 3)
        assert len(names(cluster, 1)) >= len(promised)


def test_a_member_back_after_a_month_gets_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "REGISTRY_PART_BYTES", 200)
    monkeypatch.setattr(replica, "LOG_MAX_ENTRIES", 200)
    monkeypatch.setattr(replica, "LOG_KEPT_ENTRIES", 100)
    cluster = up(1, 1, 1)
    cluster.crash(3)
    cluster.part([1, 2])
    for at in range(0, 400, 50):
        for each in range(at, at + 50):
            cluster.propose(1, namespace(b"n%d" % each))
            cluster.propose(1, DropNamespace(b"n%d" % (each - 20)))
        cluster.settle()
    assert cluster.disks[1].base > 0
    assert len(cluster.disks[1].entries) < 350
    cluster.start(3)
    cluster.part([1, 2, 3])
    cluster.settle()
    assert [type(effect) for effect in cluster.told[3]].count(m.Restored) == 1
    assert names(cluster, 3) == names(cluster, 1) and len(names(cluster, 3)) == 20
    assert cluster.disks[3].snapshot.at > 0
    assert cluster.disks[3].last == cluster.disks[1].last
    cluster.propose(3, namespace(b"later"))
    cluster.settle()
    writes = [effect for effect in cluster.told[3] if isinstance(effect, m.Write)]
    assert writes[-2].snapshot is not None and writes[-1].snapshot is None
    restart(cluster, 3)
    assert cluster.up[3].replica.applied >= cluster.disks[3].snapshot.at


def test_a_log_of_large_files_is_made_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "LOG_MAX_BYTES", 10_000)
    monkeypatch.setattr(replica, "LOG_KEPT_BYTES", 5_000)
    cluster = up(1, 1, 1)
    for at in range(60):
        cluster.propose(1, PutFile(b"f", b"%d" % at * 500, 0, 0, 0, at, new=at == 0))
        cluster.settle()
    for disk in cluster.disks.values():
        assert sum(len(entry.command.data) for entry in disk.entries) <= 11_000  # type: ignore[union-attr]
        assert disk.base > 0
    restart(cluster, 1, 2, 3)
    cluster.settle()
    for member in cluster.up.values():
        assert member.replica.state.files[b"f"].data == b"59" * 500


def test_a_joiner_counts_only_after_its_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "LOG_MAX_ENTRIES", 4)
    monkeypatch.setattr(replica, "LOG_KEPT_ENTRIES", 2)
    cluster = up(1, 1, 1)
    cluster.crash(3)
    cluster.part([1, 2])
    for at in range(20):
        cluster.propose(1, namespace(b"n%d" % at))
        cluster.settle()
    cluster.crash(2)
    cluster.start(3)
    cluster.stuck[3] = True
    cluster.part([1, 3])
    cluster.settle()
    waiting = cluster.up[1].replica.waits_for()
    assert waiting == "the registry to be on disk at members 3"
    assert not cluster.up[1].replica.synced and not cluster.up[3].replica.synced
    cluster.stuck[3] = False
    cluster.settle()
    assert cluster.up[1].replica.synced and cluster.up[3].replica.synced
    assert names(cluster, 3) == names(cluster, 1)


def test_alone_with_a_full_disk_a_command_is_given_up_and_nothing_is_changed() -> None:
    cluster = up(1)
    cluster.full[1] = True
    lost = [cluster.propose(1, namespace(b"n%d" % at)) for at in range(3)]
    cluster.settle()
    assert cluster.given_up == dict.fromkeys(lost, "no space")
    assert cluster.up[1].replica.disk_error == "no space"
    assert cluster.up[1].replica.waits_for() == "room on the disk: no space"
    assert names(cluster, 1) == []
    cluster.full[1] = False
    id = cluster.propose(1, namespace(b"db"))
    cluster.settle()
    assert cluster.promised == {id: None}
    restart(cluster, 1)
    cluster.settle()
    assert names(cluster, 1) == [b"db"]


def test_a_full_disk_that_refused_no_command_makes_none_be_given_up() -> None:
    """The first write of a life notes what is committed; what is being said meanwhile goes on."""
    cluster = up(1)
    cluster.propose(1, namespace(b"db"))
    cluster.settle()
    restart(cluster, 1)
    while not cluster.up[1].replica.synced:
        cluster.step()
    write = cluster.up[1].write
    assert write is not None and not write.entries
    id = cluster.propose(1, namespace(b"more"))
    cluster.full[1] = True
    cluster.do_what(1, "disk")
    cluster.full[1] = False
    cluster.settle()
    assert cluster.given_up == {}
    assert id in cluster.promised


def test_one_full_disk_of_three_stops_nothing_and_is_caught_up_with() -> None:
    cluster = up(1, 1, 1)
    cluster.full[1] = True
    ids = [cluster.propose(one, namespace(b"n%d" % one)) for one in (1, 2, 3)]
    cluster.settle()
    assert cluster.promised == dict.fromkeys(ids)
    assert cluster.disks[1].last == 0
    cluster.full[1] = False
    cluster.do(1, cluster.up[1].replica.retry())
    cluster.settle()
    assert cluster.disks[1].last == 3
    assert cluster.up[1].replica.disk_error == ""


def test_members_that_count_votes_otherwise_make_no_log_together() -> None:
    cluster = up(1, 1, 1)
    for one in (1, 2, 3):
        cluster.crash(one)
    cluster.start(1)
    cluster.votes = {1: 2, 2: 1, 3: 1}
    cluster.start(2)
    cluster.part([1, 2])
    cluster.settle()
    assert cluster.up[1].replica.waits_for() == "the registry's tails of members 2"
    assert cluster.up[2].replica.waits_for() == "the registry's tails of members 1"


def test_a_registry_of_one_becomes_that_of_three_whoever_is_heard_first() -> None:
    for seed in range(30):
        cluster = Cluster((1, 1, 1), seed)
        cluster.view = 1000
        cluster.disks[2] = alone(b"db")
        for one in (1, 2, 3):
            cluster.start(one)
        cluster.part([1, 2, 3])
        cluster.settle()
        assert [names(cluster, one) for one in (1, 2, 3)] == [[b"db"]] * 3


def alone(*made: bytes) -> Stored:
    """The disk of a cluster of one that made these, several starts and many views old."""
    cluster = up(1)
    cluster.view = 100 * len(made)
    for name in made:
        cluster.propose(1, namespace(name))
    cluster.settle()
    restart(cluster, 1)
    cluster.settle()
    assert cluster.disks[1].committed == len(made)
    return replace(cluster.disks[1], origin=made[0])


def test_a_disk_of_another_cluster_wins_against_nobody_and_is_told() -> None:
    for seed in range(30):
        cluster = Cluster((1, 1, 1), seed)
        cluster.view = 1000
        stranger = alone(b"another", b"cluster")
        cluster.disks.update({1: alone(b"ours"), 2: alone(b"ours"), 3: stranger})
        for one in (1, 2, 3):
            cluster.start(one)
        cluster.part([1, 2, 3])
        cluster.settle()
        assert [names(cluster, one) for one in (1, 2)] == [[b"ours"]] * 2
        assert cluster.up[1].replica.synced
        assert "is of another cluster" in cluster.up[3].replica.waits_for()
        assert cluster.disks[3] == stranger


def test_a_disk_that_saw_many_views_elsewhere_but_no_command_follows() -> None:
    cluster = Cluster((1, 1, 1))
    cluster.view = 10_000
    cluster.disks[1] = alone(b"ours")
    cluster.disks[3] = Stored(adopted=9000, origin=b"elsewhere", token=b"disk 3")
    cluster.start(1)
    cluster.start(3)
    cluster.part([1, 3])
    cluster.settle()
    assert names(cluster, 3) == [b"ours"]
    assert cluster.disks[3].origin == b"ours"


def test_what_is_no_message_or_of_no_member_is_dropped() -> None:
    single = Replica(1, {1: 1}, Stored(), 1)
    assert len(single.installed(7, (1,))) == 1
    assert single.said(1, b"\xc1") == single.said(1, b"") == []
    assert single.said(2, m.encode(m.Ack(10**6))) == []
    assert single.said(1, m.encode(m.Fill(()))) == []
    assert single.dropped == 4


def test_a_command_that_fits_in_no_message_is_refused() -> None:
    single = Replica(1, {1: 1}, Stored(), 1)
    with pytest.raises(ValueError, match="too large"):
        single.propose(MemberOut("m", 1, "x" * limits.COMMAND_MAX_BYTES))


def test_more_commands_than_are_remembered_at_once() -> None:
    cluster = up(1, 1, 1)
    count = 3 * limits.ANSWERS_KEPT
    ids = [cluster.propose(2, namespace(b"n%d" % at)) for at in range(count)]
    assert len(cluster.up[2].sending) == limits.ANSWERS_KEPT
    cluster.settle()
    assert list(cluster.promised) == ids
    assert not cluster.up[2].replica.waits_for()
    assert ids[-1] == CommandId(2, 1, count)


def test_a_snapshot_on_its_way_is_forgotten_with_its_leader() -> None:
    parts = filling.Parts()
    assert parts.take(m.Part((1,), 5, 0, 2, b"a")) is None
    assert parts.take(m.Part((1,), 7, 0, 2, b"c")) is None
    assert parts.take(m.Part((1,), 5, 1, 2, b"b")) is None
    assert parts.take(m.Part((1,), 7, 1, 2, b"d")) == Snapshot(7, b"cd")
