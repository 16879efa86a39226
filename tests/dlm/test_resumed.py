"""A view that is suspended and holds again: what waited meanwhile goes on, and nothing is asked twice."""

from clufs.dlm.interface import Grant, Resumed, Suspended
from clufs.dlm.messages import Lookup
from clufs.dlm.modes import Mode
from tests.dlm.cluster import Cluster

HERE = "pepicelli"


NAMES = [b"db/%d" % number for number in range(30)]


def lookups(cluster: Cluster) -> int:
    """How many look-ups of this member are on the wires."""
    wires = [wire for (sender, _), wire in cluster.wires.items() if sender == HERE]
    return sum(isinstance(message, Lookup) for wire in wires for message in wire)


def all_granted(cluster: Cluster) -> bool:
    cluster.settle()
    return {cluster.lock(HERE, "anna", name).granted for name in NAMES} == {Mode.EX}


def test_a_request_that_waited_on_a_block_mastered_here_is_granted() -> None:
    cluster = Cluster()
    cluster.says(HERE, "anna", "NL")
    cluster.settle()
    cluster.step(HERE, Suspended())
    assert not any(isinstance(e, Grant) for e in cluster.says(HERE, "bert", "EX"))
    effects = cluster.step(HERE, Resumed())
    cluster.settle()
    assert cluster.lock(HERE, "bert").granted is Mode.EX
    assert all(isinstance(effect, Grant) for effect in effects)


def test_names_first_asked_for_meanwhile_are_looked_up_once() -> None:
    cluster = Cluster()
    cluster.step(HERE, Suspended())
    for name in NAMES:
        cluster.says(HERE, "anna", "EX", name=name)
    assert lookups(cluster) == 0
    cluster.step(HERE, Resumed())
    sent = lookups(cluster)
    assert sent > 0
    cluster.step(HERE, Suspended())
    cluster.step(HERE, Resumed())
    assert lookups(cluster) == sent
    assert all_granted(cluster)


def test_a_look_up_under_way_is_not_sent_again() -> None:
    cluster = Cluster()
    for name in NAMES:
        cluster.says(HERE, "anna", "EX", name=name)
    sent = lookups(cluster)
    assert sent > 0
    cluster.step(HERE, Suspended())
    cluster.step(HERE, Resumed())
    assert lookups(cluster) == sent
    assert all_granted(cluster)


def test_who_was_not_suspended_is_not_resumed() -> None:
    cluster = Cluster()
    assert cluster.step(HERE, Resumed()) == []


def test_what_came_meanwhile_is_heard() -> None:
    """A message comes once: what was not taken then is taken when the view holds again."""
    cluster = Cluster()
    cluster.says(HERE, "anna", "EX")
    cluster.settle()
    cluster.step(HERE, Suspended())
    cluster.says("provolone", "bert", "NL")
    while any(cluster.wires.values()):
        cluster.deliver()
    cluster.step(HERE, Resumed())
    cluster.settle()
    assert cluster.lock("provolone", "bert").granted is Mode.NL
