"""The quorum disk on LUNs of our array, by iSCSI: slow, gone, back, and with writes that went wrong."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from clufs.errors import LunError, QuorumDiskLost
from clufs.storage.own_lun import Wish, format_own
from clufs.storage.paths import initiator_name, open_path
from clufs.storage.quorum import Held, QuorumDisk
from clufs.storage.quorum_disk import HeldOnLuns, open_quorum_disk
from tests.array.array import Array, Shape
from tests.array.faults import Fault

BLOCKS = 8192


@asynccontextmanager
async def formatted(luns: int, cached: bool = False, seed: int = 0) -> AsyncIterator[Array]:
    """An array whose LUNs are clufs' own."""
    async with Array(Shape([BLOCKS] * luns, cached=cached, seed=seed)).serving() as array:
        for number in range(luns):
            async with open_path(array.url(number), initiator_name("admin")) as path:
                await format_own(path.device, Wish("lab", members=2))
        yield array


@asynccontextmanager
async def member(array: Array, number: int, incarnation: int = 1) -> AsyncIterator[QuorumDisk]:
    urls: Sequence[Sequence[str]] = [[array.url(lun)] for lun in array.units]
    name = initiator_name(f"m{number}")
    async with open_quorum_disk(urls, name, "lab", number, incarnation) as disk:
        yield disk


async def beats_again(held: Held) -> None:
    """Beat until it succeeds."""
    while True:
        try:
            await held.beat()
            return
        except QuorumDiskLost:
            raise
        except LunError:
            await trio.sleep(0.02)


async def until_level(held: Held) -> None:
    """Beat until no LUN lacks anything."""
    assert isinstance(held, HeldOnLuns)
    while held.behind:
        await beats_again(held)
        await trio.sleep(0.02)


@pytest.mark.parametrize("how", ["slow", "offline"])
async def test_one_lun_of_three_delays_nobody_and_is_brought_level(how: str) -> None:
    async with formatted(3) as array, member(array, 1) as a:
        held = await a.take()
        await held.append(b"0")
        if how == "slow":
            array.slow(2, math.inf)
        else:
            array.online(2, False)
        for number in range(1, 5):
            await held.append(b"%d" % number)
        await held.checkpoint(b"to four")
        await held.append(b"5")
        await held.beat()
        array.slow(2, 0)
        array.online(2, True)
        array.lose_sessions()  # what hangs is over; who is cut comes back
        await beats_again(held)
        await until_level(held)
        # Now it is one of the two that are enough.
        array.online(0, False)
        await beats_again(held)
        await held.append(b"6")
        await held.let_go()
        async with member(array, 2) as b:
            found = (await b.take()).data
        assert (found.checkpoint, found.records) == (b"to four", (b"5", b"6"))


async def test_an_array_that_is_gone_ends_no_tenure_if_it_is_back_in_time() -> None:
    async with formatted(1) as array, member(array, 1) as a:
        held = await a.take()
        await held.append(b"before")
        sure_until_s = held.sure_until_s
        array.portal_down(0)
        with pytest.raises(LunError):
            await held.beat()
        assert held.sure_until_s == sure_until_s
        assert not (await a.look()).readable
        array.portal_down(0, False)
        await beats_again(held)
        await held.append(b"after")
        assert (await a.take()).data.records == (b"before", b"after")


async def test_what_was_acknowledged_survives_the_array_s_loss_of_power() -> None:
    async with formatted(1, cached=True) as array:
        async with member(array, 1) as a:
            held = await a.take()
            for number in range(5):
                await held.append(b"%d" % number)
        array.fail_power(lost=True)
        async with member(array, 1, incarnation=2) as a:
            assert (await a.take()).data.records == tuple(b"%d" % one for one in range(5))


@pytest.mark.parametrize("seed", range(3))
async def test_one_lun_that_does_everything_wrong_harms_nobody(seed: int) -> None:
    acknowledged: list[bytes] = []
    async with formatted(3, seed=seed) as array:
        async with member(array, 1) as a:
            held = await a.take()
            for fault in (Fault.TORN, Fault.MISDIRECTED, Fault.FORGOTTEN, Fault.ANSWER_LOST):
                array.rate(seed, fault, 0.1)
            for number in range(30):
                record = b"%d" % number * 2000
                await held.append(record)
                acknowledged.append(record)
                if number % 10 == 9:
                    await held.checkpoint(b"+".join(acknowledged))
            await held.append(b"last")
            await held.let_go()
        # What it forgot, or wrote elsewhere, the two others know.
        array.units[seed].faults.rates.clear()
        async with member(array, 2) as b:
            found = (await b.take()).data
        assert found.checkpoint == b"+".join(acknowledged)
        assert found.records == (b"last",)


async def test_whoever_waits_for_a_lun_that_hangs_hears_of_the_end() -> None:
    async with formatted(1) as array, member(array, 1) as a:
        held = await a.take()
        array.slow(0, math.inf)
        async with trio.open_nursery() as nursery:

            async def hang() -> None:
                with pytest.raises(LunError):
                    await held.append(b"never done")

            nursery.start_soon(hang)
            await trio.sleep(0.05)
            a.close()  # type: ignore[attr-defined]


async def test_a_write_under_way_is_over_when_the_disk_is_closed() -> None:
    """The next life of this member writes to the same places."""
    async with formatted(1) as array:
        log = array.units[0].medium.log
        async with member(array, 1) as a:
            held = await a.take()
            before = len(log)
            array.slow(0, 0.2)
            with trio.move_on_after(0.05):
                await held.append(b"left by its caller")
        array.slow(0, 0)
        written = len(log)
        assert written == before + 1
        async with member(array, 1, incarnation=2) as again:
            found = await again.take()
            assert found.data.records == (b"left by its caller",)
            with pytest.raises(LunError):
                await held.append(b"by the life before")
        with pytest.raises(LunError, match="closed"):
            await found.append(b"after its end")
