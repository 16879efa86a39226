"""python -m tests.cluster.torture --seconds S --seed N: a story of faults, and whether clufs kept its promises."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.lab import NAMES, Lab
from tests.cluster.torture.faults import draw, make_whole, strike

WORKERS = 3
LOCK_NAMES = ("t1", "t2")
END_S = 30.0
_ROOT = Path(__file__).parents[3]


@dataclass
class Story:
    """One run. violations: what was broken, in sentences."""

    lab: Lab
    directory: Path
    seed: int
    faults: int = 0
    violations: list[str] = field(default_factory=list)
    workers: dict[str, list[subprocess.Popen[str]]] = field(default_factory=dict)

    def tell(self, sentence: str) -> None:
        """A line for whoever watches."""
        print(f"{time.strftime('%H:%M:%S')} {sentence}", flush=True)

    def start_workers(self, member: str) -> None:
        """The clients of a member, as many as are not there."""
        there = [one for one in self.workers.get(member, []) if one.poll() is None]
        for number in range(len(there), WORKERS):
            words = ["-m", "tests.cluster.torture.worker", str(self.directory)]
            seed = f"{self.seed} {member} {self.faults} {number}"
            there.append(
                self.lab.start(member, sys.executable, *words, seed, *LOCK_NAMES, cwd=_ROOT)
            )
        self.workers[member] = there

    def run(self, seconds: float) -> None:
        """Faults, one after the other, until the time is up."""
        dice = random.Random(self.seed)
        until = time.monotonic() + seconds
        for member in NAMES:
            self.start_workers(member)
        while time.monotonic() < until and not self._broken():
            time.sleep(dice.uniform(0.5, 2.0))
            fault = draw(dice)
            begun = time.monotonic()
            self.faults += 1
            strike(self.lab, fault)
            lacking = make_whole(self.lab, self.start_workers)
            for member in NAMES:
                self.start_workers(member)
            took_s = time.monotonic() - begun
            self.tell(
                f"{fault.name}: {' '.join(fault.begin)} {fault.lasts_s:g} s; whole after {took_s:.1f} s"
            )
            if lacking:
                self.violations.append(f"after {fault}: not whole again: {lacking}")
                return

    def _broken(self) -> bool:
        return (self.directory / "violations").exists()

    def end(self) -> None:
        """Every waiter must end by itself."""
        (self.directory / "stop").touch()
        until = time.monotonic() + END_S
        for member, workers in self.workers.items():
            for worker in workers:
                try:
                    worker.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self.violations.append(f"a client on {member} waits for ever")
                    worker.kill()
                    worker.wait()
        if self._broken():
            self.violations += (self.directory / "violations").read_text().splitlines()

    def counts(self) -> str:
        """What the clients did, all together."""
        total: dict[str, int] = {}
        path = self.directory / "counts"
        for line in path.read_text().splitlines() if path.exists() else []:
            for word in line.split()[1:]:
                what, _, count = word.partition("=")
                total[what] = total.get(what, 0) + int(count)
        return " ".join(f"{what}={count}" for what, count in sorted(total.items()))


def torture(seconds: float, seed: int, directory: Path) -> Story:
    """Bring a lab up, torture it, take it down."""
    lab = Lab(directory / "lab")
    work = directory / "oracle"
    work.mkdir()
    story = Story(lab, work, seed)
    story.tell(f"seed {seed}, {seconds:g} s")
    lab.do("up")
    try:
        story.run(seconds)
        story.end()
        if story.violations:
            story.tell(lab.run("status").stdout)
    finally:
        for workers in story.workers.values():
            for worker in workers:
                worker.kill()
                worker.wait()
        lab.run("down")
    story.tell(f"{story.faults} faults; {story.counts()}")
    for sentence in story.violations:
        story.tell(f"VIOLATION {sentence}")
    return story


def main() -> int:
    """Exit status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clufs-torture.") as directory:
        story = torture(options.seconds, options.seed, Path(directory))
    return 1 if story.violations else 0


if __name__ == "__main__":
    sys.exit(main())
