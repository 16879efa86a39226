"""python -m tests.cluster.torture.applications --faults N --seed S: applications under faults, on a real lab.

Rounds of one to three faults, orders from all members among them. After each round the lab is made whole, and then
every application whose TARGET is ONLINE must run, once, where `state` says; never may two have run at once (the
judge is `instance`), and every command must have ended by itself.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.lab import NAMES, Lab, within
from tests.cluster.torture.faults import Fault, draw, make_whole, strike
from tests.cluster.torture.instance import RESOURCES, Instance

SETTLE_S = 120.0
"""How long after the last fault something may be down: retries after 10 and 20 s, slow machines."""

COMMAND_S = 120.0
"""How long a command may take: all of its scripts, and the wait for a planner."""


def instances(directory: Path) -> list[Instance]:
    """One of each kind: ordinary, slow to start, favored, deaf to its stop entry, and one that requires another."""
    return [
        Instance(directory, "one"),
        Instance(directory, "slow", slow="2"),
        Instance(
            directory,
            "far",
            attributes={
                "PLACEMENT": "favored",
                "HOSTING_MEMBERS": " ".join(reversed(NAMES)),
                "ACTIVE_PLACEMENT": "1",
                "FAILOVER_DELAY": "1",
            },
        ),
        Instance(directory, "deaf", deaf=True, attributes={"RESTART_ATTEMPTS": "3"}),
        Instance(directory, "needs", requires="one", attributes={"AUTO_START": "1"}),
    ]


@dataclass
class Order:
    """A caa_ command that somebody has typed on a member."""

    member: str
    line: str
    process: subprocess.Popen[str]


@dataclass
class Story:
    """One run. violations: what was broken, in sentences."""

    lab: Lab
    directory: Path
    seed: int
    faults: int = 0
    commands: int = 0
    failed: int = 0
    violations: list[str] = field(default_factory=list)
    applications: list[Instance] = field(default_factory=list)

    def tell(self, sentence: str) -> None:
        """A line for whoever watches."""
        print(f"{time.strftime('%H:%M:%S')} {sentence}", flush=True)

    def begin(self) -> None:
        """Register all, and start them."""
        self.applications = instances(self.directory)
        for one in self.applications:
            self.lab.sh(NAMES[0], one.write())
        self.lab.sh(NAMES[0], "caa_start -all")

    def run(self, faults: int) -> None:
        """Rounds until there were so many faults, or something is broken."""
        dice = random.Random(self.seed)
        while self.faults < faults and not self.violations:
            self._round(dice)

    def _round(self, dice: random.Random) -> None:
        begun = time.monotonic()
        struck = [self._draw(dice) for _ in range(dice.choice((1, 1, 2, 3)))]
        lines = [self._draw_order(dice) for _ in range(dice.choice((0, 1, 2, 3)))]
        pauses = [dice.uniform(0, 1.5) for _ in range(len(struck) + len(lines))]
        orders: list[Order] = []
        threads = []
        for fault in struck:
            if lines:
                orders.append(self._order(*lines.pop()))
            time.sleep(pauses.pop())
            thread = threading.Thread(target=strike, args=(self.lab, fault))
            thread.start()
            threads.append(thread)
        for member, line in lines:
            orders.append(self._order(member, line))
            time.sleep(pauses.pop())
        for thread in threads:
            thread.join()
        self.faults += len(struck)
        self.lab.run("heal")
        lacking = make_whole(self.lab, lambda member: None)
        whole_s = time.monotonic() - begun
        names = [f"{one.name} ({' '.join(one.begin[:2])} {one.lasts_s:g} s)" for one in struck]
        names += [f"{order.member}: {order.line}" for order in orders]
        if lacking:
            self.violations.append(f"not whole again: {lacking}")
        else:
            self._end_orders(orders)
            self._settle()
        settled_s = time.monotonic() - begun
        self.tell(
            f"{self.faults}: {'; '.join(names)}; whole {whole_s:.1f} s, settled {settled_s:.1f} s"
        )

    def _draw(self, dice: random.Random) -> Fault:
        fault = draw(dice)
        application = dice.choice(self.applications)
        member, pid = application.who()
        if dice.random() < 0.2 and member:
            words = ("exec", member, "--", "sh", "-c", f"kill -9 {pid}")
            return Fault(f"kill {application.name}", words)
        if dice.random() < 0.1:
            member = dice.choice(NAMES)
            record = self.lab.directory / member / "state" / "actions" / "keeper"
            words = ("exec", member, "--", "sh", "-c", f"read -r pid rest < {record}; kill -9 $pid")
            return Fault("kill the keeper", words)
        return fault

    def _draw_order(self, dice: random.Random) -> tuple[str, str]:
        member, other = dice.sample(NAMES, 2)
        name = dice.choice(self.applications).name
        line = dice.choice(
            (
                f"caa_relocate {name} -f",
                f"caa_relocate {name} -f -c {other}",
                f"caa_start {name} -f",
                f"caa_stop {name} -f",
                f"caa_stop {name} -f; caa_start {name} -f",
                "caa_balance -all",
                f"clufs drain {other}; clufs drain --off {other}",
                f"caa_register -u {name}",
                "caa_stat -t",
            )
        )
        return member, line

    def _order(self, member: str, line: str) -> Order:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.commands += 1
        return Order(member, line, self.lab.start(member, "sh", "-c", line, **quiet))

    def _end_orders(self, orders: list[Order]) -> None:
        until = time.monotonic() + COMMAND_S
        for order in orders:
            try:
                self.failed += order.process.wait(max(0.1, until - time.monotonic())) != 0
            except subprocess.TimeoutExpired:
                self.violations.append(f"{order.member}: {order.line}: does not end")
                order.process.kill()
                order.process.wait()

    # ------------------------------------------------------------ the judge

    def _settle(self) -> None:
        """What should run must run before long; what was stopped by an order is started again."""
        if not within(SETTLE_S, self._is_right):
            self.violations += self._wrong()
            for one in self.applications:
                self.tell(self._says(f"{one.name}/history")[-3000:])
                self.tell(f"{one.name}: {' '.join(one.log()[-10:])}, oracle {one.is_running()}")
        path = self.directory / "violations"
        if path.exists():
            self.violations += path.read_text().splitlines()
        if not self.violations:
            self._start_all()

    def _is_right(self) -> bool:
        """A fence that was ordered before the heal may still hit who has just come back: it is started again."""
        if not self._wrong():
            return True
        if any(state["member"] == "dead" for state in self.lab.states().values()):
            self.tell("a fence has come late")
            make_whole(self.lab, lambda member: None)
        return False

    def _start_all(self) -> None:
        self.commands += 1
        try:
            started = self.lab.run("exec", NAMES[0], "--", "caa_start", "-all", "-q")
        except subprocess.TimeoutExpired:
            self.violations.append("caa_start -all does not end")
            return
        if started.returncode and not within(SETTLE_S, self._is_right):
            self.violations.append(f"caa_start -all: {started.stdout} {started.stderr}")

    def _says(self, file: str) -> str:
        return self.lab.run("exec", NAMES[1], "--", "cat", f"{RESOURCES}/{file}").stdout.strip()

    def _wrong(self) -> list[str]:
        files = " ".join(
            f"{RESOURCES}/{one.name}/{what}"
            for one in self.applications
            for what in ("target", "state")
        )
        said = self.lab.run("exec", NAMES[1], "--", "sh", "-c", f"cat {files}").stdout.splitlines()
        if len(said) != 2 * len(self.applications):
            return [f"{NAMES[1]} says {said}"]
        wrong = []
        wanted = {
            one.name
            for one, target in zip(self.applications, said[::2], strict=True)
            if target == "ONLINE"
        }
        for one, target, state in zip(self.applications, said[::2], said[1::2], strict=True):
            member, _ = one.who()
            should = one.name in wanted and (not one.requires or one.requires in wanted)
            fits = f"ONLINE on {member}" if should else "OFFLINE"
            if state != fits or one.is_running() != should:
                wrong.append(
                    f"{one.name}: TARGET={target} STATE={state}, ran last on {member},"
                    f" {'is' if one.is_running() else 'is not'} running"
                )
        return wrong


def torture(faults: int, seed: int, directory: Path, keep: Path | None = None) -> Story:
    """Bring a lab up, torture its applications, take it down. keep: where it is copied if a promise was broken."""
    lab = Lab(directory / "lab")
    oracle = directory / "oracle"
    oracle.mkdir()
    story = Story(lab, oracle, seed)
    story.tell(f"seed {seed}, {faults} faults")
    lab.do("up")
    try:
        story.begin()
        story.run(faults)
        if story.violations:
            story.tell(lab.run("status").stdout)
            for name in NAMES:
                log = lab.directory / name / "clufsd.out"
                story.tell(log.read_text()[-4000:] if log.exists() else f"{name}: no log")
            if keep is not None:
                subprocess.run(["cp", "-r", str(directory), str(keep)], check=False)
    finally:
        lab.run("down")
    story.tell(f"{story.faults} faults, {story.commands} commands ({story.failed} failed)")
    for sentence in story.violations:
        story.tell(f"VIOLATION {sentence}")
    return story


def main() -> int:
    """Exit status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="applications", description=__doc__)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--keep", type=Path, help="a directory for what a broken promise leaves")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clufs-torture.") as directory:
        story = torture(options.faults, options.seed, Path(directory), options.keep)
    return 1 if story.violations else 0


if __name__ == "__main__":
    sys.exit(main())
