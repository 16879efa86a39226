"""A name follows the member that does the work on it, as soon as no lock on it is left."""

from clufs.dlm.modes import Mode
from clufs.limits import REMASTER_AFTER
from tests.dlm.cluster import Cluster

FIRST, SECOND, THIRD = "provolone", "polishham", "pepicelli"


def cycle(cluster: Cluster, member: str) -> int:
    """EX and UN; how many messages they cost."""
    before = cluster.sent
    cluster.says(member, "anna", "EX")
    cluster.settle()
    assert cluster.lock(member, "anna").granted is Mode.EX
    cluster.says(member, "anna", "UN")
    cluster.settle()
    return cluster.sent - before


def mastered_by(member: str) -> Cluster:
    cluster = Cluster()
    cycle(cluster, member)
    assert cycle(cluster, member) == 0
    return cluster


def test_the_name_moves_to_the_only_member_that_uses_it() -> None:
    cluster = mastered_by(FIRST)
    costs = [cycle(cluster, SECOND) for _ in range(REMASTER_AFTER)]
    assert costs[0] > 0
    assert costs[-1] == 0
    assert cycle(cluster, FIRST) > 0


def test_two_members_that_take_turns_leave_it_where_it_is() -> None:
    cluster = mastered_by(FIRST)
    for _ in range(2 * REMASTER_AFTER):
        assert cycle(cluster, SECOND) > 0
        assert cycle(cluster, THIRD) > 0


def test_its_master_that_uses_it_itself_keeps_it() -> None:
    cluster = mastered_by(FIRST)
    for _ in range(2 * REMASTER_AFTER):
        assert cycle(cluster, SECOND) > 0
        assert cycle(cluster, FIRST) == 0


def test_sequencers_grow_across_a_move() -> None:
    cluster = mastered_by(FIRST)
    numbers = []
    for turn in range(4 * REMASTER_AFTER):
        member = (SECOND, THIRD)[turn // REMASTER_AFTER % 2]
        cluster.says(member, "anna", "EX")
        cluster.settle()
        numbers.append(cluster.lock(member, "anna").number)
        cluster.says(member, "anna", "UN")
        cluster.settle()
    assert numbers == sorted(set(numbers))


def test_who_asks_the_old_master_finds_the_new_one() -> None:
    cluster = mastered_by(FIRST)
    cycle(cluster, THIRD)
    for _ in range(REMASTER_AFTER):
        cycle(cluster, SECOND)
    cluster.says(SECOND, "anna", "EX")
    cluster.settle()
    cluster.says(THIRD, "bert", "EX")
    cluster.settle()
    assert cluster.lock(THIRD, "bert").wanted is Mode.EX
    cluster.says(SECOND, "anna", "UN")
    cluster.settle()
    assert cluster.lock(THIRD, "bert").granted is Mode.EX
