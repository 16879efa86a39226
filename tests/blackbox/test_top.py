"""clufs top beside a /clu that is busy, printed and live, and who sees which names."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.blackbox.clu import PATIENCE_S, Clu, Shell
from tests.blackbox.people import Person

CLUFS = Path(sys.executable).with_name("clufs")


@contextmanager
def busy(clu: Clu, shell: Callable[..., Shell]) -> Iterator[None]:
    """A shell takes and gives a lock again and again."""
    worker = shell("dash", clu.public)
    worker.tell("while :; do echo EX > hot; echo UN > hot; done")
    try:
        yield
    finally:
        worker.process.kill()


def test_the_busy_lock_is_shown_with_its_rate(clu: Clu, shell: Callable[..., Shell]) -> None:
    with busy(clu, shell):
        words = [CLUFS, "top", "-d", "0.5", "-n", "2"]
        text = subprocess.check_output(
            words, text=True, env={**os.environ, "CLU_ROOT": str(clu.root)}
        )
    screens = text.strip().split("\n\n\n")
    assert len(re.findall("^cluster ", text, re.M)) == 2, screens
    assert re.search(r"^MEMBER +STATE", text, re.M)
    hot = re.findall(r"^public/hot +([0-9,.]+) ", text, re.M)
    assert len(hot) == 2 and all(float(one.replace(",", "")) > 10 for one in hot)


def test_it_lives_in_a_terminal_until_q(clu: Clu, shell: Callable[..., Shell]) -> None:
    with busy(clu, shell):
        ours, theirs = pty.openpty()
        environment = {**os.environ, "CLU_ROOT": str(clu.root), "TERM": "vt100", "LINES": "24"}
        process = subprocess.Popen(
            [CLUFS, "top", "-d", "0.2"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "COLUMNS": "80"},
        )
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + PATIENCE_S
        while b"public/hot" not in seen and time.monotonic() < deadline:
            seen += os.read(ours, 4096)
        os.write(ours, b"q")
        with open(ours, "rb", buffering=0) as rest:
            try:
                while rest.read(4096):
                    pass
            except OSError:
                pass  # the terminal's other end is closed
        assert process.wait(PATIENCE_S) == 0
    assert b"public/hot" in seen


def test_names_are_for_those_who_may_use_the_namespace(
    clu: Clu, shell: Callable[..., Shell]
) -> None:
    mine = shell("dash", clu.root)
    mine.ask("mkdir -m 700 locks/mine; echo EX > locks/mine/secret; echo EX > locks/public/seen")
    report = clu.root / "status" / "busiest"
    assert " mine/secret\n" in report.read_text()
    stranger = Person(4242, 4242)
    status, text = stranger.runs("cat busiest", report.parent)
    assert status == 0
    assert " public/seen\n" in text and "secret" not in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-d", "0"], "0: seconds from 0.1 to 3600"),
        (["-n", "0"], "0: at least 1"),
        (["-x"], "unrecognized arguments: -x"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], sentence: str) -> None:
    done = subprocess.run([CLUFS, "top", *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert sentence in done.stderr and "usage: clufs top" in done.stderr


def test_without_a_clu_it_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "CLU_ROOT": str(tmp_path)}
    done = subprocess.run([CLUFS, "top"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr == (
        f"clufs top: {tmp_path}/status/cluster: No such file or directory: is clufsd running?\n"
    )
