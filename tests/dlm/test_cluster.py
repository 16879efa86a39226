"""Members, masters and messages: the same rules wherever an owner lives."""

from __future__ import annotations

import pytest

from clufs import limits
from clufs.dlm.directory import directory_member, root_of
from clufs.dlm.interface import Done, Notify, Received, Released
from clufs.dlm.messages import Ask
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from tests.dlm.cluster import MEMBERS, Cluster
from tests.dlm.cluster_of_one import Story

A, B, C = MEMBERS
SEEDS = range(20)


def name_with_directory(member: str) -> bytes:
    names = (b"db/%d" % i for i in range(100))
    return next(name for name in names if directory_member(name, sorted(MEMBERS)) == member)


@pytest.mark.parametrize("directory", MEMBERS)
def test_a_lock_that_one_member_uses_sends_no_message_after_the_first(directory: str) -> None:
    cluster = Cluster()
    name = name_with_directory(directory)
    cluster.says(A, "p", "EX", name)
    cluster.settle()
    assert cluster.granted() == [f"p@{A}"]
    assert cluster.master(name) == A
    assert cluster.sent == (0 if directory == A else 2)
    cluster.sent = 0
    for _ in range(3):
        for line in ("NL", "EX", "EX value=v", "UN", "PR"):
            cluster.says(A, "p", line, name)
        cluster.says(A, "q", "PR", name)
        cluster.says(A, "q", "UN", name)
        cluster.says(A, "p", "UN", name)
        assert cluster.nodes[A].blocks == {}
        cluster.says(A, "p", "EX", name)
    assert cluster.sent == 0


def test_alone_a_member_sends_nothing() -> None:
    node = Node("m", 1)
    assert node.members == ["m"]
    story = Story()
    story.says("a", "EX")
    assert story.outcome() == "GRANTED"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_member_to_ask_is_the_master_and_others_wait_in_its_queue(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.says(A, "p", "EX")
    cluster.settle()
    for member in (B, C, A):
        cluster.says(member, "q", "EX")
        cluster.settle()
    assert cluster.master() == A
    assert cluster.granted() == [f"p@{A}"]
    cluster.says(A, "p", "UN")
    for member in (B, C, A):
        cluster.settle()
        assert cluster.granted() == [f"q@{member}"]
        assert not cluster.lock(member, "q").wanted
        cluster.says(member, "q", "UN")
    cluster.settle()
    assert all(not node.blocks and not node.copies for node in cluster.nodes.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_members_that_ask_at_once_agree_on_one_master(seed: int) -> None:
    cluster = Cluster(seed)
    for member in MEMBERS:
        for who in "pq":
            cluster.says(member, who, "EX")
    cluster.settle()
    assert len(cluster.granted()) == 1
    for _ in range(5):
        (holder,) = [
            key
            for key, person in cluster.people.items()
            for lock in person.locks.values()
            if lock.granted
        ]
        cluster.says(*holder, "UN")
        cluster.settle()
        assert len(cluster.granted()) == 1


def test_a_value_goes_with_the_grant() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "EX")
    cluster.settle()
    cluster.says(B, "q", "NL")
    cluster.settle()
    cluster.says(B, "q", "PR")
    cluster.says(A, "p", "UN value=written")
    cluster.settle()
    block = cluster.nodes[B].find(b"db/x")
    assert block is not None
    assert (block.value, block.valid) == (b"written", True)
    cluster.says(B, "q", "EX")
    cluster.settle()
    cluster.says(B, "q", "UN value=again")
    cluster.says(C, "r", "PR")
    cluster.settle()
    seen = cluster.nodes[C].find(b"db/x")
    assert seen is None or seen.value in (b"again", b"")


def test_a_release_is_kept_until_the_master_has_stored_its_value() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "NL")
    cluster.settle()
    cluster.says(B, "q", "EX")
    cluster.settle()
    assert cluster.says(B, "q", "UN value=v") == []
    (kept,) = cluster.nodes[B].open_requests()
    assert isinstance(kept, Ask) and kept.request.value == b"v"
    cluster.deliver((B, A))
    assert cluster.nodes[A].blocks[b"db/x"].value == b"v"
    heard = cluster.deliver((A, B))
    assert [type(effect) for effect in heard[:2]] == [Done, Released]
    assert not cluster.nodes[B].open_requests()
    assert not any(cluster.wires.values()), "one answer says it all"


def test_a_refusal_travels_and_changes_nothing() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "PR")
    cluster.settle()
    cluster.says(B, "q", "PR")
    cluster.settle()
    cluster.heard.clear()
    cluster.says(B, "q", "EX nowait")
    cluster.says(B, "q", "PR")
    assert cluster.refused() == [(B, "RequestPending")], "the first is still under way"
    for line in ("PR value=v", "UN value=v", "CANCEL"):
        cluster.settle()
        cluster.says(B, "q", line)
    cluster.settle()
    names = ("NotQueued", "InvalidRequest", "InvalidRequest", "NotHeld")
    assert cluster.refused() == [(B, name) for name in names]
    assert cluster.lock(B, "q").granted is Mode.PR
    cluster.says(B, "stranger", "UN")
    assert cluster.refused() == [(B, "NotHeld")]


def test_notifications_reach_a_holder_elsewhere() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "NL")
    cluster.settle()
    cluster.says(B, "q", "EX notify")
    cluster.settle()
    cluster.says(C, "r", "PR hint=4")
    cluster.settle()
    (notice,) = [effect for _, effect in cluster.heard if isinstance(effect, Notify)]
    assert (notice.lock, notice.mode, notice.hint) == (cluster.lock(B, "q"), Mode.PR, 4)
    assert cluster.lock(B, "q").notified


def test_a_holder_elsewhere_knows_that_it_blocks_somebody_until_it_is_granted_anew() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "NL")
    cluster.settle()
    cluster.says(B, "q", "EX notify")
    cluster.settle()
    lock = cluster.lock(B, "q")
    assert not lock.rsb.blocks_others(lock)
    cluster.says(C, "r", "EX")
    cluster.settle()
    assert cluster.master() == A
    assert lock.rsb.blocks_others(lock)
    cluster.says(B, "q", "NL notify")
    cluster.settle()
    assert cluster.lock(C, "r").granted is Mode.EX
    assert not lock.rsb.blocks_others(lock)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_end_of_an_owner_releases_its_locks_everywhere(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.says(A, "p", "NL")
    cluster.says(B, "q", "NL", b"db/y")
    cluster.settle()
    cluster.says(B, "q", "EX")
    cluster.settle()
    cluster.says(C, "r", "EX")
    cluster.settle()
    cluster.granted()
    cluster.dies(B, "q")
    assert cluster.person(B, "q").locks == {}
    cluster.settle()
    assert cluster.granted() == [f"r@{C}"]
    assert not cluster.nodes[A].blocks[b"db/x"].valid


@pytest.mark.parametrize("seed", SEEDS)
def test_a_withdrawn_request_is_not_held_even_if_its_grant_was_on_the_way(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.says(A, "p", "EX")
    cluster.settle()
    cluster.says(B, "q", "EX")
    cluster.says(B, "s", "NL")
    cluster.settle()
    cluster.says(B, "s", "EX")
    cluster.settle()
    cluster.granted()
    cluster.says(A, "p", "UN")  # the grants leave for B ...
    cluster.withdraws(B, "q")  # ... where both have just given up
    cluster.withdraws(B, "s")
    cluster.says(C, "r", "EX")
    cluster.settle()
    assert cluster.granted() == [f"r@{C}"]
    assert cluster.lock(B, "s").granted is Mode.NL
    assert b"db/x" not in cluster.person(B, "q").locks


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sublock_tree_has_one_master(seed: int) -> None:
    cluster = Cluster(seed)
    x, y, z = b"db/x", b"db/x.sub/y", b"db/x.sub/y.sub/z"
    assert root_of(z) == root_of(y) == root_of(x) == x
    for member in MEMBERS:
        cluster.says(member, "p", "CW", x)
        cluster.settle()
    for member in MEMBERS:
        cluster.says(member, "p", "CW", y, parent=cluster.lock(member, "p", x))
        cluster.settle()
        cluster.says(member, "p", "PR", z, parent=cluster.lock(member, "p", y))
        cluster.settle()
    assert {cluster.master(name) for name in (x, y, z)} == {A}
    cluster.heard.clear()
    cluster.says(B, "p", "UN", y)
    cluster.settle()
    assert cluster.refused() == [(B, "HasSublocks")]
    cluster.says(B, "p", "UN all", x)
    cluster.settle()
    assert set(cluster.person(B, "p").locks) == {x}
    cluster.dies(C, "p")
    cluster.settle()
    assert cluster.nodes[A].blocks[z].size == 1


def test_requests_during_a_release_go_on_after_it() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "NL")
    cluster.settle()
    cluster.says(B, "q", "EX")
    cluster.settle()
    first = cluster.lock(B, "q")
    cluster.says(B, "q", "UN")
    assert cluster.says(B, "q", "PR", client="again") == []
    cluster.settle()
    assert cluster.lock(B, "q") is not first
    assert cluster.lock(B, "q").granted is Mode.PR


def test_a_request_that_comes_twice_takes_effect_once() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "NL")
    cluster.settle()
    cluster.says(B, "q", "EX")
    cluster.settle()
    cluster.says(B, "q", "EX value=one")
    again = cluster.wires[B, A][0]
    cluster.settle()
    valseq = cluster.nodes[A].blocks[b"db/x"].valseq
    assert cluster.step(A, Received(B, again)) == []
    assert cluster.nodes[A].blocks[b"db/x"].valseq == valseq
    assert not any(cluster.wires.values())


def test_a_message_of_another_view_has_no_effect() -> None:
    cluster = Cluster(view=2)
    old = Cluster(view=1)
    old.says(A, "p", "EX", name_with_directory(B))
    message = old.wires[A, B][0]
    assert cluster.step(B, Received(A, message)) == []
    assert cluster.sent == 0


def test_deadlocks_on_one_block_are_found_for_owners_anywhere() -> None:
    cluster = Cluster()
    cluster.says(A, "p", "NL")
    cluster.settle()
    for member in (B, C):
        cluster.says(member, "q", "PR")
        cluster.settle()
    cluster.says(B, "q", "EX")
    cluster.settle()
    cluster.heard.clear()
    cluster.says(C, "q", "EX")
    cluster.settle()
    assert cluster.refused() == [(C, "Deadlock")]
    assert cluster.lock(C, "q").granted is Mode.PR


def test_names_idle_for_longest_are_given_up_and_numbers_still_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clufs.dlm.seeking.IDLE_NAMES_KEPT", 3)
    assert limits.IDLE_NAMES_KEPT > 3
    cluster = Cluster()
    names = [b"db/%d" % i for i in range(30)]
    highest = dict.fromkeys(names, 0)
    for member in MEMBERS:
        for name in names:
            cluster.says(member, "p", "EX", name)
            cluster.settle()
            number = cluster.lock(member, "p", name).number
            assert number > highest[name]
            highest[name] = number
            cluster.says(member, "p", "UN", name)
            cluster.settle()
    known = [name for node in cluster.nodes.values() for name in node.directory.masters]
    assert len(known) <= (3 + 1) * len(MEMBERS)


def test_a_member_that_no_longer_masters_a_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clufs.dlm.seeking.IDLE_NAMES_KEPT", 0)
    name = name_with_directory(C)
    cluster = Cluster()
    cluster.says(A, "p", "EX", name)
    cluster.settle()
    cluster.says(B, "q", "EX", name)
    cluster.deliver((B, C))
    cluster.deliver((C, B))  # B knows that A is the master, and asks it ...
    cluster.says(A, "p", "UN", name)
    cluster.says(A, "p", "EX", b"db/other")
    while cluster.wires.get((A, C)):
        cluster.deliver((A, C))
    cluster.settle()  # ... but A has given the name up
    assert cluster.lock(B, "q", name).granted is Mode.EX
    assert cluster.master(name) in (A, B)


def test_an_owner_that_ends_while_its_request_waits_for_the_directory_leaves_nothing() -> None:
    name = name_with_directory(C)
    cluster = Cluster()
    cluster.says(A, "p", "EX", name)
    cluster.deliver((A, C))  # A will be the master; the answer is on its way
    cluster.says(B, "q", "EX", name)
    cluster.deliver((B, C))
    cluster.deliver((C, B))
    cluster.deliver((B, A))  # B's request is at A before A knows that it is the master
    cluster.dies(B, "q")
    cluster.deliver((B, A))
    cluster.settle()
    assert cluster.granted() == [f"p@{A}"]
    assert cluster.nodes[A].guests == {}
    assert cluster.nodes[B].open_requests() == []


def test_two_requests_sent_back_by_a_former_master_become_one_master(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clufs.dlm.seeking.IDLE_NAMES_KEPT", 0)
    name = name_with_directory(C)
    cluster = Cluster()
    cluster.says(A, "p", "EX", name)
    cluster.settle()
    cluster.says(B, "q", "PR", name)
    cluster.says(B, "r", "PR", name)
    cluster.deliver((B, C))
    cluster.deliver((C, B))
    cluster.says(A, "p", "UN", name)
    cluster.says(A, "p", "EX", name_with_directory(A))
    cluster.settle()
    assert cluster.lock(B, "q", name).granted is cluster.lock(B, "r", name).granted is Mode.PR
    assert cluster.master(name) in MEMBERS


def test_a_conversion_that_crosses_the_release_of_its_lock_makes_no_new_one() -> None:
    cluster = Cluster()
    x, s = b"db/x", b"db/x.sub/s"
    cluster.says(A, "p", "NL", x)
    cluster.settle()
    cluster.says(B, "q", "CR", x)
    cluster.settle()
    cluster.says(B, "q", "PR", s, parent=cluster.lock(B, "q", x))
    cluster.settle()
    cluster.heard.clear()
    cluster.says(B, "q", "UN all", x)
    cluster.says(B, "q", "EX", s)
    cluster.settle()
    assert cluster.refused() == [(B, "NotHeld")]
    assert set(cluster.person(B, "q").locks) == {x}
    assert s not in cluster.nodes[A].blocks
