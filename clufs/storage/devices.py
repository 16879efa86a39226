"""What udev says of a kernel's block device: is it a path to a LUN, and to which. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_WWN = re.compile(r"0x([0-9a-f]{16}|[0-9a-f]{32})")
_NAMED = re.compile(r"(naa|eui)\.[0-9a-f]+|(t10|scsi)\.[A-Za-z0-9._:-]+")
_MULTIPATH = re.compile(r"mpath-([23])([0-9a-f]+)")
_KINDS = {"2": "eui", "3": "naa"}
"""First characters of what scsi_id says, which multipath puts into its names."""


@dataclass(frozen=True, slots=True)
class KernelDevice:
    """A block device of the kernel that is a path to a LUN, or a multipath device over several.

    node: in /dev. links: other names there. A multipath device is shown and not used: it would send what
    concerns one path along any.
    """

    node: str
    wwid: str
    kind: Literal["disk", "multipath"]
    links: tuple[str, ...] = ()


def device_of(properties: Mapping[str, str], wwid: str = "") -> KernelDevice | None:
    """The device of udev's properties; None for one that is no path to a LUN with a name of its own.

    wwid: the device's attribute of that name in sysfs, which the kernel read from page 83h; without one, as with
    an old kernel, what udev's scsi_id found.
    """
    node = properties.get("DEVNAME", "")
    if not node or properties.get("DEVTYPE") != "disk":
        return None
    links = tuple(properties.get("DEVLINKS", "").split())
    multipath = _MULTIPATH.fullmatch(properties.get("DM_UUID", ""))
    if multipath:
        return KernelDevice(node, f"{_KINDS[multipath[1]]}.{multipath[2]}", "multipath", links)
    name = _named(wwid) or _of_wwn(properties)
    return KernelDevice(node, name, "disk", links) if name else None


def _named(wwid: str) -> str:
    """sysfs has `t10.` names with blanks for what fills them up."""
    name = re.sub(r"[^A-Za-z0-9._:-]", "_", wwid.strip())
    return name if _NAMED.fullmatch(name) else ""


def _of_wwn(properties: Mapping[str, str]) -> str:
    if properties.get("ID_BUS", "scsi") != "scsi":
        return ""
    found = _WWN.fullmatch(
        properties.get("ID_WWN_WITH_EXTENSION", properties.get("ID_WWN", "")).lower()
    )
    return f"naa.{found[1]}" if found else ""
