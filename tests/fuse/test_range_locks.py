"""fcntl(2) locks of which the master is another member, whose answers take their time."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from clufs.dlm.messages import Ask, Message
from clufs.limits import RANGE_LOCKS_OF_A_SIDE
from clufs.tree.names import ranges_of
from tests.fuse.member import HERE, THERE, Mounted, member_mounted
from tests.fuse.mounted import Client, until

LOCK_MANY = """
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
for at in range(int(sys.argv[2])):
    fcntl.lockf(fd, fcntl.LOCK_SH, 1, 2 * at)
"""


@pytest.fixture
async def clu(tmp_path: Path) -> AsyncIterator[Mounted]:
    async with member_mounted(tmp_path) as member, trio.open_nursery() as nursery:
        nursery.start_soon(member.service.timers.run)
        yield member
        nursery.cancel_scope.cancel()


@pytest.fixture
def name(clu: Mounted) -> bytes:
    """Another member masters its ranges, and holds some that nobody here asks for."""
    name = clu.name()
    clu.holds(THERE, "NL", name)
    clu.says(THERE, "bert", "PR bytes=9000-9009", ranges_of(name))
    clu.bring_all()
    return name


def hold_back_the_folding(clu: Mounted) -> list[Message]:
    """From when many locks are put together, no message of this member arrives; the first is what asks for that."""
    held: list[Message] = []

    def send(member: str, message: Message) -> None:
        clu.wires.setdefault((HERE, member), deque()).append(message)
        ranges = message.request.ranges if isinstance(message, Ask) else None
        if held or (ranges is not None and len(ranges.spans) > 1):
            held.append(message)
        trio.lowlevel.current_trio_token().run_sync_soon(bring)

    def bring() -> None:
        if not held:
            clu.bring_all()

    clu.service.send = send
    return held


async def test_who_closes_while_its_locks_are_put_together_leaves_nothing(
    clu: Mounted, name: bytes
) -> None:
    """The kernel may call another owner by the same number then."""
    held = hold_back_the_folding(clu)
    many = RANGE_LOCKS_OF_A_SIDE + 1
    assert await clu.runs(LOCK_MANY, clu.path(name), many) == ""
    await until(lambda: not clu.operations.handles)
    assert held
    held.clear()
    clu.bring_all()
    block = clu.nodes[THERE].blocks[ranges_of(name)]
    await until(lambda: len(list(block.holders())) == 1)
    assert not clu.operations.ranges


async def test_what_was_given_up_while_locks_are_put_together_is_free_when_it_is_said(
    clu: Mounted, name: bytes
) -> None:
    held = hold_back_the_folding(clu)
    many = RANGE_LOCKS_OF_A_SIDE + 1
    unlock = "fcntl.lockf(fd, fcntl.LOCK_UN)\nprint('free', flush=True)\nsignal.pause()\n"
    async with Client(LOCK_MANY + unlock, clu.path(name), many) as client:
        output = client.process.stdout
        assert output is not None
        await until(lambda: len(held) > many)
        clu.bring_all()  # they are put together, and each is given up
        await until(lambda: len(held) > many + 1)
        assert len(list(clu.nodes[THERE].blocks[ranges_of(name)].holders())) == 2
        assert select.select([output], [], [], 0) == ([], [], [])
        held.clear()
        clu.bring_all()
        assert await trio.to_thread.run_sync(output.readline) == b"free\n"
