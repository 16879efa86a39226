"""A member as its lock manager and its streams alone, told what to do on standard input, a line of JSON each.

`python -m tests.bench.recovering NUMBER KEYS PORT`. No file system and no engine: 100,000 locks are
there in seconds, and views come when they are wanted. Who tells hears a line for each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import trio

from clufs.cluster.interface import Peer, View
from clufs.cluster.keys import Keys
from clufs.cluster.mesh import Mesh
from clufs.daemon.process import mind_the_collector
from clufs.dlm import wire
from clufs.dlm.interface import (
    Asked,
    Event,
    Grant,
    Life,
    Owner,
    Received,
    Recovered,
    Request,
    Send,
    TurnCame,
    Verb,
    ViewInstalled,
)
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node

NAMES = ("a", "b", "c")
_AT_ONCE = 500
_LOCKS_OF_AN_OWNER = 1000


class Member:
    """One of three, in view 1 with the two others."""

    def __init__(self, number: int, keys: str, port: int) -> None:
        name = NAMES[number]
        self._peers = [Peer(n + 1, name, f"127.0.0.{n + 1}") for n, name in enumerate(NAMES)]
        self._lives = tuple(Life(name, 1) for name in NAMES)
        self._node = Node(name, 1, self._lives, 1)
        own = Keys.in_directory(Path(keys) / name)
        self.mesh = Mesh(
            self._peers[number], self._peers, own, self._heard,
            cluster="bench", incarnation=1, port=port,
        )  # fmt: skip
        self.mesh.set_view(View(1, tuple((peer.id, 1) for peer in self._peers), True))
        self._ids = {peer.name: peer.id for peer in self._peers}
        self._awaited = 0
        self._granted = trio.Event()
        self._recovered = trio.Event()
        self._recovery = (0.0, 0, 0)
        self._turn_wanted = trio.Event()

    def _heard(self, peer_id: int, data: bytes) -> None:
        self._step(Received(NAMES[peer_id - 1], wire.decode(data)))

    def _step(self, event: Event) -> None:
        for effect in self._node.step(time.monotonic(), event):
            if isinstance(effect, Send):
                self.mesh.post(self._ids[effect.member], wire.encode(effect.message))
            elif isinstance(effect, Grant):
                self._awaited -= 1
                if self._awaited == 0:
                    self._granted.set()
            elif isinstance(effect, Recovered):
                self._recovery = time.time(), effect.blocks, effect.locks
                self._recovered.set()
        self.mesh.flush()
        if self._node.wants_turn():
            self._turn_wanted.set()

    async def take_turns(self) -> None:
        """As the daemon does."""
        while True:
            await self._turn_wanted.wait()
            self._turn_wanted = trio.Event()
            while self._node.wants_turn():
                await trio.lowlevel.checkpoint()
                self._step(TurnCame())

    async def _ask(self, owner: Owner, names: list[bytes], mode: Mode) -> None:
        """Returns when all are granted."""
        self._awaited, self._granted = len(names), trio.Event()
        request = Request(Verb.LOCK, mode, notify=True)
        for name in names:
            self._step(Asked(owner, name, request, owner))
        await self._granted.wait()

    async def lock(self, count: int, mode: str) -> None:
        """Lock so many names."""
        owner = Owner()
        for first in range(0, count, _AT_ONCE):
            if first % _LOCKS_OF_AN_OWNER == 0:
                owner = Owner()
            last = min(first + _AT_ONCE, count)
            await self._ask(owner, [b"public/%d" % n for n in range(first, last)], Mode[mode])

    async def probe(self, name: str, seconds: float) -> list[float]:
        """Convert to EX and back all the time; when it was granted, wall clock."""
        owner, times = Owner(), []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self._ask(owner, [name.encode()], Mode.EX)
            times.append(time.time())
            await self._ask(owner, [name.encode()], Mode.NL)
            await trio.sleep(0.0005)
        return times

    async def lose(self, lost: int, probe: str, seconds: float) -> dict[str, Any]:
        """Install the view without one member, while somebody works on a lock that is not his."""
        found: dict[str, Any] = {}

        async def work() -> None:
            found["grants"] = await self.probe(probe, seconds)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await trio.sleep(min(0.3, seconds / 3))
            left = tuple((peer.id, 1) for peer in self._peers if peer.id != lost + 1)
            lives = tuple(life for life in self._lives if life.member != NAMES[lost])
            found["view"] = time.time()
            self.mesh.set_view(View(2, left, True))
            self._step(ViewInstalled(2, lives, frozenset()))
            await self._recovered.wait()
        found["recovered"], found["blocks"], found["locks"] = self._recovery
        return found


async def _serve(member: Member) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(member.mesh.run)
        nursery.start_soon(member.take_turns)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            deed, arguments = json.loads(line)
            done = await getattr(member, deed)(**arguments)
            print(json.dumps(done), flush=True)
        nursery.cancel_scope.cancel()


async def _main() -> None:
    number, keys, port = sys.argv[1:]
    mind_the_collector()
    await _serve(Member(int(number), keys, int(port)))


if __name__ == "__main__":
    trio.run(_main)
