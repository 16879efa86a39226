"""Short tortures of real labs; `make torture SECONDS=600 SEED=1` and `make torture-applications FAULTS=1000 SEED=1`
are the long ones."""

from pathlib import Path

import pytest

from tests.cluster.torture import applications
from tests.cluster.torture.__main__ import torture

SECONDS = 20
FAULTS = 3
SEED = 1


@pytest.mark.timeout(180)
def test_random_faults_break_no_promise(tmp_path: Path) -> None:
    story = torture(SECONDS, SEED, tmp_path)
    assert story.violations == [], f"make torture SECONDS={SECONDS} SEED={SEED}"
    assert story.faults > 0
    assert " granted=" in f" {story.counts()}"


@pytest.mark.timeout(300)
def test_random_faults_leave_no_application_down_and_none_twice(tmp_path: Path) -> None:
    story = applications.torture(FAULTS, SEED, tmp_path)
    assert story.violations == [], f"make torture-applications FAULTS={FAULTS} SEED={SEED}"
    assert story.faults >= FAULTS and story.commands > 0
