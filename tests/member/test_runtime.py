"""One life, and what it does where its disk has no room."""

import errno
from pathlib import Path

import pytest
import trio

from clufs.cluster.embedded import EmbeddedEngine
from clufs.cluster.formation import Self
from clufs.errors import StateError
from clufs.member import runtime as module
from clufs.member.core import Happened, Start
from clufs.member.runtime import Hooks, Runtime
from clufs.registry.store import RegistryStore


class FullDisk(RegistryStore):
    """A copy-on-write file system: when it is full, not even a number can be kept."""

    refused = 0
    is_full = True

    def keep_view(self, number: int) -> None:
        if self.is_full:
            self.refused += 1
            error = StateError("the disk is full")
            error.errno = errno.ENOSPC
            raise error
        super().keep_view(number)


async def test_a_life_without_room_for_a_view_waits_until_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DISK_AGAIN_S", 0.01)
    disk, happened = FullDisk(tmp_path), list[Happened]()
    stands = trio.Event()

    def changed() -> None:
        if disk.refused == 3:
            disk.is_full = False
        if life.core.standing:
            stands.set()

    def nothing(*arguments: object) -> None:
        pass

    hooks = Hooks(
        step=nothing,
        query=nothing,
        application=nothing,
        applied=nothing,
        restored=nothing,
        happened=happened.append,
        fencing=nothing,
        changed=changed,
        ticked=nothing,
    )
    engine = EmbeddedEngine("provolone")
    me = Self(engine.me, disk.next_incarnation(), 0)
    life = Runtime(engine, me, (), Start(disk.view, disk.stored, "boot", "machine"), disk, hooks)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.run)
        with trio.fail_after(20):
            await stands.wait()
        nursery.cancel_scope.cancel()
    told = [one.what for one in happened if "disk" in one.what]
    assert told == ["disk-full", "disk-has-room"]
    assert disk.refused == 3
    assert life.core.view is not None
    assert disk.view == life.core.view.number
    disk.close()
