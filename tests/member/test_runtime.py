"""One life, and what it does where its disk has no room."""

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from clufs.cluster.embedded import EmbeddedEngine
from clufs.cluster.formation import Multicast, Self
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


class SilentEngine(EmbeddedEngine):
    """Keeps what is said to the group."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.said: list[bytes] = []

    def multicast(self, data: bytes) -> None:
        self.said.append(data)


def test_nothing_is_said_to_the_group_while_something_of_an_earlier_view_is_under_way(
    tmp_path: Path,
) -> None:
    disk, engine, asked = FullDisk(tmp_path), SilentEngine("provolone"), list[int | None]()
    drains = True

    def is_drained(view: int | None) -> bool:
        asked.append(view)
        return drains

    me = Self(engine.me, disk.next_incarnation(), 0)
    start = Start(disk.view, disk.stored, "boot", "machine")
    life = Runtime(engine, me, (), start, disk, hooks_with(drains=is_drained))
    life.carry_out([Multicast(b"hello"), Multicast(b"again")])
    assert engine.said == []
    drains = False
    life.say()
    assert engine.said == [b"hello", b"again"]
    assert set(asked) == {None}
    disk.close()


def hooks_with(**others: Callable[..., object]) -> Hooks:
    """Hooks that do nothing but for these."""

    def nothing(*arguments: object) -> None:
        pass

    names = [field.name for field in dataclasses.fields(Hooks)]
    return Hooks(**{name: others.get(name, nothing) for name in names})  # type: ignore[arg-type]


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

    hooks = hooks_with(happened=happened.append, changed=changed)
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
