"""The quorum disk on plain files: one member at a time holds it, and nothing that was said on it is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from clufs.errors import LunError, QuorumDiskHeld, QuorumDiskLost, ShareFull
from clufs.storage.lease_report import ballot_lines
from clufs.storage.own_lun import Wish, format_own, open_own
from clufs.storage.paths import initiator_name, open_path
from clufs.storage.quorum import Held, QuorumDisk, Share, Sight
from clufs.storage.quorum_disk import open_quorum_disk

MIB = 1 << 20
WISH = Wish("lab", members=2)


async def make(path: Path, mib: int = 8, wish: Wish = WISH) -> str:
    """A formatted LUN."""
    with open(path, "wb") as file:
        file.truncate(mib * MIB)
    async with open_path(str(path), initiator_name("a")) as opened:
        await format_own(opened.device, wish, force=True)
    return str(path)


async def make_all(directory: Path, count: int, mib: int = 8) -> list[str]:
    return [await make(directory / f"lun{number}", mib) for number in range(count)]


@asynccontextmanager
async def member(
    luns: Sequence[str], number: int, incarnation: int = 1
) -> AsyncIterator[QuorumDisk]:
    urls = [[one] for one in luns]
    name = initiator_name(f"m{number}")
    async with open_quorum_disk(urls, name, "lab", number, incarnation) as disk:
        yield disk


async def seen_dead(disk: QuorumDisk) -> Sight:
    """Look until nobody stands in the way any more."""
    while True:
        sight = await disk.look()
        if not sight.readable or sight.free or not sight.alive:
            return sight
        await trio.sleep(0.05)


@pytest.mark.parametrize("luns", [1, 3, 5])
async def test_who_takes_it_after_another_finds_all_that_was_acknowledged(
    luns: int, tmp_path: Path
) -> None:
    urls = await make_all(tmp_path, luns)
    async with member(urls, 1) as a, member(urls, 2) as b:
        assert await a.look() == Sight(True)
        held = await a.take()
        assert held.data == Share()
        await held.append(b"one")
        await held.checkpoint(b"all so far")
        await held.append(b"two")
        await held.append(b"three")
        await held.let_go()
        sight = await b.look()
        assert (sight.holder, sight.holder_incarnation, sight.free) == (1, 1, True)
        after = await b.take()
        assert after.data == Share(b"all so far", (b"two", b"three"))
        assert after.ballot > held.ballot


async def test_nobody_takes_it_from_a_member_that_beats(tmp_path: Path) -> None:
    urls = await make_all(tmp_path, 1)
    async with member(urls, 1) as a, member(urls, 2) as b:
        held = await a.take()
        for _ in range(2):
            before_s = held.sure_until_s
            await held.beat()
            assert held.sure_until_s > before_s
            with pytest.raises(QuorumDiskHeld, match="member 1 holds it"):
                await b.take()
        assert (await b.look()).alive
        await held.append(b"still ours")


async def test_who_was_thought_dead_is_out_for_ever_and_its_last_words_are_not_lost(
    tmp_path: Path,
) -> None:
    urls = await make_all(tmp_path, 3)
    async with member(urls, 1) as a, member(urls, 2) as b:
        held = await a.take()
        await held.append(b"last words")
        assert (await seen_dead(b)).holder == 1
        after = await b.take()
        assert after.data.records == (b"last words",)
        for _ in range(2):
            with pytest.raises(QuorumDiskLost, match="member 2 took it"):
                await held.append(b"too late")
        with pytest.raises(QuorumDiskLost):
            await held.beat()
        assert not (await a.look()).may_take(1)
        await after.append(b"on it goes")


async def test_a_member_that_was_restarted_need_not_wait_for_itself(tmp_path: Path) -> None:
    urls = await make_all(tmp_path, 1)
    async with member(urls, 1) as before:
        await (await before.take()).append(b"of the life before")
    async with member(urls, 1, incarnation=2) as after:
        assert (await after.take()).data.records == (b"of the life before",)


async def fill(held: Held, record: bytes) -> int:
    """Append until it is full; how many there was room for."""
    for count in range(10_000):
        try:
            await held.append(record)
        except ShareFull:
            return count
    raise AssertionError("endless room")


async def test_a_full_journal_asks_for_a_checkpoint_and_goes_on(tmp_path: Path) -> None:
    urls = await make_all(tmp_path, 1, mib=4)
    async with member(urls, 1) as a:
        held = await a.take()
        for turn in range(4):
            room = await fill(held, b"r" * 20_000)
            assert room > 20
            await held.checkpoint(b"turn %d" % turn)
        await held.append(b"last")
        again = await a.take()
        assert again.data == Share(b"turn 3", (b"last",))
        with pytest.raises(QuorumDiskLost, match="taken anew"):
            await held.append(b"by the one before")


async def test_what_is_too_large_for_the_luns_is_refused_with_the_sizes(tmp_path: Path) -> None:
    urls = await make_all(tmp_path, 1, mib=8)
    async with member(urls, 1) as a:
        held = await a.take()
        await held.append(b"kept")
        with pytest.raises(
            LunError, match=r"too small: 4100 KiB .* room for \d+ KiB; it takes 17 MiB"
        ):
            await held.checkpoint(bytes(4 * MIB))
        await held.append(b"nothing has changed")
        assert len((await a.take()).data.records) == 2


async def test_large_states_are_written_in_pieces_and_found_whole(tmp_path: Path) -> None:
    urls = await make_all(tmp_path, 1, mib=128)
    state = bytes(range(256)) * (20 * MIB // 256) + b"end"
    async with member(urls, 1) as a:
        held = await a.take()
        await held.checkpoint(state)
        await held.append(b"x" * MIB)
        assert (await a.take()).data == Share(state, (b"x" * MIB,))


async def test_a_lun_formatted_anew_under_a_holder_is_not_written_to_as_before(
    tmp_path: Path,
) -> None:
    """With --force, and against the manual: a majority of the others goes on, and nobody is misled."""
    urls = await make_all(tmp_path, 3)
    async with member(urls, 1) as a:
        held = await a.take()
        await held.append(b"kept")
        async with open_path(urls[0], initiator_name("admin")) as path:
            await format_own(path.device, WISH, force=True)
        for _ in range(3):
            await held.beat()
            await trio.sleep(0.2)
        again = await a.take()
        assert again.data.records == (b"kept",)
        await again.append(b"on all three")
    async with member(urls[:1], 2) as b:
        sight = await b.look()
        assert not sight.readable


async def test_a_lun_that_is_named_twice_is_not_counted_twice(tmp_path: Path) -> None:
    urls = await make_all(tmp_path, 2)
    async with member([*urls, urls[1]], 1) as a:
        sight = await a.look()
        assert not sight.readable and "the same LUN as another one" in sight.why
        with pytest.raises(LunError, match="the same LUN"):
            await a.take()


async def test_a_member_for_whom_no_luns_were_formatted_is_told_so(tmp_path: Path) -> None:
    urls = await make_all(tmp_path, 1)
    async with member(urls, 3) as c:
        assert "formatted for 1 to 2" in (await c.look()).why


async def test_what_is_said_on_a_lun_can_be_looked_at(tmp_path: Path) -> None:
    (url,) = await make_all(tmp_path, 1)
    async with member([url], 2, incarnation=7) as b:
        held = await b.take()
        await held.append(b"one")
        await held.beat()
        async with open_path(url, initiator_name("admin")) as path:
            own = await open_own(path.device, "lab")
            (line,) = ballot_lines(await own.read_ballots())
    ballot = f"{held.ballot:#x}"
    assert line.startswith(f"BALLOT={ballot} MEMBER=2 INCARNATION=7 ACCEPTED={ballot} FRAMES=2 ")
    assert line.endswith(" FREE=0 LUNS=1")
