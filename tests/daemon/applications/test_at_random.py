"""Members that die, stand alone, leave and come back while applications are started, stopped and moved."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from clufs.errors import HostDown
from tests.daemon.applications.cluster import NAMES, Cluster, Member, cluster
from tests.daemon.applications.fakes import until

APPS = ("web", "db", "mail", "print")
SEED = int(os.environ.get("SEED", "0"))
STEPS = 25
SETTLED_S = 2000.0
"""Thrice the longest pause before an application that nobody could start is tried again."""


class Story:
    """One seed's story. lost: what fences those that are dead or cut off and not fenced yet."""

    def __init__(self, clu: Cluster, seed: int) -> None:
        self.clu = clu
        self.random = random.Random(seed)
        self.told: list[str] = []
        self.lost: dict[str, Callable[[], None]] = {}

    def up(self) -> list[str]:
        return [name for name in NAMES if self.clu.members[name].lives and name not in self.lost]

    def note(self, *words: object) -> None:
        self.told.append(f"{trio.current_time():.1f} {' '.join(map(str, words))}")

    async def tell(self) -> None:
        acts = [
            self.order,
            self.order,
            self.order,
            self.kill,
            self.kill_daemon,
            self.cut,
            self.leave,
        ]
        acts += [self.expel, self.fence, self.come_back, self.fail, self.heal_script]
        for _ in range(STEPS):
            await self.random.choice(acts)()
            await trio.sleep(self.random.choice((0.001, 0.01, 0.1, 1, 5, 30)))

    async def order(self) -> None:
        members = self.up()
        if not members:
            return
        verb, app = (
            self.random.choice(("start", "start", "stop", "relocate")),
            self.random.choice(APPS),
        )
        where = self.random.choice(("", *NAMES)) if verb != "stop" else ""
        member = self.clu.members[self.random.choice(members)]
        self.note(verb, app, where, "at", member.name)
        self.clu.nursery.start_soon(self._ask, member, verb, app, where)

    async def _ask(self, member: Member, verb: str, app: str, where: str) -> None:
        with suppress(HostDown, AssertionError):
            await member.ask(verb, app, member=where, force=self.random.random() < 0.3)

    def _quorum_without(self, name: str) -> bool:
        return len(self.up()) == 3 and name in self.up()

    async def kill(self, with_machine: bool = True) -> None:
        name = self.random.choice(NAMES)
        if self._quorum_without(name):
            self.note("kill", name, with_machine)
            self.lost[name] = self.clu.die(name, with_machine=with_machine)

    async def kill_daemon(self) -> None:
        await self.kill(with_machine=False)

    async def cut(self) -> None:
        name = self.random.choice(NAMES)
        if self._quorum_without(name):
            self.note("cut", name)
            self.lost[name] = lambda: None
            self.clu.cut(name)

    async def expel(self) -> None:
        name = self.random.choice(NAMES)
        if self._quorum_without(name):
            self.note("expel", name)
            await self.clu.expel(name)

    async def leave(self) -> None:
        name = self.random.choice(NAMES)
        if self._quorum_without(name):
            self.note("leave", name)
            await self.clu.members[name].up.leave()
            self.clu.die(name)()

    async def fence(self) -> None:
        for name, fence in list(self.lost.items()):
            self.note("fence", name)
            member = self.clu.members[name]
            if member.lives:
                fence = self.clu.die(name)
            elif member.machine.left:
                self.clu.power_off(name)
            fence()
            del self.lost[name]

    async def come_back(self) -> None:
        for name in NAMES:
            member = self.clu.members[name]
            if not member.lives and name not in self.lost:
                self.note("boot", name)
                await self.clu.boot(name)

    async def fail(self) -> None:
        app, entry = self.random.choice(APPS), self.random.choice(("start", "stop", "check"))
        self.note("fails", app, entry)
        self.clu.script(app).fails.add(entry)

    async def heal_script(self) -> None:
        for app in APPS:
            self.clu.script(app).fails.clear()
            self.clu.script(app).takes_s["start"] = self.random.choice((0, 0.5, 20))

    async def settle(self) -> None:
        await self.heal_script()
        await self.fence()
        await self.come_back()
        await until(lambda: all(map(self.is_settled, APPS)), SETTLED_S)

    def is_settled(self, app: str) -> bool:
        """An application that should run does, and any other does not; what is UNKNOWN is a person's."""
        record = self.clu.record(app)
        where = [name for name in NAMES if app in self.clu.members[name].machine.left]
        if record.state == "UNKNOWN":
            return True
        if record.target == "ONLINE":
            return record.state == "ONLINE" and where == [record.member]
        return record.state == "OFFLINE" and not where


@pytest.mark.parametrize("seed", range(SEED, SEED + 25))
async def test_what_should_run_runs_once(seed: int, autojump_clock: MockClock) -> None:
    async with cluster() as clu:
        await clu.boot()
        for app in APPS:
            clu.register(app, CHECK_INTERVAL=10)
        story = Story(clu, seed)
        await story.tell()
        try:
            await story.settle()
        except AssertionError:
            for app in APPS:
                print(app, clu.record(app).target, clu.where(app), clu.entries(app))
                print(*clu.record(app).history[-8:], sep="\n")
            print(*story.told, sep="\n")
            raise
