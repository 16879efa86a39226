"""The lab's array: an iSCSI target in the switch's namespaces, behind portals that can fail.

    python -m clufs.lab.array DIR

The target is tgtd, or what `--array` names. It is told what to do by `ask`, through a socket in the lab's
directory; with the switch it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio

from clufs.errors import ClufsError, MissingPart, ProgramError
from clufs.lab.plan import PATHS, Lab, TargetFacts
from clufs.lab.portals import Portals
from clufs.timeouts import LAB_ASK_S, LAB_POLL_S, LAB_START_S

SOCKET = "array.sock"
_TARGET = "iqn.2026-01.org.clufs:lab"
_BEHIND = (3260, 3261)
_LINE_MAX_BYTES = 1024


class Tgtd:
    """tgtd, with a file for each LUN. Its LUN 0 is the controller, so ours begin at 1."""

    def __init__(self, lab: Lab, luns: int) -> None:
        self._lab = lab
        self._luns = luns
        self._process: trio.Process | None = None

    @property
    def facts(self) -> TargetFacts:
        """How it is found."""
        return TargetFacts(_TARGET, 1)

    @property
    def behind(self) -> tuple[int, ...]:
        """Its TCP ports for the paths: one does for both."""
        return (_BEHIND[0],) * len(PATHS)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it and give it its LUNs. Raises ProgramError."""
        for lun in range(1, self._luns + 1):
            _make_file(self._file(lun), self._lab.facts().lun_mib)
        command = ["tgtd", "-f", "--iscsi", f"portal=127.0.0.1:{_BEHIND[0]}"]
        with _log(self._lab, "tgtd.log") as log:
            run = partial(trio.run_process, command, stdout=log, stderr=log, check=False)
            self._process = await nursery.start(run)
        with trio.move_on_after(LAB_START_S):
            while await self._admin("--op", "show", "--mode", "target"):  # noqa: ASYNC110
                await trio.sleep(LAB_POLL_S)
        await self._must("--op", "new", "--mode", "target", "--tid", "1", "-T", _TARGET)
        for lun in range(1, self._luns + 1):
            words = ["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", str(lun)]
            await self._must(*words, "-b", str(self._file(lun)))
        await self._must("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")

    async def restart(self, nursery: trio.Nursery) -> None:
        """As if its power failed: connections and registrations are gone, what was written is not."""
        if self._process is not None:
            self._process.kill()  # it ignores SIGTERM once it has a target
            await self._process.wait()
        await self.start(nursery)

    def _file(self, lun: int) -> Path:
        return self._lab.directory / f"lun{lun}.img"

    async def _admin(self, *words: str) -> int:
        nowhere = subprocess.DEVNULL
        command = ["tgtadm", "--lld", "iscsi", *words]
        done = await trio.run_process(command, check=False, stdout=nowhere, stderr=nowhere)
        return done.returncode

    async def _must(self, *words: str) -> None:
        if await self._admin(*words):
            raise ProgramError(f"tgtadm {' '.join(words)} failed: see tgtd.log")


class OtherArray:
    """A program that takes --luns, --mib, --portals and --ports, says `portal N URL` for each, then `ready`."""

    def __init__(self, lab: Lab, luns: int, command: Sequence[str]) -> None:
        self._lab = lab
        numbers = [str(port) for port in _BEHIND]
        mib = str(lab.facts().lun_mib)
        shape = ["--luns", str(luns), "--mib", mib, "--portals", str(len(PATHS))]
        self._command = [*command, *shape, "--ports", *numbers]
        self.facts = TargetFacts("", 0)

    @property
    def behind(self) -> tuple[int, ...]:
        """Its TCP ports for the paths."""
        return _BEHIND

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it; it says itself what its target is called. Raises ProgramError."""
        with _log(self._lab, "array.out") as log:
            run = partial(
                trio.run_process,
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                check=False,
            )
            process: trio.Process = await nursery.start(run)
        assert process.stdout is not None
        said = b""
        while not said.endswith(b"ready\n"):
            more = await process.stdout.receive_some()
            if not more:
                raise ProgramError(f"{self._command[0]} did not say `ready`: see array.out")
            said += more
        url = said.decode().split()[2]
        _, target, first = url.removeprefix("iscsi://").split("/")
        self.facts = TargetFacts(target, int(first))

    async def restart(self, nursery: trio.Nursery) -> None:
        """It knows itself how to fail: only its connections break."""


def _log(lab: Lab, name: str) -> BinaryIO:
    return open(lab.directory / name, "ab")


def _make_file(path: Path, mib: int) -> None:
    """A sparse file for a LUN; what is on one that is there stays."""
    with open(path, "ab") as file:
        file.truncate(mib << 20)


def check_machine(array: Sequence[str]) -> None:
    """Raise MissingPart with the line that mends it."""
    if not array and not shutil.which("tgtd"):
        raise MissingPart("tgtd is missing: apt-get install tgt")


def ask(lab: Lab, *words: str) -> list[str]:
    """Tell a lab's array something; what it answers. Raises ProgramError with why not."""
    line = json.dumps(words)
    program = [sys.executable, "-S", "-E", "-c", _ASK, str(lab.directory), SOCKET, line]
    done = subprocess.run(program, capture_output=True, text=True)
    if done.returncode != 0:
        raise ProgramError("the lab's array does not answer: see array.log")
    answer = json.loads(done.stdout)
    if isinstance(answer, str):
        raise ProgramError(answer)
    return [str(word) for word in answer]


# From inside, as a socket's path is short.
_ASK = """
import os, socket, sys
os.chdir(sys.argv[1])
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[2])
line.sendall(sys.argv[3].encode())
line.shutdown(socket.SHUT_WR)
sys.stdout.write(line.makefile().read())
"""


async def _obey(
    portals: Portals, target: Tgtd | OtherArray, nursery: trio.Nursery, words: list[str]
) -> list[str]:
    if words != ["restart"]:
        return portals.obey(words)
    portals.obey(["break"])
    await target.restart(nursery)
    return []


async def _serve(lab: Lab) -> None:
    facts = lab.facts()
    target = OtherArray(lab, facts.luns, facts.array) if facts.array else Tgtd(lab, facts.luns)
    portals = Portals(lab, facts.luns, target.behind)
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    previous = os.umask(0o177)
    await listener.bind(SOCKET)
    os.umask(previous)
    listener.listen()
    async with trio.open_nursery() as nursery:
        await target.start(nursery)
        lab.write_target(target.facts)
        await portals.serve(nursery)
        print("ready", flush=True)
        _to_its_log(lab)

        async def handle(stream: trio.SocketStream) -> None:
            answer: list[str] | str
            try:
                with trio.fail_after(LAB_ASK_S):
                    line = await _read(stream)
                answer = await _obey(portals, target, nursery, json.loads(line))
            except (ClufsError, ValueError, trio.TooSlowError) as error:
                answer = str(error) or "no word was heard in time"
            await stream.send_all(json.dumps(answer).encode())
            await stream.aclose()

        await trio.serve_listeners(handle, [trio.SocketListener(listener)])


async def _read(stream: trio.SocketStream) -> bytes:
    data = b""
    while len(data) < _LINE_MAX_BYTES and (more := await stream.receive_some()):
        data += more
    return data


def _to_its_log(lab: Lab) -> None:
    """Let go of the pipes of the one who started it."""
    log = os.open(lab.directory / "array.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)


def main(directory: str) -> None:
    """Serve until the switch ends."""
    lab = Lab(directory)
    os.chdir(lab.directory)
    trio.run(_serve, lab)


if __name__ == "__main__":
    main(*sys.argv[1:])
