"""A directory that looks like a /clu with registered resources, and the programs run on it.

What a file system has and a directory has not, a `control` that answers, a pseudo-terminal stands in
for: it too is opened for reading and writing, takes a line, and answers in lines.
"""

import contextlib
import os
import pty
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clufs.caa.profile import validate
from clufs.caa.templates import BUILT_IN

MINIMAL = {
    "application": "ACTION_SCRIPT={name}.scr",
    "network": "SUBNET=16.69.244.0",
    "tape": "DEVICE_NAME=/dev/tape/{name}",
    "changer": "DEVICE_NAME=/dev/changer/{name}",
}


@dataclass(frozen=True)
class Said:
    """What a program said, and its exit status."""

    status: int
    out: str
    err: str


class Clu:
    """A tree at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("resources", "scripts", "templates", "status"):
            (root / name).mkdir()
        for name, text in BUILT_IN.items():
            (root / "templates" / name).write_bytes(text)
        (root / "status/cluster").write_text("NAME=deli\nMEMBER=provolone\n")

    def path(self, name: str) -> Path:
        return self.root / name

    def add(
        self,
        name: str,
        kind: str = "application",
        target: str = "OFFLINE",
        state: str = "OFFLINE",
        failures: str = "0",
        restarts: str = "0",
        **profile: object,
    ) -> Path:
        """Register a resource; target, state and failures: a line each, for networks and the like."""
        lines = [f"NAME={name}", f"TYPE={kind}", MINIMAL[kind].format(name=name)]
        lines += [f"{key}={value}" for key, value in profile.items()]
        text = validate(name, "\n".join(lines).encode()).text()
        (self.root / f"resources/{name}.cap").write_text(text)
        directory = self.root / "resources" / name
        directory.mkdir()
        files = {"target": target, "state": state, "failure_count": failures, "profile": text}
        if kind == "application":
            files["restart_count"] = restarts
        for file, what in files.items():
            (directory / file).write_text(what.rstrip("\n") + "\n")
        return directory

    def run(self, program: str, *arguments: str, **environment: str) -> Said:
        """Run one of the programs on this tree, in an environment of its own."""
        done = subprocess.run(
            [sys.executable, "-m", f"clufs.cli.{program}", *arguments],
            env={"CLU_ROOT": str(self.root), "PATH": os.environ["PATH"], **environment},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def control(self, name: str, *answers: str) -> Iterator[list[str]]:
        """A `control` of that resource, which gives these answers to each line; yields the lines."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        path = self.root / "resources" / name / "control"
        path.symlink_to(os.ttyname(slave))
        lines: list[str] = []
        server = threading.Thread(target=_serve, args=(master, answers, lines), daemon=True)
        server.start()
        try:
            yield lines
        finally:
            os.close(slave)
            path.unlink()
            server.join(10)


def _serve(master: int, answers: tuple[str, ...], lines: list[str]) -> None:
    """Answer every line; a master without any open slave fails to read, and that is the end."""
    rest = b""
    with contextlib.suppress(OSError):
        while data := os.read(master, 4096):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                lines.append(line.decode())
                if not answers:
                    return os.close(master)
                os.write(master, "".join(f"{each}\n" for each in answers).encode())
    os.close(master)
