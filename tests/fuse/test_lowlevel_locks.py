"""The C part: flock(2) and fcntl(2) locks reach their handler, and its answer the caller."""

import errno
import fcntl
import signal
from pathlib import Path

import pytest

from clufs.fuse import lowlevel
from clufs.fuse.lowlevel import Request
from tests.fuse.mounted import FLOCK, Client, Files, mounted, run, until

LOCKF = "fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2]), 10, 5)"
GETLK = """
import struct
asked = struct.pack("hhqqixxxx", fcntl.F_WRLCK, 0, 5, 10, 0)
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    print(*struct.unpack("hhqqixxxx", fcntl.fcntl(fd, fcntl.F_GETLK, asked)))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def guarded(call: str) -> str:
    return f"try:\n    {call}\nexcept OSError as error:\n    print(errno.errorcode[error.errno])"


async def test_without_a_lock_handler_there_are_no_locks(tmp_path: Path) -> None:
    async with mounted(Files(), tmp_path):
        for call in (FLOCK, LOCKF):
            assert await run(guarded(call), tmp_path / "a", fcntl.LOCK_EX) == (0, "ENOLCK\n")
        assert await run(GETLK, tmp_path / "a") == (0, "ENOLCK\n")


class Locks:
    """A lock handler that notes what it was asked for."""

    def __init__(self, now: int | None) -> None:
        self.now = now
        self.seen: list[tuple[int, ...]] = []
        self.requests: list[Request] = []

    def __call__(self, request: Request, *asked: int) -> int | None:
        self.requests.append(request)
        self.seen.append(asked)
        return self.now


@pytest.mark.parametrize(
    ("operation", "kind", "sleep"),
    [
        (fcntl.LOCK_EX, fcntl.F_WRLCK, True),
        (fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.F_RDLCK, False),
        (fcntl.LOCK_UN, fcntl.F_UNLCK, True),
    ],
)
async def test_flock_reaches_the_handler(
    tmp_path: Path, operation: int, kind: int, sleep: bool
) -> None:
    files, locks = Files(), Locks(now=0)
    async with mounted(files, tmp_path, lock=locks):
        client = Client(FLOCK, tmp_path / "a", operation)
        assert (await client.result())[0] == 0
    op, node, fh, owner, type_, start, end, pid, wait = locks.seen[0]
    assert (op, node, fh) == (lowlevel.FLOCK, files.nodes[-1], 2)
    assert owner != 0
    assert (type_, start, end, pid, wait) == (kind, 0, 2**63 - 1, client.pid, sleep)


async def test_fcntl_locks_reach_the_handler(tmp_path: Path) -> None:
    locks = Locks(now=-errno.EAGAIN)
    async with mounted(Files(), tmp_path, lock=locks):
        client = Client(guarded(LOCKF), tmp_path / "a", fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert await client.result() == (0, "EAGAIN\n")
    asked = locks.seen[0]
    assert (asked[0], *asked[4:]) == (lowlevel.SETLK, fcntl.F_WRLCK, 5, 14, client.pid, False)


async def test_getlk_is_answered_with_a_lock(tmp_path: Path) -> None:
    locks = Locks(now=None)
    async with mounted(Files(), tmp_path, lock=locks), Client(GETLK, tmp_path / "a") as client:
        await until(lambda: locks.requests)
        assert locks.seen[0][0] == lowlevel.GETLK
        assert locks.requests[0].reply_lock(fcntl.F_RDLCK, 7, 2**63 - 1, client.pid)
        assert await client.result() == (0, f"{fcntl.F_RDLCK} 0 7 0 {client.pid}\n")
        locks.now = 0
        assert (await run(GETLK, tmp_path / "a"))[1].startswith(f"{fcntl.F_UNLCK} ")


async def test_a_parked_flock_is_granted_or_interrupted(tmp_path: Path) -> None:
    locks = Locks(now=None)
    async with mounted(Files(), tmp_path, lock=locks):
        async with Client(FLOCK, tmp_path / "a", fcntl.LOCK_EX) as client:
            await until(lambda: locks.requests)
            assert locks.requests[0].reply_err(0)
            assert (await client.result())[0] == 0
        locks.requests.clear()
        async with Client(FLOCK, tmp_path / "a", fcntl.LOCK_EX) as client:
            await until(lambda: locks.requests)
            client.signal(signal.SIGKILL)
            assert (await client.result())[0] == -signal.SIGKILL
