"""A real /clu for the black-box tests: clufsd in a process of its own, driven by real shells."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SHELLS = ("dash", "bash", "busybox sh")
READY_S = 20.0
PATIENCE_S = 20.0


class Clu:
    """One running clufsd. root: its mount point; public: its public namespace."""

    program: tuple[str, ...] = (sys.executable, "-m", "clufs.cli.clufsd")

    def __init__(self, directory: Path, *options: str) -> None:
        self.root = directory / "clu"
        self.state = directory / "state"
        self.log = directory / "log"
        self.options = options
        self.root.mkdir(exist_ok=True)
        self.public = self.root / "locks" / "public"
        self.daemon = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start clufsd and wait until it is ready."""
        command = [*self.program, str(self.root)]
        with self.log.open("a") as log:
            self.daemon = subprocess.Popen(
                [*command, "--state", str(self.state), *self.options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.daemon.stdout is not None
        line = self.daemon.stdout.readline()
        assert line == f"ready {self.root}\n", self.log.read_text()
        return self.daemon

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal clufsd and wait for its end; its exit status."""
        self.daemon.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end of clufsd; its exit status."""
        status = self.daemon.wait(PATIENCE_S)
        if self.daemon.stdout is not None:
            self.daemon.stdout.close()
        return status

    def close(self) -> None:
        """End clufsd, whatever state it is in, and unmount."""
        if self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        if self.daemon.stdout is not None:
            self.daemon.stdout.close()
        if os.path.ismount(self.root) or self._is_stale():
            subprocess.run(["umount", "-l", str(self.root)], check=False)

    def _is_stale(self) -> bool:
        return f" {self.root} " in Path("/proc/self/mountinfo").read_text()

    def report(self, name: str, namespace: str = "public") -> str:
        """The report of a lock file; empty when nobody holds or awaits it."""
        try:
            return (self.root / "status" / "locks" / namespace / name).read_text()
        except FileNotFoundError:
            return ""

    def queue(self, name: str, queue: str, namespace: str = "public") -> list[str]:
        """The lines of one queue (GRANTED, CONVERTING, WAITING) in the report."""
        lines = self.report(name, namespace).splitlines()
        return [line for line in lines if line.startswith(queue + " ")]

    def errors(self) -> str:
        """What /clu/status/errors says to this user."""
        return (self.root / "status" / "errors").read_text()

    def why(self, name: str) -> str:
        """The last refusal or remark on a name in status/errors: errno name and sentence."""
        lines = [line for line in self.errors().splitlines() if line.split(" ")[2].endswith(name)]
        return lines[-1].split(" ", 3)[3] if lines else ""

    def until_queued(self, name: str, count: int = 1, queue: str = "WAITING") -> None:
        """Wait until so many requests stand in a queue."""
        until(lambda: len(self.queue(name, queue)) >= count, f"{count} {queue} on {name}")


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, and fail by name when it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.01)


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill a child that leads a process group of its own, and all that it has left in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Shell:
    """A real shell that lives on and runs what it is told, line by line."""

    def __init__(self, shell: str = "dash", cwd: Path | None = None, **options: object) -> None:
        self.process = subprocess.Popen(  # type: ignore[call-overload]
            shell.split(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            text=True,
            process_group=0,
            **options,
        )

    @property
    def pid(self) -> int:
        """The shell's process id."""
        return int(self.process.pid)

    def tell(self, line: str) -> None:
        """Have a line run, without waiting for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> tuple[int, str]:
        """Run a line; its exit status and what it printed."""
        self.tell(f'{line}\necho "<$?>"')
        return self.hear()

    def hear(self) -> tuple[int, str]:
        """The status and output of a line that was told with `; echo "<$?>"` behind it."""
        assert self.process.stdout is not None
        printed: list[str] = []
        while True:
            line = self.process.stdout.readline()
            assert line, f"the shell has ended: {''.join(printed)}"
            if line.startswith("<") and line.endswith(">\n"):
                return int(line[1:-2]), "".join(printed)
            printed.append(line)

    def begin(self, line: str) -> None:
        """Start a line that may wait; `hear` gets its end."""
        self.tell(f'{line}\necho "<$?>"')

    def close(self) -> None:
        """End the shell with all it holds, and its children."""
        end_group(self.process)
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                with contextlib.suppress(BrokenPipeError):
                    end.close()


def running(directory: Path, *options: str) -> Iterator[Clu]:
    """A Clu for a fixture."""
    clu = Clu(directory, *options)
    try:
        yield clu
    finally:
        clu.close()
