"""A shell in a lab's member, driven from outside: a line in, what it prints and its status out."""

from __future__ import annotations

import os
import select
import subprocess
import time
from dataclasses import dataclass

from clufs.errors import ProgramError
from clufs.lab import inside

# Printed after each command; nothing that a person would type prints it.
_MARK = b"\x01"
_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed, on both its outputs, and its exit status."""

    output: str
    status: int


class Shell:
    """One bash in a member. It owns the locks for which it asked, as a person's would."""

    def __init__(self, init: int, member: str) -> None:
        self.member = member
        self._unread = b""
        words = [*inside.enter(init, "/"), "setpriv", "--pdeathsig", "KILL", "--", "bash"]
        self._process = subprocess.Popen(
            [*words, "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    def begin(self, command: str) -> None:
        """Start a command; finish() must be called before the next one."""
        assert self._process.stdin is not None
        line = f"{command}\nprintf '\\1%d\\n' $?\n".encode()
        try:
            self._process.stdin.write(line)
        except BrokenPipeError:
            raise ProgramError(f"{self.member}: its shell is gone") from None

    def finish(self, timeout_s: float) -> Done | None:
        """What the command came to, or None if it goes on after that time. Raises ProgramError."""
        deadline = time.monotonic() + timeout_s
        while True:
            output, mark, rest = self._unread.partition(_MARK)
            if mark and b"\n" in rest:
                status, _, self._unread = rest.partition(b"\n")
                return Done(output.decode(errors="replace"), int(status))
            if not self._read(deadline):
                return None

    def _read(self, deadline: float) -> bool:
        assert self._process.stdout is not None
        left_s = max(0.0, deadline - time.monotonic())
        if not select.select([self._process.stdout], [], [], left_s)[0]:
            return False
        data = os.read(self._process.stdout.fileno(), _READ_BYTES)
        if not data:
            raise ProgramError(f"{self.member}: its shell is gone")
        self._unread += data
        return True

    def close(self) -> None:
        """End it, and with it what it runs."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
