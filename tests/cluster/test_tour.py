"""`clufs lab tour`: the story is played to its end, really, and nothing of it is left."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.lab import Lab

pytestmark = pytest.mark.timeout(150)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_has_seen_enough_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    lab = Lab(tmp_path / "lab")
    tour = subprocess.Popen(lab.line("tour", "--fast"), stdout=subprocess.PIPE, text=True)
    assert tour.stdout is not None
    for line in tour.stdout:
        if line.startswith("up in "):
            break
    tour.send_signal(number)
    tour.communicate()
    assert tour.returncode == 128 + signal.SIGINT
    assert not lab.directory.exists()
