"""Members come and go while a tree is on its way to another master: it is where it must be in the end."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from clufs.dlm.directory import directory_member
from clufs.dlm.interface import Resumed
from clufs.dlm.modes import Mode
from clufs.dlm.moves import Offer
from clufs.dlm.rsb import ResourceBlock
from clufs.limits import REMASTER_LOCKED_AFTER
from tests.dlm.cluster import make_eager
from tests.dlm.views import Views

OLD, NEW, THIRD, FOURTH = MEMBERS = ("provolone", "polishham", "pepicelli", "prosciutto")
MOMENTS = range(12)
"""So many messages of the move have been heard: more than it has."""


def come_to_rest(cluster: Views) -> None:
    while cluster.some_time():
        cluster.check()


def standing(seed: int = 0) -> Views:
    """All four are in their first view."""
    cluster = Views(seed, MEMBERS)
    for member in MEMBERS:
        cluster.start(member)
    view_for_all(cluster)
    come_to_rest(cluster)
    return cluster


def view_for_all(cluster: Views) -> None:
    """A view comes, and each of them has heard of it before anybody says anything."""
    cluster.install()
    for member in MEMBERS:
        cluster.learn(member)


def moving(moment: int, name: bytes = b"db/x") -> Views:
    """provolone gives the tree to polishham; all but prosciutto hold it in PR, prosciutto waits."""
    cluster = standing(moment)
    cluster.says(OLD, "writer", "EX", name)
    come_to_rest(cluster)
    cluster.says(OLD, "writer", "PR value=page", name)
    for member in (NEW, THIRD):
        cluster.says(member, "reader", "PR", name)
        come_to_rest(cluster)
    cluster.says(FOURTH, "waiter", "EX", name)
    come_to_rest(cluster)
    assert list(cluster.nodes[OLD].blocks) == [name]
    offer(cluster, name)
    pass_moments(cluster, moment)
    return cluster


def offer(cluster: Views, name: bytes) -> None:
    """polishham works until the tree is offered to it."""
    cluster.says(NEW, "worker", "NL", name)
    while not is_offered(cluster):
        while cluster.under_way() and not is_offered(cluster):
            cluster.deliver()
        if not is_offered(cluster):
            cluster.says(NEW, "worker", "NL", name)


def pass_moments(cluster: Views, moments: int) -> None:
    for _ in range(moments):
        if cluster.under_way():
            cluster.deliver()
            cluster.check()


def name_with(members: Iterable[str], directory: str) -> bytes:
    """A name whose directory is at this one of these members."""
    names = (b"db/%d" % number for number in range(99))
    return next(name for name in names if directory_member(name, sorted(members)) == directory)


def is_offered(cluster: Views) -> bool:
    return any(isinstance(sent[2], Offer) for wire in cluster.post.values() for sent in wire)


def finish(cluster: Views, name: bytes = b"db/x") -> str:
    """The master in the end."""
    cluster.finish(lambda: None)
    (master,) = [member for member, node in cluster.nodes.items() if name in node.blocks]
    return master


def the_block(cluster: Views, name: bytes) -> ResourceBlock:
    """Where it is mastered."""
    (block,) = [node.blocks[name] for node in cluster.nodes.values() if name in node.blocks]
    return block


def check(cluster: Views) -> None:
    """Whoever is left has what it had, and the value is what it was."""
    for member in cluster.nodes:
        for who in ("writer", "reader"):
            if (member, who) in cluster.people:
                assert cluster.lock(member, who).granted is Mode.PR
    block = the_block(cluster, b"db/x")
    assert (block.value, block.valid) == (b"page", True)
    if FOURTH in cluster.nodes:
        assert cluster.lock(FOURTH, "waiter").wanted is Mode.EX


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("who", MEMBERS)
@pytest.mark.parametrize("crashed", [True, False])
def test_a_member_is_lost(who: str, moment: int, crashed: bool) -> None:
    cluster = moving(moment)
    cluster.loses(who, crashed)
    cluster.install()
    finish(cluster)
    check(cluster)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_old_and_the_new_master_are_lost(moment: int) -> None:
    cluster = moving(moment)
    cluster.loses(OLD, True)
    cluster.loses(NEW, False)
    cluster.install()
    finish(cluster)
    check(cluster)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_view_comes_and_nobody_is_lost(moment: int) -> None:
    cluster = moving(moment)
    cluster.install()
    finish(cluster)
    check(cluster)
    assert cluster.nodes[OLD].waits_for() == ""


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("who", [OLD, NEW])
def test_a_master_leaves_in_order(who: str, moment: int) -> None:
    cluster = moving(moment)
    for home, person in list(cluster.people):
        if home == who:
            cluster.dies(home, person, abnormal=False)
    cluster.leaves(who)
    finish(cluster)
    check(cluster)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("directory", [OLD, NEW, FOURTH])
@pytest.mark.parametrize("line", ["UN", "UN value=last"])
@pytest.mark.parametrize("home", [NEW, THIRD])
def test_what_was_released_without_quorum_was_the_last(
    home: str, line: str, directory: str, moment: int
) -> None:
    """While the tree moves, its home has the only lock that can write; then a view comes."""
    name = name_with(MEMBERS, directory)
    cluster = released_without_quorum(home, line, moment, name)
    view_for_all(cluster)
    finish(cluster, name)
    block = the_block(cluster, name)
    assert (block.value, block.valid) == (b"last" if line != "UN" else b"page", True)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("line", ["UN", "UN value=last"])
@pytest.mark.parametrize("home", [NEW, THIRD])
def test_what_was_released_before_the_quorum_is_back_was_the_last(
    home: str, line: str, moment: int
) -> None:
    cluster = released_without_quorum(home, line, moment, b"db/x")
    cluster.step(home, Resumed())
    come_to_rest(cluster)
    block = cluster.nodes[NEW].blocks[b"db/x"]
    assert (block.value, block.valid) == (b"last" if line != "UN" else b"page", True)


def released_without_quorum(home: str, line: str, moment: int, name: bytes) -> Views:
    cluster = standing(moment)
    cluster.says(OLD, "keeper", "NL", name)
    come_to_rest(cluster)
    cluster.says(home, "writer", "EX", name)
    come_to_rest(cluster)
    cluster.says(home, "writer", "EX value=page", name)
    come_to_rest(cluster)
    offer(cluster, name)
    pass_moments(cluster, moment)
    cluster.suspend(home)
    cluster.says(home, "writer", line, name)
    deliver_all(cluster, (home, OLD))
    pass_moments(cluster, moment % 3)
    return cluster


def test_what_the_old_master_released_without_quorum_was_the_last() -> None:
    """It had the only lock that could write, and builds the tree itself in the next view."""
    name = name_with(MEMBERS, OLD)
    cluster = standing()
    cluster.says(OLD, "writer", "EX", name)
    cluster.says(THIRD, "keeper", "NL", name)
    come_to_rest(cluster)
    cluster.says(OLD, "writer", "EX value=page", name)
    offer(cluster, name)
    deliver_all(cluster, (OLD, NEW), (NEW, OLD))
    assert not cluster.nodes[OLD].blocks
    cluster.suspend(OLD)
    cluster.says(OLD, "writer", "UN", name)
    view_for_all(cluster)
    finish(cluster, name)
    block = the_block(cluster, name)
    assert (block.value, block.valid) == (b"page", True)


def test_what_was_asked_anew_and_given_up_is_not_served_by_the_old_master() -> None:
    """It has kept what was asked of it, and masters the tree once more when the new master is lost."""
    name = name_with({*MEMBERS} - {NEW}, OLD)
    cluster = moving(0, name)
    cluster.says(FOURTH, "late", "EX", name)
    deliver_all(cluster, (OLD, NEW), (NEW, OLD), (FOURTH, OLD), (OLD, FOURTH))
    for who in ("late", "waiter"):  # it has nothing there then, and nothing to hand in
        cluster.withdraws(FOURTH, who, name)
    cluster.loses(NEW, True)
    cluster.install()
    finish(cluster, name)


def test_what_the_new_master_had_asked_and_given_up_is_not_served_by_the_old_master() -> None:
    """It had asked the old master, which has kept that, and masters the tree once more in the next view."""
    name = name_with(MEMBERS, OLD)
    cluster = standing()
    cluster.says(OLD, "keeper", "NL", name)
    while not is_offered(cluster):
        deliver_all(cluster, (OLD, NEW))
        for line in ("NL", "UN"):
            cluster.says(NEW, "worker", line, name)
            deliver_all(cluster, (NEW, OLD))
    deliver_all(cluster, (OLD, NEW))
    cluster.says(NEW, "late", "EX", name)
    deliver_all(cluster, (NEW, OLD))
    cluster.deliver((OLD, NEW))
    assert not cluster.nodes[OLD].blocks
    cluster.withdraws(NEW, "late", name)  # nobody has to be told: it is to decide that itself
    view_for_all(cluster)
    assert finish(cluster, name) == OLD


def test_the_new_master_asks_the_old_one_nothing_once_it_has_heard() -> None:
    """The directory has not heard yet, and names the old master."""
    name = name_with(MEMBERS, FOURTH)
    cluster = standing()
    cluster.says(OLD, "keeper", "NL", name)
    come_to_rest(cluster)
    while not is_offered(cluster):
        deliver_all(cluster, (OLD, NEW), (NEW, FOURTH), (FOURTH, NEW))
        for line in ("NL", "UN"):
            cluster.says(NEW, "worker", line, name)
            deliver_all(cluster, (NEW, FOURTH), (FOURTH, NEW), (NEW, OLD))
    deliver_all(cluster, (OLD, NEW), (NEW, OLD), (OLD, NEW))
    assert not cluster.nodes[OLD].blocks and not cluster.nodes[NEW].blocks
    cluster.says(NEW, "late", "PR", name)
    deliver_all(cluster, (NEW, FOURTH), (FOURTH, NEW), (NEW, OLD))
    come_to_rest(cluster)
    assert cluster.lock(NEW, "late", name).granted is Mode.PR


@pytest.mark.parametrize("heard", ["late", "before the homes"])
def test_a_tree_that_was_built_and_has_ended_is_not_rebuilt(
    heard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old master has heard Built, but not what all homes have to say; or it hears it without quorum.
    In the next view nobody has the name any more, and a new lock finds a valid value."""
    name = name_with(MEMBERS, NEW)
    cluster = given_away(name)
    if heard == "late":
        deliver_all(cluster, (THIRD, OLD))
        cluster.suspend(OLD)
    deliver_all(cluster, (NEW, OLD))
    cluster.says(NEW, "worker", "UN", name)
    give_up(cluster, name, monkeypatch)
    cluster.says(OLD, "late", "PR", name)
    view_for_all(cluster)
    check_value(cluster, name)


def test_a_tree_that_ends_in_the_next_view_before_others_are_in_doubt_has_a_fresh_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old master hears Built only after it has said that it is in doubt."""
    name = name_with(MEMBERS, NEW)
    cluster = given_away(name)
    cluster.says(NEW, "worker", "UN", name)
    cluster.says(OLD, "late", "PR", name)
    cluster.install()
    for member in (FOURTH, NEW, THIRD):
        cluster.learn(member)
    give_up(cluster, name, monkeypatch)
    cluster.learn(OLD)
    check_value(cluster, name)


def given_away(name: bytes) -> Views:
    """polishham has built the tree, as provolone has yet to hear; it holds NL, pepicelli PR."""
    cluster = standing()
    for member, who in ((OLD, "keeper"), (THIRD, "reader")):
        cluster.says(member, who, "PR", name)
        come_to_rest(cluster)
    cluster.says(NEW, "worker", "NL", name)
    come_to_rest(cluster)
    cluster.says(OLD, "keeper", "UN", name)
    offer(cluster, name)
    deliver_all(cluster, (OLD, NEW), (NEW, OLD), (OLD, NEW), (OLD, THIRD), (OLD, FOURTH))
    deliver_all(cluster, (THIRD, NEW), (FOURTH, NEW), (NEW, THIRD))
    assert name in cluster.nodes[NEW].blocks
    return cluster


def give_up(cluster: Views, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lock is released at home, and its master gives the name up: another does the work."""
    make_eager(monkeypatch, 1)
    cluster.says(THIRD, "reader", "UN", name)
    deliver_all(cluster, (THIRD, NEW), (NEW, FOURTH))
    assert cluster.nodes[NEW].master_hint(name) is None


def deliver_all(cluster: Views, *pairs: tuple[str, str]) -> None:
    for pair in pairs:
        while cluster.post.get(pair):
            cluster.deliver(pair)
            cluster.check()


def check_value(cluster: Views, name: bytes) -> None:
    come_to_rest(cluster)
    block = the_block(cluster, name)
    assert (block.value, block.valid) == (b"", True)
    assert cluster.lock(OLD, "late", name).granted is Mode.PR


def test_undisturbed_it_arrives() -> None:
    cluster = moving(0)
    come_to_rest(cluster)
    assert list(cluster.nodes[NEW].blocks) == [b"db/x"]
    assert not cluster.nodes[OLD].blocks
    check(cluster)


def test_the_limit_is_the_one_that_is_said() -> None:
    """As many requests as the limit says are ahead when the tree is offered."""
    cluster = standing()
    cluster.says(OLD, "keeper", "NL")
    come_to_rest(cluster)
    cluster.says(NEW, "worker", "NL")
    come_to_rest(cluster)
    for _ in range(REMASTER_LOCKED_AFTER - 2):
        cluster.says(NEW, "worker", "NL")
        come_to_rest(cluster)
    assert cluster.nodes[OLD].blocks
    cluster.says(NEW, "worker", "NL")
    come_to_rest(cluster)
    assert cluster.nodes[NEW].blocks
