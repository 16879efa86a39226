"""Single system calls of one client: clufs beside the C file system, bare pyfuse3 and flock(2)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.bench.core import Core
from tests.bench.measure import Round, Samples, Size, alternate, median_us, pinned, placement
from tests.bench.report import Row, Target, compared, figure
from tests.bench.servers import Bare, Clufs, Hello

_BY_PATH = os.O_WRONLY | os.O_CREAT | os.O_TRUNC

EX, NL, UN = b"EX\n", b"NL\n", b"UN\n"


def by_path(path: Path, line: bytes) -> None:
    """What a shell's `echo LINE > path` asks the kernel."""
    fd = os.open(path, _BY_PATH, 0o666)
    os.write(fd, line)
    os.close(fd)


def pair_by_path(path: Path) -> Callable[[], None]:
    """A lock and its release."""

    def pair() -> None:
        by_path(path, EX)
        by_path(path, UN)

    return pair


def pair_on(fd: int, first: bytes, second: bytes) -> Callable[[], None]:
    """Two requests on one open descriptor."""

    def pair() -> None:
        os.write(fd, first)
        os.write(fd, second)

    return pair


def _legacy_pair(lock: Callable[[int, int], object], fd: int) -> Callable[[], None]:
    def pair() -> None:
        lock(fd, fcntl.LOCK_EX)
        lock(fd, fcntl.LOCK_UN)

    return pair


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CREAT, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


class _Files:
    """What the calls go to, opened."""

    def __init__(
        self, stack: ExitStack, hello: Hello, bare: Bare, clufs: Clufs, disk: Path
    ) -> None:
        def write_only(path: Path) -> int:
            return stack.enter_context(_opened(path, os.O_WRONLY))

        self.by_path = {
            "hello": hello.file(),
            "bare": bare.root / "file",
            "clufs": clufs.public / "path",
        }
        self.hello = write_only(hello.file())
        self.bare = write_only(bare.root / "file")
        self.conversion = write_only(clufs.public / "conversion")
        self.lock = write_only(clufs.public / "lock")
        self.flock = write_only(disk / "flock")
        self.by_flock = write_only(clufs.public / "by_flock")
        self.by_fcntl = write_only(clufs.public / "by_fcntl")
        value = clufs.public / "value"
        by_path(value, EX)
        by_path(value, b"EX value=a value\n")
        self.value = stack.enter_context(_opened(value, os.O_RDONLY))
        self.hello_read = stack.enter_context(_opened(hello.file(), os.O_RDONLY))


def _actions(files: _Files) -> dict[str, Callable[[], object]]:
    by_path_to = files.by_path
    return {
        "hello writes": pair_on(files.hello, EX, NL),
        "bare writes": pair_on(files.bare, EX, NL),
        "conversions": pair_on(files.conversion, EX, NL),
        "lock and release": pair_on(files.lock, EX, UN),
        "flock": _legacy_pair(fcntl.flock, files.flock),
        "clufs flock": _legacy_pair(fcntl.flock, files.by_flock),
        "clufs fcntl": _legacy_pair(fcntl.lockf, files.by_fcntl),
        "hello by path": pair_by_path(by_path_to["hello"]),
        "bare by path": pair_by_path(by_path_to["bare"]),
        "clufs by path": pair_by_path(by_path_to["clufs"]),
        "hello read": lambda: os.pread(files.hello_read, 4096, 0),
        "value read": lambda: os.pread(files.value, 4096, 0),
    }


def measure(size: Size, hello: Hello, bare: Bare, clufs: Clufs, disk: Path) -> Iterator[Row]:
    """All rows of this module, pinned and free. disk: a directory on a file system of the disk."""
    with ExitStack() as stack:
        files = _Files(stack, hello, bare, clufs, disk)
        os.write(files.conversion, NL)
        core = Core()
        contestants: dict[str, Round] = {
            name: partial(median_us, action, size.calls) for name, action in _actions(files).items()
        }
        contestants["core pair"] = lambda: core.pair_us(size.calls)
        contestants["core conversions"] = lambda: core.conversions_us(size.calls)
        for really in (True, False):
            with pinned((hello.pid, bare.pid, clufs.pid), really):
                samples = alternate(contestants, size.rounds)
            yield from _rows(samples, placement(really), really)
            if really:
                yield from _core_rows(samples)


_NAMES = {
    "hello writes": "C hello",
    "hello by path": "C hello",
    "hello read": "C hello",
    "bare by path": "bare pyfuse3",
    "flock": "flock(2), flock(2)",
    "bare writes": "bare pyfuse3, two round trips",
    "lock and release": "clufs: EX, UN, pinned",
}
"""What rows call their yardsticks."""


def _rows(samples: Samples, where: str, is_pinned: bool) -> Iterator[Row]:
    def alone(key: str, what: str, name: str) -> Row:
        return figure(f"{key}-{where}", f"{what}, {where}", "us", samples[name])

    def beside(key: str, what: str, name: str, other: str, bound: float | None = None) -> Row:
        target = None if bound is None else Target(bound)
        key, what, against = f"{key}-{where}", f"{what}, {where}", _NAMES[other]
        return compared(key, what, "us", samples[name], against, samples[other], target)

    bound = 1.8 if is_pinned else None
    yield alone("hello", "C hello: two writes", "hello writes")
    yield beside("bare", "bare pyfuse3: two writes", "bare writes", "hello writes")
    yield beside("conversions", "clufs: EX, NL, file open", "conversions", "hello writes", bound)
    yield beside("lock", "clufs: EX, UN, file open", "lock and release", "hello writes")
    yield beside("flock", "clufs: EX, NL, file open", "conversions", "flock")
    of_legacy = 1.5 if is_pinned else None
    yield beside(
        "by-flock", "clufs: flock(2), lock, unlock", "clufs flock", "bare writes", of_legacy
    )
    yield beside("by-fcntl", "clufs: fcntl(2), lock, unlock", "clufs fcntl", "bare writes")
    yield alone("hello-path", "C hello: two writes by path", "hello by path")
    yield beside("bare-path", "bare pyfuse3: the same", "bare by path", "hello by path")
    yield beside("path", "clufs: EX, UN by path", "clufs by path", "bare by path", 1.2)
    yield beside("read", "clufs: a value read", "value read", "hello read")


def _core_rows(samples: Samples) -> Iterator[Row]:
    for key, what, name, bound in (
        ("core-pair", "core: grant and release", "core pair", Target(300_000, at_least=True)),
        ("core-conversions", "core: conversion pair", "core conversions", None),
    ):
        rates = [1e6 / us for us in samples[name]]
        yield figure(key, what, "pairs/s", rates, bound)
    name, other = "core pair", "lock and release"
    yield compared(
        "core-share",
        "core: grant and release",
        "us",
        samples[name],
        _NAMES[other],
        samples[other],
        Target(0.15),
    )
