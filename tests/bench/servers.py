"""The file systems that are compared, each a process with a mount of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE_S = 60.0
_SOURCE = Path(__file__).with_name("hello.c")
_REPOSITORY = Path(__file__).parents[2]


def build_hello(directory: Path) -> Path:
    """The C program, built anew if its source is younger."""
    program = directory / "hello"
    if not program.exists() or program.stat().st_mtime < _SOURCE.stat().st_mtime:
        directory.mkdir(parents=True, exist_ok=True)
        flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "fuse3"], text=True)
        subprocess.run(["cc", "-O2", str(_SOURCE), "-o", str(program), *flags.split()], check=True)
    return program


class Server:
    """One running file system. root: where it is mounted."""

    def __init__(self, root: Path, command: list[str]) -> None:
        self.root = root
        self._log = root.with_suffix(".log")
        root.mkdir()
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=_REPOSITORY, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def wait_until_mounted(self) -> None:
        """Raises RuntimeError when it does not come."""
        deadline = time.monotonic() + _PATIENCE_S
        while not os.path.ismount(self.root):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.root} is not mounted: {self._log.read_text()}")
            time.sleep(0.001)

    def close(self) -> None:
        """Unmount, and end the process whatever state it is in."""
        if os.path.ismount(self.root):
            subprocess.run(["umount", "-l", str(self.root)], check=False)
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Hello(Server):
    """The C libfuse file system of hello.c."""

    def __init__(self, directory: Path, program: Path) -> None:
        super().__init__(directory / "hello", [str(program), str(directory / "hello")])

    def file(self, number: int = 0) -> Path:
        """One of its files, each an inode of its own."""
        return self.root / f"hello{number}"


class Bare(Server):
    """The pyfuse3 file system of bare.py."""

    def __init__(self, directory: Path) -> None:
        root = directory / "bare"
        super().__init__(root, [sys.executable, "-m", "tests.bench.bare", str(root)])


class Clufs(Server):
    """A clufsd with a state of its own. public: its public namespace."""

    def __init__(self, directory: Path, name: str = "clu", *options: str) -> None:
        root = directory / name
        state = directory / f"{name}-state"
        command = [sys.executable, "-m", "clufs.cli.clufsd", str(root), "--state", str(state)]
        super().__init__(root, [*command, *options])
        self.public = root / "locks" / "public"

    def rss_bytes(self) -> int:
        """The memory it has now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu_ns(self) -> int:
        """The CPU time its threads have had."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def close(self) -> None:
        """SIGTERM: it unmounts by itself."""
        self.process.terminate()
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
        super().close()


@contextmanager
def running(server: Server) -> Iterator[None]:
    """A server from when it is mounted to its end, whatever happens."""
    try:
        server.wait_until_mounted()
        yield
    finally:
        server.close()
