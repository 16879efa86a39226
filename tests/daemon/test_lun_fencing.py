"""What a daemon says of the methods of its LUNs, and when it counts a life as off that its reservation keeps out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from clufs.config import Config, Engine, Fencing, LunAgent
from clufs.daemon.lun_fencing import LunFencing
from clufs.storage.certificate import MemberKey
from clufs.storage.inventory import KnownPath, SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.lease import OnDisk
from clufs.storage.lease_wire import Seen, boottime
from clufs.storage.records import LeaseState
from clufs.timeouts.lease import QUEUED_WRITE_S
from clufs.tree.journals import Events

NAMES = ("provolone", "polishham", "pepicelli")
VICTIM = MemberKey(1, 2, 9)


def seen(member: int, on_disk: OnDisk = OnDisk.ALIVE, **other: Any) -> Seen:
    """A heartbeat of incarnation 9, of which others know since long ago."""
    words = {"state": LeaseState.IN, "guarded": True, "incarnation": 9, "silent_s": 0.0, **other}
    return Seen(
        member,
        on_disk,
        words["state"],
        0,
        words["guarded"],
        1,
        words["incarnation"],
        5,
        1,
        0,
        boottime() - words["silent_s"],
        words["silent_s"],
        1000,
        15000,
    )


class Daemon:
    """As much of one as LUNs want to know. heartbeats: by nodeid, on its one LUN of clufs."""

    def __init__(self) -> None:
        self.heartbeats = {number: seen(number) for number in (1, 2, 3)}
        peers = [SimpleNamespace(id=n, name=name) for n, name in enumerate(NAMES, 1)]
        runtime = SimpleNamespace(engine=SimpleNamespace(peers=peers))
        lease = SimpleNamespace(heartbeats=lambda member: {"disk": self.heartbeats[member]})
        membership: Any = SimpleNamespace(
            cluster_name="lab", name="provolone", disk_lease=lease, runtime=runtime
        )
        config = Config(engine=Engine(), fencing=Fencing((LunAgent(),)))
        self.luns = Luns("iqn.2026-01.org.clufs:provolone", watches_devices=False)
        self.luns.expect("clufs", ["/own"])
        self.fencing = LunFencing(config, self.luns, membership, Events(lambda: 0.0))
        self.lun = SharedLun("naa.1", "data")
        guard = self.fencing._guard
        assert guard is not None and guard.holding is not None
        self.guard, self.holding = guard, guard.holding
        guard.entered.add("naa.1")
        guard.keyless.add("naa.1")

    def keeps(self) -> None:
        """It has taken the LUN from the victim."""
        self.guard.lockable.add("naa.1")
        self.holding.took(self.lun, KnownPath("iscsi://host/target/0", entry=0), 1, VICTIM)


def test_time_is_the_method_only_while_every_record_names_a_hardware_watchdog() -> None:
    daemon = Daemon()
    assert daemon.fencing.method(daemon.lun).startswith("METHOD=time\n")
    daemon.heartbeats[3] = seen(3, guarded=False)
    said = daemon.fencing.method(daemon.lun)
    assert said.startswith("METHOD=person\n") and "and pepicelli has none" in said
    daemon.heartbeats[3] = seen(3, OnDisk.ENDED, guarded=False)
    assert daemon.fencing.method(daemon.lun).startswith("METHOD=time\n")


def test_a_lun_that_is_kept_from_somebody_says_from_whom() -> None:
    daemon = Daemon()
    daemon.keeps()
    said = daemon.fencing.method(daemon.lun)
    assert said.startswith("METHOD=lock-disk\n")
    assert said.endswith("HELD=host:target:0 alone until polishham (incarnation 9) is off\n")


@pytest.mark.parametrize(
    ("beat", "is_off"),
    [
        (seen(2), False),
        (seen(2, OnDisk.DEAD, silent_s=4000.0), True),
        (seen(2, OnDisk.DEAD, silent_s=4000.0, guarded=False), False),
        (seen(2, OnDisk.ENDED, silent_s=QUEUED_WRITE_S + 1), True),
        (seen(2, incarnation=10, state=LeaseState.STARTING), False),
        (seen(2, incarnation=10), True),
    ],
)
def test_who_is_known_to_be_off(beat: Seen, is_off: bool) -> None:
    daemon = Daemon()
    daemon.heartbeats[2] = beat
    assert daemon.fencing._is_off(VICTIM) == is_off


def test_a_persons_word_ends_what_only_this_member_keeps_up() -> None:
    daemon = Daemon()
    assert not daemon.fencing.confirm("polishham")
    daemon.keeps()
    assert not daemon.fencing.confirm("pepicelli") and not daemon.fencing._is_off(VICTIM)
    assert daemon.fencing.confirm("polishham")
    assert daemon.fencing._is_off(VICTIM)
