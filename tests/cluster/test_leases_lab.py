"""Three members with one LUN of clufs' own: what their heartbeats on it tell that the network does not."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from tests.cluster.lab import NAMES, Lab, within

PATIENCE_S = 60
PROVOLONE, POLISHHAM, PEPICELLI = NAMES


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three members, each with a lease on one LUN."""
    found = Lab(tmp_path_factory.mktemp("lab") / "lab")
    found.do("up", "--own-luns", "1")
    yield found
    found.do("down")


def slots(lab: Lab, member: str) -> dict[str, dict[str, str]]:
    """What a member shows of every heartbeat."""
    text = lab.sh(member, "cat /clu/luns/naa*/slots")
    lines = [dict(word.split("=", 1) for word in line.split()) for line in text.splitlines()]
    return {line["MEMBER"]: line for line in lines}


def all_alive(lab: Lab) -> bool:
    """Whether every member sees every other on the disk and hears it."""
    return all(
        {name: (s["ON_DISK"], s["HEARD"]) for name, s in slots(lab, one).items()}
        == dict.fromkeys(NAMES, ("alive", "1"))
        for one in NAMES
    )


def seen(lab: Lab, member: str, whom: str) -> list[str]:
    """What a member has told of another's heartbeat, the latest last."""
    events = lab.sh(member, "cat /clu/events").replace("\\040", " ")
    return re.findall(rf"lun-heartbeat member={whom} seen=(.*)", events)


def test_every_member_sees_the_heartbeat_of_every_other(lab: Lab) -> None:
    assert within(PATIENCE_S, lambda: all_alive(lab))
    # A record is written once an interval: the last one may be of before the member was in.
    assert within(
        PATIENCE_S, lambda: {one["STATE"] for one in slots(lab, PROVOLONE).values()} == {"IN"}
    )
    found = slots(lab, PROVOLONE)
    assert len({line["VIEW"] for line in found.values()}) == 1
    assert found[POLISHHAM]["HEARS"] == f"{PROVOLONE},{PEPICELLI}"


def test_a_member_that_is_cut_off_is_unheard_and_alive_on_disk(lab: Lab) -> None:
    assert within(PATIENCE_S, lambda: all_alive(lab))
    lab.do("cut", PEPICELLI)
    unheard = "unheard on the network, alive on disk"
    assert within(PATIENCE_S, lambda: unheard in seen(lab, PROVOLONE, PEPICELLI))
    assert within(PATIENCE_S, lambda: lab.state(PEPICELLI)[0] == "dead")  # it was fenced
    # And told to stop, as not every agent is so quick.
    url = lab.do("lun", "status").split()[-1]
    show = f"{sys.executable} -m clufs.cli.clufs lun show {url}"
    assert within(PATIENCE_S, lambda: "MESSAGE=STOP TO=3 UP_TO=1 " in lab.sh(PROVOLONE, show))
    lab.do("heal")
    lab.revive(PEPICELLI)
    assert within(PATIENCE_S, lambda: all_alive(lab))


def test_a_member_whose_lease_process_stands_still_is_ended_as_a_whole(lab: Lab) -> None:
    assert within(PATIENCE_S, lambda: all_alive(lab))
    lab.sh(POLISHHAM, "pkill -STOP -f '[c]lufs.storage.lease_process'")
    assert within(PATIENCE_S, lambda: lab.state(POLISHHAM)[0] == "dead")
    lab.revive(POLISHHAM)
    assert within(PATIENCE_S, lambda: all_alive(lab))
