"""Registering, reserving, fencing and proving it: on our array, and on tgtd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from clufs.errors import CheckCondition, LunError, NotFenced, PathLost, ReservationConflict
from clufs.storage import commands as c
from clufs.storage import reservations as r
from clufs.storage.carrier import Carrier, Lun
from clufs.storage.iscsi import iscsi_lun
from clufs.storage.reservation_data import ReservationType
from clufs.storage.sense import Sense
from tests.array.array import Array, Shape
from tests.array.defects import Defect
from tests.storage.tgtd import tgtd

KEY_A, KEY_B, KEY_C = (r.MemberKey(0xC1, member, 7).number for member in (1, 2, 3))


class Watched:
    """A carrier that notes what went through it."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.sent: list[str] = []
        self.dead = False

    @property
    def path(self) -> str:
        return self.carrier.path

    async def run(
        self,
        command: c.Command,
        data: bytes = b"",
        *,
        block_bytes: int = 512,
        timeout_s: float = 10,
    ) -> bytes:
        if self.dead:
            raise PathLost("dead")
        self.sent.append(command.NAME)
        return await self.carrier.run(command, data, block_bytes=block_bytes, timeout_s=timeout_s)


class Member:
    """A member of the cluster: its key, its paths to the LUN, the unit attentions it got."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.heard: list[Sense] = []
        self.carriers: list[Watched] = []
        self.paths: list[Lun] = []

    async def enter(self, stack: AsyncExitStack, *urls: str) -> Member:
        """Connect, register at every path, and see to it that the LUN is reserved."""
        for number, url in enumerate(urls):
            name = f"iqn.2026-01.org.clufs:member{self.key >> 32 & 0xFFFF}"
            carrier = Watched(await stack.enter_async_context(iscsi_lun(url, name, number + 1)))
            self.carriers.append(carrier)
            self.paths.append(Lun(carrier, self.heard.append))
            await r.register(self.paths[-1], self.key)
        await r.reserve(self.paths[0], self.key)
        return self

    async def write(self, path: int = 0) -> None:
        """Write a block."""
        await self.paths[path].run(c.Write16(self.key & 0xFF, 1, fua=True), b"w" * 512)


@asynccontextmanager
async def cluster(
    keys: tuple[int, ...], *defects: Defect
) -> AsyncIterator[tuple[Array, list[Member]]]:
    """Members with both paths to one LUN of our array."""
    portals = 2
    shape = Shape(portals=portals, defects=frozenset(defects))
    async with Array(shape).serving() as array, AsyncExitStack() as stack:
        urls = [array.url(portal=portal) for portal in range(portals)]
        yield array, [await Member(key).enter(stack, *urls) for key in keys]


# ------------------------------------------------------------------------ keys


@given(st.integers(1, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF))
def test_a_key_says_whose_it_is(cluster: int, member: int, incarnation: int) -> None:
    key = r.MemberKey(cluster, member, incarnation)
    assert 0 < key.number < 1 << 64
    assert r.MemberKey.of(key.number) == key


def test_other_keys_are_nobodys() -> None:
    assert r.MemberKey.of(0x1234) is None
    for wrong in [(0, 1, 1), (1 << 16, 1, 1), (1, 1 << 16, 1), (1, 1, 1 << 32), (1, -1, 1)]:
        with pytest.raises(ValueError, match="no key"):
            r.MemberKey(*wrong)


# ------------------------------------------------------------- members share a LUN


async def test_members_register_at_every_path_and_one_reserves() -> None:
    async with cluster((KEY_A, KEY_B)) as (_, (a, b)):
        lun = b.paths[1]
        assert sorted((await r.read_keys(lun)).keys) == sorted([KEY_A, KEY_A, KEY_B, KEY_B])
        held = await r.read_reservation(lun)
        assert held is not None and (held.key, held.type) == (KEY_A, 5)
        for member in (a, b):
            await member.write(0)
            await member.write(1)
        ports = {
            (str(one.initiator).split(",")[0][-1], one.target_port)
            for one in await r.read_full_status(lun)
        }
        assert ports == {("1", 1), ("1", 2), ("2", 1), ("2", 2)}
        assert (await r.read_capabilities(lun)).types == set(ReservationType)


async def test_who_is_not_registered_does_not_write() -> None:
    async with cluster((KEY_A, KEY_B)) as (_, (_, b)):
        await r.unregister(b.paths[1])
        await r.unregister(b.paths[1])
        await b.write(0)
        with pytest.raises(ReservationConflict):
            await b.write(1)


async def test_a_lun_reserved_in_another_way_is_not_ours() -> None:
    async with cluster((KEY_A,)) as (array, (a,)):
        unit = array.units[0]
        unit.reservations.type = ReservationType.WRITE_EXCLUSIVE
        with pytest.raises(ReservationConflict):
            await r.reserve(a.paths[1], KEY_A)


async def test_who_is_not_registered_reserves_nothing() -> None:
    async with cluster((KEY_A, KEY_B)) as (_, (_, b)):
        for path in b.paths:
            await r.unregister(path)
        with pytest.raises(ReservationConflict):
            await r.reserve(b.paths[0], KEY_B)


async def test_a_registration_can_be_made_to_survive_power() -> None:
    async with cluster((KEY_A,)) as (array, (a,)):
        await r.register(a.paths[0], KEY_A, aptpl=True)
        array.units[0].reservations.power_on()
        assert KEY_A in (await r.read_keys(a.paths[0])).keys


# -------------------------------------------------------------------------- fencing


@pytest.mark.parametrize("victim_holds", [True, False])
async def test_a_fenced_member_writes_on_no_path_and_the_proof_says_so(victim_holds: bool) -> None:
    keys = (KEY_B, KEY_A, KEY_C) if victim_holds else (KEY_A, KEY_B, KEY_C)
    async with cluster(keys) as (_, members):
        by_key = {one.key: one for one in members}
        a, b, other = (by_key[key] for key in (KEY_A, KEY_B, KEY_C))
        proof = await r.fence("lun0", a.paths, KEY_A, KEY_B, lambda: 5)
        assert (proof.victim, proof.by, proof.time_ns) == (KEY_B, KEY_A, 5)
        assert (proof.aborted, proof.already, proof.unproven) == (True, False, ())
        assert [one.path for one in proof.proofs] == [path.path for path in a.paths]
        assert all(set(one.keys) == {KEY_A, KEY_C} and one.type == 5 for one in proof.proofs)
        for path in (0, 1):
            with pytest.raises(ReservationConflict):
                await b.write(path)
            await other.write(path)
            await a.write(path)
        assert {one.code for one in b.heard} >= {(0x2A, 0x05)}
        held = await r.read_reservation(a.paths[0])
        assert held is not None and held.key == KEY_A


async def test_a_fencing_takes_three_commands_on_each_path_after_a_look_at_the_reservation() -> (
    None
):
    async with cluster((KEY_A, KEY_B)) as (_, (a, _)):
        for carrier in a.carriers:
            carrier.sent.clear()
        await r.fence("lun0", a.paths, KEY_A, KEY_B)
        out, back = "PERSISTENT RESERVE OUT", "PERSISTENT RESERVE IN"
        assert [carrier.sent for carrier in a.carriers] == [[back, out, back, back]] * 2


async def test_fencing_again_gives_a_certificate_again() -> None:
    async with cluster((KEY_A, KEY_B)) as (_, (a, _)):
        first = await r.fence("lun0", a.paths, KEY_A, KEY_B)
        again = await r.fence("lun0", a.paths, KEY_A, KEY_B)
        assert (first.already, again.already, again.aborted) == (False, True, False)
        assert {one.generation for one in first.proofs} == {one.generation for one in again.proofs}


async def test_a_path_that_is_cut_is_named_and_the_rest_is_proof() -> None:
    async with cluster((KEY_A, KEY_B)) as (array, (a, b)):
        a.carriers[1].dead = True
        proof = await r.fence("lun0", a.paths, KEY_A, KEY_B)
        assert proof.unproven == (r.Unproven(array.url(portal=1), "dead"),)
        assert [one.path for one in proof.proofs] == [array.url(portal=0)]
        for path in (0, 1):
            with pytest.raises(ReservationConflict):
                await b.write(path)
        assert proof.lines()[-1] == f"PATH={array.url(portal=1)} no answer: dead"
        assert proof.lines()[0].startswith(
            "LUN=lun0 VICTIM=0x00c1000200000007 BY=0x00c1000100000007 TIME_NS="
        )


async def test_no_path_no_certificate() -> None:
    async with cluster((KEY_A, KEY_B)) as (_, (a, b)):
        for carrier in a.carriers:
            carrier.dead = True
        with pytest.raises(NotFenced, match=r"no path answered: .*dead"):
            await r.fence("lun0", a.paths, KEY_A, KEY_B)
        with pytest.raises(NotFenced, match="no path"):
            await r.fence("lun0", [], KEY_A, KEY_B)
        await b.write()


async def test_who_was_fenced_fences_nobody() -> None:
    async with cluster((KEY_A, KEY_B, KEY_C)) as (_, (a, b, _)):
        await r.fence("lun0", a.paths, KEY_A, KEY_B)
        with pytest.raises(NotFenced, match="our own key is not registered"):
            await r.fence("lun0", b.paths, KEY_B, KEY_A)
        with pytest.raises(NotFenced, match="nobody fences itself"):
            await r.fence("lun0", a.paths, KEY_A, KEY_A)


async def test_two_that_fence_each_other_are_not_both_certain() -> None:
    for _ in range(5):
        async with cluster((KEY_A, KEY_B)) as (_, (a, b)):
            certain: list[int] = []

            async def one(who: Member, whom: int, certain: list[int] = certain) -> None:
                try:
                    await r.fence("lun0", who.paths, who.key, whom)
                except NotFenced:
                    return
                certain.append(who.key)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one, a, KEY_B)
                nursery.start_soon(one, b, KEY_A)
            assert len(certain) == 1


async def test_a_lun_that_nobody_reserved_is_reserved_first() -> None:
    async with cluster((KEY_A, KEY_B)) as (array, (a, b)):
        array.units[0].reservations.type = array.units[0].reservations.holder = None
        proof = await r.fence("lun0", a.paths, KEY_A, KEY_B)
        assert {one.type for one in proof.proofs} == {5}
        with pytest.raises(ReservationConflict):
            await b.write()


async def test_an_array_that_forgets_everything_proves_nothing() -> None:
    async with cluster((KEY_A, KEY_B)) as (array, (a, _)):
        array.units[0].reservations.lose()
        with pytest.raises(NotFenced, match=r"no path answered: .* reserved for others"):
            await r.fence("lun0", a.paths, KEY_A, KEY_B)


async def test_the_same_life_can_register_again_and_that_is_why_a_key_carries_it() -> None:
    async with cluster((KEY_A, KEY_B)) as (_, (a, b)):
        await r.fence("lun0", a.paths, KEY_A, KEY_B)
        await r.register(b.paths[0], KEY_B)
        await b.write()
        assert KEY_B in (await r.read_keys(a.paths[0])).keys


# ------------------------------------------------- arrays that lack or err


@pytest.mark.parametrize("victim_holds", [True, False])
@pytest.mark.parametrize(
    ("defect", "aborted"),
    [
        (Defect.NO_PREEMPT_AND_ABORT, False),
        (Defect.ONE_PORT_ONLY, True),
        (Defect.WRONG_ATTENTION, True),
        (Defect.NO_CAPABILITIES, True),
        (Defect.NO_FULL_STATUS, True),
    ],
)
async def test_these_arrays_fence_all_the_same(
    defect: Defect, aborted: bool, victim_holds: bool
) -> None:
    keys = (KEY_B, KEY_A) if victim_holds else (KEY_A, KEY_B)
    async with cluster(keys, defect) as (_, members):
        a, b = sorted(members, key=lambda one: one.key)
        proof = await r.fence("lun0", a.paths, KEY_A, KEY_B)
        assert (proof.aborted, proof.already) == (aborted, False)
        for path in (0, 1):
            with pytest.raises(ReservationConflict):
                await b.write(path)
            await a.write(path)


async def test_an_array_without_aptpl_registers_without() -> None:
    async with cluster((KEY_A,), Defect.NO_APTPL) as (_, (a,)):
        await r.register(a.paths[0], KEY_B, aptpl=True)
        assert sorted((await r.read_keys(a.paths[0])).keys) == [KEY_A, KEY_B]


async def test_an_array_without_reservations_says_so() -> None:
    with pytest.raises(CheckCondition, match="does not know this command"):
        async with cluster((KEY_A,), Defect.NO_PERSISTENT_RESERVE):
            raise AssertionError


# ----------------------------------------------------------------------------- tgtd


async def test_a_member_is_fenced_on_tgtd_too(tmp_path: Path) -> None:
    async with tgtd(tmp_path) as url, AsyncExitStack() as stack:
        a, b, other = [await Member(key).enter(stack, url) for key in (KEY_A, KEY_B, KEY_C)]
        await b.write()
        a.carriers[0].sent.clear()
        proof = await r.fence("lun0", a.paths, KEY_A, KEY_B)
        assert not proof.aborted and not proof.already
        assert set(proof.proofs[0].keys) == {KEY_A, KEY_C}
        assert len(a.carriers[0].sent) == 5
        with pytest.raises(ReservationConflict):
            await b.write()
        await other.write()
        again = await r.fence("lun0", a.paths, KEY_A, KEY_B)
        assert again.already
        await r.unregister(other.paths[0])
        await r.unregister(other.paths[0])
        assert (await r.read_keys(a.paths[0])).keys == (KEY_A,)


async def test_the_holder_is_fenced_on_tgtd_too(tmp_path: Path) -> None:
    async with tgtd(tmp_path) as url, AsyncExitStack() as stack:
        holder, a = [await Member(key).enter(stack, url) for key in (KEY_B, KEY_A)]
        proof = await r.fence("lun0", a.paths, KEY_A, KEY_B)
        assert proof.proofs[0].keys == (KEY_A,)
        with pytest.raises(LunError):
            await holder.write()
        await a.write()
