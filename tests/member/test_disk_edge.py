"""A member of one vote and a disk of another: a whole runtime, with a quorum disk on plain files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from clufs.cluster.embedded import EmbeddedEngine
from clufs.cluster.formation import Self
from clufs.cluster.interface import RingId
from clufs.member.core import Happened, Start
from clufs.member.runtime import Hooks, Runtime
from clufs.registry.commands import PutNamespace
from clufs.registry.store import RegistryStore
from tests.storage.test_quorum_disk import make_all, member


class OneAndADisk(EmbeddedEngine):
    """An engine in which neither the member nor the disk is a majority."""

    def __init__(self) -> None:
        super().__init__("provolone")
        self.disk_votes = 1
        self.cast: list[bool] = []

    def vote(self, ring: RingId, cast: bool) -> None:
        self.cast.append(cast)


class Life:
    """One life, as long as it is entered."""

    def __init__(self, state: Path, luns: list[str], incarnation: int) -> None:
        self.store = RegistryStore(state)
        self.engine = OneAndADisk()
        self.happened: list[Happened] = []
        self.news = trio.Event()

        def nothing(*arguments: object) -> None:
            pass

        hooks = Hooks(
            step=nothing,
            query=nothing,
            application=nothing,
            blocks=nothing,
            drains=lambda view: False,
            applied=nothing,
            restored=nothing,
            happened=self.happened.append,
            fencing=nothing,
            changed=self._changed,
            ticked=nothing,
        )
        me = Self(self.engine.me, incarnation, 0)
        start = Start(self.store.view, self.store.stored, "boot", "machine", incarnation - 1)
        self.runtime = Runtime(self.engine, me, (), start, self.store, hooks)
        self.runtime.opened_disk = member(luns, 1, incarnation)

    def _changed(self) -> None:
        self.news.set()
        self.news = trio.Event()

    async def until(self, standing: bool) -> None:
        while self.runtime.core.standing is not standing:
            await self.news.wait()

    def disk_events(self) -> list[str]:
        return [dict(one.facts)["state"] for one in self.happened if one.what == "quorum-disk"]  # type: ignore[misc]


@asynccontextmanager
async def life(state: Path, luns: list[str], incarnation: int) -> AsyncIterator[Life]:
    one = Life(state, luns, incarnation)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.runtime.run)
            yield one
            nursery.cancel_scope.cancel()
    one.store.close()


async def test_what_was_lost_with_a_state_directory_is_found_on_the_disk(tmp_path: Path) -> None:
    luns = await make_all(tmp_path, 3)
    async with life(tmp_path / "first", luns, 1) as one:
        await one.until(standing=True)
        await one.runtime.propose(PutNamespace(b"db", 1, 1, 0o700, new=True))
        view = one.runtime.core.view
    async with life(tmp_path / "second", luns, 2) as one:
        await one.until(standing=True)
        assert list(one.runtime.core.replica.state.namespaces) == [b"db"]
        now = one.runtime.core.view
        assert view is not None and now is not None and now.number > view.number
        assert one.disk_events() == ["taken"]
        assert one.runtime.core.keeper.shown(one.runtime.core.name) == (
            "kept by provolone; its votes count here"
        )


async def test_a_long_journal_is_cut_short_and_says_the_same(tmp_path: Path) -> None:
    luns = await make_all(tmp_path, 1, mib=1)
    async with life(tmp_path / "first", luns, 1) as one:
        await one.until(standing=True)
        for at in range(60):
            await one.runtime.propose(PutNamespace(b"n%d" % at, 1, 1, 0o700, new=True))
    async with life(tmp_path / "second", luns, 2) as one:
        await one.until(standing=True)
        assert len(one.runtime.core.replica.state.namespaces) == 60
    async with member(luns, 1, 3) as disk:
        assert (await disk.take()).data.checkpoint


async def test_a_disk_that_is_gone_has_no_vote_and_the_member_lives(tmp_path: Path) -> None:
    luns = await make_all(tmp_path, 1)
    async with life(tmp_path / "state", luns, 1) as one:
        await one.until(standing=True)
        Path(luns[0]).rename(tmp_path / "away")
        Path(luns[0]).mkdir()
        held = one.runtime._edge._held
        assert held is not None
        one.runtime._edge.end_unsure()
        assert one.runtime.core.keeper.ballot == held.ballot
        await held.let_go()  # as if the LUN had refused a beat
        while one.engine.cast[-1]:
            await one.news.wait()
        assert one.runtime.ended is None
        assert one.disk_events() == ["taken", "lost"]
