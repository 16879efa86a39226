"""members/MEMBER/drain and if_lost on a real mount."""

from __future__ import annotations

from pathlib import Path

import trio

from clufs.errors import HostDown
from clufs.registry.resources import SaveDrained
from clufs.tree.control import Order
from clufs.tree.resource import Say
from tests.fuse.mounted import run, until
from tests.fuse.test_resources import applications, client

SHOW = "print(open(sys.argv[1]).read(), os.stat(sys.argv[1]).st_size, end='')"


async def test_drain_shows_what_is_on_record_and_orders_what_is_written(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        directory = member.root / "members" / "self"
        here = Order("drain", "", member="provolone")
        assert await member.runs(SHOW, directory / "drain") == "0\n 2"
        async with client("echo 1 > drain; echo done", directory) as user:
            await until(lambda: member.planner.orders)
            assert member.planner.orders == [here]
            assert user.process.poll() is None
            assert member.registry.state.apply(SaveDrained(1, ["provolone"])) is None
            member.planner.go.set()
            assert await user.result() == (0, "done\n")
        assert await member.runs(SHOW, directory / "drain") == "1\n 2"
        async with client("echo 0 > drain && echo done", directory) as user:
            assert await user.result() == (0, "done\n")
        assert member.planner.orders[1:] == [Order("drain", "", member="provolone", on=False)]


async def test_what_drain_says_is_read_as_it_comes(tmp_path: Path) -> None:
    line = "exec 9<>drain; cat <&9; echo '1 -n' >&9; cat <&9; echo end"
    async with applications(tmp_path) as member:
        async with client(line, member.root / "members" / "provolone") as user:
            await until(lambda: member.planner.says)
            member.planner.says[0]("Would stop 'web' on member 'provolone'")
            member.planner.exit = 1
            member.planner.go.set()
            assert await user.result() == (
                0,
                "0\nWould stop 'web' on member 'provolone'\nexit=1\nend\n",
            )
        assert member.planner.orders == [Order("drain", "", member="provolone", dry_run=True)]


async def test_who_may_drain_and_what_is_no_word_for_it(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.planner.go.set()
        path = member.root / "members" / "provolone" / "drain"
        write = "os.write(os.open(sys.argv[1], os.O_WRONLY), sys.argv[2].encode())"
        assert await member.runs(write, path, "yes") == "EINVAL\n"
        assert b"EINVAL 'yes': write 1 to drain provolone" in member.journals.refusals.show(0)
        assert await run("os.open(sys.argv[1], os.O_RDONLY)", path, user=65534) == (0, "")
        status, _ = await run("os.open(sys.argv[1], os.O_WRONLY)", path, user=65534)
        assert (status, member.planner.orders) == (1, [])


async def test_a_drain_that_leaves_something_is_eio(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.planner.exit = 1
        async with client("echo 1 > drain || echo failed", member.root / "members/self") as user:
            await until(lambda: member.planner.says)
            member.planner.says[0]("Resource 'web' has placement error.")
            member.planner.go.set()
            assert await user.result() == (0, "failed\n")
        refusals = member.journals.refusals.show(0)
        assert b"members/provolone/drain EIO Resource 'web' has placement error." in refusals


async def test_if_lost_shows_the_plan(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:

        async def order(order: Order, say: Say) -> int:
            await trio.lowlevel.checkpoint()
            if not member.planner.there:
                raise HostDown("no member plans")
            say(f"Would {order.verb} {order.member}")
            return 0

        member.planner.order = order  # type: ignore[method-assign]
        path = member.root / "members/provolone/if_lost"
        assert await member.runs(SHOW, path) == "Would what-if provolone\n 24"
        member.planner.there = False
        assert await member.runs(SHOW, path) == "EHOSTDOWN\n"
        async with client("ls -l > /dev/null && echo listed", path.parent) as user:
            assert await user.result() == (0, "listed\n")
