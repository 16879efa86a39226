"""What a daemon that was killed has left: lock owners that may still act, and its mount."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clufs.fuse import mount_point
from clufs.fuse.mount_point import Mount
from clufs.fuse.owner_record import left_behind


@dataclass(frozen=True, slots=True)
class LeftOver:
    """killed: the owners that were killed and are gone. stale: the mount, not cleared yet.

    unseen: descriptors held locks, and without the mount nobody can tell whose.
    """

    killed: tuple[int, ...]
    stale: Mount | None
    unseen: bool


def end_owners(mount: str, owners_file: Path) -> LeftOver:
    """Kill every process that owned a lock of the daemon before, and see it gone.

    Raises MountError if that daemon still serves, or one of them does not die; StateError, MissingPart.
    """
    stale = mount_point.check(mount)
    owners, descriptors = left_behind(owners_file)
    if stale is not None:
        owners += mount_point.openers(stale)
    killed = mount_point.end_owners(owners)
    return LeftOver(tuple(killed), stale, descriptors and stale is None)
