"""A small file system on pyfuse3 and the C part, really mounted, and clients in processes of their own."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from clufs.cluster.linger import Linger
from clufs.fuse import loop, lowlevel
from clufs.fuse.lowlevel import Request

import pyfuse3  # isort: skip  (lowlevel comes first)

ROOT = pyfuse3.ROOT_INODE
PATIENCE = 20.0

type_log = list[tuple[str, object]]


def entry(node: int, mode: int) -> pyfuse3.EntryAttributes:
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = node
    attributes.st_mode = mode
    attributes.st_size = 4096
    attributes.entry_timeout = 0
    attributes.attr_timeout = 0
    return attributes


class Files(pyfuse3.Operations):
    """Regular files a, b and c in the root; every LOOKUP gives a fresh node id.

    The file handle of an open is the file's number plus `bits`. `log` has what was asked for.
    """

    def __init__(self, bits: int = 0) -> None:
        super().__init__()
        self.bits = bits
        self.numbers = {b"a": 2, b"b": 3, b"c": 4}
        self.nodes: list[int] = []
        self.log: type_log = []

    def asked(self, what: str) -> list[object]:
        return [value for name, value in self.log if name == what]

    def attributes(self, node: int) -> pyfuse3.EntryAttributes:
        kind = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o666
        return entry(node, kind)

    async def lookup(self, parent_inode, name, ctx):  # type: ignore[no-untyped-def]
        if name not in self.numbers:
            raise pyfuse3.FUSEError(errno.ENOENT)
        self.nodes.append((len(self.nodes) + 1) << 32 | self.numbers[name])
        self.log.append(("lookup", name))
        return self.attributes(self.nodes[-1])

    async def forget(self, inode_list):  # type: ignore[no-untyped-def]
        self.log.extend(("forget", node) for node, _ in inode_list)

    async def getattr(self, inode, ctx):  # type: ignore[no-untyped-def]
        return self.attributes(inode)

    async def setattr(self, inode, attr, fields, fh, ctx):  # type: ignore[no-untyped-def]
        self.log.append(("setattr", (lowlevel.current_fh(), fh)))
        return self.attributes(inode)

    async def open(self, inode, flags, ctx):  # type: ignore[no-untyped-def]
        self.log.append(("open", ctx.pid))
        handle = inode & 0xFFFFFFFF | self.bits
        return pyfuse3.FileInfo(fh=handle, direct_io=True, keep_cache=False)

    async def create(self, parent_inode, name, mode, flags, ctx):  # type: ignore[no-untyped-def]
        self.log.append(("create", lowlevel.caller()))
        self.numbers[name] = len(self.numbers) + 2
        node = 1 << 40 | self.numbers[name]
        handle = self.numbers[name] | self.bits
        info = pyfuse3.FileInfo(fh=handle, direct_io=True, keep_cache=False)
        return info, self.attributes(node)

    async def opendir(self, inode, ctx):  # type: ignore[no-untyped-def]
        return inode

    async def readdir(self, fh, start_id, token):  # type: ignore[no-untyped-def]
        self.log.append(("readdir", lowlevel.caller()))
        for number, name in list(enumerate(self.numbers, 1))[start_id:]:
            attributes = self.attributes(9 << 32 | self.numbers[name])
            if not pyfuse3.readdir_reply(token, name, attributes, number):
                break

    async def read(self, fh, off, size):  # type: ignore[no-untyped-def]
        self.log.append(("read", (lowlevel.caller(), lowlevel.current_fh())))
        return b"line\n"[off : off + size]

    async def write(self, fh, off, buf):  # type: ignore[no-untyped-def]
        self.log.append(("write", buf))
        return len(buf)

    async def flush(self, fh):  # type: ignore[no-untyped-def]
        self.log.append(("flush", lowlevel.caller()))

    async def release(self, fh):  # type: ignore[no-untyped-def]
        self.log.append(("release", lowlevel.caller()))


def answer_eintr(requests: Sequence[Request]) -> None:
    for request in requests:
        request.reply_err(errno.EINTR)


@asynccontextmanager
async def mounted(
    files: pyfuse3.Operations,
    directory: Path,
    write: Callable[[Request, int, bytes], int | None] | None = None,
    lock: Callable[..., int | None] | None = None,
    read: Callable[[Request, int, int, int], bytes | int | None] | None = None,
    on_interrupted: Callable[[list[Request]], object] = answer_eintr,
    options: tuple[str, ...] = (),
    before_rest: Callable[[], object] = lambda: None,
    linger: Linger | None = None,
) -> AsyncIterator[trio.Event]:
    """Serves `files` on `directory`; the event is set when the loop has ended by itself.

    Leaving the block, with an exception too, breaks the connection: whoever hangs in it wakes up.
    """
    ended = trio.Event()

    async def serve() -> None:
        await loop.run()
        ended.set()

    pyfuse3.init(files, str(directory), {"fsname=clufs-test", "allow_other", *options})
    try:
        assert lowlevel.installed()
        interrupted = loop.install(on_interrupted, before_rest, linger)
        lowlevel.handlers(write=write, lock=lock, read=read, interrupted=interrupted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                with trio.fail_after(PATIENCE):
                    yield ended
            finally:
                nursery.cancel_scope.cancel()
    finally:
        lowlevel.handlers()
        pyfuse3.close()


PRELUDE = "import errno, fcntl, os, signal, sys, threading, time\n"
BECOME = """
os.chdir(os.path.dirname(sys.argv[1]))
os.setgid({0})
os.setuid({0})
sys.argv[1] = os.path.basename(sys.argv[1])
"""


class Client:
    """A process that runs Python `code` with `arguments`, the first of them a path, as a user."""

    def __init__(self, code: str, *arguments: object, user: int | None = None) -> None:
        code = PRELUDE + (BECOME.format(user) if user else "") + code
        words = [sys.executable, "-S", "-c", code, *map(str, arguments)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.printed = b""

    async def result(self) -> tuple[int, str]:
        """The exit status, negative for a signal, and what it printed."""
        output = self.process.stdout
        assert output is not None
        with trio.fail_after(PATIENCE):
            while self.process.poll() is None:  # noqa: ASYNC110
                await trio.sleep(0.005)
        if not output.closed:
            with output:
                self.printed = output.read()
        return self.process.returncode, self.printed.decode()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.process.kill()
        with trio.CancelScope(shield=True):
            await self.result()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


async def run(code: str, *args: object, user: int | None = None) -> tuple[int, str]:
    return await Client(code, *args, user=user).result()


async def until(condition: Callable[[], object]) -> None:
    """Waits for something that another process brings about."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


FLOCK = "fcntl.flock(os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2]))"
WRITE = """
fd = os.open(sys.argv[1], os.O_WRONLY)
try:
    print(os.write(fd, b"EX\\n"))
except OSError as error:
    print(errno.errorcode[error.errno])
"""
