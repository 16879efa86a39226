"""Fixtures of the black-box tests: a /clu for a whole module, or for one test alone; shells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.clu import Clu, Shell, running
from tests.blackbox.program import Program


@pytest.fixture(scope="module")
def clu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clu]:
    """A /clu that the tests of one module share; each uses names of its own."""
    yield from running(tmp_path_factory.mktemp("clu"))


@pytest.fixture
def own_clu(tmp_path: Path) -> Iterator[Clu]:
    """A /clu that a test may do anything to."""
    yield from running(tmp_path)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A lock name of this test alone."""
    return "".join(char if char.isalnum() else "_" for char in request.node.name)


@pytest.fixture
def shell() -> Iterator[Callable[..., Shell]]:
    """Starts shells, and ends them after the test."""
    shells: list[Shell] = []

    def start(*arguments: object, **options: object) -> Shell:
        shells.append(Shell(*arguments, **options))  # type: ignore[arg-type]
        return shells[-1]

    yield start
    for one in shells:
        one.close()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts Python children, and ends them after the test."""
    programs: list[Program] = []

    def start(*arguments: object, **options: object) -> Program:
        programs.append(Program(*arguments, **options))  # type: ignore[arg-type]
        return programs[-1]

    yield start
    for one in programs:
        one.close()
