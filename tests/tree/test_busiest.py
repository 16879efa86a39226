"""What is asked for most: counts that stay in proportion, and who may see them."""

from clufs.limits import BUSIEST_COUNTED
from clufs.tree.busiest import Busiest


def test_the_busiest_come_first() -> None:
    busiest = Busiest()
    for name in (b"db/a", b"db/b", b"db/b", b"db/c", b"db/b", b"db/c"):
        busiest.count(name)
    assert busiest.counts() == [(b"db/b", 3), (b"db/c", 2), (b"db/a", 1)]


def test_a_flood_of_names_leaves_the_busy_ones() -> None:
    busiest = Busiest()
    for _ in range(1000):
        busiest.count(b"db/hot")
    for number in range(3 * BUSIEST_COUNTED):
        busiest.count(b"db/%d" % number)
    counts = busiest.counts()
    assert len(counts) <= BUSIEST_COUNTED
    assert counts[0] == (b"db/hot", 125)
