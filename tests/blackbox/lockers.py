"""The tests' end of `locker.py`: other processes that lock by fcntl(2)."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.blackbox.clu import PATIENCE_S

PROGRAM = Path(__file__).with_name("locker.py")


class Locker:
    """One such process. command: how to start it, where that is not here."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-S", str(PROGRAM))) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid: int = self.hear()

    def tell(self, *words: Any) -> None:
        """Have it do something, without waiting for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """The next answer."""
        assert self.process.stdout is not None
        assert self.says_something(PATIENCE_S), "it does not answer"
        line = self.process.stdout.readline()
        assert line, "it has ended"
        return json.loads(line)

    def says_something(self, within_s: float = 0.0) -> bool:
        """Whether an answer is there, or comes within that time."""
        return bool(select.select([self.process.stdout], [], [], within_s)[0])

    def do(self, *words: Any) -> Any:
        """Have it do something; its answer."""
        self.tell(*words)
        return self.hear()

    def open(self, path: Path, how: str = "rw") -> int:
        """A descriptor of its own."""
        found = self.do("open", str(path), how)
        assert isinstance(found, int)
        return found

    def signal(self, number: int = signal.SIGUSR1) -> None:
        """A signal that it catches, unless it is another."""
        self.process.send_signal(number)

    def close(self) -> None:
        """End it, with all that it holds."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                with contextlib.suppress(BrokenPipeError):
                    end.close()
