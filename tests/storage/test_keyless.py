"""Whole members at LUNs without persistent reservations, on our array: what makes a lost one harmless there, as far as
its words go."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from clufs.dlm.interface import Life
from clufs.errors import LunError, NotFenced, ReservationConflict
from clufs.storage import commands as c
from clufs.storage import guard
from clufs.storage.carrier import Lun
from clufs.storage.iscsi import iscsi_lun
from clufs.storage.lease import OnDisk
from clufs.storage.lease_wire import Seen, boottime
from clufs.storage.lock_disk import LockCertificate
from clufs.storage.method import Kind
from clufs.storage.records import LeaseState
from clufs.storage.time_rule import TimeCertificate
from tests.array.defects import Defect
from tests.array.faults import LATE_S, Fault
from tests.array.medium import Written
from tests.storage.test_guard import Ground, Member, ground, written


async def until(true: Callable[[], object]) -> None:
    """Not for long."""
    with trio.fail_after(10):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.01)


def beats(member: Member, victim: Life, silent_s: float, guarded: bool = True) -> None:
    """What the LUN of clufs has shown of the victim to this member."""
    at_s = boottime() - silent_s
    words = (2, OnDisk.DEAD, LeaseState.IN, 0, guarded, 1, victim.incarnation, 9, 1, 0, at_s)
    member.heartbeats = {"disk": Seen(*words, silent_s, 1000, 6000)}


def goes_by(member: Member, kind: Kind) -> None:
    """Its data LUN is fenced so."""
    (lun,) = member.luns.inventory.expected("data").values()
    assert lun is not None
    member.kinds[lun.wwid] = kind


async def test_a_lun_without_reservations_is_entered_and_written_to() -> None:
    async with ground(1, Defect.NO_PERSISTENT_RESERVE) as at, at.provolone.life():
        await at.provolone.write()
        assert at.provolone.guard.keyless == at.provolone.guard.entered != set()
        async with at.polishham.life():
            await at.polishham.write()
            await at.polishham.guard.leave()


async def test_time_certifies_a_lun_without_reservations_and_leaves_a_tombstone() -> None:
    async with ground(1, Defect.NO_PERSISTENT_RESERVE) as at, at.provolone.life():
        async with at.polishham.life() as victim:
            goes_by(at.provolone, Kind.TIME)
            beats(at.provolone, victim, 44.3)
            verdict = await at.provolone.agent.fence(victim)
            assert verdict.ok, verdict.said
            assert "HOW=its hardware watchdog has fired, if it works" in verdict.said
        at.polishham.incarnation -= 1
        async with at.polishham.life():
            assert at.polishham.ended == "incarnation 1 has a tombstone"


async def test_without_a_hardware_watchdog_time_never_certifies_and_the_log_says_why() -> None:
    async with (
        ground(1, Defect.NO_PERSISTENT_RESERVE) as at,
        at.provolone.life(),
        at.polishham.life() as victim,
    ):
        goes_by(at.provolone, Kind.PERSON)
        beats(at.provolone, victim, 4000, guarded=False)
        verdict = await at.provolone.agent.fence(victim)
        assert not verdict.ok
        assert "no hardware watchdog guards it, its record says" in verdict.said


async def test_who_waits_for_time_waits_no_longer_than_time_takes() -> None:
    async with (
        ground(1, Defect.NO_PERSISTENT_RESERVE) as at,
        at.provolone.life(),
        at.polishham.life() as victim,
    ):
        goes_by(at.provolone, Kind.TIME)
        beats(at.provolone, victim, 43.5)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(at.provolone.agent.certify, victim)
                await trio.sleep(0.1)
                beats(at.provolone, victim, 44.3)


async def test_time_helps_where_a_lun_with_reservations_does_not_answer() -> None:
    async with ground() as at, at.provolone.life(), at.polishham.life() as victim:
        at.array.online(0, False)
        beats(at.provolone, victim, 44.3)
        (one,) = await at.provolone.agent.certify(victim)
        assert isinstance(one, TimeCertificate)


async def test_a_lun_whose_reservations_hold_nobody_is_not_certified_by_them() -> None:
    async with ground() as at, at.provolone.life(), at.polishham.life() as victim:
        goes_by(at.provolone, Kind.PERSON)
        verdict = await at.provolone.agent.fence(victim)
        assert not verdict.ok and "there is no LUN of clufs" in verdict.said


# ---------------------------------------------------------------------- lock disk


def told(member: Member) -> list[str]:
    """The events of its reservations, the newest last."""
    return member.events


@asynccontextmanager
async def lock_disk(*defects: Defect) -> AsyncIterator[tuple[Ground, Life]]:
    """Provolone may take polishham's LUN, which both use."""
    async with ground(1, Defect.NO_PERSISTENT_RESERVE, *defects) as at, at.provolone.life():
        goes_by(at.provolone, Kind.LOCK_DISK)
        async with at.polishham.life() as victim:
            await at.polishham.write()
            await at.provolone.write()
            yield at, victim


async def certified(at: Ground, victim: Life) -> LockCertificate:
    (one,) = await at.provolone.agent.certify(victim)
    assert isinstance(one, LockCertificate)
    return one


@pytest.mark.parametrize(("defects", "lockable"), [((), True), ((Defect.NO_RESERVE_6,), False)])
async def test_a_lun_shows_at_once_whether_it_can_be_a_lock_disk(
    defects: tuple[Defect, ...], lockable: bool
) -> None:
    async with ground(1, Defect.NO_PERSISTENT_RESERVE, *defects) as at, at.provolone.life():
        await until(lambda: at.provolone.guard._asked)
        if lockable:
            await until(lambda: at.provolone.guard.lockable)
        assert bool(at.provolone.guard.lockable) == lockable


async def test_a_lost_member_is_kept_out_and_the_certificate_says_by_what() -> None:
    async with lock_disk() as (at, victim):
        one = await certified(at, victim)
        assert one.cleared and len(one.witnesses) == 2
        assert "holds until that session, the power or a reset ends it" in one.line()
        # The first word by each path is the reset's, and nothing is sent again; then it is barred.
        for _ in range(2):
            ended = await at.polishham.write_without_asking()
            assert all(isinstance(error, LunError) for error in ended)
        assert all(isinstance(error, ReservationConflict) for error in ended)
        await at.polishham.over.wait()
        assert "incarnation 1 has a tombstone" in at.polishham.ended
        await written(at.provolone)
        assert told(at.provolone) == ["lun-reserved"]


async def test_the_lun_is_everybodys_again_once_the_lost_one_is_known_to_be_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "LUN_KEYS_LOOK_S", 0.05)
    async with lock_disk() as (at, victim):
        await certified(at, victim)
        await at.polishham.over.wait()
        assert told(at.provolone) == ["lun-reserved"]
        at.provolone.off = True
        await until(lambda: "lun-released" in told(at.provolone))
        assert at.array.units[0].reserved is None


async def test_a_reset_by_whoever_costs_the_reservation_and_it_is_made_again_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "LUN_KEYS_LOOK_S", 0.05)
    async with lock_disk() as (at, victim):
        await certified(at, victim)
        at.array.reset_unit(at.array.units[0])
        assert at.array.units[0].reserved is None
        await until(lambda: len(told(at.provolone)) == 2)
        assert "what a lost member had sent may have been written" in told(at.provolone)[1]
        assert at.array.units[0].reserved is not None
        at.array.lose_sessions(at.provolone.luns.initiator)
        await until(lambda: len(told(at.provolone)) == 3)
        assert at.array.units[0].reserved is not None


async def test_who_holds_it_and_ends_lets_it_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LUN_KEYS_LOOK_S", 0.05)
    async with lock_disk() as (at, victim):
        await certified(at, victim)
        at.provolone.guard._entrance = None
        await until(lambda: at.array.units[0].reserved is None)


async def test_without_clear_task_set_the_certificate_says_less() -> None:
    async with lock_disk(Defect.NO_CLEAR_TASK_SET) as (at, victim):
        one = await certified(at, victim)
        assert not one.cleared and "commands of before the reset ended" in one.line()


async def test_an_array_that_reserves_in_words_only_certifies_nothing() -> None:
    async with lock_disk(Defect.DOES_NOT_RESERVE) as (at, victim):
        with pytest.raises(NotFenced, match="it is reserved, and lets others write"):
            await at.provolone.agent.certify(victim)


STRANGER = "iqn.2026-01.org.clufs:obeys-nothing"


async def writes_for_ever(url: str, isid: int) -> None:
    """As a kernel does: what meets a reset is sent again, what ends is tried again, a session that breaks made anew."""
    while True:
        with suppress(LunError):
            async with iscsi_lun(url, STRANGER, isid) as carrier:
                lun = Lun(carrier)
                while True:
                    try:
                        await lun.run(c.Write16(9, 1), bytes(512), timeout_s=LATE_S[1] + 0.1)
                    except ReservationConflict:
                        await trio.sleep(0.005)


@pytest.mark.parametrize("seed", range(3))
async def test_who_obeys_nothing_writes_nothing_either_while_the_reservation_stands(
    seed: int,
) -> None:
    async with lock_disk() as (at, victim), trio.open_nursery() as nursery:
        medium = at.array.units[0].medium
        medium.logged = True
        at.array.rate(0, Fault.LATE, 0.3)
        for number in range(4):
            url = at.array.url(0, number % 2)
            nursery.start_soon(writes_for_ever, url, 10 + number)
        await trio.sleep(random.Random(seed).uniform(0.1, 0.4))
        one = await certified(at, victim)
        assert one.cleared
        length = len(medium.log)
        await trio.sleep(2 * LATE_S[1])
        who = [entry.who for entry in medium.log if isinstance(entry, Written)]
        assert STRANGER in who[:length] and STRANGER not in who[length:]
        await written(at.provolone)
        nursery.cancel_scope.cancel()
