"""What the array does wrong on purpose, and that it is the same again from the same seed."""

import random

import pytest

from clufs.storage import commands as c
from clufs.storage.port_groups import AccessState, WantedState, decode_groups, encode_wanted
from clufs.storage.sense import Status
from tests.array.array import Array, Shape
from tests.array.control import obey
from tests.array.faults import LATE_S, Fault
from tests.array.medium import BLOCK_BYTES, Medium, Written
from tests.array.units import A2, A, B, attention, blocks, read, unit, write

GOOD = Status.GOOD


def test_a_torn_write_leaves_a_head_of_new_and_a_tail_of_old_blocks() -> None:
    u = unit(seed=3)
    write(u, A, 0, blocks("o", 8))
    u.faults.next.append(Fault.TORN)
    assert write(u, A, 0, blocks("n", 8)).status == GOOD
    there = read(u, A, 0, 8).data
    cut = there.count(b"n") // BLOCK_BYTES
    assert 0 < cut < 8
    assert there == blocks("n", cut) + blocks("o", 8 - cut)


def test_a_block_is_never_torn() -> None:
    u = unit()
    u.faults.next.append(Fault.TORN)
    write(u, A, 0, blocks("n"))
    assert read(u, A, 0).data == blocks("n")


def test_a_forgotten_write_is_answered_and_is_nowhere() -> None:
    u = unit()
    u.faults.next.append(Fault.FORGOTTEN)
    assert write(u, A, 0, blocks("n")).status == GOOD
    assert read(u, A, 0, 256).data == bytes(256 * BLOCK_BYTES)
    assert u.medium.log == []


def test_a_misdirected_write_is_elsewhere() -> None:
    u = unit(seed=1)
    u.faults.next.append(Fault.MISDIRECTED)
    assert write(u, A, 0, blocks("n", 2)).status == GOOD
    (one,) = u.medium.log
    assert isinstance(one, Written) and one.lba != 0
    assert read(u, A, one.lba, 2).data == blocks("n", 2)


def test_a_late_write_was_let_in_before_and_lands_when_it_is_told_to() -> None:
    u = unit()
    u.faults.next.append(Fault.LATE)
    done = write(u, A, 0, blocks("n"))
    assert done.land is not None and LATE_S[0] <= done.late_s <= LATE_S[1]
    assert read(u, A, 0).data == bytes(BLOCK_BYTES)
    done.land()
    assert read(u, A, 0).data == blocks("n")


def test_faults_of_the_way_there_and_back() -> None:
    u = unit()
    u.faults.next.extend([Fault.BUSY, Fault.SESSION_LOST, Fault.ANSWER_LOST])
    assert write(u, A, 0, blocks("1")).status == Status.BUSY
    assert write(u, A, 0, blocks("2")).lose_session
    assert read(u, A, 0).lose_answer
    assert read(u, A, 0).data == bytes(BLOCK_BYTES)


def test_a_reset_out_of_nowhere_tells_everybody() -> None:
    u = unit()
    u.attend(B)
    u.faults.next.append(Fault.RESET)
    done = read(u, A, 0)
    assert done.sense is not None and done.sense.code == (0x29, 0x00)
    assert attention(u, B) == (0x29, 0x00)
    assert read(u, A, 0).status == GOOD


def story(seed: int) -> list[object]:
    """What 200 writes with every fault at once come to."""
    u = unit(seed)
    u.faults.rates = {fault: 0.1 for fault in Fault}
    ends = [write(u, A, at % 200, blocks(str(at), 4)) for at in range(200)]
    return [(end.status, end.late_s, end.lose_session, end.lose_answer) for end in ends] + list(
        u.medium.log
    )


def test_the_same_seed_gives_the_same_faults_and_another_one_others() -> None:
    assert story(7) == story(7)
    assert story(7) != story(8)


def test_faults_of_writes_wait_for_a_write() -> None:
    u = unit()
    u.faults.next.append(Fault.FORGOTTEN)
    assert read(u, A, 0).status == GOOD
    write(u, A, 0, blocks("n"))
    assert u.medium.log == []


# ------------------------------------------------------------------ power failure


def test_every_prefix_of_the_log_can_be_replayed() -> None:
    u = unit()
    rng = random.Random(5)
    images = [u.medium.prefix(0)]
    for number in range(50):
        write(u, A, rng.randrange(250), blocks(str(number), rng.randrange(1, 6)))
        images.append(read(u, A, 0, 256).data)
    assert [u.medium.prefix(count) for count in range(51)] == images


def test_without_a_cache_power_takes_nothing() -> None:
    u = unit()
    for number in range(20):
        write(u, A, number, blocks(str(number)))
    assert u.medium.prefix(20, random.Random(1)) == u.medium.prefix(20)


def test_a_cache_loses_what_was_not_synchronized_and_nothing_else() -> None:
    u = unit(cached=True)
    write(u, A, 0, blocks("safe"))
    u.execute(A, c.SynchronizeCache16(), b"")
    write(u, A, 1, blocks("fua"), fua=True)
    for lba in range(2, 18):
        write(u, A, lba, blocks("maybe"))
    u.medium.fail_power(len(u.medium.log), random.Random(2))
    assert read(u, A, 0, 2).data == blocks("safe") + blocks("fua")
    lost = [lba for lba in range(2, 18) if read(u, A, lba).data == bytes(BLOCK_BYTES)]
    assert 0 < len(lost) < 16


def test_a_power_failure_goes_on_from_what_it_left() -> None:
    medium = Medium(4)
    medium.write(0, blocks("a"), "a")
    medium.write(0, blocks("b"), "a")
    medium.fail_power(1)
    assert medium.read(0, 1) == blocks("a")
    medium.write(1, blocks("c"), "a")
    assert medium.prefix(1)[: 2 * BLOCK_BYTES] == blocks("a") + bytes(BLOCK_BYTES)


# ------------------------------------------------------------------------- ports


def test_a_port_on_standby_answers_reservations_and_does_no_io() -> None:
    u = unit()
    u.ports.set(2, AccessState.STANDBY, asked=False)
    sense = read(u, A2, 0).sense
    assert sense is not None and sense.code == (0x04, 0x0B)
    assert read(u, A, 0).status == GOOD
    assert u.execute(A2, c.PersistentReserveIn(0), b"").status == GOOD


def test_an_initiator_can_ask_for_another_state() -> None:
    array = Array(Shape(portals=2))
    u = array.units[0]
    u.attend(B)
    data = encode_wanted((WantedState(AccessState.STANDBY, 1), WantedState(0, 2)))
    assert u.execute(A, c.SetTargetPortGroups(len(data)), data).status == GOOD
    assert attention(u, B) == (0x2A, 0x06)
    first, second = decode_groups(u.execute(A2, c.ReportTargetPortGroups(), b"").data)
    assert (first.state, first.why, first.ports) == (AccessState.STANDBY, 1, (1,))
    assert (second.state, second.ports) == (AccessState.ACTIVE_OPTIMIZED, (2,))
    bad = encode_wanted((WantedState(AccessState.OFFLINE, 1),))
    assert u.execute(A, c.SetTargetPortGroups(len(bad)), bad).status == Status.CHECK_CONDITION


# ----------------------------------------------------------------------- control


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("lun 0 offline", "ok"),
        ("lun 0 slow 0.5", "ok"),
        ("lun 0 hang", "ok"),
        ("lun 0 reset", "ok"),
        ("lun 0 lose-reservations", "ok"),
        ("lun 0 fault torn late", "ok"),
        ("lun 0 rate busy 0.1", "ok"),
        ("port 1 standby", "ok"),
        ("portal 0 down", "ok"),
        ("sessions", "0"),
        ("power lost", "ok"),
        ("writes 0", "1"),
    ],
)
def test_a_line_is_obeyed(line: str, answer: str) -> None:
    array = Array()
    if line == "writes 0":
        write(array.units[0], A, 0, blocks("x"))
    assert obey(array, line) == answer


@pytest.mark.parametrize(
    "line", ["", "lun", "lun 7 offline", "lun 0 fault none", "port 3 active", "lun 0 slow x"]
)
def test_a_line_that_makes_no_sense_is_refused(line: str) -> None:
    assert obey(Array(), line).startswith("error: ")


def test_offline_and_online() -> None:
    array = Array()
    u = array.units[0]
    obey(array, "lun 0 offline")
    sense = read(u, A, 0).sense
    assert sense is not None and sense.code == (0x04, 0x03)
    assert u.execute(A, c.Inquiry(), b"").status == GOOD
    obey(array, "lun 0 online")
    assert read(u, A, 0).status == GOOD
