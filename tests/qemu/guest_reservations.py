"""Persistent reservations of LIO by SG_IO: the service actions, in and out, from two paths.

All but PREEMPT AND ABORT, which a loopback LUN of this kernel never ends: LIO runs it in the work that it then waits
for (core_tmr_lun_reset in target_queued_submit_work), and every later command waits behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from clufs.errors import CheckCondition, ReservationConflict
from clufs.storage import steps
from clufs.storage.carrier import Lun
from clufs.storage.commands import PersistentReserveOut, ReserveOut
from clufs.storage.paths import LunPath, open_path
from clufs.storage.reservation_data import (
    MoveParameters,
    OutParameters,
    Reservation,
)
from clufs.storage.reservations import (
    TYPE,
    MemberKey,
    carry,
    read_capabilities,
    read_full_status,
    read_keys,
    read_reservation,
    register,
    reserve,
    unregister,
)
from clufs.storage.sense import SenseKey
from tests.qemu.lio import Disk

ME = "iqn.2026-01.org.clufs:guest"
OURS, VICTIM = MemberKey(1, 1, 1).number, MemberKey(1, 2, 1).number
WRITE_EXCLUSIVE = 1


@pytest.fixture
async def paths(disk: Disk) -> AsyncIterator[tuple[Lun, Lun]]:
    """Both paths, nobody registered before and after."""
    async with open_path(disk.devices[0], ME) as first, open_path(disk.devices[1], ME) as second:
        found = lun_of(first), lun_of(second)
        yield found
        await register(found[0], OURS)
        await out(found[0], ReserveOut.CLEAR, OURS)


def lun_of(path: LunPath) -> Lun:
    assert path.lun is not None
    return path.lun


async def out(lun: Lun, action: ReserveOut, key: int, new: int = 0, kind: int = 0) -> None:
    """One PERSISTENT RESERVE OUT."""
    data = OutParameters(key, new).encode()
    await lun.run(PersistentReserveOut(action, type=kind, parameter_length=len(data)), data)


async def test_a_key_is_registered_changed_and_given_back(paths: tuple[Lun, Lun]) -> None:
    first, second = paths
    await out(first, ReserveOut.REGISTER, 0, OURS)
    with pytest.raises(ReservationConflict):
        await out(first, ReserveOut.REGISTER, VICTIM, 7)
    await out(first, ReserveOut.REGISTER, OURS, 7)
    await out(second, ReserveOut.REGISTER_AND_IGNORE_EXISTING_KEY, 0, VICTIM)
    known = await read_keys(second)
    assert sorted(known.keys) == [7, VICTIM] and known.generation
    await register(first, OURS, aptpl=True)
    status = {one.key: one for one in await read_full_status(first)}
    assert status.keys() == {OURS, VICTIM}
    assert status[OURS].target_port != status[VICTIM].target_port
    await unregister(second)
    assert (await read_keys(first)).keys == (OURS,)


async def test_reserved_and_released(paths: tuple[Lun, Lun]) -> None:
    first, second = paths
    with pytest.raises(
        CheckCondition
    ):  # LIO's word for who is not registered; the standard has a conflict
        await out(first, ReserveOut.RESERVE, OURS, kind=TYPE)
    await register(first, OURS)
    await register(second, VICTIM)
    assert await reserve(first, OURS) == Reservation(OURS, TYPE)
    assert await reserve(second, VICTIM) == Reservation(OURS, TYPE)
    with pytest.raises(ReservationConflict):
        await out(second, ReserveOut.RESERVE, VICTIM, kind=WRITE_EXCLUSIVE)
    assert await read_reservation(second) == Reservation(OURS, TYPE)
    await out(first, ReserveOut.RELEASE, OURS, kind=TYPE)
    assert await read_reservation(second) is None


async def test_cleared(paths: tuple[Lun, Lun]) -> None:
    first, second = paths
    await register(first, OURS)
    await register(second, VICTIM)
    await reserve(first, OURS)
    await out(second, ReserveOut.CLEAR, VICTIM)
    assert (await read_keys(first)).keys == ()
    assert await read_reservation(first) is None


async def test_preempted(paths: tuple[Lun, Lun]) -> None:
    first, second = paths
    await register(first, OURS)
    await register(second, VICTIM)
    await reserve(second, VICTIM)
    assert not await carry(first, steps.preempt(OURS, VICTIM, aborts=False))
    assert (await read_keys(second)).keys == (OURS,)
    assert await read_reservation(second) == Reservation(OURS, TYPE)
    with pytest.raises(ReservationConflict):
        await out(second, ReserveOut.RELEASE, VICTIM, kind=TYPE)


async def test_a_reservation_is_moved_to_the_other_path(paths: tuple[Lun, Lun]) -> None:
    first, second = paths
    await register(first, OURS)
    await register(second, VICTIM)
    await reserve(first, OURS)
    there = next(one for one in await read_full_status(first) if one.key == VICTIM)
    assert there.initiator is not None
    said = MoveParameters(
        OURS, VICTIM, target_port=there.target_port, initiator=there.initiator
    ).encode()
    action = ReserveOut.REGISTER_AND_MOVE
    await first.run(PersistentReserveOut(action, type=TYPE, parameter_length=len(said)), said)
    assert await read_reservation(first) == Reservation(VICTIM, TYPE)


async def test_what_it_cannot_is_said_in_words(paths: tuple[Lun, Lun]) -> None:
    first, _ = paths
    said = await read_capabilities(first)
    assert said.aptpl and TYPE in said.types and not said.replace_lost
    with pytest.raises(CheckCondition) as refused:
        await out(first, ReserveOut.REPLACE_LOST_RESERVATION, OURS, VICTIM, TYPE)
    assert refused.value.key == SenseKey.ILLEGAL_REQUEST


async def test_many_ask_at_once(paths: tuple[Lun, Lun]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            for key, lun in zip((OURS, VICTIM), paths, strict=True):
                nursery.start_soon(register, lun, key, True)
    assert set((await read_keys(paths[0])).keys) == {OURS, VICTIM}
