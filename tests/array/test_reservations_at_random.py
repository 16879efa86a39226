"""Random lives of registrations, against what must hold whatever happens (SPC-4, 5.13)."""

from hypothesis import given
from hypothesis import strategies as st

from clufs.storage.commands import ReserveOut
from clufs.storage.reservation_data import ReservationType
from clufs.storage.sense import Status
from tests.array.nexus import Nexus
from tests.array.unit import Unit
from tests.array.units import (
    A2,
    A,
    B,
    C,
    blocks,
    generation,
    keys,
    out,
    read,
    reservation,
    statuses,
    unit,
    write,
)

NEXUSES = (A, A2, B, C)
KEYS = (0, 10, 11, 12)
ACTIONS = tuple(action for action in ReserveOut if action != ReserveOut.REGISTER_AND_MOVE)

steps = st.tuples(
    st.sampled_from(NEXUSES),
    st.sampled_from(ACTIONS),
    st.sampled_from(KEYS),
    st.sampled_from(KEYS),
    st.sampled_from(ReservationType),
    st.booleans(),
)


def may(u: Unit, who: Nexus) -> tuple[bool, bool]:
    """May it read, and write? By asking."""
    u.attentions.clear()
    return (
        read(u, who, 0).status != Status.RESERVATION_CONFLICT,
        write(u, who, 0, blocks("x")).status != Status.RESERVATION_CONFLICT,
    )


def ought(u: Unit, who: Nexus) -> tuple[bool, bool]:
    """The same, by the table of SPC-4 from what the LUN reports."""
    held = reservation(u)
    if held is None:
        return True, True
    kind = ReservationType(held.type)
    registered = {(one.initiator, one.target_port): one for one in statuses(u)}
    mine = registered.get((who.initiator, who.port))
    if mine is not None and (mine.holder or kind.registrants_only):
        return True, True
    return not kind.excludes_reads, False


@given(st.lists(steps, max_size=25))
def test_whatever_happens(
    story: list[tuple[Nexus, ReserveOut, int, int, ReservationType, bool]],
) -> None:
    u = unit()
    for who, action, key, to, kind, everywhere in story:
        before = keys(u), generation(u), reservation(u)
        bits = {"all_tg_pt": everywhere} if action == ReserveOut.REGISTER else {}
        status = out(u, who, action, key, to, kind, **bits).status
        u.attentions.clear()
        after = keys(u), generation(u), reservation(u)
        if status != Status.GOOD:
            assert after == before, "a refusal changes nothing"
        if after[0] != before[0]:
            assert after[1] == before[1] + 1, "what changes registrations counts"
        held = after[2]
        if held is not None:
            all_of_them = ReservationType(held.type).all_registrants
            assert (held.key == 0) == all_of_them
            assert all_of_them or held.key in after[0], "a holder is registered"
            assert after[0], "a reservation has a registrant"
            holders = [one for one in statuses(u) if one.holder]
            assert len(holders) == (len(after[0]) if all_of_them else 1)
        assert 0 not in after[0]
        for nexus in NEXUSES:
            assert may(u, nexus) == ought(u, nexus)
