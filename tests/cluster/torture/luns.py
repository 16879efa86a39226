"""python -m tests.cluster.torture.luns --faults N --seed S: members fenced by their LUNs, under faults.

Writers on every member stamp the sectors of a LUN with the sequencer of the lock under which they write. Rounds of
one to six faults; after each the lab is made whole, and then writers of every member must get on. The judge reads
what the array itself has written down, in its order: never may a sector be written under an older lock than before,
and never by a life about which there is a certificate. Against tgtd (--tgtd) a watcher stands for the array's log,
and nobody writes but through clufsd.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clufs.lab import inside, plan, processes
from clufs.storage.certificate import MemberKey
from tests.array.journal import Reader
from tests.cluster.lab import NAMES, Lab, within
from tests.cluster.torture.faults import make_whole
from tests.cluster.torture.lun_faults import CONTROL, DATA, Fault, Faults
from tests.cluster.torture.quick_lab import QuickLab
from tests.cluster.torture.stamps import AREAS, Judge

WRITERS = (("file", "quick"), ("session", "slow"), ("session", "quick"), ("file", "slow"))
"""Of each member: how they write, and under which lock."""

FILE_WRITERS = (("file", "quick"), ("file", "slow"))
"""Against tgtd, which does not say whose a registration is."""

PROGRESS_S = 240.0
"""How long after the last fault a member's writers may get nowhere: a lock is held for 12 s, and there are three, on a
machine that others use as well."""

_ROOT = Path(__file__).parents[3]
_CERTIFICATE = re.compile(r"VICTIM=(0x[0-9a-f]+) BY=0x[0-9a-f]+ TIME_NS=([0-9]+)")


@dataclass
class Story:
    """One run. violations: what was broken, in sentences. tgtd: it is the array, and a watcher keeps the log."""

    lab: Lab
    faults: Faults
    directory: Path
    seed: int
    draw: Callable[[Faults, random.Random, str], Fault] = Faults.draw
    tgtd: bool = False
    judge: Judge = field(default_factory=Judge)
    struck: int = 0
    violations: list[str] = field(default_factory=list)
    lun: str = ""
    urls: list[str] = field(default_factory=list)
    writers: dict[tuple[str, int], subprocess.Popen[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._journal = Reader(self.directory / "journal")
        self.watcher: subprocess.Popen[bytes] | None = None

    def tell(self, sentence: str) -> None:
        """A line for whoever watches."""
        print(f"{time.strftime('%H:%M:%S')} {sentence}", flush=True)

    # ---------------------------------------------------------------- the writers

    def begin(self) -> None:
        """Find the LUN, and let them write."""
        line = self.lab.do("lun", "status").splitlines()[int(DATA) - 1]
        self.urls = line.split(": ", 1)[1].split()
        name = self.urls[0].removeprefix("iscsi://").replace("/", ":")
        path = f"/clu/luns/*/paths/{name}"
        looks = ("exec", NAMES[0], "--", "sh", "-c", f"ls {path}")
        assert within(60, lambda: self.lab.run(*looks).returncode == 0)
        self.lun = self.lab.sh(NAMES[0], f"dirname $(dirname {path})").strip()
        if self.tgtd:
            self._watch()
        self.start_writers()

    def _watch(self) -> None:
        """Beside the array: no fault of a member is one of this."""
        switch = processes.living(plan.Lab(self.lab.directory).init(plan.SWITCH))
        assert switch is not None
        words = ["-m", "tests.cluster.torture.watcher", self.urls[0], f"{self.directory}/journal"]
        command = [*inside.enter(switch, "/"), sys.executable, *words]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        self.watcher = subprocess.Popen(command, env=environment)

    def start_writers(self) -> None:
        """Those that are not there: with its member, or with its lock, a writer ends."""
        for member in NAMES:
            for number, (way, area) in enumerate(FILE_WRITERS if self.tgtd else WRITERS):
                old = self.writers.get((member, number))
                if old is None or old.poll() is not None:
                    words = ["-m", "tests.cluster.torture.stamper"]
                    seed = f"{self.seed} {member} {self.struck} {number}"
                    who = [seed, f"w{number}", way, area, self.lun, *self.urls]
                    with (self.directory / f"{member}.{number}.err").open("a") as errors:
                        self.writers[member, number] = self.lab.start(
                            member, sys.executable, *words, *who, cwd=_ROOT, stderr=errors
                        )

    def end(self) -> None:
        """Nobody writes any more."""
        watcher = [self.watcher] if self.watcher is not None else []
        for writer in (*self.writers.values(), *watcher):
            writer.kill()
            writer.wait()

    # ---------------------------------------------------------------- the rounds

    def run(self, faults: int) -> None:
        """Rounds until there were so many faults, or something is broken."""
        dice = random.Random(self.seed)
        while self.struck < faults and not self.violations:
            self._round(dice, faults - self.struck)

    def _round(self, dice: random.Random, most: int) -> None:
        begun = time.monotonic()
        drawn: list[Fault] = []
        threads = []
        for _ in range(min(most, dice.choice((1, 2, 3, 4, 6)))):
            time.sleep(dice.uniform(0.2, 2.5))
            self.look()
            drawn.append(self.draw(self.faults, dice, self.judge.holders.get(AREAS[-1], "")))
            threads.append(threading.Thread(target=drawn[-1].strike))
            threads[-1].start()
        self.struck += len(drawn)
        for thread in threads:
            thread.join()
        self.faults.mend()
        lacking = make_whole(self.lab, lambda member: None)
        whole_s = time.monotonic() - begun
        self.look()
        if lacking:
            self.violations.append(f"not whole again: {lacking}")
        elif not self.violations:
            self._see_progress()
        took_s = time.monotonic() - begun
        names = "; ".join(fault.name for fault in drawn)
        self.tell(
            f"{self.struck}: {names}. Whole after {whole_s:.1f} s, all write after {took_s:.1f} s;"
            f" {len(self.judge.holds)} holds, {self.judge.members.total()} stamps,"
            f" {self.judge.certificates} certificates"
        )

    def _see_progress(self) -> None:
        self.start_writers()
        before = self.judge.members.copy()

        def all_write() -> bool:
            self.look()
            return bool(self.violations) or self._get_on(before)

        if not within(PROGRESS_S, all_write):
            since = self.judge.members - before
            for member in NAMES:
                show = "cat /clu/status/locks/public/*; grep . /clu/luns/*/paths/*; ps x"
                self.tell(self.lab.run("exec", member, "--", "sh", "-c", show).stdout)
            self.violations.append(f"nothing written within {PROGRESS_S:g} s but: {dict(since)}")

    def _get_on(self, before: dict[str, int]) -> bool:
        """A fence, or a watchdog, of before the end of the last fault may still hit a member: it is started again."""
        if any("dead" in state.values() for state in self.lab.states().values()):
            self.tell("somebody was ended late")
            make_whole(self.lab, lambda member: None)
        self.start_writers()
        return all(self.judge.members[member] > before.get(member, 0) for member in NAMES)

    # ---------------------------------------------------------------- the judge

    def look(self) -> None:
        """Judge what was written meanwhile, and the certificates given."""
        for entry in self._journal.more():
            if entry.lun == int(DATA) - 1:
                self.judge.wrote(entry.time_ns, entry.lba, entry.data)
        for member in (
            NAMES if not self.tgtd else ()
        ):  # when a watcher saw something is later than when it was
            log = self.lab.directory / member / "state" / "fencing.log"
            text = log.read_text(errors="replace") if log.exists() else ""
            for victim, time_ns in _CERTIFICATE.findall(text):
                key = MemberKey.of(int(victim, 16))
                assert key is not None
                self.judge.certified(NAMES[key.member - 1], key.incarnation, int(time_ns))
        self.violations += self.judge.violations
        self.judge.violations.clear()


def torture(
    faults: int,
    seed: int,
    directory: Path,
    keep: Path | None = None,
    draw: Callable[[Faults, random.Random, str], Fault] = Faults.draw,
    tgtd: bool = False,
) -> Story:
    """Bring a lab up, torture it, take it down. keep: where it is copied if a promise was broken."""
    lab = QuickLab(directory / "lab")
    control = directory / CONTROL
    array = [sys.executable, "-m", "tests.array", "--journal", str(directory / "journal")]
    array += ["--control", str(control), "--seed", str(seed % 1000)]
    story = Story(lab, Faults(lab, None if tgtd else control), directory, seed, draw, tgtd)
    story.tell(f"seed {seed}, {faults} faults")
    luns = ("--luns", "1", "--own-luns", "1", "--fence-by", "luns")
    lab.do("up", *luns, *(() if tgtd else ("--array", shlex.join(array))))
    try:
        story.begin()
        story.faults.begin()
        story.run(faults)
        if story.violations:
            story.tell(lab.run("status").stdout)
            for name in NAMES:
                log = lab.directory / name / "clufsd.out"
                story.tell(log.read_text()[-4000:] if log.exists() else f"{name}: no log")
            if keep is not None:
                shutil.copytree(directory, keep, ignore=_sockets)
    finally:
        story.end()
        lab.run("down")
    ways = " ".join(f"{way}={count}" for way, count in sorted(story.judge.ways.items()))
    story.tell(
        f"{story.struck} faults; {len(story.judge.holds)} holds, stamps {ways},"
        f" {story.judge.certificates} certificates"
    )
    for sentence in story.violations:
        story.tell(f"VIOLATION {sentence}")
    return story


def cuts(faults: Faults, dice: random.Random, holder: str) -> Fault:
    """Who holds the lock does not hear the others any more, and could write on, were it not for the fence."""
    return faults.cut(holder or dice.choice(NAMES))


def _sockets(directory: str, names: list[str]) -> list[str]:
    """What cannot be copied."""
    paths = ((name, Path(directory, name)) for name in names)
    return [name for name, path in paths if not (path.is_file() or path.is_dir())]


def main() -> int:
    """Exit status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="luns", description=__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--tgtd", action="store_true", help="tgtd instead of our own array")
    parser.add_argument(
        "--only-cuts", action="store_true", help="only what cuts who holds the lock from the others"
    )
    parser.add_argument("--keep", type=Path, help="a directory for what a broken promise leaves")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clufs-torture.") as directory:
        draw = cuts if options.only_cuts else Faults.draw
        where = Path(directory)
        story = torture(options.faults, options.seed, where, options.keep, draw, options.tgtd)
    return 1 if story.violations else 0


if __name__ == "__main__":
    sys.exit(main())
