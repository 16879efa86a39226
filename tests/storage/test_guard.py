"""Whole members at shared LUNs, on our array and on tgtd: who enters, who is fenced, and who sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from clufs.dlm.interface import Life
from clufs.errors import LunError, LunTimedOut, NotFenced, PathLost, ReservationConflict
from clufs.storage import keeping
from clufs.storage.block import FileBlock
from clufs.storage.certificate import FenceCertificate, MemberKey
from clufs.storage.disk_header import cluster_number
from clufs.storage.guard import Guard
from clufs.storage.holding import Holding
from clufs.storage.keeping import Luns
from clufs.storage.lease_wire import Seen
from clufs.storage.lun_agent import Around, LunAgent
from clufs.storage.method import Kind
from clufs.storage.own_lun import Wish, format_own, open_own
from clufs.storage.paths import LunPath, initiator_name, open_path
from clufs.storage.records import Eviction
from clufs.storage.reservations import read_keys, register
from clufs.storage.tombstones import Tombstones
from clufs.storage.trials import Trials
from tests.array.array import Array, Shape
from tests.array.defects import Defect
from tests.storage.tgtd import tgtd

CLUSTER = "guarded"
THEIRS = cluster_number(CLUSTER)
NUMBERS = {"provolone": 1, "polishham": 2, "pepicelli": 3}
OWN_BLOCKS = 131072
PATIENCE_S = 20.0


async def write(path: LunPath) -> None:
    """One block."""
    await path.device.write(7, b"w" * 512)


class Member:
    """A member of the cluster at its LUNs, without locks: `ended` is why its life is over."""

    def __init__(self, name: str, data: list[list[str]], own: list[list[str]]) -> None:
        self.name = name
        self.luns = Luns(initiator_name(name), watches_devices=False)
        for urls in data:
            self.luns.expect("data", urls)
        for urls in own:
            self.luns.expect("clufs", urls)
        self.tombstones = Tombstones(self.luns, CLUSTER)
        self.guard = Guard(self.luns, self.tombstones)
        self.kinds: dict[str, Kind] = {}
        self.heartbeats: dict[str, Seen | None] = {}
        around = Around(
            NUMBERS.__getitem__,
            lambda: 12,
            lambda lun: self.kinds.get(lun.wwid, Kind.PR_ABORT),
            lambda member: self.heartbeats,
        )
        self.agent = LunAgent(self.luns, self.tombstones, self.guard, around, PATIENCE_S)
        self.events: list[str] = []
        self.off = False
        self.guard.holding = Holding(lambda victim: self.off, self._tell)
        self.incarnation = 0
        self.ended = ""
        self.over = trio.Event()

    def _tell(self, what: str, /, **facts: object) -> None:
        self.events.append(" ".join((what, str(facts.get("why", "")))).strip())

    def end(self, why: str) -> None:
        self.ended = why
        self.over.set()

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Life]:
        """The next one, entered."""
        self.incarnation += 1
        self.ended, self.over = "", trio.Event()
        key = MemberKey(THEIRS, NUMBERS[self.name], self.incarnation)
        async with self.guard.life(key, self.end):
            yield Life(self.name, self.incarnation)

    async def write(self, at: int = 0) -> None:
        """To one of the data LUNs, as /clu/luns/WWID/data does. Raises LunError."""
        lun = list(self.luns.inventory.expected("data").values())[at]
        if lun is None:
            raise PathLost("no path has led to it")
        await self.luns.run(lun, write, writes=True)

    async def write_without_asking(self) -> list[BaseException | None]:
        """By every path of every data LUN, as a program that was stopped and goes on does; how each ended."""
        found: list[BaseException | None] = []
        for lun in self.luns.inventory.expected("data").values():
            for path in lun.usable() if lun is not None else ():
                assert path.opened is not None
                try:
                    await write(path.opened)
                    found.append(None)
                except LunError as error:
                    found.append(error)
        return found


@asynccontextmanager
async def members(*everybody: Member) -> AsyncIterator[None]:
    """All of them at work, while inside."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        for member in everybody:
            nursery.start_soon(member.luns.serve)
            nursery.start_soon(member.guard.serve)
        try:
            with trio.fail_after(60):
                yield
        except Exception as error:
            failure = error  # a nursery would hand it on in a group
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Ground:
    """Our array with `data` LUNs by two paths, and a LUN of clufs; provolone and polishham."""

    def __init__(self, array: Array, data: int) -> None:
        self.array = array
        luns = [[array.url(lun, portal) for portal in (0, 1)] for lun in range(data + 1)]
        self.provolone, self.polishham = (
            Member(name, luns[:-1], luns[-1:]) for name in ("provolone", "polishham")
        )
        self.own = luns[-1]

    async def format(self) -> None:
        async with open_path(self.own[0], initiator_name("setup")) as path:
            await format_own(path.device, Wish(CLUSTER, members=3), force=True)


@asynccontextmanager
async def ground(data: int = 1, *defects: Defect) -> AsyncIterator[Ground]:
    """Set up, and at work."""
    blocks = (*[2048] * data, OWN_BLOCKS)
    shape = Shape(blocks=blocks, portals=2, defects=frozenset(defects), logged=False)
    async with Array(shape).serving() as array:
        found = Ground(array, data)
        await found.format()
        async with members(found.provolone, found.polishham):
            yield found


# --------------------------------------------------------------------- a life


async def test_nothing_is_written_before_a_life_has_entered_and_after_it_has_ended() -> None:
    async with ground() as at:
        member = at.provolone
        async with member.life():
            await member.write()
        with pytest.raises(PathLost, match="no life of this member is registered"):
            await member.write()
        async with member.life():
            await member.write()


async def test_what_a_life_has_asked_for_is_not_written_by_the_next() -> None:
    """A write that got no answer is tried by another path, which meanwhile may be open to the next life."""
    async with ground() as at:
        member, tries, no_answer = at.provolone, 0, trio.Event()
        async with member.life():
            await written(member)
        (lun,) = member.luns.inventory.expected("data").values()
        assert lun is not None
        while len(lun.usable()) < 2:  # noqa: ASYNC110
            await trio.sleep(0.01)

        async def unanswered_once(path: LunPath) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                await no_answer.wait()
                raise LunTimedOut("no answer")
            await write(path)

        async def old_write() -> None:
            with pytest.raises(PathLost, match="the life of this member that wrote it is over"):
                await member.luns.run(lun, unanswered_once, writes=True)

        async with trio.open_nursery() as nursery:
            async with member.life():
                nursery.start_soon(old_write)
                await trio.testing.wait_all_tasks_blocked(0.05)
            async with member.life():
                await member.write()
                no_answer.set()
                await trio.testing.wait_all_tasks_blocked(0.05)
        assert tries == 1


async def test_a_path_that_comes_back_is_entered_again() -> None:
    async with ground() as at:
        member = at.provolone
        async with member.life():
            for portal in (0, 1):
                at.array.portal_down(portal)
            with pytest.raises(LunError):
                await member.write()
            at.array.portal_down(1, False)
            await written(member)
            assert not member.ended


async def written(member: Member) -> None:
    """Write as soon as it is possible."""
    while True:
        try:
            return await member.write()
        except LunError:
            await trio.sleep(0.02)


async def test_who_leaves_takes_its_keys_along_unless_the_reservation_hangs_on_them() -> None:
    async with ground() as at, at.provolone.life():
        async with at.polishham.life():
            await at.polishham.guard.leave()
            with pytest.raises(PathLost):
                await at.polishham.write()
        keys = at.array.units[0].reservations
        assert set(keys.keys.values()) == {MemberKey(THEIRS, 1, 1).number}
        await at.provolone.guard.leave()
        assert keys.type is not None


async def test_a_lun_that_a_member_enters_is_tried_out_beside_its_work_and_nothing_is_left_of_that() -> (
    None
):
    async with ground(1, Defect.NO_PREEMPT_AND_ABORT) as at, at.provolone.life():
        (lun,) = at.provolone.luns.inventory.expected("data").values()
        assert lun is not None and at.provolone.guard.key is not None
        trials = Trials(initiator_name("provolone"), lambda lun, report: None)
        await trials.try_out(lun, at.provolone.guard.key)
        report = trials.reports[lun.wwid]
        assert [one.what for one in report.findings] == ["it has no PREEMPT AND ABORT"]
        await at.provolone.write()
        keys = at.array.units[0].reservations
        assert set(keys.keys.values()) == {MemberKey(THEIRS, 1, 1).number}
        assert keys.type is not None and keys.aptpl


async def test_who_leaves_does_not_make_the_lun_forget_the_others_when_it_loses_power() -> None:
    async with ground() as at, at.provolone.life():
        async with at.polishham.life():
            await at.polishham.guard.leave()
        found = at.array.units[0].reservations
        found.power_on()
        assert MemberKey(THEIRS, 1, 1).number in found.keys.values()


# ------------------------------------------------------------------- fencing


async def test_a_member_is_fenced_from_three_luns_by_two_paths_and_finds_out_by_itself() -> None:
    async with ground(data=3) as at, at.provolone.life(), at.polishham.life() as victim:
        for lun in range(3):
            await at.polishham.write(lun)
        certificates = await at.provolone.agent.certify(victim)
        assert len(certificates) == 3
        for one in certificates:
            assert one.aborted and len(one.proofs) == 2 and not one.unproven
        ended = await at.polishham.write_without_asking()
        assert len(ended) == 6
        assert all(isinstance(one, ReservationConflict) for one in ended)
        await at.polishham.over.wait()
        assert "its key was taken away" in at.polishham.ended
        with pytest.raises(PathLost, match="this life is fenced"):
            await at.polishham.write()
        await at.provolone.write()


async def test_a_fenced_member_comes_back_as_another_life_and_not_as_the_same() -> None:
    async with ground() as at, at.provolone.life():
        async with at.polishham.life() as victim:
            verdict = await at.provolone.agent.fence(victim)
            assert verdict.ok
            assert "HOW=preempted, commands aborted" in verdict.said
        at.polishham.incarnation -= 1
        async with at.polishham.life():
            assert at.polishham.ended == "incarnation 1 has a tombstone"
            with pytest.raises(PathLost):
                await at.polishham.write()
        async with at.polishham.life():
            await at.polishham.write()


async def test_a_victim_that_registers_again_without_looking_is_seen_and_fenced_again() -> None:
    async with ground() as at, at.provolone.life(), at.polishham.life() as victim:
        await at.provolone.agent.certify(victim)
        (lun,) = at.polishham.luns.inventory.expected("data").values()
        assert lun is not None
        (path, _) = lun.usable()
        assert path.opened is not None and path.opened.lun is not None
        await register(path.opened.lun, MemberKey(THEIRS, 2, 1).number)
        (again,) = await at.provolone.agent.certify(victim)
        assert not again.already
        assert (await read_keys(path.opened.lun)).keys == (MemberKey(THEIRS, 1, 1).number,) * 2


async def test_an_array_without_abort_is_known_after_the_first_fencing() -> None:
    async with ground(1, Defect.NO_PREEMPT_AND_ABORT) as at, at.provolone.life():
        for _ in range(2):
            async with at.polishham.life() as victim:
                (one,) = await at.provolone.agent.certify(victim)
                assert one.how == "preempted"
                assert at.provolone.guard.aborts == {one.lun: False}


async def test_a_path_that_is_cut_is_named_in_the_certificate() -> None:
    async with ground() as at, at.provolone.life(), at.polishham.life() as victim:
        at.array.portal_down(1)
        (one,) = await at.provolone.agent.certify(victim)
        assert [proof.path for proof in one.proofs] != []
        assert len(one.unproven) == 1
        assert "no answer" in one.lines()[-1]


async def test_a_lun_that_is_gone_is_named_and_nothing_is_certified() -> None:
    async with ground(data=2) as at, at.provolone.life(), at.polishham.life() as victim:
        at.array.online(1, False)
        verdict = await at.provolone.agent.fence(victim)
        assert not verdict.ok
        assert "no path answered" in verdict.said
        assert verdict.said.count("a person must act") == 2


async def test_a_lun_that_hangs_costs_the_agent_its_time_and_no_more() -> None:
    async with ground() as at, at.provolone.life(), at.polishham.life() as victim:
        at.array.slow(0, 600.0)
        at.provolone.agent._timeout_s = 0.3
        verdict = await at.provolone.agent.fence(victim)
        assert not verdict.ok and verdict.said.startswith("no answer within 0.3 s: naa.")
        assert verdict.said.count(" by 127.0.0.1:") == 2


async def test_without_tombstones_nobody_is_fenced_and_nobody_enters() -> None:
    async with ground() as at, at.provolone.life(), at.polishham.life() as victim:
        at.array.online(1, False)
        verdict = await at.provolone.agent.fence(victim)
        assert not verdict.ok and "no tombstone could be written" in verdict.said
        await at.polishham.write()


async def test_a_tombstone_takes_three_round_trips(tmp_path: Path) -> None:
    disk = tmp_path / "own"
    disk.write_bytes(bytes(OWN_BLOCKS * 512))
    device = FileBlock(str(disk))
    await format_own(device, Wish(CLUSTER, members=3))
    own = await open_own(device)
    asked: list[str] = []
    for name in ("read", "write"):
        method = getattr(device, name)

        async def counted(*words: object, name: str = name, method: object = method) -> object:
            asked.append(name)
            return await method(*words)  # type: ignore[operator]

        setattr(device, name, counted)
    await own.evict(Eviction(own.header.cluster, writer=1, by=4, victim=2, incarnation=9))
    assert asked == ["read", "write", "read"]
    await device.close()


# ---------------------------------------------------------------------- tgtd


async def test_the_same_on_tgtd_where_a_registration_ends_with_its_session_and_its_key_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "LUN_RETRY_MIN_S", 0.02)
    disk = tmp_path / "own"
    disk.write_bytes(bytes(OWN_BLOCKS * 512))
    device = FileBlock(str(disk))
    await format_own(device, Wish(CLUSTER, members=3))
    await device.close()
    async with tgtd(tmp_path) as url, AsyncExitStack() as stack:
        a, b = (Member(name, [[url]], [[str(disk)]]) for name in ("provolone", "polishham"))
        await stack.enter_async_context(members(a, b))
        await stack.enter_async_context(a.life())
        async with b.life() as victim:
            await b.write()
            (path,) = b.luns.inventory.configured() and [
                one for one in b.luns.inventory.configured() if one.url == url
            ]
            assert path.opened is not None
            path.opened.ended.set()  # the session is given up, and made anew
            await written(b)
            certificates = await a.agent.certify(victim)
            assert_preempted(certificates)
            assert all(
                isinstance(one, ReservationConflict) for one in await b.write_without_asking()
            )
            await b.over.wait()
        async with b.life():
            await b.write()
            keys = await a_keys(a)
            assert set(keys) == {MemberKey(THEIRS, 1, 1).number, MemberKey(THEIRS, 2, 2).number}


def assert_preempted(certificates: tuple[FenceCertificate, ...]) -> None:
    (one,) = certificates
    assert one.how == "preempted"
    assert set(one.proofs[0].keys) == {MemberKey(THEIRS, 1, 1).number}


async def a_keys(member: Member) -> tuple[int, ...]:
    """As the LUN says."""
    (lun,) = member.luns.inventory.expected("data").values()
    assert lun is not None
    (path,) = lun.usable()
    assert path.opened is not None and path.opened.lun is not None
    return (await read_keys(path.opened.lun)).keys


async def test_who_has_no_life_fences_nobody() -> None:
    async with ground() as at:
        with pytest.raises(NotFenced, match="this member itself is not registered"):
            await at.provolone.agent.certify(Life("polishham", 1))
