"""`clufs lab` as the tests use it: the program, for one directory, and waiting for what it brings."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("provolone", "polishham", "pepicelli")


class Lab:
    """The program, for one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def line(self, command: str, *words: str) -> list[str]:
        """The command line of `clufs lab COMMAND WORDS`; without LUNs unless they are asked for."""
        program = [sys.executable, "-m", "clufs.cli.clufs", "lab", command]
        if command == "up" and "--luns" not in words:
            words = ("--luns", "0", *words)
        return [*program, "--dir", str(self.directory), *words]

    def run(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run it, whatever comes of it."""
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            self.line(*words), capture_output=True, text=True, timeout=100, **options
        )

    def do(self, *words: str) -> str:
        """Run what must succeed; what it printed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sh(self, member: str, script: str) -> str:
        """Run a shell script in a member; what it printed. A shell says no more than "I/O error": clufs says why."""
        done = self.run("exec", member, "--", "sh", "-c", script)
        if done.returncode:
            why = self.run("exec", member, "--", "tail", "-n", "5", "/clu/status/errors").stdout
            raise AssertionError(f"{done.stderr}{member} has refused last:\n{why}")
        return done.stdout

    def start(self, member: str, *command: str, **options: object) -> "subprocess.Popen[str]":
        """Start a command in a member; it gets SIGTERM when the returned process is gone."""
        line = self.line("exec", member, "--", *command)
        return subprocess.Popen(line, text=True, **options)  # type: ignore[call-overload, no-any-return]

    def revive(self, member: str) -> None:
        """Restart a dead member of three once the others have fenced it: a fence that comes late kills
        whoever is there."""
        other = next(name for name in NAMES if self.state(name)[2] == "up")
        state = f"cat /clu/members/{member}/state"
        assert within(30, lambda: self.sh(other, state) == "down\n")
        self.do("restart", member)

    def states(self) -> dict[str, dict[str, str]]:
        """What `status` prints, by member."""
        lines = [line.split() for line in self.do("status").splitlines()]
        return {name: dict(word.split("=") for word in words) for name, *words in lines}

    def state(self, member: str) -> tuple[str, str, str]:
        """How a member, its corosync and its clufsd are."""
        states = self.states()[member]
        return states["member"], states["corosync"], states["clufsd"]

    def all_up(self) -> bool:
        """Whether nobody is dead, paused or cut off."""
        states = self.states().values()
        return all({*one.values()} == {one["address"], "up"} for one in states)


def within(seconds: float, true: Callable[[], object]) -> bool:
    """Whether something comes true within that time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
