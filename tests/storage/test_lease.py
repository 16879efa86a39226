"""A lease ends for its holder before anybody else may think so, and others are judged by what changes on the LUN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.storage.lease import DiskWatch, Lease, OnDisk, Sight, Standing, neighbours
from clufs.storage.records import LeaseState, MemberRecord, bitmap
from clufs.storage.sealing import Flaw
from clufs.storage.slots import Pair, Slot
from clufs.timeouts.lease import CLOCK_DRIFT, LeaseTimeline

LINE = LeaseTimeline(10, 60)
ME, BRIE, FETA = 1, 2, 3


def record(member: int, **facts: int) -> MemberRecord:
    timing = {"io_timeout_ms": 10_000, "watchdog_ms": 60_000, "state": LeaseState.IN}
    return MemberRecord(7, member, **{"incarnation": 4, **timing, **facts})


class Reader:
    """Looks at the slots; each look takes a second."""

    def __init__(self) -> None:
        self.watch = DiskWatch()

    def sees(self, at_s: float, **sequences: int) -> None:
        """`brie=5`: her record has this sequence; 0: nothing is there."""
        numbers = {"brie": BRIE, "feta": FETA}
        found = [
            (numbers[name], Slot(Pair(n, record(numbers[name]) if n else None), Pair(0, None)))
            for name, n in sequences.items()
        ]
        self.watch.looked(at_s, at_s + 1, found)

    def finds(self, member: int) -> OnDisk:
        return self.watch.sights[member].on_disk


# ------------------------------------------------------------------ our own


def test_a_lease_lasts_from_the_reading_of_the_clock() -> None:
    lease = Lease(1, LINE)
    assert lease.standing(5.0) == Standing.NONE
    assert not lease.may_pet(5.0)
    lease.renewed(0, 5.0)
    assert lease.standing(64.9) == Standing.GOOD
    assert lease.standing(65.0) == Standing.WARNED
    assert lease.may_pet(84.9)
    lease.renewed(0, 70.0)
    assert lease.standing(84.9) == Standing.GOOD


def test_a_lease_that_was_over_once_does_not_come_back() -> None:
    """The record got through in the end: but the others may have taken over meanwhile."""
    lease = Lease(1, LINE)
    lease.renewed(0, 0.0)
    assert lease.standing(80.0) == Standing.FAILED
    lease.renewed(0, 80.5)
    assert lease.standing(81.0) == Standing.FAILED
    assert not lease.may_pet(81.0)


@pytest.mark.parametrize(("luns", "lost"), [(1, 0), (3, 1), (5, 2)])
def test_a_majority_of_the_luns_carries_the_lease(luns: int, lost: int) -> None:
    lease = Lease(luns, LINE)
    for lun in range(luns):
        lease.renewed(lun, 0.0)
    for lun in range(luns - lost):
        lease.renewed(lun, 50.0)
    assert lease.standing(100.0) == Standing.GOOD
    behind = Lease(luns, LINE)
    for lun in range(luns):
        behind.renewed(lun, 0.0)
    for lun in range(luns - lost - 1):
        behind.renewed(lun, 50.0)
    assert behind.standing(100.0) == Standing.FAILED


# ------------------------------------------------------------------ others


def test_a_record_found_at_the_start_proves_nothing_until_it_changes() -> None:
    reader = Reader()
    reader.sees(0, brie=17, feta=4)
    assert reader.finds(BRIE) == OnDisk.UNPROVEN
    reader.sees(20, brie=18, feta=4)
    assert (reader.finds(BRIE), reader.finds(FETA)) == (OnDisk.ALIVE, OnDisk.UNPROVEN)
    reader.sees(142, brie=24, feta=4)
    assert (reader.finds(BRIE), reader.finds(FETA)) == (OnDisk.ALIVE, OnDisk.DEAD)


def test_a_member_that_stops_is_slow_first_and_dead_then() -> None:
    reader = Reader()
    reader.sees(0, brie=1)
    reader.sees(20, brie=2)  # seen at 21 at the earliest
    for at_s, expected in [
        (80, OnDisk.ALIVE),
        (81, OnDisk.SLOW),
        (160, OnDisk.SLOW),
        (161, OnDisk.DEAD),
    ]:
        reader.sees(at_s, brie=2)
        assert reader.finds(BRIE) == expected


def test_who_cannot_read_the_lun_condemns_nobody() -> None:
    """The array was away for an hour: nothing was seen, so nobody was silent."""
    reader = Reader()
    reader.sees(0, brie=1)
    reader.sees(20, brie=2)
    assert reader.finds(BRIE) == OnDisk.ALIVE
    reader.sees(3620, brie=3)
    assert reader.finds(BRIE) == OnDisk.ALIVE


def test_a_first_record_where_none_was_is_a_sign_of_life() -> None:
    reader = Reader()
    reader.sees(0, brie=0)
    assert reader.finds(BRIE) == OnDisk.ABSENT
    reader.sees(20, brie=1)
    assert reader.finds(BRIE) == OnDisk.ALIVE


def test_an_array_that_forgets_a_write_gives_no_sign_of_life() -> None:
    reader = Reader()
    reader.sees(0, brie=7)
    reader.sees(20, brie=8)
    for at_s in range(40, 180, 20):
        reader.sees(at_s, brie=7 + at_s // 20 % 2)
    assert reader.finds(BRIE) == OnDisk.SLOW
    reader.sees(180, brie=7)
    assert reader.finds(BRIE) == OnDisk.DEAD
    assert reader.watch.sights[BRIE].flaws == (Flaw.STALE,)


def test_a_goodbye_is_no_death() -> None:
    watch = DiskWatch()
    gone = Slot(Pair(5, record(BRIE, state=LeaseState.ENDED)), Pair(0, None))
    for at_s in (0, 1000):
        watch.looked(at_s, at_s, [(BRIE, gone)])
    assert watch.sights[BRIE].on_disk == OnDisk.ENDED


def test_a_new_life_may_begin_its_sequence_anew() -> None:
    watch = DiskWatch()
    watch.looked(0, 0, [(BRIE, Slot(Pair(50, record(BRIE)), Pair(0, None)))])
    watch.looked(20, 20, [(BRIE, Slot(Pair(1, record(BRIE, incarnation=5)), Pair(0, None)))])
    assert watch.sights[BRIE].on_disk == OnDisk.ALIVE


@given(
    drift=st.floats(-CLOCK_DRIFT / 2, CLOCK_DRIFT / 2),
    phase_s=st.floats(0, 20),
    last=st.integers(1, 12),
    write_s=st.floats(0, 10),
    reading_s=st.floats(0, 10),
)
def test_nobody_is_dead_for_others_before_its_own_watchdog_fired(
    drift: float, phase_s: float, last: int, write_s: float, reading_s: float
) -> None:
    """A member beats `last` times and then no more; a reader whose clock runs a little fast or slow looks on."""
    begins = [beat * LINE.renew_s for beat in range(last)]
    fired_s = begins[-1] + LINE.dead_s
    reader, look, at_s = Reader(), 0, phase_s
    while at_s < fired_s:
        # A look may show what was written as early as the write began.
        seen = sum(begin <= at_s + reading_s for begin in begins)
        reader.watch.looked(
            at_s * (1 + drift),
            (at_s + reading_s) * (1 + drift),
            [(BRIE, Slot(Pair(seen, record(BRIE) if seen else None), Pair(0, None)))],
        )
        sight = reader.watch.sights[BRIE]
        assert sight.silent_s < LINE.dead_s * (1 + CLOCK_DRIFT)
        look, at_s = look + 1, at_s + LINE.renew_s + write_s


# ------------------------------------------------------------------ disk and network


def watch_of(states: dict[int, tuple[int, int]]) -> dict[int, Sight]:
    """member: (its sequence at the second look, 400 s after the first; whom it hears)."""
    watch = DiskWatch()
    for at_s in (0, 400):
        slots = []
        for member, (sequence, heard) in states.items():
            shown = sequence if at_s else 1
            slots.append((member, Slot(Pair(shown, record(member, heard=heard)), Pair(0, None))))
        watch.looked(at_s, at_s, slots)
    return watch.sights


def test_unheard_but_alive_on_disk_is_told_from_dead() -> None:
    watch = watch_of({BRIE: (2, 0), FETA: (1, 0)})
    found = neighbours([watch], (BRIE, FETA), frozenset())
    assert found[BRIE].words == "unheard on the network, alive on disk"
    assert found[FETA].words == "unheard on the network, dead on disk"


def test_heard_but_dead_on_disk_is_told_too() -> None:
    found = neighbours([watch_of({BRIE: (2, 0), FETA: (1, 0)})], (BRIE, FETA), frozenset({2, 3}))
    assert found[BRIE].words == "alive"
    assert found[FETA].words == "heard on the network, dead on disk"


def test_who_is_unheard_by_us_alone_is_told_by_the_others_records() -> None:
    watch = watch_of({BRIE: (2, bitmap({FETA})), FETA: (2, bitmap({BRIE, ME}))})
    found = neighbours([watch], (BRIE, FETA), frozenset({BRIE}))
    assert found[FETA].heard_by == {BRIE}
    assert found[FETA].words == "unheard on the network by us alone, alive on disk"


def test_nobody_is_dead_who_lives_on_one_of_several_luns() -> None:
    gone, alive = watch_of({BRIE: (1, 0)}), watch_of({BRIE: (2, 0)})
    assert neighbours([gone, alive], (BRIE,), frozenset())[BRIE].on_disk == OnDisk.ALIVE
    assert neighbours([gone, gone], (BRIE,), frozenset())[BRIE].on_disk == OnDisk.DEAD
    assert neighbours([gone, alive], (FETA,), frozenset())[FETA].on_disk == OnDisk.ABSENT
