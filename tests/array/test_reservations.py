"""Persistent reservations of the array, where the conformance suites do not look (SPC-4, 5.13)."""

import pytest

from clufs.storage import commands as c
from clufs.storage.commands import ReserveIn, ReserveOut
from clufs.storage.reservation_data import (
    MoveParameters,
    OutParameters,
    ReservationType,
    TransportId,
)
from clufs.storage.sense import Status
from tests.array.unit import Unit
from tests.array.units import (
    A2,
    WERO,
    A,
    B,
    C,
    attention,
    blocks,
    generation,
    keys,
    out,
    read,
    register,
    reservation,
    statuses,
    unit,
    write,
)

GOOD, CHECK, CONFLICT = Status.GOOD, Status.CHECK_CONDITION, Status.RESERVATION_CONFLICT


def reserved(kind: int = WERO) -> Unit:
    """A, with key 10, holds a reservation; B is registered with key 11; C is not."""
    u = unit()
    register(u, A, 10)
    register(u, B, 11)
    assert out(u, A, ReserveOut.RESERVE, 10, kind=kind).status == GOOD
    return u


def test_a_preempted_registrant_hears_of_it_reads_on_and_never_writes_again() -> None:
    u = reserved()
    assert write(u, B, 0, blocks("b")).status == GOOD
    assert out(u, A, ReserveOut.PREEMPT, 10, 11).status == GOOD
    assert keys(u) == (10,)
    assert attention(u, B) == (0x2A, 0x05)
    assert write(u, B, 0, blocks("late")).status == CONFLICT
    assert read(u, B, 0).data == blocks("b")


def test_preempting_the_holder_takes_the_reservation_over() -> None:
    u = reserved()
    assert out(u, B, ReserveOut.PREEMPT, 11, 10).status == GOOD
    held = reservation(u)
    assert held is not None and (held.key, held.type) == (11, WERO)
    assert write(u, A, 0, blocks("a")).sense is not None
    assert write(u, A, 0, blocks("a")).status == CONFLICT


def test_preempting_a_key_that_nobody_has_is_a_conflict_and_changes_nothing() -> None:
    u = reserved()
    before = generation(u)
    assert out(u, A, ReserveOut.PREEMPT, 10, 99).status == CONFLICT
    assert (keys(u), generation(u)) == ((10, 11), before)


def test_preempting_needs_the_own_key_first() -> None:
    u = reserved()
    assert out(u, A, ReserveOut.PREEMPT, 11, 10).status == CONFLICT
    assert out(u, C, ReserveOut.PREEMPT, 0, 10).status == CONFLICT
    assert keys(u) == (10, 11)


def test_preempt_zero_empties_all_registrants() -> None:
    u = reserved(ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS)
    assert out(u, B, ReserveOut.PREEMPT, 11, 0, kind=WERO).status == GOOD
    assert keys(u) == (11,)
    held = reservation(u)
    assert held is not None and (held.key, held.type) == (11, WERO)


def test_preempt_zero_is_invalid_where_one_holds() -> None:
    done = out(reserved(), B, ReserveOut.PREEMPT, 11, 0)
    assert done.sense is not None and done.sense.code == (0x26, 0x00)


def test_one_key_on_two_paths_goes_at_once() -> None:
    u = unit()
    register(u, A, 10)
    register(u, A2, 10)
    register(u, B, 11)
    assert out(u, B, ReserveOut.RESERVE, 11).status == GOOD
    assert out(u, B, ReserveOut.PREEMPT_AND_ABORT, 11, 10).status == GOOD
    assert keys(u) == (11,)
    assert attention(u, A) == attention(u, A2) == (0x2A, 0x05)


def test_all_target_ports_registers_at_each() -> None:
    u = unit(ports=2)
    register(u, A, 10, all_tg_pt=True)
    assert keys(u) == (10, 10)
    assert {(one.initiator, one.target_port) for one in statuses(u)} == {
        (A.initiator, 1),
        (A.initiator, 2),
    }
    register(u, B, 11)
    assert out(u, B, ReserveOut.RESERVE, 11).status == GOOD
    assert write(u, A2, 0, blocks("a")).status == GOOD


def test_named_initiators_are_registered_too() -> None:
    u = unit()
    data = OutParameters(0, 10, spec_i_pt=True, initiators=(B.initiator,)).encode()
    command = c.PersistentReserveOut(ReserveOut.REGISTER, parameter_length=len(data))
    assert u.execute(A, command, data).status == GOOD
    assert {one.initiator for one in statuses(u)} == {A.initiator, B.initiator}


def test_a_reservation_moves_to_another_initiator() -> None:
    u = reserved(ReservationType.WRITE_EXCLUSIVE)
    data = MoveParameters(10, 12, unregister=True, target_port=1, initiator=C.initiator).encode()
    command = c.PersistentReserveOut(
        ReserveOut.REGISTER_AND_MOVE, type=1, parameter_length=len(data)
    )
    assert u.execute(B, command, data).status == CONFLICT
    assert u.execute(A, command, data).status == GOOD
    assert keys(u) == (11, 12)
    assert write(u, C, 0, blocks("c")).status == GOOD
    assert write(u, A, 0, blocks("a")).status == CONFLICT


def test_moving_to_nowhere_is_refused() -> None:
    u = reserved()
    data = MoveParameters(
        10, 12, target_port=9, initiator=TransportId(name="iqn.c", isid=1)
    ).encode()
    command = c.PersistentReserveOut(ReserveOut.REGISTER_AND_MOVE, parameter_length=len(data))
    assert u.execute(A, command, data).status == CHECK


def test_a_lost_reservation_can_be_replaced() -> None:
    u = reserved()
    assert out(u, A, ReserveOut.REPLACE_LOST_RESERVATION, 0, 10).status == CHECK
    u.reservations.lose()
    assert (keys(u), reservation(u)) == ((), None)
    assert out(u, A, ReserveOut.REPLACE_LOST_RESERVATION, 0, 10).status == GOOD
    assert keys(u) == (10,)


@pytest.mark.parametrize("aptpl", [True, False])
def test_aptpl_decides_what_survives_power(aptpl: bool) -> None:
    u = unit()
    register(u, A, 10, aptpl=aptpl)
    assert out(u, A, ReserveOut.RESERVE, 10).status == GOOD
    u.reservations.power_on()
    assert keys(u) == ((10,) if aptpl else ())
    assert (reservation(u) is not None) == aptpl


def test_every_change_of_registrations_counts_and_nothing_else_does() -> None:
    u = unit()
    counts = []
    for who, action, key, to in [
        (A, ReserveOut.REGISTER, 0, 10),
        (A, ReserveOut.REGISTER, 10, 20),
        (A, ReserveOut.RESERVE, 20, 0),
        (B, ReserveOut.REGISTER_AND_IGNORE_EXISTING_KEY, 0, 11),
        (A, ReserveOut.RELEASE, 20, 0),
        (A, ReserveOut.PREEMPT, 20, 11),
        (A, ReserveOut.CLEAR, 20, 0),
        (C, ReserveOut.REGISTER, 0, 0),
    ]:
        assert out(u, who, action, key, to).status == GOOD
        counts.append(generation(u))
    assert counts == [1, 2, 2, 3, 3, 4, 5, 5]


def test_the_others_hear_that_the_reservation_is_gone() -> None:
    u = reserved()
    assert out(u, A, ReserveOut.RELEASE, 10).status == GOOD
    assert (attention(u, A), attention(u, B)) == (None, (0x2A, 0x04))
    u = reserved()
    assert out(u, A, ReserveOut.REGISTER, 10, 0).status == GOOD
    assert attention(u, B) == (0x2A, 0x04)
    u = reserved()
    assert out(u, A, ReserveOut.CLEAR, 10).status == GOOD
    assert attention(u, B) == (0x2A, 0x03)


def test_a_reset_ends_spc_2_reservations_and_keeps_registrations() -> None:
    u = reserved()
    u.reset()
    assert attention(u, A) == (0x29, 0x00)
    assert keys(u) == (10, 11) and reservation(u) is not None
    u = unit()
    assert u.execute(A, c.Reserve6(), b"").status == GOOD
    assert read(u, B, 0).status == CONFLICT
    assert out(u, A, ReserveOut.REGISTER, 0, 10).status == CONFLICT
    u.reset()
    assert attention(u, B) == (0x29, 0x00)
    assert read(u, B, 0).status == GOOD


def test_registrations_and_spc_2_reservations_exclude_each_other() -> None:
    assert reserved().execute(A, c.Reserve6(), b"").status == CONFLICT


def test_unknown_actions_types_and_lengths_are_refused() -> None:
    u = reserved()
    for action in range(9, 32):
        done = u.execute(A, c.PersistentReserveOut(action), bytes(24))
        assert done.sense is not None and done.sense.code == (0x24, 0x00)
    for kind in (0, 2, 4, 9, 15):
        assert out(u, A, ReserveOut.RESERVE, 10, kind=kind).status == CHECK
    done = u.execute(A, c.PersistentReserveOut(ReserveOut.CLEAR, parameter_length=20), bytes(20))
    assert done.sense is not None and done.sense.code == (0x1A, 0x00)
    done = u.execute(A, c.PersistentReserveIn(max(ReserveIn) + 1), b"")
    assert done.sense is not None and done.sense.code == (0x24, 0x00)
