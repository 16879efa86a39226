"""`clufs lab tour`: the story is played to its end, really, and nothing of it is left."""

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.lab import Lab

pytestmark = pytest.mark.timeout(150)


def test_the_story_goes_as_told(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    done = lab.run("tour", "--fast")
    story = done.stdout
    assert (done.returncode, done.stderr) == (0, ""), story
    for said in (
        "you# clufs lab up\nup in ",
        "MEMBERS=provolone polishham pepicelli\n",
        "polishham# ls /clu/locks\npublic\ntour\n",
        "    ... waits\n",
        "the key is under the mat\n",
        "Resource deadlock avoided\n    ... ",
        " is refused, after ",
        " VICTIM\n",
        "1000 francs\nVALID=0\n",
        "you# clufs lab status\n",
        "polishham address=10.77.0.2 member=dead corosync=dead clufsd=dead cut=all\n",
        "you# clufs lab down\n",
    ):
        assert said in story
    assert len(re.findall(r"^    \.\.\. \w+ goes on, after [0-9.]+ s$", story, re.M)) == 4
    assert not lab.directory.exists()


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
