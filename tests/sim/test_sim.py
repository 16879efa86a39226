"""A few hundred of the simulator's seeds, and that a seed says everything about its run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim.mutants import MUTANTS, seeds_until_found
from tests.sim.run import run
from tests.sim.story import story_of

SEEDS_A_TEST = 50


@pytest.mark.parametrize("first", range(0, 200, SEEDS_A_TEST))
def test_nothing_forbidden_happens(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        run(seed)


FOUND = {
    22407: "a release and a cancel followed each other to where the lock was not, for ever",
}
"""Seeds that once showed something, and what."""


@pytest.mark.parametrize("seed", FOUND, ids=str)
def test_what_was_found_once_does_not_happen(seed: int) -> None:
    run(seed)


def test_stories_differ() -> None:
    assert len({str(story_of(seed)) for seed in range(200)}) > 150


def test_a_seed_replays_exactly_in_another_process() -> None:
    """Also where strings hash to other numbers."""
    program = "from tests.sim.run import run; print([run(seed).digest for seed in range(900, 930)])"
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": number},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    "name",
    (
        "no phantoms",
        "queue places are ignored",
        "nobody waits for End",
        "requests are not asked again",
        "sequencers do not start with the view",
        "no sweep when the view is back",
        "one disk commits",
        "a broken connection loses messages",
        "ranges are not looked at",
        "who waits for bytes is forgotten",
        "what crosses a move is not asked again",
        "a move forgets the waiting order",
        "a move drops the value",
        "a new master builds before all have told",
        "an old master grants on",
    ),
)
def test_a_broken_protocol_is_noticed(name: str) -> None:
    assert seeds_until_found(MUTANTS[name], 200)[0]
