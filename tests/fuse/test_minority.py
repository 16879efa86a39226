"""Expelled while other members have still to answer."""

from __future__ import annotations

from pathlib import Path

import trio

from clufs.dlm.node import Node
from tests.fuse.member import HERE, THERE, member_mounted
from tests.fuse.mounted import until

SAY = """
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o666)
for line in sys.argv[2:]:
    os.write(fd, line.encode())
print("done")
"""


async def test_who_waits_for_another_member_is_told(tmp_path: Path) -> None:
    async with member_mounted(tmp_path) as clu:
        name = clu.name()
        clu.holds(THERE, "NL", name)
        printed: dict[str, str] = {}

        async def say(*lines: str) -> None:
            printed[lines[-1]] = await clu.runs(SAY, clu.path(name), *lines)

        assert await clu.runs(SAY, clu.path(name), "EX persistent") == "done\n"
        clu.service.send = lambda member, message: None  # no answer will come
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, "UN persistent")
            nursery.start_soon(say, "CR")
            await until(lambda: len(clu.service.parked) == 2)
            await clu.service.expelled([])
        assert printed == {"UN persistent": "EHOSTDOWN\n", "CR": "EHOSTDOWN\n"}
        assert await clu.runs(SAY, clu.path(name), "CR") == "EHOSTDOWN\n"
        assert clu.service.own_locks() != []  # of the lock manager that is given up
        clu.service.new_node(Node(HERE, 2))
        assert clu.service.own_locks() == []
        assert await clu.runs(SAY, clu.path(name), "EX persistent") == "done\n"
        assert len(clu.service.holding()) == 1
