"""The C part: who calls, parked answers, interrupts, reads, node ids and open flags."""

import errno
import gc
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import trio

from clufs.fuse import lowlevel
from clufs.fuse.lowlevel import Request
from tests.fuse.mounted import FLOCK, WRITE, Client, Files, mounted, run, until

NOBODY = 65534


class Writes:
    """A write handler that parks what it gets, and answers at once what `now` says."""

    def __init__(self, now: int | None = None) -> None:
        self.now = now
        self.seen: list[tuple[Request, int, bytes]] = []

    def __call__(self, request: Request, fh: int, data: bytes) -> int | None:
        self.seen.append((request, fh, data))
        return self.now

    @property
    def requests(self) -> list[Request]:
        return [request for request, _, _ in self.seen]


async def test_the_writer_is_known(tmp_path: Path) -> None:
    writes = Writes(now=3)
    async with mounted(Files(), tmp_path, writes):
        client = Client(WRITE, tmp_path / "a", user=NOBODY)
        assert await client.result() == (0, "3\n")
    [(request, fh, data)] = writes.seen
    assert (request.pid, request.uid, request.gid) == (client.pid, NOBODY, NOBODY)
    assert (fh, data) == (2, b"EX\n")
    assert request.answered and not request.interrupted


async def test_the_pid_of_a_writer_is_its_thread(tmp_path: Path) -> None:
    writes = Writes(now=3)
    code = """
def work():
    print(threading.get_native_id())
    os.write(os.open(sys.argv[1], os.O_WRONLY), b"EX\\n")
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    async with mounted(Files(), tmp_path, writes):
        client = Client(code, tmp_path / "a")
        _, printed = await client.result()
    assert [request.pid for request in writes.requests] == [int(printed)] != [client.pid]


async def test_a_parked_write_is_answered_later_and_once(tmp_path: Path) -> None:
    writes = Writes()
    async with mounted(Files(), tmp_path, writes), Client(WRITE, tmp_path / "a") as client:
        await until(lambda: writes.seen)
        [request] = writes.requests
        await trio.sleep(0.05)
        assert (client.process.poll(), request.answered) == (None, False)
        replies = [request.reply_write(2), request.reply_write(2), request.reply_err(errno.EIO)]
        assert replies == [True, False, False]
        assert request.answered
        assert await client.result() == (0, "2\n")


@pytest.mark.parametrize("answer", [-errno.EBUSY, 3])
async def test_a_handler_answers_with_what_it_returns(tmp_path: Path, answer: int) -> None:
    async with mounted(Files(), tmp_path, Writes(now=answer)):
        expected = "EBUSY\n" if answer < 0 else "3\n"
        assert await run(WRITE, tmp_path / "a") == (0, expected)


async def test_a_handler_may_reply_itself(tmp_path: Path) -> None:
    def write(request: Request, fh: int, data: bytes) -> None:
        request.reply_err(errno.ECANCELED)

    async with mounted(Files(), tmp_path, write):
        assert await run(WRITE, tmp_path / "a") == (0, "ECANCELED\n")


async def test_without_a_write_handler_pyfuse3_writes(tmp_path: Path) -> None:
    files = Files()
    async with mounted(files, tmp_path):
        assert await run(WRITE, tmp_path / "a") == (0, "3\n")
    assert files.asked("write") == [b"EX\n"]


async def test_a_large_write_arrives_whole(tmp_path: Path) -> None:
    """Up to almost 1 MiB: the kernel counts the pages that the caller's buffer touches."""
    size = 1_000_000
    writes = Writes(now=size)
    code = f"print(os.write(os.open(sys.argv[1], os.O_WRONLY), b'x' * {size}))"
    async with mounted(Files(), tmp_path, writes):
        assert await run(code, tmp_path / "a") == (0, f"{size}\n")
    assert [len(data) for _, _, data in writes.seen] == [size]


async def test_a_handler_that_fails_answers_eio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: caught.append(what.exc_value))
    wrong: list[object] = [ValueError("broken"), "three"]

    def write(request: Request, fh: int, data: bytes) -> int | None:
        answer = wrong.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    async with mounted(Files(), tmp_path, write):
        assert await run(WRITE, tmp_path / "a") == (0, "EIO\n")
        assert await run(WRITE, tmp_path / "a") == (0, "EIO\n")
    assert [type(error) for error in caught] == [TypeError, ValueError]


async def test_a_dropped_request_is_answered_eio(tmp_path: Path) -> None:
    writes = Writes()
    async with mounted(Files(), tmp_path, writes), Client(WRITE, tmp_path / "a") as client:
        await until(lambda: writes.seen)
        writes.seen.clear()
        gc.collect()
        assert await client.result() == (0, "EIO\n")


async def test_a_request_outlives_its_mount(tmp_path: Path) -> None:
    writes = Writes()
    async with mounted(Files(), tmp_path, writes):
        client = Client(WRITE, tmp_path / "a")
        await until(lambda: writes.seen)
    _, printed = await client.result()
    assert printed in ("ENOTCONN\n", "ECONNABORTED\n")
    [request] = writes.requests
    assert request.answered
    assert not request.reply_write(3)


def test_a_request_is_small() -> None:
    assert Request.__basicsize__ <= 64


CAUGHT = """
def note(number, frame):
    print("signal", number)
    sys.exit(3)
signal.signal(signal.SIGINT, note)
os.write(os.open(sys.argv[1], os.O_WRONLY), b"EX\\n")
"""


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 3),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
async def test_a_signal_reaches_a_parked_writer(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    writes, interrupted = Writes(), list[Request]()
    async with (
        mounted(Files(), tmp_path, writes, on_interrupted=interrupted.extend),
        Client(CAUGHT, tmp_path / "a") as client,
    ):
        await until(lambda: writes.seen)
        client.signal(number)
        await until(lambda: interrupted)
        [request] = interrupted
        assert request is writes.requests[0]
        assert request.interrupted and not request.answered
        assert client.process.poll() is None  # it waits for the answer
        began = time.monotonic()
        assert request.reply_err(errno.EINTR)
        assert (await client.result())[0] == status
        assert time.monotonic() - began < 1


async def test_an_interrupt_may_come_before_the_request_is_parked(tmp_path: Path) -> None:
    """The loop is busy with one file while a write to another is sent and interrupted."""
    writes = Writes()

    def write(request: Request, fh: int, data: bytes) -> int | None:
        if fh == 2:
            time.sleep(0.5)
            return len(data)
        return writes(request, fh, data)

    code = """
signal.signal(signal.SIGALRM, lambda number, frame: sys.exit(3))
fd = os.open(sys.argv[1], os.O_WRONLY)
print("open", flush=True)
time.sleep(0.15)
signal.setitimer(signal.ITIMER_REAL, 0.1)
os.write(fd, b"EX\\n")
"""
    async with (
        mounted(Files(), tmp_path, write),
        Client(code, tmp_path / "b") as client,
    ):
        assert client.process.stdout is not None
        await trio.to_thread.run_sync(client.process.stdout.readline)
        assert await run(WRITE, tmp_path / "a") == (0, "3\n")
        assert (await client.result())[0] == 3
        assert all(request.interrupted for request in writes.requests)


CROWD = """
def wait():
    try:
        os.write(os.open(sys.argv[1], os.O_WRONLY), b"EX\\n")
    except OSError as error:
        print(error.errno)
threading.stack_size(65536)
threads = [threading.Thread(target=wait) for _ in range(int(sys.argv[2]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""


async def test_five_hundred_wait_and_nobody_else_does(tmp_path: Path) -> None:
    files, writes = Files(), Writes()

    def write(request: Request, fh: int, data: bytes) -> int | None:
        return writes(request, fh, data) if data == b"EX\n" else len(data)

    holder_code = """
fd = os.open(sys.argv[1], os.O_WRONLY)
os.write(fd, b"PR\\n")
sys.stdin.readline()
os.write(fd, b"NL\\n")
os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC), b"UN\\n")
"""
    async with (
        mounted(files, tmp_path, write),
        Client(CROWD, tmp_path / "a", 500) as crowd,
    ):
        await until(lambda: len(writes.seen) == 500)
        assert len(set(files.nodes)) == len(files.nodes) >= 500
        assert (await run("print(len(os.listdir(sys.argv[1])))", tmp_path)) == (0, "3\n")
        assert (await run(holder_code, tmp_path / "a"))[0] == 0
        assert (await run(WRITE.replace("EX", "NL"), tmp_path / "b")) == (0, "3\n")
        assert all(request.reply_write(3) for request in writes.requests)
        assert await crowd.result() == (0, "done\n")


async def test_five_hundred_are_killed_at_once(tmp_path: Path) -> None:
    writes = Writes()
    async with (
        mounted(Files(), tmp_path, writes),
        Client(CROWD, tmp_path / "a", 500) as crowd,
    ):
        await until(lambda: len(writes.seen) == 500)
        began = time.monotonic()
        crowd.signal(signal.SIGKILL)
        assert (await crowd.result())[0] == -signal.SIGKILL
        assert time.monotonic() - began < 2
        assert all(request.interrupted for request in writes.requests)


async def test_handlers_without_a_context_know_their_caller(tmp_path: Path) -> None:
    files = Files()
    code = """
fd = os.open(sys.argv[1], os.O_RDWR)
os.read(fd, 10)
os.ftruncate(fd, 0)
os.truncate(sys.argv[1], 0)
os.close(fd)
os.umask(0o27)
os.open(sys.argv[1] + "-new", os.O_CREAT | os.O_WRONLY)
"""
    async with mounted(files, tmp_path):
        client = Client(code, tmp_path / "a", user=NOBODY)
        await client.result()
        await until(lambda: len(files.asked("release")) == 2)
    me = (client.pid, NOBODY, NOBODY, 0)
    assert files.asked("read") == [(me, 2)]
    assert files.asked("flush") == [me, me]
    assert files.asked("release")[0] in (me, (0, 0, 0, 0))
    assert files.asked("setattr") == [(2, 2), (None, None)]
    assert files.asked("create") == [(client.pid, NOBODY, NOBODY, 0o27)]


async def test_the_registered_handlers_know_their_caller_too(tmp_path: Path) -> None:
    seen: list[object] = []

    def answer(request: Request, *asked: object) -> int:
        seen.append((lowlevel.caller()[0], lowlevel.current_fh()))
        return 0

    async with mounted(Files(), tmp_path, answer, answer):
        writer, locker = Client(WRITE, tmp_path / "a"), Client(FLOCK, tmp_path / "b", 1)
        await writer.result()
        await locker.result()
    assert {(writer.pid, 2), (locker.pid, 3)} <= set(seen)


async def test_st_ino_is_stable_while_node_ids_are_not(tmp_path: Path) -> None:
    files = Files()
    code = """
numbers = {os.stat(sys.argv[1]).st_ino for _ in range(3)}
fds = [os.open(sys.argv[1], os.O_RDONLY) for _ in range(3)]
numbers |= {os.fstat(fd).st_ino for fd in fds}
fd = os.open(sys.argv[1] + "-new", os.O_CREAT | os.O_WRONLY)
print(*numbers, os.fstat(fd).st_ino)
"""
    async with mounted(files, tmp_path):
        assert await run(code, tmp_path / "a") == (0, "2 5\n")
    assert len(set(files.nodes)) == len(files.nodes) >= 6


async def test_readdir_makes_no_inodes(tmp_path: Path) -> None:
    """A remount drops unused entries, so what the kernel has looked up it forgets."""
    files = Files()
    list_it = "print(*sorted((e.name, e.inode(), e.is_file()) for e in os.scandir(sys.argv[1])))"

    async with mounted(files, tmp_path):

        async def forgotten() -> list[object]:
            await trio.run_process(["mount", "-i", "-o", "remount", str(tmp_path)])
            await run("os.statvfs(sys.argv[1])", tmp_path)
            return files.asked("forget")

        assert await run(list_it, tmp_path) == (0, "('a', 2, True) ('b', 3, True) ('c', 4, True)\n")
        assert len(files.asked("readdir")) >= 1
        assert files.asked("lookup") == []
        assert await forgotten() == []
        await run("os.stat(sys.argv[1])", tmp_path / "a")
        assert await forgotten() == files.nodes


@pytest.mark.parametrize(("bits", "flushes"), [(0, 1), (lowlevel.NOFLUSH, 0)])
async def test_noflush_spares_the_flush(tmp_path: Path, bits: int, flushes: int) -> None:
    files, writes = Files(bits), Writes(now=3)
    async with mounted(files, tmp_path, writes):
        await run(WRITE, tmp_path / "a")
        await until(lambda: files.asked("release"))
    assert len(files.asked("flush")) == flushes
    assert [fh for _, fh, _ in writes.seen] == [2 | bits]


PWRITES = """
fd = os.open(sys.argv[1], os.O_WRONLY | int(sys.argv[2]))
threads = [threading.Thread(target=os.pwrite, args=(fd, b"x", 0)) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize(("name", "flags"), [("a", 0), ("new", os.O_CREAT)])
async def test_parallel_writes_to_one_inode_are_seen_together(
    tmp_path: Path, name: str, flags: int
) -> None:
    writes = Writes()
    async with (
        mounted(Files(lowlevel.PARALLEL), tmp_path, writes),
        Client(PWRITES, tmp_path / name, flags) as client,
    ):
        await until(lambda: len(writes.seen) == 2)
        assert all(request.reply_write(1) for request in writes.requests)
        assert (await client.result())[0] == 0


async def test_without_parallel_the_second_write_waits_in_the_kernel(tmp_path: Path) -> None:
    writes = Writes()
    async with (
        mounted(Files(), tmp_path, writes),
        Client(PWRITES, tmp_path / "a", 0) as client,
    ):
        await until(lambda: writes.seen)
        await trio.sleep(0.1)
        assert len(writes.seen) == 1
        writes.now = 1
        writes.requests[0].reply_write(1)
        assert (await client.result())[0] == 0


async def test_the_offset_of_a_write_is_known(tmp_path: Path) -> None:
    offsets = []

    def write(request: Request, fh: int, data: bytes) -> int:
        offsets.append(lowlevel.current_offset())
        return len(data)

    code = "fd = os.open(sys.argv[1], os.O_WRONLY)\nos.write(fd, b'abc')\nos.pwrite(fd, b'd', 70)"
    async with mounted(Files(), tmp_path, write):
        assert await run(code, tmp_path / "a") == (0, "")
    assert offsets == [0, 70]


READ = """
fd = os.open(sys.argv[1], os.O_RDONLY)
try:
    print(os.pread(fd, 100, 5))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.mark.parametrize(
    ("answer", "printed"),
    [(b"bytes", "b'bytes'\n"), (b"", "b''\n"), (0, "b''\n"), (-errno.EAGAIN, "EAGAIN\n")],
)
async def test_a_read_of_a_blocking_handle_is_answered(
    tmp_path: Path, answer: bytes | int, printed: str
) -> None:
    asked = []

    def read(request: Request, fh: int, offset: int, size: int) -> bytes | int:
        asked.append((fh & 0xFF, offset))
        return answer

    async with mounted(Files(lowlevel.BLOCKING), tmp_path, read=read):
        assert await run(READ, tmp_path / "a") == (0, printed)
    assert asked == [(2, 5)]


async def test_a_parked_read_is_answered_later_or_interrupted(tmp_path: Path) -> None:
    parked: list[Request] = []

    def read(request: Request, fh: int, offset: int, size: int) -> None:
        parked.append(request)

    async with mounted(Files(lowlevel.BLOCKING), tmp_path, read=read):
        async with Client(READ, tmp_path / "a") as first:
            await until(lambda: parked)
            assert parked[0].reply_data(b"late")
            assert not parked[0].reply_data(b"later")
            assert await first.result() == (0, "b'late'\n")
        async with Client(READ, tmp_path / "a") as second:
            await until(lambda: len(parked) == 2)
            second.signal(signal.SIGKILL)
            assert (await second.result())[0] == -signal.SIGKILL
        assert parked[1].interrupted


async def test_other_handles_are_read_by_pyfuse3(tmp_path: Path) -> None:
    files = Files()
    code = "print(os.read(os.open(sys.argv[1], os.O_RDONLY), 100))"
    async with mounted(files, tmp_path, read=lambda request, fh, offset, size: b"no"):
        assert await run(code, tmp_path / "a") == (0, "b'line\\n'\n")
