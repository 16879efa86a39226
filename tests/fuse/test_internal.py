"""Locks that the daemon asks for itself, and where they show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from clufs.dlm.interface import Suspended
from clufs.dlm.node import Node
from clufs.errors import NoQuorum
from clufs.fuse.internal import InternalLocks
from clufs.tree.reserved import PLANNER, application_lock
from tests.fuse.member import HERE, THERE, THIRD, Mounted, member_mounted
from tests.fuse.mounted import until

READ = "print(open(sys.argv[1]).read(), end='')"
LIST = "print(*sorted(os.listdir(sys.argv[1])))"
MKDIR = "os.mkdir(sys.argv[1])"


@pytest.fixture
async def clu(tmp_path: Path) -> AsyncIterator[Mounted]:
    async with member_mounted(tmp_path) as member:
        yield member


def _other(clu: Mounted, member: str, line: str) -> None:
    clu.says(member, "anna", line, PLANNER)
    clu.bring_all()


async def test_the_queue_gives_the_lock_to_the_next(clu: Mounted) -> None:
    _other(clu, THERE, "EX")
    first = clu.lock(THERE, "anna", PLANNER).number
    lock = InternalLocks(clu.service).ask(PLANNER)
    assert not lock.held
    _other(clu, THERE, "UN")
    with trio.fail_after(5):
        assert await lock.granted() > first
    assert lock.held


async def test_who_holds_it_is_told_that_another_waits(clu: Mounted) -> None:
    lock = InternalLocks(clu.service).ask(PLANNER)
    told = trio.Event()
    lock.on_blocks = told.set
    with trio.fail_after(5):
        number = await lock.granted()
        _other(clu, THIRD, "EX")
        await told.wait()
    assert lock.number == number


async def test_a_release_without_a_view_is_heard_when_there_is_one(clu: Mounted) -> None:
    locks = InternalLocks(clu.service)
    lock, kept = locks.ask(PLANNER), locks.ask(application_lock("web"))
    with trio.fail_after(5):
        await lock.granted()
        await kept.granted()
    clu.service.run(Suspended())
    assert lock.held and kept.held
    locks.release(lock)
    assert not lock.held and kept.held
    assert [held.rsb.name for held in clu.service.holding()] == [b".caa/app/web"]


async def test_a_request_that_is_given_up_leaves_the_queue(clu: Mounted) -> None:
    _other(clu, THERE, "EX")
    locks = InternalLocks(clu.service)
    locks.release(lock := locks.ask(PLANNER))
    with pytest.raises(NoQuorum):
        await lock.granted()
    await until(lambda: not clu.service.own_locks())


async def test_they_end_with_the_life_of_the_member(clu: Mounted) -> None:
    locks = InternalLocks(clu.service)
    lock = locks.ask(PLANNER)
    with trio.fail_after(5):
        await lock.granted()
    lost = trio.Event()
    lock.on_lost = lost.set
    await clu.service.expelled([])
    assert lost.is_set() and not lock.held
    late = locks.ask(PLANNER)
    assert late.over
    clu.service.new_node(Node(HERE, 2))
    again = locks.ask(PLANNER)
    assert again.held


async def test_nobody_else_uses_their_names_and_root_reads_who_has_them(clu: Mounted) -> None:
    locks = InternalLocks(clu.service)
    held = [locks.ask(PLANNER), locks.ask(application_lock("web"))]
    clu.says(THERE, "anna", "EX", application_lock("db"))
    clu.bring_all()
    await until(lambda: all(lock.held for lock in held))
    root = clu.root / "status" / "locks"
    assert ".caa" in (await clu.runs(LIST, root)).split()
    assert await clu.runs(LIST, root / ".caa") == "app planner\n"
    assert "web" in await clu.runs(LIST, root / ".caa" / "app")
    report = await clu.runs(READ, root / ".caa" / "planner")
    assert f"GRANTED EX - {HERE} 0 clufsd" in report
    assert ".caa" not in (await clu.runs(LIST, clu.root / "locks")).split()
    assert await clu.runs(MKDIR, clu.root / "locks" / ".caa") == "EINVAL\n"
    assert await clu.runs(LIST, clu.root / "locks" / ".caa") == "ENOENT\n"
