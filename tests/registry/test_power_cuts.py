"""A file that is written beside another and renamed into its place, and the power goes in between."""

from __future__ import annotations

import pytest

from clufs.registry.files import MoveFile, PutFile, WriteFile
from tests.registry.cluster import Cluster

CAP, TMP = b"resources/web.cap", b"resources/tmp"
OLD, NEW = b"NAME=web\n#old\n", b"NAME=web\n#new\n"
STEPS = 60


def put(path: bytes, data: bytes) -> PutFile:
    return PutFile(path, data, 0, 0, 0o644, 0, new=True)


def begun(votes: tuple[int, ...], seed: int) -> Cluster:
    """The old profile and an empty file beside it are there for certain."""
    cluster = Cluster(votes, seed)
    for one in cluster.votes:
        cluster.start(one)
    cluster.part(list(cluster.votes))
    cluster.settle()
    cluster.propose(1, put(CAP, OLD))
    cluster.propose(1, put(TMP, b""))
    cluster.settle()
    return cluster


@pytest.mark.parametrize("votes", [(1,), (1, 1, 1)])
@pytest.mark.parametrize("steps", range(STEPS))
def test_a_profile_is_the_old_one_or_the_new_one(votes: tuple[int, ...], steps: int) -> None:
    """All members lose their power after so many steps; each write under way is on disk or is not."""
    cluster = begun(votes, steps)
    number = cluster.up[1].replica.state.files[TMP].number
    written = cluster.propose(1, WriteFile(number, NEW, 1))
    moved = cluster.propose(1, MoveFile(TMP, CAP, noreplace=False))
    for _ in range(steps):
        cluster.step()
    for one in cluster.votes:
        cluster.crash(one)
    for one in cluster.votes:
        cluster.start(one)
    cluster.part(list(cluster.votes))
    cluster.settle()
    (files,) = {frozenset(m.replica.state.files.items()) for m in cluster.up.values()}
    found = {path: record.data for path, record in files}
    assert found in (
        {CAP: OLD, TMP: b""},
        {CAP: OLD, TMP: NEW},
        {CAP: NEW},
    )
    if written in cluster.promised:
        assert found != {CAP: OLD, TMP: b""}
    if moved in cluster.promised:
        assert found == {CAP: NEW}


def test_the_power_went_at_every_moment() -> None:
    """The steps above reach from before the first write to after the last answer."""
    cluster = begun((1, 1, 1), 0)
    number = cluster.up[1].replica.state.files[TMP].number
    cluster.propose(1, WriteFile(number, NEW, 1))
    moved = cluster.propose(1, MoveFile(TMP, CAP, noreplace=False))
    count = 0
    while moved not in cluster.promised:
        assert cluster.step()
        count += 1
    assert count < STEPS
