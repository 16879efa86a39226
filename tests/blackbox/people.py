"""People with accounts of their own, who act on /clu through real programs.

Their names are relative to the directory they act in: the way to it is root's alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.blackbox.clu import PATIENCE_S


@dataclass(frozen=True)
class Person:
    """A user: uid, group, and further groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = field(default=())

    @property
    def options(self) -> dict[str, object]:
        """What subprocess.Popen needs to start a process of this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}

    def runs(self, command: str | Sequence[str], cwd: Path) -> tuple[int, str]:
        """Run a command, or a line of dash; its status and all it printed."""
        words = ["dash", "-c", command] if isinstance(command, str) else command
        done = subprocess.run(
            words,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            **self.options,  # type: ignore[call-overload]
        )
        return done.returncode, done.stdout.decode(errors="backslashreplace")

    def calls(self, code: str, cwd: Path) -> str:
        """Run Python `code`; what it printed, or the name of the errno it ended with."""
        become = _BECOME.format(list(self.groups), self.gid, self.uid)
        return ROOT.runs([sys.executable, "-S", "-c", _CALLS + become + code], cwd)[1].strip()


# The interpreter itself may lie where only root can read: all is imported before.
_BECOME = "os.setgroups({}); os.setgid({}); os.setuid({})\n"
_CALLS = """
import ctypes, errno, fcntl, mmap, os, socket, stat, sys
def name_errno(kind, error, traceback):
    if not isinstance(error, OSError):
        return sys.__excepthook__(kind, error, traceback)
    print("EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode[error.errno])
sys.excepthook = name_errno
"""

ROOT = Person(0, 0)
ALICE = Person(1001, 1001)
BOB = Person(1002, 1002)
CAROL = Person(1003, 1003, groups=(1001,))  # in Alice's group
