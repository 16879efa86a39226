"""A short torture of a real lab; `make torture SECONDS=600 SEED=1` is the long one."""

from pathlib import Path

import pytest

from tests.cluster.torture.__main__ import torture

SECONDS = 20
SEED = 1


@pytest.mark.timeout(180)
def test_random_faults_break_no_promise(tmp_path: Path) -> None:
    story = torture(SECONDS, SEED, tmp_path)
    assert story.violations == [], f"make torture SECONDS={SECONDS} SEED={SEED}"
    assert story.faults > 0
    assert " granted=" in f" {story.counts()}"
