"""Two members and a disk of three LUNs: who has the disk goes on, and knows what the other one had heard."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.cluster.lab import NAMES, Lab, within

pytestmark = pytest.mark.timeout(200)

FIRST, SECOND = NAMES[:2]
PATIENCE_S = 40
LUNS = ("1", "2", "3")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Both members are in, and one of them keeps the disk."""
    found = Lab(tmp_path_factory.mktemp("lab") / "lab")
    found.do("up", "--members", "2", "--own-luns", "3", "--quorum-disk")
    yield found
    found.do("down")


@pytest.fixture(autouse=True)
def whole(lab: Lab) -> Iterator[None]:
    """Whatever a story does, the next one begins with both."""
    yield
    lab.do("heal")
    for lun in LUNS:
        lab.do("lun", "online", lun)
    for name in (FIRST, SECOND):
        if lab.state(name)[0] == "dead":
            lab.do("restart", name)
    for name in (FIRST, SECOND):
        assert within(PATIENCE_S, lambda name=name: quorum(lab, name)["VOTES"] == "3")


def quorum(lab: Lab, member: str) -> dict[str, str]:
    text = lab.sh(member, "cat /clu/status/quorum")
    return dict(line.split("=", 1) for line in text.splitlines())


def is_quorate(lab: Lab, member: str) -> bool:
    return quorum(lab, member)["QUORATE"] == "1"


def quorate_spans(lab: Lab, member: str, since: int) -> list[tuple[str, str]]:
    """From when to when corosync was quorate there since its log had that length; the last may not be over."""
    log = (lab.directory / member / "corosync.log").read_text()[since:]
    words = re.findall(r"^(\w+ +\d+ [\d:.]+) .* is within the (non-)?primary component", log, re.M)
    spans, begun = [], "0"
    for when, non in words:
        if non and begun:
            spans.append((begun, when))
        begun = "" if non else begun or when
    return spans + [(begun, "~")] * bool(begun)


def log_length(lab: Lab, member: str) -> int:
    return len((lab.directory / member / "corosync.log").read_text())


def told(lab: Lab, member: str, state: str) -> int:
    """How often a member has said that it keeps the disk now, or does no more."""
    return int(lab.sh(member, f"grep -c ' quorum-disk state={state}' /clu/events || :"))


def test_where_the_link_is_cut_exactly_one_goes_on(lab: Lab) -> None:
    before = {name: log_length(lab, name) for name in (FIRST, SECOND)}
    lab.do("cut", SECOND)
    # Who goes on has the other one fenced.
    assert within(PATIENCE_S, lambda: "dead" in {lab.state(name)[0] for name in before})
    (alive,) = [name for name in before if lab.state(name)[0] == "up"]
    assert within(PATIENCE_S, lambda: is_quorate(lab, alive))
    lab.sh(alive, "echo EX > /clu/locks/public/goes-on")
    (dead,) = before.keys() - {alive}
    # A machine that is slow enough may lose the disk again, and then the other one has it: never both.
    for mine in quorate_spans(lab, alive, before[alive])[1:]:
        for others in quorate_spans(lab, dead, before[dead])[1:]:
            assert mine[1] <= others[0] or others[1] <= mine[0], (mine, others)


def test_without_the_disk_both_go_on_as_before(lab: Lab) -> None:
    view = quorum(lab, FIRST)["VIEW"]
    lost = sum(told(lab, name, "lost") for name in (FIRST, SECOND))
    for lun in LUNS:
        lab.do("lun", "offline", lun)
    assert within(
        PATIENCE_S, lambda: sum(told(lab, name, "lost") for name in (FIRST, SECOND)) > lost
    )
    for name in (FIRST, SECOND):
        lab.sh(name, "echo EX > /clu/locks/public/without && echo UN > /clu/locks/public/without")
        found = quorum(lab, name)
        assert (found["QUORATE"], found["VIEW"], found["VOTES"]) == ("1", view, "2")


def test_one_alone_goes_on_with_most_of_the_disk_and_leaves_there_what_it_made(lab: Lab) -> None:
    lab.do("lun", "offline", LUNS[1])
    hold = "echo EX > /clu/locks/public/job && echo held && sleep 1000"
    with lab.start(SECOND, "dash", "-c", hold, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lab.do("kill", SECOND)
    # It is granted once the dead one is fenced.
    lab.sh(FIRST, "echo EX > /clu/locks/public/job")
    lab.do("lun", "offline", LUNS[0])
    assert within(PATIENCE_S, lambda: not is_quorate(lab, FIRST))
    refused = lab.run("exec", FIRST, "--", "sh", "-c", "echo EX nowait > /clu/locks/public/more")
    assert refused.returncode != 0
    assert "EHOSTDOWN" in lab.sh(FIRST, "tail -n 1 /clu/status/errors")
    lab.do("lun", "online", LUNS[0])
    lab.sh(FIRST, "echo EX > /clu/locks/public/more")
    lab.sh(FIRST, "mkdir -m 700 /clu/locks/known")
    lab.do("kill", FIRST)
    lab.do("restart", SECOND)
    assert lab.sh(SECOND, "stat -c %a /clu/locks/known") == "700\n"
