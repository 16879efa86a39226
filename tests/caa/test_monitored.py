"""What the record of a network, tape or changer says of members."""

from __future__ import annotations

from clufs.caa.interface import MonitorChanged
from tests.caa.world import World, profile


def test_a_device_that_was_never_found_is_monitored_all_the_same() -> None:
    world = World(["provolone", "polishham"])
    world.add(profile("tape", "tape1", {"DEVICE_NAME": "/dev/tape1"}))
    world.plan()
    for member in ("provolone", "polishham"):
        world.step(MonitorChanged("tape1", member, False))
    said = [(one.member, one.target, one.state) for one in world.records["tape1"].monitors]
    assert said == [("polishham", "ONLINE", "OFFLINE"), ("provolone", "ONLINE", "OFFLINE")]
    assert world.records["tape1"].history == ()
