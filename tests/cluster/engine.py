"""The corosync engine inside a lab's member, driven from a test."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cluster.lab import Lab

# Reports what its engine tells, one JSON list a line. A line that it reads is multicast, or a JSON list: ring and vote.
# It has a group of its own, as the daemons are in theirs.
ENGINE = """
import json, sys, trio
from dataclasses import astuple
from clufs.cluster import corosync

engine = corosync.CorosyncEngine("engines")

def tell(report):
    values = [v.decode() if isinstance(v, bytes) else v for v in astuple(report)]
    print(json.dumps([type(report).__name__, *values]), flush=True)

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, nursery.cancel_scope)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            if line.startswith("["):
                ring, cast = json.loads(line)
                engine.vote(tuple(ring), cast)
            else:
                engine.multicast(line.strip().encode())
        nursery.cancel_scope.cancel()

async def run(scope):
    await engine.run(tell)
    scope.cancel()

print(json.dumps(["Me", engine.cluster_name, engine.me.name, len(engine.peers)]), flush=True)
trio.run(main)
"""


class Engine:
    """An engine inside a member, and all that it told."""

    def __init__(self, lab: Lab, member: str, directory: Path) -> None:
        self.told = directory / f"{member}.told"
        with open(self.told, "wb") as out:
            command = [sys.executable, "-c", ENGINE]
            self.process = lab.start(member, *command, stdin=subprocess.PIPE, stdout=out)

    def reports(self, kind: str) -> list[list[object]]:
        lines = self.told.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [one[1:] for one in found if one[0] == kind]

    def multicast(self, text: str) -> None:
        self._say(text)

    def vote(self, ring: object, cast: bool) -> None:
        self._say(json.dumps([ring, cast]))

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def ring(self) -> object:
        """The present one, as the quorum was told last."""
        return self.reports("QuorumChanged")[-1][0]

    def is_quorate(self) -> bool:
        return bool(self.reports("QuorumChanged") and self.reports("QuorumChanged")[-1][1])

    def group(self) -> int:
        changes = self.reports("GroupChanged")
        return len(changes[-1][1]) if changes else 0  # type: ignore[arg-type]
