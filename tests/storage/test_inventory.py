"""Bookkeeping of LUNs and their paths: who comes, who goes, and what an administrator is told of it."""

import pytest
import trio

from clufs.errors import LunError
from clufs.storage.block import FileBlock
from clufs.storage.devices import KernelDevice
from clufs.storage.inventory import Change, Inventory, KnownPath, PathState, SharedLun
from clufs.storage.paths import Identity, LunPath
from clufs.storage.port_groups import AccessState, PortGroup

X = Identity("naa.1", 512, 100, alua=True)
Y = Identity("naa.2", 512, 100)
A, B = "iscsi://a/iqn.x/0", "iscsi://b/iqn.x/0"


class Told:
    """An inventory, and what it tells."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.inventory = Inventory(self.changes.append, lambda: 1.5)

    def news(self) -> list[str]:
        """What was told since the last time."""
        found = [
            " ".join(filter(None, (each.what, each.lun, each.path, each.why)))
            for each in self.changes
        ]
        self.changes.clear()
        return found


def opened(path: KnownPath, identity: Identity = X) -> LunPath:
    return LunPath(path.url, identity, FileBlock.__new__(FileBlock), None, trio.Event())


def test_a_configured_lun_is_known_once_a_path_is_open() -> None:
    told = Told()
    a, b = told.inventory.expect("clufs", [A, B])
    assert not told.inventory.luns
    told.inventory.up(a, opened(a))
    lun = told.inventory.luns["naa.1"]
    assert (lun.role, lun.usable()) == ("clufs", [a])
    told.inventory.up(b, opened(b))
    told.inventory.up(b, opened(b))
    assert set(lun.paths) == {"a:iqn.x:0", "b:iqn.x:0"}
    assert told.news() == ["lun-found naa.1", "path-up naa.1 a:iqn.x:0", "path-up naa.1 b:iqn.x:0"]


def test_a_lun_whose_paths_are_all_lost_stays_known_and_each_loss_is_told_once() -> None:
    told = Told()
    (a,) = told.inventory.expect("data", [A])
    told.inventory.lost(a, "nobody listens")
    told.inventory.lost(a, "nobody listens")
    assert told.news() == ["path-down iscsi://a/iqn.x/0 nobody listens"]
    told.inventory.up(a, opened(a))
    told.news()
    told.inventory.lost(a, "cut")
    told.inventory.lost(a, "nobody listens")
    lun = told.inventory.luns["naa.1"]
    assert (lun.usable(), a.state, a.why, a.opened) == ([], PathState.DOWN, "nobody listens", None)
    assert told.news() == ["path-down naa.1 a:iqn.x:0 cut"]


def test_a_path_that_leads_elsewhere_is_refused() -> None:
    told = Told()
    a, b = told.inventory.expect("data", [A, B])
    told.inventory.up(a, opened(a))
    with pytest.raises(
        LunError, match=r"b/iqn.x/0: leads to naa.2, and the paths beside it to naa.1"
    ):
        told.inventory.up(b, opened(b, Y))
    assert set(told.inventory.luns) == {"naa.1"}
    assert told.inventory.luns["naa.1"].usable() == [a]


def test_a_lun_is_as_large_as_it_was_told_last() -> None:
    told = Told()
    a, b = told.inventory.expect("data", [A, B])
    told.inventory.up(a, opened(a))
    told.inventory.up(b, opened(b, Identity("naa.1", 512, 200)))
    assert told.inventory.luns["naa.1"].identity == Identity("naa.1", 512, 200)


def test_a_lun_cannot_be_both_clufs_and_data() -> None:
    told = Told()
    (a,), (b,) = told.inventory.expect("data", [A]), told.inventory.expect("clufs", [B])
    told.inventory.up(a, opened(a))
    with pytest.raises(LunError, match="configured twice, as data and clufs"):
        told.inventory.up(b, opened(b))


def test_who_fences_hears_of_paths() -> None:
    told = Told()
    heard: list[tuple[str, str, PathState]] = []

    def listen(lun: SharedLun, path: KnownPath) -> None:
        heard.append((lun.wwid, path.name, path.state))

    told.inventory.listeners.append(listen)
    (a,) = told.inventory.expect("data", [A])
    told.inventory.up(a, opened(a))
    told.inventory.unwell(a, "NOT READY")
    assert a.opened is not None
    told.inventory.lost(a, "cut")
    assert heard == [
        ("naa.1", "a:iqn.x:0", PathState.UP),
        ("naa.1", "a:iqn.x:0", PathState.DOWN),
    ]


# --------------------------------------------------------------- kernel devices


def test_devices_of_one_name_are_paths_to_one_lun() -> None:
    told = Told()
    for device in (
        KernelDevice("/dev/sda", "naa.1", "disk"),
        KernelDevice("/dev/sdb", "naa.1", "disk"),
        KernelDevice("/dev/dm-0", "naa.1", "multipath"),
    ):
        told.inventory.device_came(device)
        told.inventory.device_came(device)
    lun = told.inventory.luns["naa.1"]
    assert lun.role == "found"
    assert set(lun.paths) == {"sda", "sdb", "dm-0"}
    assert [path.name for path in lun.usable()] == ["sda", "sdb"]
    assert told.news()[0] == "lun-found naa.1"
    for node in ("/dev/sda", "/dev/dm-0", "/dev/sdb", "/dev/sdx"):
        told.inventory.device_went(node)
    assert not told.inventory.luns
    assert told.news()[-1] == "lun-gone naa.1"


def test_a_device_that_has_become_another_is_one_that_went_and_one_that_came() -> None:
    told = Told()
    told.inventory.device_came(KernelDevice("/dev/sda", "naa.1", "disk"))
    told.inventory.device_came(KernelDevice("/dev/sda", "naa.2", "disk"))
    assert set(told.inventory.luns) == {"naa.2"}


def test_a_configured_device_is_one_path_whoever_finds_it_first() -> None:
    device = KernelDevice("/dev/sda", "naa.1", "disk", ("/dev/disk/by-id/wwn-1",))
    for udev_first in (True, False):
        told = Told()
        (path,) = told.inventory.expect("data", ["/dev/disk/by-id/wwn-1"])
        if udev_first:
            told.inventory.device_came(device)
            assert path.nudged.is_set()
        told.inventory.up(path, opened(path), "/dev/sda")
        told.inventory.device_came(device)
        lun = told.inventory.luns["naa.1"]
        assert (lun.role, lun.usable()) == ("data", [path])


def test_a_configured_device_that_goes_is_lost_and_its_lun_stays_known() -> None:
    told = Told()
    (path,) = told.inventory.expect("data", ["/dev/sda"])
    told.inventory.device_came(KernelDevice("/dev/sda", "naa.1", "disk"))
    told.inventory.up(path, opened(path), "/dev/sda")
    told.inventory.device_went("/dev/sda")
    assert path.opened is not None and path.opened.ended.is_set()
    told.inventory.lost(path, "the path has ended")
    assert told.inventory.luns["naa.1"].usable() == []


# ----------------------------------------------------------------- access states


def groups(first: AccessState, second: AccessState) -> tuple[PortGroup, ...]:
    return (
        PortGroup(state=first, group=1, ports=(1,)),
        PortGroup(state=second, group=2, ports=(2,)),
    )


def test_the_best_path_is_the_first_and_transitions_are_remembered() -> None:
    told = Told()
    a, b = told.inventory.expect("data", [A, B])
    for path, port in ((a, 1), (b, 2)):
        told.inventory.up(path, opened(path))
        told.inventory.access(
            path, groups(AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED), port
        )
    lun = told.inventory.luns["naa.1"]
    assert lun.usable() == [a, b]
    told.news()
    told.inventory.access(a, groups(AccessState.STANDBY, AccessState.ACTIVE_OPTIMIZED), 1)
    assert lun.usable() == [b, a]
    assert (a.group, a.access, b.group) == (1, AccessState.STANDBY, 2)
    assert [(one.group, one.before.name, one.after.name) for one in lun.transitions] == [
        (1, "ACTIVE_OPTIMIZED", "STANDBY"),
        (2, "ACTIVE_NON_OPTIMIZED", "ACTIVE_OPTIMIZED"),
    ]
    assert told.news() == [
        "access-changed naa.1 group 1: active_optimized to standby",
        "access-changed naa.1 group 2: active_non_optimized to active_optimized",
    ]
