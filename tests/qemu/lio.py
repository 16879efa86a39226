"""LIO's ramdisks as SCSI disks of this machine (Documentation/target), each by two paths, without its tools."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.qemu import machine

BUSYBOX = str(machine.BUSYBOX)
MODULES = Path("/tmp/modules")
TARGET = Path("/sys/kernel/config/target")
_PAGES = 4096
_WAIT_S = 60.0


def load_modules() -> None:
    """All that the machine brought along."""
    for file in sorted(MODULES.iterdir()):
        words = [str(file)]
        if "softdog" in file.name:
            words += ["soft_noboot=1", "nowayout=0"]
        subprocess.run([BUSYBOX, "insmod", *words], check=True)
        if "target_core_mod" in file.name:
            _mount()


def _mount() -> None:
    """LIO is told by directories."""
    subprocess.run(
        [BUSYBOX, "mount", "-t", "configfs", "configfs", str(TARGET.parent)], check=False
    )
    TARGET.mkdir(exist_ok=True)


def until(true: Callable[[], object], what: str) -> None:
    """Wait for something of the kernel's."""
    deadline = time.monotonic() + _WAIT_S
    while not true():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)


class Disk:
    """A ramdisk of 16 MiB behind two target ports, its paths 1 and 2."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._backstore = TARGET / f"core/rd_mcp_0/disk{number}"
        self._backstore.mkdir(parents=True)
        (self._backstore / "control").write_text(f"rd_pages={_PAGES}")
        (self._backstore / "enable").write_text("1")
        (self._backstore / "wwn/vpd_unit_serial").write_text(f"c1f5{number:04d}-0000-0000-0000")
        for path in (1, 2):
            group = self._group(path)
            group.mkdir(parents=True)
            (group / "nexus").write_text(f"naa.60014051000000{number}{path}")
            (group / "lun/lun_0").mkdir()
        self.devices = [self.mend(path) for path in (1, 2)]

    def _group(self, path: int) -> Path:
        return TARGET / f"loopback/naa.600140500000000{self._number}/tpgt_{path}"

    def cut(self, path: int) -> None:
        """The kernel's device of a path goes."""
        os.unlink(self._group(path) / "lun/lun_0/disk")

    def mend(self, path: int) -> str:
        """It comes, or comes back; which one it is."""
        before = disks()
        os.symlink(self._backstore, self._group(path) / "lun/lun_0/disk")
        until(lambda: disks() - before, "the disk")
        (name,) = disks() - before
        return f"/dev/{name}"


def disks() -> set[str]:
    """The SCSI disks that the kernel has."""
    return {
        path.name for path in Path("/sys/block").glob("sd*") if Path("/dev", path.name).exists()
    }
