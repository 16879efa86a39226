"""What ends all commands of a LUN at once, and what it does to those who have sent them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from clufs.errors import NotSupported, PathLost, ReservationConflict
from clufs.storage import commands as c
from clufs.storage.carrier import Lun, Management
from clufs.storage.iscsi import IscsiLun, iscsi_lun
from tests.array.array import Array, Shape
from tests.array.defects import Defect
from tests.array.faults import Fault
from tests.storage.tgtd import tgtd

A, B = "iqn.2026-01.org.clufs:a", "iqn.2026-01.org.clufs:b"
BLOCK = b"x" * 512


@asynccontextmanager
async def two(*defects: Defect) -> AsyncIterator[tuple[Array, IscsiLun, IscsiLun]]:
    """Two initiators at one LUN."""
    async with AsyncExitStack() as stack:
        shape = Shape(defects=frozenset(defects))
        array = await stack.enter_async_context(Array(shape).serving())
        a, b = [await stack.enter_async_context(iscsi_lun(array.url(), name, 1)) for name in (A, B)]
        yield array, a, b


async def ended(lun: IscsiLun, failures: list[BaseException]) -> None:
    """A write that is told to be ended."""
    with pytest.raises(PathLost) as failure:
        await lun.run(c.Write16(3, 1), BLOCK, timeout_s=5)
    failures.append(failure.value)


@pytest.mark.parametrize("what", Management)
async def test_what_was_under_way_does_not_reach_the_medium_and_our_own_is_told(
    what: Management,
) -> None:
    async with two() as (array, a, b):
        array.rate(0, Fault.LATE, 1.0)
        mine: list[BaseException] = []
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ended, a, mine)
                nursery.start_soon(b.run, c.TestUnitReady())
                while not array.units[0].running:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                await a.manage(what)
        assert len(mine) == 1 and array.units[0].medium.log == []
        # The session goes on, and late answers of what was ended are nobody's.
        array.rate(0, Fault.LATE, 0.0)
        await Lun(a).run(c.Write16(3, 1), BLOCK)
        assert len(array.units[0].medium.log) == 1


async def test_a_reset_takes_the_reservation_from_who_has_it_and_the_other_word_does_not() -> None:
    async with two() as (_, a, b):
        await b.run(c.Reserve6())
        await a.manage(Management.CLEAR_TASK_SET)
        with pytest.raises(ReservationConflict):
            await a.run(c.TestUnitReady())
        await a.manage(Management.RESET)
        await Lun(a).run(c.Reserve6())
        heard: list[object] = []
        with pytest.raises(ReservationConflict):
            await Lun(b, heard.append).run(c.TestUnitReady())
        assert len(heard) == 1


async def test_an_array_that_does_not_know_the_word_says_so() -> None:
    async with two(Defect.NO_CLEAR_TASK_SET) as (_, a, _):
        with pytest.raises(NotSupported, match="the array has no CLEAR TASK SET"):
            await Lun(a).manage(Management.CLEAR_TASK_SET)


async def test_a_carrier_that_cannot_says_so() -> None:
    class Kernel:
        path = "/dev/sdx"

        async def run(self, *words: object, **more: object) -> bytes:
            return b""

    with pytest.raises(NotSupported, match="/dev/sdx: no RESET"):
        await Lun(Kernel()).manage(Management.RESET)


async def test_a_session_that_breaks_meanwhile_is_a_lost_path() -> None:
    async with two() as (array, a, _):
        array.lose_sessions(A)
        with pytest.raises(PathLost), trio.fail_after(20):
            await a.manage(Management.RESET)
        with pytest.raises(PathLost):
            await a.manage(Management.RESET)


@pytest.mark.parametrize("may", [True, False])
async def test_a_write_that_met_a_reset_is_sent_again_only_if_it_may(may: bool) -> None:
    async with two() as (array, a, b):
        lun = Lun(b)
        lun.may_write = lambda: may
        await a.manage(Management.RESET)
        if may:
            await lun.run(c.Write16(3, 1), BLOCK)
        else:
            with pytest.raises(PathLost, match="not written: UNIT ATTENTION"):
                await lun.run(c.Write16(3, 1), BLOCK)
        assert len(array.units[0].medium.log) == may
        await a.manage(Management.RESET)
        await lun.run(c.Read16(3, 1))


async def test_tgtd_is_reset_as_well(tmp_path: Path) -> None:
    async with tgtd(tmp_path) as url, iscsi_lun(url, A, 1) as a, iscsi_lun(url, B, 1) as b:
        for lun in (a, b):
            await Lun(lun).run(c.TestUnitReady())
        await b.run(c.Reserve6())
        with pytest.raises(ReservationConflict):
            await a.run(c.TestUnitReady())
        await a.manage(Management.RESET)
        await Lun(a).run(c.Reserve6())
        with pytest.raises(ReservationConflict):
            await Lun(b).run(c.TestUnitReady())
