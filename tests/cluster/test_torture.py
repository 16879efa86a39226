"""A short torture of a real lab; `make torture SECONDS=600 SEED=1` is the long one."""

import random
from pathlib import Path

import pytest

from tests.cluster.torture.__main__ import torture

SECONDS = 20


@pytest.mark.timeout(180)
def test_random_faults_break_no_promise(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    story = torture(SECONDS, seed, tmp_path)
    assert story.violations == [], f"make torture SECONDS={SECONDS} SEED={seed}"
    assert story.faults > 0
    assert " granted=" in f" {story.counts()}"
