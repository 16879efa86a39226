"""Deadlocks: found when they close, broken by refusing the youngest (Tru64 manual, 9.3.5)."""

from __future__ import annotations

from clufs.dlm.interface import Cycle, Refuse
from clufs.dlm.modes import Mode
from tests.dlm.cluster_of_one import Story
from tests.dlm.oracle import check

A, B, C = b"db/a", b"db/b", b"db/c"


def cycle(story: Story) -> tuple[list[str], str, str]:
    """The locks of the cycle just found as `owner name`, the victim, the kind."""
    (found,) = story.all(Cycle)
    check(story.node, list(story.people.values()))
    assert [wanted for _, wanted in found.modes][found.locks.index(found.victim)] is not None
    shown = [f"{lock.owner.name} {lock.rsb.name.decode()[-1]}" for lock in found.locks]
    return shown, found.victim.owner.name, found.kind


def test_two_readers_that_both_want_to_write() -> None:
    story = Story()
    story.says("a", "PR", A)
    story.says("b", "PR", A)
    story.says("a", "EX", A)
    story.says("b", "EX", A)
    assert story.refusal() == "Deadlock"
    assert cycle(story) == (["b a", "a a"], "b", "conversion")
    assert story.queues(A) == "b:PR | a:PR>EX |"
    (refuse,) = story.all(Refuse)
    assert "db/a PR to EX" in str(refuse.error)


def test_a_conversion_deadlock_needs_no_common_party() -> None:
    story = Story()
    for who in "ab":
        story.says(who, "PR", A, party=object())
    story.says("a", "EX", A, party=object())
    story.says("b", "PW", A, party=object())
    assert story.refusal() == "Deadlock"
    assert cycle(story)[2] == "conversion"


def test_conversions_that_merely_wait_are_no_deadlock() -> None:
    story = Story()
    for who in "abc":
        story.says(who, "NL", A)
    for who in "abc":
        story.says(who, "EX", A)
    assert story.queues(A) == "a:EX | b:NL>EX c:NL>EX |"


def test_two_parties_two_resources() -> None:
    story = Story()
    story.says("a", "EX", A)
    story.says("b", "EX", B)
    story.says("a", "EX", B)
    assert story.outcome() == "QUEUED"
    story.says("b", "EX", A)
    assert story.refusal() == "Deadlock"
    assert cycle(story) == (["b a", "a a", "a b", "b b"], "b", "multi-resource")
    (refuse,) = story.all(Refuse)
    said = "db/a EX wanted, db/a EX held, db/b EX wanted, db/b EX held"
    assert str(refuse.error).endswith(said)
    assert story.person("b").locks.keys() == {B}
    story.says("b", "UN", B)
    assert story.granted() == ["a"]


def test_three_parties_three_resources() -> None:
    story = Story()
    for who, name in zip("abc", (A, B, C), strict=True):
        story.says(who, "EX", name)
    story.says("a", "PR", B)
    story.says("b", "PR", C)
    story.says("c", "PR", A)
    assert story.refusal() == "Deadlock"
    shown, victim, kind = cycle(story)
    assert shown == ["c a", "a a", "a b", "b b", "b c", "c c"]
    assert (victim, kind) == ("c", "multi-resource")


def test_a_queue_is_part_of_the_cycle() -> None:
    story = Story()
    story.says("h", "PR", A)
    story.says("b", "EX", B)
    story.says("a", "EX", A)
    story.says("b", "PR", A)
    story.says("h", "EX", B)
    assert story.refusal() == "Deadlock", "h holds A, so a waits, so b waits, who holds B"
    shown, victim, _ = cycle(story)
    assert shown == ["h b", "b b", "b a", "a a", "h a"]
    assert victim == "h"


def test_one_thread_that_waits_for_itself() -> None:
    story = Story()
    story.says("fd3", "EX", A, party="pid 1")
    story.says("fd4", "EX", A, party="pid 1")
    assert story.refusal() == "Deadlock"
    assert cycle(story)[0] == ["fd4 a", "fd3 a"]


def test_waiting_behind_a_chain_is_no_deadlock() -> None:
    story = Story()
    story.says("a", "EX", A)
    story.says("b", "EX", B)
    story.says("b", "EX", A)
    story.says("c", "EX", C)
    story.says("c", "EX", B)
    story.says("d", "EX", C)
    assert story.outcome() == "QUEUED"
    check(story.node, list(story.people.values()))


def test_nodeadlock_is_neither_victim_nor_counted() -> None:
    story = Story()
    story.says("a", "EX", A)
    story.says("b", "EX", B)
    story.says("a", "EX nodeadlock", B)
    story.says("b", "EX", A)
    assert story.outcome() == "QUEUED"
    other = Story()
    other.says("a", "EX", A)
    other.says("b", "EX", B)
    other.says("a", "EX", B)
    other.says("b", "EX nodeadlock", A)
    assert other.outcome() == "QUEUED"


def test_nothing_is_concluded_from_waiting_behind_a_nodeadlock_request() -> None:
    story = Story()
    story.says("h", "PR", A)
    story.says("n", "EX nodeadlock", A)
    story.says("q", "EX", B)
    story.says("q", "PR", A)
    story.says("h", "EX", B)
    assert story.outcome() == "QUEUED", "n's request may be given up, and q reads beside h"


def test_the_victim_is_the_one_who_asked_last_not_the_one_who_closed_the_cycle() -> None:
    story = Story()
    story.says("a", "EX", A)
    story.says("b", "EX", B)
    story.says("b", "EX", A)
    place = story.lock("b", A).place
    story.withdraws("b", A)
    story.says("a", "EX", B)
    story.says("b", "EX", A, place=place)
    assert story.outcome() == "QUEUED"
    (refuse,) = story.all(Refuse)
    assert refuse.client == "a: EX"
    assert cycle(story)[1] == "a"
    assert story.queues(A) == "a:EX |  | b:EX"


def test_a_conversion_granted_at_once_closes_a_cycle() -> None:
    story = Story()
    story.says("h", "CR", A)
    story.says("p", "NL", A)
    story.says("q", "EX", B)
    story.says("q", "EX", A)
    story.says("p", "EX", B, client="p waits")
    assert story.outcome() == "QUEUED", "p holds nothing in q's way"
    story.says("p", "PR", A)
    assert story.granted() == ["p"]
    (refuse,) = story.all(Refuse)
    assert refuse.client == "p waits"
    assert cycle(story)[1] == "p"


def test_a_lock_granted_before_others_in_its_old_place_closes_a_cycle() -> None:
    story = Story()
    story.says("h", "EX", A)
    story.says("p", "PR", A)
    place = story.lock("p", A).place
    story.withdraws("p", A)
    story.says("q", "EX", B)
    story.says("q", "EX", A)
    story.says("p", "PR", B, client="p waits")
    story.says("h", "PR", A)
    story.says("p", "PR", A, place=place)
    assert story.granted() == ["p"]
    assert cycle(story)[1] == "p"
    assert [refuse.client for refuse in story.all(Refuse)] == ["p waits"]


def test_an_old_place_before_others_closes_a_cycle() -> None:
    story = Story()
    story.says("h", "EX", A)
    story.says("p", "EX", A)
    place = story.lock("p", A).place
    story.withdraws("p", A)
    story.says("q", "EX", B)
    story.says("q", "EX", A)
    story.says("p", "PR", B, client="p waits")
    story.says("p", "EX", A, place=place)
    assert cycle(story)[1] == "p"
    assert [refuse.client for refuse in story.all(Refuse)] == ["p waits"]
    assert story.queues(A) == "h:EX |  | p:EX q:EX"


def test_a_group_can_release_while_one_of_its_processes_can() -> None:
    story = Story()
    story.group("g", "p", "q")
    story.says("g", "EX", A, waiter="p")
    story.says("x", "EX", B)
    story.says("x", "EX", A)
    story.says("p", "EX", B)
    assert story.outcome() == "QUEUED", "q can still release A"
    story.says("q", "EX", B)
    assert story.refusal() == "Deadlock", "now nobody of g can"
    assert cycle(story)[1] == "q"


def test_a_group_whose_last_free_process_leaves_closes_a_cycle() -> None:
    story = Story()
    story.group("g", "p", "q")
    story.says("g", "EX", A)
    story.says("x", "EX", B)
    story.says("x", "EX", A)
    story.says("p", "EX", B)
    story.group("g", "p")
    shown, victim, _ = cycle(story)
    assert sorted(shown) == ["g a", "p b", "x a", "x b"]
    assert victim == "p"
    assert story.queues(B) == "x:EX |  |"


def test_a_process_that_waits_for_its_own_group() -> None:
    story = Story()
    story.group("g", "p", "q")
    story.says("g", "EX", A)
    story.says("p", "EX", A)
    assert story.outcome() == "QUEUED"
    story.says("g", "EX", B, waiter="q")
    story.says("x", "EX", C)
    story.says("q", "EX", A)
    assert story.refusal() == "Deadlock"


def test_a_lock_of_the_member_is_released_by_whoever_comes() -> None:
    story = Story()
    story.says("member", "EX", A, party="anybody", waiter="p")
    story.says("x", "EX", B)
    story.says("x", "EX", A)
    story.says("p", "EX", B)
    assert story.outcome() == "QUEUED"


def test_a_lock_that_changes_hands_closes_a_cycle() -> None:
    story = Story()
    story.says("fd", "EX", A, party="p")
    story.says("q", "EX", B)
    story.says("q", "EX", A)
    story.says("r", "EX", B)
    assert story.outcome() == "QUEUED"
    story.says("fd", "EX", A, party="r")
    assert cycle(story)[1] == "r", "r waits for q, and q now for r"


def test_a_cancelled_conversion_puts_the_lock_back_into_the_old_hands() -> None:
    story = Story()
    story.says("fd", "PR", A, party="p")
    story.says("h", "PR", A)
    story.says("q", "EX", B)
    story.says("fd", "PW nodeadlock", A, party="r")
    story.says("q", "PW", A)
    story.says("p", "EX", B)
    assert story.outcome() == "QUEUED"
    story.says("fd", "CANCEL", A)
    assert cycle(story)[1] == "p"


def test_several_waits_of_one_party_all_count() -> None:
    story = Story()
    story.says("p", "EX", A)
    story.says("q", "EX", B)
    story.says("h", "EX", C)
    story.says("p1", "EX", C, party="p")
    story.says("p2", "EX", B, party="p")
    story.says("q", "EX", A)
    assert story.refusal() == "Deadlock"


def test_a_request_ahead_that_will_be_granted_beside_mine_is_no_obstacle_for_ever() -> None:
    story = Story()
    story.says("h", "EX", A)
    story.says("q", "EX", B)
    story.says("p1", "PR", A, party="p")
    story.says("p2", "PR", B, party="p")
    story.says("q", "PR", A)
    assert story.outcome() == "QUEUED", "h releases, p and q read A together, q releases B"
    check(story.node, list(story.people.values()))


def test_a_conversion_that_passes_another_request_of_its_own_party() -> None:
    story = Story()
    story.says("p1", "NL", A, party="p")
    story.says("h", "PR", A)
    story.says("p2", "CW", A, party="p", client="p2 waits")
    story.says("p1", "EX", A, party="p")
    assert story.refusal() == "Deadlock"
    assert cycle(story)[1] == "p1", "p2 would wait for p, who waits in p2"


def crowd(size: int, common: str) -> int:
    """How many locks the search looks at while so many, who share a lock on B, queue for A."""
    story = Story()
    story.says("h", "EX", A)
    for i in range(size):
        story.says(f"w{i}", common, B)
    story.says("e", "EX", B)
    before = story.node.search.looks
    for i in range(size):
        story.says(f"w{i}", "EX", A)
        assert story.outcome() == "QUEUED"
    return story.node.search.looks - before


def test_a_crowd_is_not_looked_at_again_for_every_newcomer() -> None:
    assert crowd(2000, "PR") <= 4 * 2000


def test_a_crowd_of_conversions_on_one_resource() -> None:
    story = Story()
    story.says("h", "EX", A)
    for i in range(2000):
        story.says(f"w{i}", "NL", A)
    for i in range(2000):
        story.says(f"w{i}", "EX", A)
    assert story.node.search.looks <= 4 * 2000


def test_holding_much_makes_no_wait_expensive() -> None:
    story = Story()
    for i in range(2000):
        story.says("p", "EX", b"db/%d" % i)
    for i in range(100):
        story.says(f"h{i}", "EX", b"hot/%d" % i)
        story.says("p", "EX", b"hot/%d" % i)
    assert story.node.search.looks <= 4 * 100 * 100


def test_a_victim_of_the_crowd_gets_its_answer() -> None:
    story = Story()
    story.says("h", "EX", A)
    for i in range(500):
        story.says(f"w{i}", "EX", b"own/%d" % i)
        story.says(f"w{i}", "EX", A)
    story.says("h", "EX", b"own/250")
    shown, victim, _ = cycle(story)
    assert victim == "h"
    assert len(shown) <= 6
    assert story.lock("h", A).granted is Mode.EX
