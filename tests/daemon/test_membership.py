"""Lives of a member, one after the other."""

from clufs.daemon.membership import next_pause_s
from clufs.timeouts import REJOIN_CALM_S, REJOIN_MAX_S, REJOIN_S


def test_short_lives_are_followed_by_longer_and_longer_pauses_up_to_a_bound() -> None:
    pauses = [0.0]
    for _ in range(8):
        pauses.append(next_pause_s(pauses[-1], lived_s=5.0))
    assert pauses[1:4] == [REJOIN_S, 2 * REJOIN_S, 4 * REJOIN_S]
    assert pauses[-1] == REJOIN_MAX_S


def test_after_a_long_life_a_member_comes_back_soon() -> None:
    assert next_pause_s(REJOIN_MAX_S, lived_s=REJOIN_CALM_S + 1) == REJOIN_S
