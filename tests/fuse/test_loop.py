"""The request loop: it lets others run, and it ends when the mount does."""

import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from clufs.cluster.linger import Linger
from clufs.fuse import lowlevel
from clufs.fuse.lowlevel import Request
from tests.fuse.mounted import WRITE, Client, Files, mounted, run, until

import pyfuse3  # isort: skip  (lowlevel comes first)

FLOOD = """
fd = os.open(sys.argv[1], os.O_WRONLY)
while True:
    os.write(fd, b"x")
"""


async def test_umount_ends_the_loop(tmp_path: Path) -> None:
    async with mounted(Files(), tmp_path) as ended:
        assert lowlevel.installed()
        await run(WRITE, tmp_path / "a")
        await trio.run_process(["umount", str(tmp_path)])
        await ended.wait()
    assert not lowlevel.installed()


async def test_before_rest_is_called_after_every_request(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(request: Request, fh: int, data: bytes) -> int:
        seen.append("write")
        return len(data)

    async with mounted(Files(), tmp_path, write, before_rest=lambda: seen.append("rest")):
        for _ in range(3):
            await run(WRITE, tmp_path / "a")
    assert seen.count("write") == 3
    after = [seen[index + 1] for index, what in enumerate(seen) if what == "write"]
    assert set(after) == {"rest"}


async def test_umount_ends_the_loop_after_waiters_were_killed(tmp_path: Path) -> None:
    parked: list[Request] = []

    def write(request: Request, fh: int, data: bytes) -> None:
        parked.append(request)

    async with mounted(Files(), tmp_path, write) as ended:
        clients = [Client(WRITE, tmp_path / "a") for _ in range(20)]
        await until(lambda: len(parked) == 20)
        for client in clients:
            client.signal(signal.SIGKILL)
        for client in clients:
            await client.result()
        await trio.run_process(["umount", str(tmp_path)])
        await ended.wait()


async def test_an_aborted_connection_ends_the_loop(tmp_path: Path) -> None:
    """By the control file system's `abort`; only such a mount stays when it is closed."""
    control, directory = tmp_path / "control", tmp_path / "files"
    control.mkdir()
    directory.mkdir()
    await trio.run_process(["mount", "-t", "fusectl", "fusectl", str(control)])
    try:
        async with mounted(Files(), directory) as ended:
            _, minor = await run("print(os.minor(os.stat(sys.argv[1]).st_dev))", directory)
            (control / minor.strip() / "abort").write_text("1")
            await ended.wait()
    finally:
        await trio.run_process(["umount", str(directory), str(control)])


async def test_terminate_ends_the_loop(tmp_path: Path) -> None:
    async with mounted(Files(), tmp_path) as ended:
        await run(WRITE, tmp_path / "a")
        await trio.sleep(0.05)
        pyfuse3.terminate()
        await ended.wait()


async def test_a_flood_of_requests_starves_no_other_task(tmp_path: Path) -> None:
    def write(request: Request, fh: int, data: bytes) -> int:
        return len(data)

    async with (
        mounted(Files(), tmp_path, write),
        Client(FLOOD, tmp_path / "a"),
        Client(FLOOD, tmp_path / "b"),
    ):
        await trio.sleep(0.3)
        began = trio.current_time()
        for _ in range(50):
            await trio.sleep(0.001)
        assert trio.current_time() - began < 1


async def test_interrupts_are_handed_over_where_answers_are_allowed(tmp_path: Path) -> None:
    """The callback answers at once, which libfuse's own callback could not."""
    parked: list[Request] = []
    answers: list[bool] = []

    def write(request: Request, fh: int, data: bytes) -> None:
        parked.append(request)

    def on_interrupted(requests: list[Request]) -> None:
        answers.extend(request.reply_write(0) for request in requests)

    async with (
        mounted(Files(), tmp_path, write, on_interrupted=on_interrupted),
        Client(WRITE, tmp_path / "a") as client,
    ):
        await until(lambda: parked)
        client.signal(signal.SIGTERM)
        assert (await client.result())[0] == -signal.SIGTERM
    assert answers == [True]
    assert all(request.interrupted for request in parked)


async def test_an_interrupt_after_the_answer_is_harmless(tmp_path: Path) -> None:
    interrupted: list[Request] = []

    def write(request: Request, fh: int, data: bytes) -> int:
        return len(data)

    async with mounted(Files(), tmp_path, write, on_interrupted=interrupted.extend):
        for _ in range(20):
            async with Client(FLOOD, tmp_path / "a") as client:
                await trio.sleep(0.05)
                client.signal(signal.SIGTERM)
                assert (await client.result())[0] == -signal.SIGTERM
    assert interrupted == []


@asynccontextmanager
async def lingering(linger: Linger) -> AsyncIterator[None]:
    """A task that is not the loop's lingers nearly always."""
    near, far = socket.socketpair()

    async def stay() -> None:
        while True:
            far.send(b"x")
            await linger.wait()
            await trio.lowlevel.checkpoint()
            linger.turned()

    with near, far:
        linger.add(near.fileno(), lambda: [near.recv(1)][:0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stay)
            yield
            nursery.cancel_scope.cancel()


async def test_requests_are_served_while_another_task_lingers(tmp_path: Path) -> None:
    """Those that pyfuse3 must see, too: look-ups, reading, closing."""
    linger, seen = Linger(), []

    def write(request: Request, fh: int, data: bytes) -> int:
        seen.append(lowlevel.caller()[0] == request.pid)
        return len(data)

    async with mounted(Files(), tmp_path, write, linger=linger), lingering(linger):
        for _ in range(3):
            assert await run(WRITE, tmp_path / "a") == (0, "3\n")
            _, names = await run("print(*sorted(os.listdir(sys.argv[1])))", tmp_path)
            assert "a" in names.split()
            assert await run("print(open(sys.argv[1]).read())", tmp_path / "a") == (0, "line\n\n")
    assert seen == [True] * 3


async def test_a_signal_ends_a_wait_while_another_task_lingers(tmp_path: Path) -> None:
    linger, parked = Linger(), []

    def write(request: Request, fh: int, data: bytes) -> None:
        parked.append(request)

    async with mounted(Files(), tmp_path, write, linger=linger), lingering(linger):
        client = Client(WRITE, tmp_path / "a")
        await until(lambda: parked)
        client.signal(signal.SIGKILL)
        assert await client.result() == (-signal.SIGKILL, "")


async def test_the_loop_ends_while_another_task_lingers(tmp_path: Path) -> None:
    linger = Linger()
    async with mounted(Files(), tmp_path, linger=linger) as ended, lingering(linger):
        await run(WRITE, tmp_path / "a")
        await trio.run_process(["umount", str(tmp_path)])
        await ended.wait()
    async with mounted(Files(), tmp_path, linger=linger) as ended, lingering(linger):
        await run(WRITE, tmp_path / "a")
        pyfuse3.terminate()
        await ended.wait()
