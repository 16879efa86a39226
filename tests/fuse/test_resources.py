"""A resource's files on a real mount: orders, their progress, their ends, and who waits for them."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from clufs.caa.records import MonitorRecord, ResourceRecord, StartOrStop, Transition
from clufs.errors import HostDown, NoQuorum
from clufs.fuse.operations import Operations
from clufs.registry.commands import Command, error_of
from clufs.registry.resources import Register, SaveDrained, SaveResources, Unregister
from clufs.registry.state import State
from clufs.tree import library, resource_news
from clufs.tree.control import Order
from clufs.tree.items import Root
from clufs.tree.resource import Say
from tests.fuse.member import Mounted
from tests.fuse.mounted import Client, mounted, until

CAP = "NAME=web\nTYPE=application\nACTION_SCRIPT=web.scr\n"


class Kept:
    """A registry of one member. quorum: without it nothing changes."""

    def __init__(self) -> None:
        self.state = State()
        self.quorum = True

    async def propose(self, command: Command) -> None:
        await trio.lowlevel.checkpoint()
        if not self.quorum:
            raise NoQuorum("this member waits for a view")
        refusal = self.state.apply(command)
        if refusal is not None:
            raise error_of(command, refusal)


class Planner:
    """Carries out orders as the test says. exits: to be given, when `go` is set."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.says: list[Say] = []
        self.go = trio.Event()
        self.exit = 0
        self.ended = 0
        self.there = True

    async def order(self, order: Order, say: Say) -> int:
        if not self.there:
            raise HostDown("no member plans")
        self.orders.append(order)
        self.says.append(say)
        await self.go.wait()
        self.ended += 1
        return self.exit

    async def output(self, resource: str) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.there:
            raise HostDown("no member plans")
        return f"output of {resource}\n".encode()

    async def candidates(self, resource: str) -> str:
        await trio.lowlevel.checkpoint()
        return "provolone eligible\n"


class Applications(Mounted):
    """A member with one resource, web; directory: its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.registry = Kept()
        self.planner = Planner()
        root = self.operations.items[1]
        assert isinstance(root, Root)
        library.build(root, self.registry, self.planner)
        self.operations = Operations(root, self.service, self.journals)
        self.registry.state.apply(Register("web", CAP, new=True))
        self.directory = self.root / "resources" / "web"

    def save(self, **fields: object) -> None:
        record = ResourceRecord("web", **fields)  # type: ignore[arg-type]
        assert self.registry.state.apply(SaveResources(1, [record])) is None

    async def cat(self, name: str) -> str:
        return await self.runs("print(open(sys.argv[1]).read(), end='')", self.directory / name)


@asynccontextmanager
async def applications(directory: Path) -> AsyncIterator[Applications]:
    member = Applications(directory)
    operations = member.operations
    async with mounted(
        operations,
        member.root,
        write=operations.write_now,
        read=operations.read_now,
        on_interrupted=member.service.parked.interrupted,
        options=("default_permissions",),
    ):
        yield member


def client(line: str, path: Path) -> Client:
    """A shell that stands in the resource's directory."""
    code = "os.chdir(sys.argv[1])\nos.execvp('dash', ['dash', '-c', sys.argv[2]])"
    return Client(code, path, line)


async def test_what_is_known_of_a_resource(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        assert await member.cat("state") == "OFFLINE\n"
        assert await member.cat("host") == "-\n"
        member.save(
            target="ONLINE",
            state="ONLINE",
            member="provolone",
            restart_count=2,
            failure_times_s=(1.0,),
            maintenance=True,
            changed_ns=10**18,
            history=(Transition(1.5, "OFFLINE", "ONLINE on provolone", "somebody wants it"),),
            starts_and_stops=(StartOrStop(1.5, "provolone", "start"),),
        )
        names = (await member.runs("print(*os.listdir(sys.argv[1]))", member.directory)).split()
        assert {name: await member.cat(name) for name in names} == {
            "target": "ONLINE\n",
            "state": "ONLINE on provolone\n",
            "host": "provolone\n",
            "control": "",
            "maintenance": "1\n",
            "profile": CAP,
            "restart_count": "2\n",
            "failure_count": "1\n",
            "history": (
                "1970-01-01T00:00:01.500Z OFFLINE -> ONLINE on provolone: somebody wants it\n"
            ),
            "uptime": "1970-01-01T00:00:01.500Z start on provolone\n",
            "output": "output of web\n",
            "candidates": "provolone eligible\n",
        }
        code = "print([os.stat(sys.argv[1]).st_mtime_ns, os.stat(sys.argv[1]).st_size])"
        assert await member.runs(code, member.directory / "output") == f"[{10**18}, 14]\n"


async def test_a_network_has_a_line_for_each_member(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.save(
            monitors=(
                MonitorRecord("provolone", "ONLINE", "ONLINE"),
                MonitorRecord("polishham", "OFFLINE", "OFFLINE", (1.0, 2.0)),
            )
        )
        assert await member.cat("state") == "ONLINE on provolone\nOFFLINE on polishham\n"
        assert await member.cat("target") == "ONLINE on provolone\nOFFLINE on polishham\n"
        assert await member.cat("failure_count") == "0 on provolone\n2 on polishham\n"
        assert await member.cat("host") == "provolone\n"


async def test_a_write_to_target_returns_when_it_is_done(tmp_path: Path) -> None:
    async with (
        applications(tmp_path) as member,
        client("echo ONLINE > target; echo done", member.directory) as user,
    ):
        await until(lambda: member.planner.orders)
        assert member.planner.orders == [Order("start", "web")]
        assert user.process.poll() is None
        member.planner.go.set()
        assert await user.result() == (0, "done\n")


async def test_an_order_that_fails_is_eio_with_what_was_said_last(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.planner.exit = 1
        async with client("echo polishham > host || echo failed", member.directory) as user:
            await until(lambda: member.planner.says)
            member.planner.says[0]("trying")
            member.planner.says[0]("polishham is not up")
            member.planner.go.set()
            assert await user.result() == (0, "failed\n")
        assert member.planner.orders == [Order("relocate", "web", member="polishham")]
        assert b"resources/web/host EIO polishham is not up" in member.journals.refusals.show(0)


async def test_a_signal_ends_the_wait_and_not_the_action_which_others_join(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        planner = member.planner
        async with client("exec /bin/echo ONLINE > target", member.directory) as first:
            await until(lambda: planner.orders)
            first.signal(signal.SIGKILL)
            assert (await first.result())[0] == -signal.SIGKILL
        async with client("echo ONLINE > target && echo done", member.directory) as second:
            await until(lambda: len(member.service.parked._others) == 1)
            assert planner.ended == 0
            planner.go.set()
            assert await second.result() == (0, "done\n")
        assert (len(planner.orders), planner.ended) == (1, 1)


async def test_an_order_with_force_does_not_join_one_without(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        planner = member.planner
        async with (
            client("echo stop > control", member.directory) as first,
            client("echo 'stop -f' > control", member.directory) as second,
        ):
            await until(lambda: len(planner.orders) == 2)
            planner.go.set()
            assert (await first.result(), await second.result()) == ((0, ""), (0, ""))
        assert sorted(order.force for order in planner.orders) == [False, True]


async def test_the_report_of_all_resources_follows_them(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        show = "print(open(sys.argv[1]).read(), end='')"
        path = member.root / "status" / "resources"
        before = await member.runs(show, path)
        assert before == (
            "NAME=web\nTYPE=application\nRESTART_ATTEMPTS=1\nRESTART_COUNT=0\n"
            "FAILURE_THRESHOLD=0\nFAILURE_COUNT=0\nTARGET=OFFLINE\nSTATE=OFFLINE\n"
        )
        member.save(target="ONLINE", state="ONLINE", member="provolone", restart_count=1)
        after = await member.runs(show, path)
        assert "RESTART_COUNT=1\n" in after
        assert after.endswith("TARGET=ONLINE\nSTATE=ONLINE on provolone\n")
        assert await member.runs("print(os.stat(sys.argv[1]).st_size)", path) == f"{len(after)}\n"
        member.save()
        assert await member.runs(show, path) == before
        member.registry.state.apply(Unregister("web"))
        assert await member.runs(show, path) == ""


async def test_control_tells_progress_as_it_comes(tmp_path: Path) -> None:
    line = (
        "exec 9<>control; echo 'start -c polishham -f' >&9; while read -r l <&9; do echo $l; done"
    )
    async with applications(tmp_path) as member:
        planner = member.planner
        async with client(f"{line}; cat <&9; echo end", member.directory) as user:
            await until(lambda: planner.says)
            assert planner.orders == [Order("start", "web", member="polishham", force=True)]
            planner.says[0]("Attempting to start `web` on member `polishham`")
            await trio.sleep(0.05)
            assert user.process.poll() is None
            planner.says[0]("Start of `web` on member `polishham` succeeded.")
            planner.go.set()
            assert await user.result() == (
                0,
                "Attempting to start `web` on member `polishham`\n"
                "Start of `web` on member `polishham` succeeded.\nexit=0\nend\n",
            )


async def test_control_takes_one_order_after_the_other(tmp_path: Path) -> None:
    code = """
fd = os.open(sys.argv[1], os.O_RDWR)
print(os.read(fd, 100))
for line in (b"start", b"stop"):
    os.write(fd, line)
    text = b""
    while part := os.read(fd, 7):
        text += part
    print(text)
"""
    async with applications(tmp_path) as member:
        member.planner.go.set()
        member.planner.exit = 3
        printed = await member.runs(code, member.directory / "control")
        assert printed == "b''\nb'exit=3\\n'\nb'exit=3\\n'\n"
        assert [order.verb for order in member.planner.orders] == ["start", "stop"]


async def test_control_while_an_order_is_under_way(tmp_path: Path) -> None:
    code = """
import select
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK)
poll = select.poll()
poll.register(fd, select.POLLIN)
print(len(poll.poll(0)))
os.write(fd, b"start")
for work in (lambda: os.write(fd, b"stop"), lambda: os.read(fd, 100)):
    try:
        work()
    except OSError as error:
        print(errno.errorcode[error.errno])
print(len(poll.poll(0)), flush=True)
poll.poll(10000)
print(os.read(fd, 100))
"""
    async with applications(tmp_path) as member:
        async with Client(code, member.directory / "control") as user:
            await until(lambda: member.planner.says)
            await trio.sleep(0.1)
            member.planner.says[0]("hello")
            member.planner.go.set()
            status, printed = await user.result()
        assert (status, printed[:21]) == (0, "1\nEBUSY\nEAGAIN\n0\nb'he")


async def test_who_reads_progress_can_be_killed_and_the_order_goes_on(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        line = "exec 9<>control; echo start >&9; exec cat <&9"
        async with client(line, member.directory) as user:
            await until(lambda: member.service.parked._others)
            user.signal(signal.SIGKILL)
            assert (await user.result())[0] == -signal.SIGKILL
        member.planner.go.set()
        await until(lambda: member.planner.ended)


async def test_an_order_nobody_can_carry_out(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.planner.there = False
        line = "exec 9<>control; echo start >&9; cat <&9; echo OFFLINE > target || echo failed"
        async with client(line, member.directory) as user:
            assert await user.result() == (0, "no member plans\nexit=1\nfailed\n")
        assert b"EHOSTDOWN no member plans" in member.journals.refusals.show(0)
        assert await member.cat("output") == "EHOSTDOWN\n"
        async with client("ls -l > /dev/null && echo listed", member.directory) as user:
            assert await user.result() == (0, "listed\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("control", "begin"),
        ("control", "stop -c polishham"),
        ("control", "start -c"),
        ("control", "balance USR_X=1"),
        ("target", "UNKNOWN"),
        ("host", "a b"),
        ("maintenance", "yes"),
        ("control", "update"),
    ],
)
async def test_what_is_no_order_is_refused_at_once(tmp_path: Path, name: str, line: str) -> None:
    code = "os.write(os.open(sys.argv[1], os.O_RDWR), sys.argv[2].encode())"
    async with applications(tmp_path) as member:
        printed = await member.runs(code, member.directory / name, line)
        assert printed in ("EINVAL\n", "ENOENT\n" if line == "update" else "")
        assert member.planner.orders == []


async def test_an_update_brings_the_profile_as_it_is_now(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.planner.go.set()
        new = CAP.replace("web.scr", "new.scr")
        line = f"printf '{new}' > ../web.cap; echo update > control && echo done"
        async with client(line, member.directory) as user:
            assert await user.result() == (0, "done\n")
        [order] = member.planner.orders
        assert order.verb == "update" and "ACTION_SCRIPT=new.scr\n" in order.profile


async def test_maintenance_ends_with_the_descriptor_that_began_it(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.planner.go.set()
        orders = member.planner.orders
        async with client(
            "exec 9<>maintenance; echo 1 >&9; exec sleep 100", member.directory
        ) as user:
            await until(lambda: orders)
            [begun] = orders
            assert begun == Order("maintain", "web", on=True, holder=begun.holder) and begun.holder
        await until(lambda: len(orders) == 2)
        assert orders[1] == Order("maintain", "web", on=False, holder=begun.holder)
        async with client("echo 1 > maintenance", member.directory) as user:
            assert await user.result() == (0, "")
        await trio.sleep(0.05)
        assert orders[2:] == [Order("maintain", "web", on=True)]


async def test_each_descriptor_holds_maintenance_for_itself(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.planner.go.set()
        orders = member.planner.orders
        line = "exec 8<>maintenance 9<>maintenance; echo 1 >&8; echo 1 >&9; echo 0 >&9"
        async with client(line, member.directory) as user:
            assert await user.result() == (0, "")
        await until(lambda: len(orders) == 5)
        first, second, third = (order.holder for order in orders[:3])
        assert len({first, second, 0}) == 3 and third == 0
        assert sorted(order.holder for order in orders[3:]) == sorted([first, second])


async def test_a_close_that_no_planner_hears_is_told_to_the_next(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        member.planner.go.set()
        orders = member.planner.orders
        async with client(
            "exec 9<>maintenance; echo 1 >&9; exec sleep 100", member.directory
        ) as user:
            await until(lambda: orders)
            member.planner.there = False
            user.signal(signal.SIGKILL)
            await user.result()
        await trio.sleep(0.3)
        member.planner.there = True
        await until(lambda: len(orders) >= 2 and not orders[-1].on)
        await trio.sleep(0.3)
        assert [order.on for order in orders].count(True) == 1


async def test_without_quorum_names_are_refused_at_once_and_texts_read(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        resources = member.root / "resources"
        write = "f = open(sys.argv[1], 'w'); f.write(sys.argv[2]); f.flush(); os.close(f.fileno())"
        assert await member.runs(write, resources / "web.cap", CAP) == ""
        member.registry.quorum = False
        for code in (
            "os.mkdir(sys.argv[1] + '/x')",
            "os.rmdir(sys.argv[1] + '/web')",
            "os.unlink(sys.argv[1] + '/web.cap')",
            "os.rename(sys.argv[1] + '/web.cap', sys.argv[1] + '/y')",
            "open(sys.argv[1] + '/new', 'w')",
            "os.chmod(sys.argv[1] + '/web.cap', 0o600)",
        ):
            assert await member.runs(code, resources) in ("EHOSTDOWN\n", "ENOENT\n"), code
        assert await member.runs(write, resources / "web.cap", CAP + "#\n") == "EHOSTDOWN\n"
        show = "print(open(sys.argv[1]).read(), end='')"
        await until(lambda: not member.operations.handles)
        assert await member.runs(show, resources / "web.cap") == CAP
        assert await member.cat("state") == "OFFLINE\n"


async def test_events_and_metrics_tell_of_stopped_resources_too(tmp_path: Path) -> None:
    async with applications(tmp_path) as member:
        move = Transition(1.0, "ONLINE on provolone", "OFFLINE", "its check failed")
        record = ResourceRecord("web", restart_count=1, history=(move,))
        events = member.journals.events
        for command in (
            Register("web", CAP, True),
            SaveResources(1, [record]),
            SaveDrained(1, ["provolone", "pepicelli"]),
            SaveDrained(1, []),
            Unregister("web"),
        ):
            resource_news.tell(events, command)
        lines = events.read(0, 10_000).decode().splitlines()
        assert [line.split(" ", 1)[1] for line in lines] == [
            "registered resource=web",
            "resource resource=web from=ONLINE\\040on\\040provolone to=OFFLINE"
            " why=its\\040check\\040failed",
            "drained members=provolone,pepicelli",
            "drained members=-",
            "unregistered resource=web",
        ]
        member.save(target="ONLINE", restart_count=1)
        metrics = member.journals.metrics
        metrics.families.append(lambda: resource_news.metrics(member.registry))
        samples = {
            sample.name: (sample.labels, sample.value)
            for family in text_string_to_metric_families(metrics.text().decode())
            for sample in family.samples
        }
        labels = {"resource": "web", "member": ""}
        assert samples["clufs_resource_target"] == (labels, 1.0)
        assert samples["clufs_resource_state"] == (labels, 0.0)
        assert samples["clufs_resource_restarts"] == ({"resource": "web"}, 1.0)
