"""Where the tour is shown: text told, commands typed and really run, their output, and pauses."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import clufs
from clufs.errors import ProgramError
from clufs.lab import cluster
from clufs.lab.plan import DIRECTORY_VARIABLE, Lab
from clufs.lab.shell import Done, Shell
from clufs.timeouts import LAB_START_S, TOUR_KEY_S, TOUR_LOOK_S, TOUR_PROMPT_S, TOUR_READ_S

_WIDTH = 78
_YOU = "you"


class Stage:
    """Shows a story on a lab. fast: without typing and pauses. Raises ProgramError where it breaks."""

    def __init__(self, lab: Lab, fast: bool) -> None:
        self.lab = lab
        self.fast = fast
        self._shells: dict[str, Shell] = {}
        self._waiting_since: dict[str, float] = {}
        here = str(Path(clufs.__file__).parent.parent)
        self._environment = {
            **os.environ, "PYTHONPATH": here, DIRECTORY_VARIABLE: str(lab.directory)
        }  # fmt: skip

    def close(self) -> None:
        """End all shells."""
        for shell in self._shells.values():
            shell.close()
        self._shells.clear()

    # -------------------------------------------------------------- what is seen

    def tell(self, text: str) -> None:
        """Tell something, and leave the time to read it."""
        lines = textwrap.wrap(" ".join(text.split()), _WIDTH)
        self._print("", *(self._styled(line, "36") for line in lines), "")
        self._pause(TOUR_READ_S * len(text))

    def _print(self, *lines: str) -> None:
        for line in lines:
            print(line, flush=True)

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if sys.stdout.isatty() else text

    def _pause(self, seconds: float) -> None:
        if not self.fast:
            time.sleep(seconds)

    def _type(self, who: str, command: str) -> None:
        print(self._styled(f"{who}# ", "1"), end="", flush=True)
        self._pause(TOUR_PROMPT_S)
        for letter in command:
            print(letter, end="", flush=True)
            self._pause(TOUR_KEY_S)
        print(flush=True)

    def _show(self, output: str) -> None:
        self._print(*output.splitlines())
        self._pause(TOUR_PROMPT_S + TOUR_READ_S * len(output) / 3)

    # -------------------------------------------------------------- what is done

    def run(self, command: str) -> None:
        """Run `clufs ...` here, as the person who watches could."""
        self._type(_YOU, command)
        program = [sys.executable, "-m", "clufs.cli.clufs", *command.split()[1:]]
        done = subprocess.run(
            program,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        )
        self._show(done.stdout)
        if done.returncode != 0:
            raise ProgramError(f"{command}: exit status {done.returncode}")

    def do(self, member: str, command: str, *, refused: bool = False) -> str:
        """Run a command in the shell of a member, that ends at once, and show what it printed."""
        self._type(member, command)
        shell = self._shell(member)
        shell.begin(command)
        done = shell.finish(LAB_START_S)
        if done is None:
            raise ProgramError(f"{member}: {command}: no end after {LAB_START_S:g} s")
        self._show(done.output)
        self._expect(member, done, refused)
        return done.output

    def wait(self, member: str, command: str) -> None:
        """Start a command in the shell of a member that must wait."""
        self.start(member, command)
        if self._shell(member).finish(TOUR_LOOK_S) is not None:
            raise ProgramError(f"{member}: {command}: did not wait")
        self._print("    ... waits")

    def start(self, member: str, command: str) -> None:
        """Start a command in the shell of a member, whatever becomes of it."""
        self._type(member, command)
        self._shell(member).begin(command)
        self._waiting_since[member] = time.monotonic()

    def goes_on(self, member: str) -> None:
        """See the end of what waits in a member."""
        done = self._shell(member).finish(LAB_START_S)
        if done is None:
            raise ProgramError(f"{member}: waits still after {LAB_START_S:g} s")
        self._ended(member, done)
        self._expect(member, done, refused=False)

    def first_refused(self, *members: str) -> str:
        """See the first of several waiting commands end, with an error; the member where it did."""
        deadline = time.monotonic() + LAB_START_S
        while time.monotonic() < deadline:
            for member in members:
                done = self._shell(member).finish(TOUR_LOOK_S / 10)
                if done is not None:
                    self._ended(member, done)
                    self._expect(member, done, refused=True)
                    return member
        raise ProgramError(f"{' and '.join(members)} wait still after {LAB_START_S:g} s")

    def forget(self, member: str) -> None:
        """A member died, and its shell with it."""
        self._shells.pop(member).close()

    def _ended(self, member: str, done: Done) -> None:
        waited_s = time.monotonic() - self._waiting_since.pop(member)
        how = "goes on" if done.status == 0 else "is refused"
        self._show(done.output + f"    ... {member} {how}, after {waited_s:.1f} s\n")

    def _expect(self, member: str, done: Done, refused: bool) -> None:
        if (done.status != 0) != refused:
            raise ProgramError(f"{member}: exit status {done.status}: {done.output.strip()}")

    def _shell(self, member: str) -> Shell:
        if member not in self._shells:
            _, init = cluster.living(self.lab, member)
            self._shells[member] = Shell(init, member)
        return self._shells[member]
