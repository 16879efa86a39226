"""A cgroup (version 2) for each application: who was born in it stays in it, and it can be killed as one.

Where no cgroup file system is writable, ancestry alone (`descendants`) has to do.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Names that a directory of ours must not have are taken by the kernel's files: all contain a dot or
# are known; with a prefix none can be meant.
_PREFIX = "app-"

# Who is in the kernel freezes later; then it forks nothing either.
_FREEZING_S, _FREEZING_LOOK_S = 0.1, 0.001


def own_place() -> Path | None:
    """The directory of this process's cgroup; None if no version 2 hierarchy is mounted."""
    mount = _mount_point()
    if mount is None:
        return None
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                place = mount / line.removeprefix("0::/")
                return place if place.is_dir() else None
    return None


def _mount_point() -> Path | None:
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if after.split()[:1] == ["cgroup2"]:
                return Path(before.split()[4].encode().decode("unicode_escape"))
    return None


def join(place: Path) -> None:
    """Go into a cgroup, and all that is forked from now on. Raises OSError."""
    fd = os.open(place / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def action_place(base: Path, resource: str, action: int) -> Path:
    """The directory of one action's cgroup."""
    return base / f"{_PREFIX}{resource}" / str(action)


def resources(base: Path) -> set[str]:
    """The resources in whose cgroups something is left."""
    places = base.glob(f"{_PREFIX}*")
    return {place.name.removeprefix(_PREFIX) for place in places if not is_empty(place)}


def make(place: Path) -> None:
    """Make the directory of an action's cgroup, and those above it that are gone. Raises OSError."""
    place.mkdir(parents=True)


def is_empty(place: Path) -> bool:
    """Whether no process is in a cgroup or below; one that is not there is empty."""
    try:
        return "populated 0" in (place / "cgroup.events").read_text().splitlines()
    except OSError:
        return not place.exists()


@contextmanager
def frozen(place: Path | None) -> Iterator[None]:
    """Nobody in a cgroup runs meanwhile, nor forks; SIGKILL ends the frozen, too. No cgroup: nothing happens."""
    if place is not None and _set_frozen(place, True):
        deadline = time.monotonic() + _FREEZING_S
        while not _is_frozen(place) and time.monotonic() < deadline:
            time.sleep(_FREEZING_LOOK_S)
    try:
        yield
    finally:
        if place is not None:
            _set_frozen(place, False)


def _set_frozen(place: Path, on: bool) -> bool:
    try:
        (place / "cgroup.freeze").write_text(str(int(on)))
    except OSError:
        return False
    return True


def _is_frozen(place: Path) -> bool:
    with suppress(OSError):
        return "frozen 1" in (place / "cgroup.events").read_text().splitlines()
    return True


def kill(place: Path) -> None:
    """Send SIGKILL to all in a cgroup and below it."""
    try:
        (place / "cgroup.kill").write_text("1")
    except OSError:
        _kill_one_by_one(place)


def _kill_one_by_one(place: Path) -> None:
    """The same before Linux 5.14: frozen, they cannot fork, and SIGKILL ends the frozen, too."""
    with frozen(place):
        for directory, _, _ in os.walk(place, topdown=False):
            with suppress(OSError):
                for word in Path(directory, "cgroup.procs").read_text().split():
                    if int(word) > 0:  # 0: of a pid namespace that we do not see
                        os.kill(int(word), signal.SIGKILL)


def remove(place: Path) -> None:
    """Remove an empty cgroup and all below it; what is in use stays."""
    for directory, _, _ in os.walk(place, topdown=False):
        with suppress(OSError):
            os.rmdir(directory)


def remove_action(place: Path) -> None:
    """Remove an empty action's cgroup, and its resource's if it has no other."""
    remove(place)
    with suppress(OSError):
        place.parent.rmdir()
