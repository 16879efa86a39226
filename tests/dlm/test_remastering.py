"""A name follows the member that does the work on it: at once when no lock on it is left, and after
some more work while locks stand."""

import pytest

from clufs.dlm.modes import Mode
from clufs.dlm.moves import Offer
from clufs.limits import REMASTER_AFTER, REMASTER_LOCKED_AFTER
from tests.dlm.cluster import MEMBERS, Cluster
from tests.dlm.test_cluster import name_with_directory

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


# -------------------------------------------------------- while locks stand


def standing(line: str = "NL") -> Cluster:
    """provolone has a lock that stands, and masters the name."""
    cluster = Cluster()
    cluster.says(FIRST, "keeper", line)
    cluster.settle()
    assert cluster.master() == FIRST
    return cluster


def work(cluster: Cluster, member: str, requests: int = REMASTER_LOCKED_AFTER) -> None:
    for _ in range(requests // 2):
        cycle(cluster, member)


def test_the_name_moves_though_a_lock_stands() -> None:
    cluster = standing()
    work(cluster, SECOND)
    assert cluster.master() == SECOND
    assert cycle(cluster, SECOND) == 0
    assert cluster.lock(FIRST, "keeper").granted is Mode.NL
    assert [node.master_hint(b"db/x") for node in cluster.nodes.values()] == [SECOND, SECOND, None]


@pytest.mark.parametrize("third", [False, True])
@pytest.mark.parametrize("directory", MEMBERS)
def test_a_move_costs_seven_messages_at_most_and_four_for_each_other_home(
    directory: str, third: bool
) -> None:
    name = name_with_directory(directory)
    cluster = Cluster()
    for member, line in ((FIRST, "NL"), (THIRD, "CR"), (SECOND, "NL")):
        if member == THIRD and not third:
            continue
        cluster.says(member, "anna", line, name)
        cluster.settle()
    before = cluster.sent
    asked = 1
    for line in ["CR", "NL"] * REMASTER_LOCKED_AFTER:
        asked += cluster.master(name) == FIRST
        cluster.says(SECOND, "anna", line, name)
        cluster.settle()
    assert cluster.master(name) == SECOND
    assert asked == REMASTER_LOCKED_AFTER
    told = 2 if directory == THIRD and not third else 0
    assert cluster.sent - before == 2 * (asked - 1) + 5 + told + 4 * third


def test_what_waits_goes_along_in_its_order() -> None:
    cluster = standing()
    cluster.says(SECOND, "anna", "EX")
    cluster.settle()
    for member, who in ((THIRD, "bert"), (FIRST, "carl"), (SECOND, "dora"), (THIRD, "emil")):
        cluster.says(member, who, "EX")
        cluster.settle()
    move(cluster, SECOND)
    order = []
    for member, who in ((SECOND, "anna"), (THIRD, "bert"), (FIRST, "carl"), (SECOND, "dora")):
        cluster.says(member, who, "UN")
        cluster.settle()
        order.append(cluster.granted()[-1])
    assert order == [f"bert@{THIRD}", f"carl@{FIRST}", f"dora@{SECOND}", f"emil@{THIRD}"]


def move(cluster: Cluster, member: str, name: bytes = b"db/x") -> None:
    """Another owner of this member works on its own lock until the tree has moved."""
    cluster.says(member, "mover", "NL", name)
    for _ in range(REMASTER_LOCKED_AFTER):
        cluster.settle()
        cluster.says(member, "mover", "NL", name)
    cluster.settle()
    assert cluster.master(name) == member
    cluster.says(member, "mover", "UN", name)
    cluster.settle()


def test_conversions_that_wait_go_along_and_keep_what_they_hold() -> None:
    cluster = standing("PR")
    cluster.says(THIRD, "bert", "PR")
    cluster.settle()
    cluster.says(THIRD, "bert", "EX")
    cluster.settle()
    move(cluster, SECOND)
    bert = cluster.lock(THIRD, "bert")
    assert (bert.granted, bert.wanted) == (Mode.PR, Mode.EX)
    cluster.says(FIRST, "keeper", "NL")
    cluster.settle()
    assert bert.granted is Mode.EX


def test_the_value_goes_along_and_stays_valid() -> None:
    cluster = standing("EX")
    cluster.says(FIRST, "keeper", "NL value=page")
    cluster.settle()
    before = cluster.nodes[FIRST].blocks[b"db/x"].valseq
    move(cluster, SECOND)
    block = cluster.nodes[SECOND].blocks[b"db/x"]
    assert (block.value, block.valid) == (b"page", True)
    assert block.valseq >= before


def test_a_tree_moves_as_one() -> None:
    cluster = standing()
    keeper = cluster.lock(FIRST, "keeper")
    cluster.says(FIRST, "keeper", "EX", b"db/x.sub/a", parent=keeper)
    cluster.says(THIRD, "bert", "NL")
    cluster.settle()
    cluster.says(THIRD, "bert", "EX", b"db/x.sub/a", parent=cluster.lock(THIRD, "bert"))
    cluster.settle()
    move(cluster, SECOND)
    assert cluster.master(b"db/x.sub/a") == SECOND
    cluster.says(FIRST, "keeper", "UN", b"db/x.sub/a")
    cluster.settle()
    assert cluster.lock(THIRD, "bert", b"db/x.sub/a").granted is Mode.EX


def test_a_large_tree_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clufs.dlm.giving.REMASTER_LOCKS_MAX", 3)
    cluster = standing()
    for who in ("bert", "carl", "dora"):
        cluster.says(THIRD, who, "NL")
    cluster.settle()
    work(cluster, SECOND, 3 * REMASTER_LOCKED_AFTER)
    assert cluster.master() == FIRST


def test_what_is_used_by_turns_stays() -> None:
    cluster = standing()
    for _ in range(REMASTER_LOCKED_AFTER):
        work(cluster, SECOND, 8)
        cycle(cluster, FIRST)
    assert cluster.master() == FIRST


def test_a_request_to_the_old_master_that_crosses_the_move_takes_effect_once() -> None:
    """At every moment of the move bert asks, withdraws, or releases with a value."""
    for moment in range(40):
        for act in ("ask", "withdraw", "release", "end"):
            crossing(moment, act)


def crossing(moment: int, act: str) -> None:
    cluster = standing("NL")
    cluster.random.seed(moment * 7 + len(act))
    cluster.says(THIRD, "bert", "NL" if act in ("ask", "withdraw") else "EX")
    cluster.settle()
    cluster.says(SECOND, "mover", "NL")
    cluster.settle()
    while not any(
        isinstance(message, Offer) for wire in cluster.wires.values() for message in wire
    ):
        cluster.says(SECOND, "mover", "NL")
        while not any(
            isinstance(m, Offer) for wire in cluster.wires.values() for m in wire
        ) and any(cluster.wires.values()):
            cluster.deliver()
    for _ in range(moment):
        if any(cluster.wires.values()):
            cluster.deliver()
            cluster.check()
    cluster.granted()
    if act in ("ask", "withdraw"):
        cluster.says(THIRD, "bert", "EX")
    if act == "withdraw" and cluster.lock(THIRD, "bert").wanted is not None:
        cluster.withdraws(THIRD, "bert")
    if act == "release":
        cluster.says(THIRD, "bert", "UN value=last")
    if act == "end":
        cluster.dies(THIRD, "bert", abnormal=False)
    cluster.settle()
    assert cluster.master() == SECOND
    block = cluster.nodes[SECOND].blocks[b"db/x"]
    assert block.valid
    if act == "ask":
        assert cluster.lock(THIRD, "bert").granted is Mode.EX
    if act == "withdraw":
        assert cluster.lock(THIRD, "bert").granted is Mode.NL
    if act == "release":
        assert block.value == b"last"


# ------------------------------------------------- moves that follow each other


def deliver_all_but(cluster: Cluster, *late: tuple[str, str]) -> None:
    """Everything arrives except on these streams."""
    while pairs := [pair for pair, wire in cluster.wires.items() if wire and pair not in late]:
        cluster.deliver(cluster.random.choice(pairs))
        cluster.check()


def work_past(cluster: Cluster, member: str, name: bytes, *late: tuple[str, str]) -> None:
    """This member works on the name until it is offered and taken, or would be."""
    cluster.says(member, "mover", "NL", name)
    for _ in range(REMASTER_LOCKED_AFTER + 2):
        deliver_all_but(cluster, *late)
        lock = cluster.lock(member, "mover", name)
        if lock.wanted is None and lock.granted is not None:
            cluster.says(member, "mover", "NL", name)
    deliver_all_but(cluster, *late)


def test_a_new_master_grants_nothing_before_the_directory_member_has_heard() -> None:
    """Else it might give the tree away again, and the directory hear of both moves in the wrong order."""
    name = name_with_directory(THIRD)
    cluster = Cluster()
    cluster.says(FIRST, "keeper", "NL", name)
    cluster.settle()
    work_past(cluster, SECOND, name, (FIRST, THIRD))
    assert not any(name in node.blocks for node in cluster.nodes.values())
    cluster.settle()
    assert cluster.master(name) == SECOND
    assert cluster.nodes[THIRD].directory.masters[name] == SECOND


def test_a_tree_comes_back_only_when_nothing_of_before_is_on_its_way() -> None:
    """pepicelli's request crosses the move, is asked anew and given up; should provolone master the name
    again when it arrives, it would stand there for ever."""
    name = name_with_directory(FIRST)
    late = (THIRD, FIRST)
    cluster = Cluster()
    cluster.says(FIRST, "keeper", "NL", name)
    cluster.says(THIRD, "bert", "NL", name)
    cluster.settle()
    cluster.says(THIRD, "crossing", "EX", name)
    work_past(cluster, SECOND, name, late)
    assert cluster.master(name) == SECOND
    for who in ("crossing", "bert"):
        cluster.says(THIRD, who, "UN", name)
        deliver_all_but(cluster, late)
    work_past(cluster, FIRST, name, late)
    assert cluster.master(name) == SECOND
    cluster.settle()
    work_past(cluster, FIRST, name)
    assert cluster.master(name) == FIRST
    cluster.settle()
