"""The tour in README.md prints what it says it prints, in two real terminals."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.blackbox.clu import PATIENCE_S, Clu, until

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
PROMPT = re.compile(r"^(one|two)\$ (.*)$")
WAITS = "# waits"
HOST = "provolone"
"""The member of README.md."""

STILL_WAITS_S = 0.2


class Step(NamedTuple):
    """A command of the tour, and what follows it."""

    terminal: str
    command: str
    output: str


def tour(text: str) -> list[Step]:
    """The steps of the console blocks."""
    steps: list[Step] = []
    for line in "".join(re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S)).splitlines():
        prompt = PROMPT.match(line)
        if prompt:
            steps.append(Step(prompt[1], prompt[2], ""))
        else:
            steps[-1] = steps[-1]._replace(output=f"{steps[-1].output}{line}\n")
    return steps


class Terminal:
    """An interactive bash on a terminal of its own, whose prompt is `NAME$ `."""

    def __init__(self, name: str) -> None:
        self.prompt = f"{name}$ "
        self.end, inner = pty.openpty()
        termios.tcsetwinsize(inner, (24, 1000))  # else a long line scrolls sideways as it is typed
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "PS1": self.prompt, "TERM": "dumb", "LC_ALL": "C", "HISTFILE": ""},
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(inner)
        self.heard = ""
        self.until_prompt()

    def tell(self, command: str) -> None:
        """Type a line; it comes back from the terminal."""
        os.write(self.end, f"{command}\n".encode())
        self._hear(lambda: f"{command}\n" in self.heard)
        self.heard = self.heard.partition(f"{command}\n")[2]

    def until_prompt(self) -> str:
        """What is printed before the next prompt."""
        self._hear(lambda: self.heard.endswith(self.prompt))
        printed, self.heard = self.heard.removesuffix(self.prompt), ""
        return printed

    def is_quiet(self) -> bool:
        """Nothing comes for a moment, not even a prompt."""
        return not self.heard and not select.select([self.end], [], [], STILL_WAITS_S)[0]

    def _hear(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not enough():
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.end], [], [], left)[0], repr(self.heard)
            self.heard += os.read(self.end, 65536).decode().replace("\r\n", "\n")

    def close(self) -> None:
        """Close the terminal, with the shell in it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            os.close(self.end)


@pytest.fixture
def terminals() -> Iterator[dict[str, Terminal]]:
    """The two terminals of the tour."""
    both = {name: Terminal(name) for name in ("one", "two")}
    yield both
    for terminal in both.values():
        terminal.close()


def taken(steps: list[Step], clu: Clu, terminals: dict[str, Terminal]) -> list[Step]:
    """The same steps, with what is really printed."""
    member = os.readlink(clu.root / "members" / "self")
    waiting: set[str] = set()
    real: list[Step] = []
    for step in steps:
        terminal = terminals[step.terminal]
        if step.terminal in waiting:
            waiting.remove(step.terminal)
            assert terminal.until_prompt() == ""
        terminal.tell(step.command.replace("/clu/", f"{clu.root}/"))
        printed = ""
        if step.command.endswith(WAITS):
            assert terminal.is_quiet(), f"{step.command} does not wait"
            waiting.add(step.terminal)
        else:
            printed = terminal.until_prompt()
        printed = printed.replace(f"{clu.root}/", "/clu/")
        real.append(step._replace(output=re.sub(rf"\b{re.escape(member)}\b", HOST, printed)))
    return real


def shown(steps: list[Step]) -> str:
    """The steps with times and numbers made alike."""
    return re.sub(r"\d+", "0", re.sub(r"[\d-]+T[\d:.]+Z", "TIME", written(steps)))


def written(steps: list[Step]) -> str:
    """The steps as README.md has them."""
    return "".join(f"{step.terminal}$ {step.command}\n{step.output}" for step in steps)


def test_the_tour_prints_what_readme_says(clu: Clu, terminals: dict[str, Terminal]) -> None:
    steps = tour(README)
    real = taken(steps, clu, terminals)
    assert shown(real) == shown(steps), f"what was printed:\n{written(real)}"
    for terminal in terminals.values():
        terminal.close()
    until(lambda: list(clu.public.iterdir()) == [], "no lock is left")


def test_the_tour_shows_what_a_newcomer_needs() -> None:
    text = "".join(step.command + step.output for step in tour(README))
    for wanted in ("EX", "PR", "UN", "value=", "signal=", WAITS, "waits for EX", "VICTIM"):
        assert wanted in text


def test_every_link_of_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]*)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readme_names_targets_that_exist() -> None:
    targets = set(re.findall(r"`?make ([a-z]+)", README))
    assert {"run", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.M)] == []


def test_the_sections_that_readme_names_are_in_the_man_page() -> None:
    page = (ROOT / "mount" / "clufs-files.7").read_text()
    sections = set(re.findall(r"^\.S[SH] (.*)$", page, re.M))
    named = set(re.findall(r"\*([A-Z][\w ]+)\*", README))
    assert named
    assert named <= sections
