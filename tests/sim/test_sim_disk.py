"""Whole members and a quorum disk: some of the simulator's seeds, and what it finds where the protocol is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clufs.member.core import Core
from clufs.member.disk_keeper import DiskKeeper
from clufs.storage.quorum import Share
from tests.sim.clock import Violation
from tests.sim.mutants import broken
from tests.sim.run import run
from tests.sim.story import with_disk

SEEDS_A_TEST = 20


@pytest.mark.parametrize("first", range(0, 80, SEEDS_A_TEST))
def test_nothing_forbidden_happens(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        run(seed, story=with_disk(seed))


def test_the_disk_is_needed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs above are about something: views that members alone could not have."""
    needed = 0
    stand = Core._stand

    def watch(self: Core) -> Any:
        nonlocal needed
        was_standing = self.standing
        effects = stand(self)
        if self.standing and not was_standing and self.view is not None:
            needed += 2 * len(self.view.members) <= len(self.peers) + self.formation.disk_votes
        return effects

    monkeypatch.setattr(Core, "_stand", watch)
    for seed in range(15):
        run(seed, story=with_disk(seed))
    assert needed > 5


def _forgets(found: Any) -> Any:
    return lambda self, ballot, share: found(self, ballot, Share())


def _vouches_for_all(found: Any) -> Any:
    def store(self: DiskKeeper, effect: Any) -> Any:
        self._latest = None
        return found(self, effect)

    return store


@pytest.mark.parametrize(
    ("owner", "name", "how"),
    [
        pytest.param(DiskKeeper, "taken", _forgets, id="a keeper does not look what is there"),
        pytest.param(DiskKeeper, "store", _vouches_for_all, id="the disk vouches for any number"),
    ],
)
def test_a_broken_keeper_is_noticed(owner: Any, name: str, how: Callable[[Any], Any]) -> None:
    with broken(owner, name, how), pytest.raises(Violation):
        for seed in range(40, 200):
            run(seed, story=with_disk(seed))
