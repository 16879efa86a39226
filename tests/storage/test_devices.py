"""Kernel devices as udev tells of them: properties recorded on machines with such disks."""

import pytest

from clufs.storage.devices import KernelDevice, device_of

ISCSI_DISK = {
    "DEVNAME": "/dev/sdb",
    "DEVTYPE": "disk",
    "DEVLINKS": "/dev/disk/by-id/wwn-0x6001405a1b2c3d4e5f60718293a4b5c6 /dev/disk/by-id/scsi-36001405a",
    "ID_BUS": "scsi",
    "ID_SERIAL": "36001405a1b2c3d4e5f60718293a4b5c6",
    "ID_VENDOR": "LIO-ORG",
    "ID_WWN": "0x6001405a1b2c3d4e",
    "ID_WWN_WITH_EXTENSION": "0x6001405a1b2c3d4e5f60718293a4b5c6",
    "SUBSYSTEM": "block",
}
WWID = "naa.6001405a1b2c3d4e5f60718293a4b5c6"
MULTIPATH = {
    "DEVNAME": "/dev/dm-0",
    "DEVTYPE": "disk",
    "DM_NAME": "mpatha",
    "DM_UUID": "mpath-36001405a1b2c3d4e5f60718293a4b5c6",
    "SUBSYSTEM": "block",
}
SATA_DISK = {
    "DEVNAME": "/dev/sda",
    "DEVTYPE": "disk",
    "ID_BUS": "ata",
    "ID_WWN": "0x5000c500a1b2c3d4",
}


def test_a_disk_is_named_as_the_lun_names_itself() -> None:
    found = device_of(ISCSI_DISK)
    assert found is not None
    assert (found.node, found.wwid, found.kind) == ("/dev/sdb", WWID, "disk")
    assert "/dev/disk/by-id/scsi-36001405a" in found.links


def test_without_udevd_the_kernels_own_word_will_do() -> None:
    bare = {"DEVNAME": "/dev/sdb", "DEVTYPE": "disk"}
    assert device_of(bare, f"{WWID}\n") == KernelDevice("/dev/sdb", WWID, "disk")
    old = device_of(bare, "t10.ATA     QEMU HARDDISK     QM00001 ")
    assert old is not None and old.wwid == "t10.ATA_____QEMU_HARDDISK_____QM00001"


def test_a_multipath_device_is_the_lun_of_its_paths() -> None:
    assert device_of(MULTIPATH) == KernelDevice("/dev/dm-0", WWID, "multipath")
    eui = device_of({**MULTIPATH, "DM_UUID": "mpath-20025380000000001"})
    assert eui is not None and eui.wwid == "eui.0025380000000001"


@pytest.mark.parametrize(
    "properties",
    [
        {**ISCSI_DISK, "DEVTYPE": "partition"},
        {"DEVTYPE": "disk"},
        {"DEVNAME": "/dev/loop0", "DEVTYPE": "disk"},
        {"DEVNAME": "/dev/vda", "DEVTYPE": "disk", "ID_SERIAL": "x"},
        {**MULTIPATH, "DM_UUID": "LVM-abc"},
        {**MULTIPATH, "DM_UUID": "mpath-VENDOR_MODEL_1"},
        {**ISCSI_DISK, "ID_WWN": "hello", "ID_WWN_WITH_EXTENSION": "0x../../x"},
        SATA_DISK,
        {},
    ],
)
def test_what_has_no_name_of_its_own_is_no_lun(properties: dict[str, str]) -> None:
    assert device_of(properties) is None
    assert device_of(properties, "../../etc") is None
