"""Labs for the tests of one module, or of all; each goes down with them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import NAMES, Lab


def _up(directory: Path, *words: str) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.fail("the lab needs root")
    lab = Lab(directory)
    lab.do("up", *words)
    yield lab
    lab.run("down")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three members."""
    yield from _up(tmp_path_factory.mktemp("lab") / "lab")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One member, whom nobody fences."""
    yield from _up(tmp_path_factory.mktemp("alone") / "lab", "--members", "1")


@pytest.fixture(scope="package")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three members whose daemons are paused: what is done to them has no consequences."""
    for lab in _up(tmp_path_factory.mktemp("quiet") / "lab"):
        for name in NAMES:
            lab.do("pause", name, "--what", "clufsd")
        yield lab
