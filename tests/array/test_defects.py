"""What an array can be made to lack or get wrong, and that nothing else is different."""

import pytest

from clufs.storage import commands as c
from clufs.storage.commands import ReserveIn, ReserveOut
from clufs.storage.inquiry import BlockLimits, InquiryData
from clufs.storage.sense import Status
from tests.array.defects import Defect
from tests.array.unit import Unit
from tests.array.units import (
    A2,
    A,
    B,
    attention,
    blocks,
    keys,
    out,
    register,
    unit,
    write,
)

GOOD, CONFLICT = Status.GOOD, Status.RESERVATION_CONFLICT


def reserved(*defects: Defect) -> Unit:
    """A, with key 10, holds a reservation; B is registered with key 11."""
    u = unit(0, 2, False, *defects)
    register(u, A, 10)
    register(u, B, 11)
    assert out(u, A, ReserveOut.RESERVE, 10).status == GOOD
    return u


def why(u: Unit, command: c.Command) -> tuple[int, int] | None:
    """The code that a command without data is refused with."""
    sense = u.execute(A, command, b"").sense
    return sense.code if sense else None


@pytest.mark.parametrize(
    ("defect", "command", "code"),
    [
        (Defect.NO_PERSISTENT_RESERVE, c.PersistentReserveIn(0), (0x20, 0)),
        (Defect.NO_RESERVE_6, c.Reserve6(), (0x20, 0)),
        (Defect.NO_COMPARE_AND_WRITE, c.CompareAndWrite(0, 0), (0x20, 0)),
        (Defect.NO_ALUA, c.ReportTargetPortGroups(), (0x20, 0)),
        (Defect.NO_CAPABILITIES, c.PersistentReserveIn(ReserveIn.REPORT_CAPABILITIES), (0x24, 0)),
        (Defect.NO_FULL_STATUS, c.PersistentReserveIn(ReserveIn.READ_FULL_STATUS), (0x24, 0)),
    ],
)
def test_what_is_lacking_is_refused_and_is_there_otherwise(
    defect: Defect, command: c.Command, code: tuple[int, int]
) -> None:
    assert why(unit(0, 2, False, defect), command) == code
    assert why(unit(), command) is None


def test_an_array_says_what_it_lacks() -> None:
    lacking = unit(0, 2, False, Defect.NO_ALUA, Defect.NO_COMPARE_AND_WRITE)
    for u, tpgs, compared in [(lacking, 0, 0), (unit(), 3, 128)]:
        assert InquiryData.decode(u.execute(A, c.Inquiry(), b"").data).tpgs == tpgs
        page = u.execute(A, c.Inquiry(evpd=True, page=0xB0), b"").data
        assert BlockLimits.decode(page).compare_and_write == compared


def test_no_preempt_and_abort_but_preempt() -> None:
    u = reserved(Defect.NO_PREEMPT_AND_ABORT)
    sense = out(u, A, ReserveOut.PREEMPT_AND_ABORT, 10, 11).sense
    assert sense is not None and sense.code == (0x24, 0x00)
    assert out(u, A, ReserveOut.PREEMPT, 10, 11).status == GOOD


def test_no_aptpl_but_without() -> None:
    u = unit(0, 2, False, Defect.NO_APTPL)
    assert out(u, A, ReserveOut.REGISTER, 0, 10, aptpl=True).status == Status.CHECK_CONDITION
    register(u, A, 10)


def test_who_is_preempted_writes_on() -> None:
    u = reserved(Defect.DOES_NOT_BAR)
    out(u, A, ReserveOut.PREEMPT, 10, 11)
    attention(u, B)
    assert write(u, B, 0, blocks("b")).status == GOOD


def test_only_one_port_is_preempted() -> None:
    u = reserved(Defect.ONE_PORT_ONLY)
    register(u, A2, 10)
    assert out(u, B, ReserveOut.PREEMPT, 11, 10).status == GOOD
    assert sorted(keys(u)) == [10, 11]


@pytest.mark.parametrize("defect", [None, Defect.RESET_FORGETS])
def test_a_reset_forgets(defect: Defect | None) -> None:
    u = reserved(*([defect] if defect else []))
    u.reset()
    assert keys(u) == (() if defect else (10, 11))


@pytest.mark.parametrize("defect", [None, Defect.POWER_FORGETS])
def test_power_forgets(defect: Defect | None) -> None:
    u = unit(0, 2, False, *([defect] if defect else []))
    register(u, A, 10, aptpl=True)
    u.reservations.power_on()
    assert keys(u) == (() if defect else (10,))


def test_a_wrong_word_to_the_preempted() -> None:
    u = reserved(Defect.WRONG_ATTENTION)
    out(u, A, ReserveOut.PREEMPT, 10, 11)
    assert attention(u, B) == (0x2A, 0x03)
