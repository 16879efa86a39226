"""What a later keeper must know of this one, in the state directory: where to look for what it started.

    actions/keeper                      pid, start time and boot id of the keeper
    actions/cgroup                      the directory of cgroups that it made
    actions/reapers/RESOURCE:ACTION     pid, start time and boot id of the process above an action's
    actions/units/RESOURCE              the systemd unit that the application is
    actions/scripts/RESOURCE/NAME       its action script as it was last run

All that is on disk before it can be needed. Nothing is synced: after a power loss nobody is left to be found.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clufs.actions.descendants import start_time
from clufs.errors import StateError

_DIRECTORIES = ("reapers", "units", "scripts")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one boot."""

    pid: int
    start_time: int
    boot_id: str

    @classmethod
    def own(cls) -> Process:
        """This one."""
        return cls(os.getpid(), start_time(os.getpid()) or 0, boot_id())

    @classmethod
    def read(cls, path: Path) -> Process | None:
        """The process of a record; None if there is none, or it was cut short by a kill."""
        try:
            pid, began, boot = path.read_text().split()
            return cls(int(pid), int(began), boot)
        except (OSError, ValueError):
            return None

    def write(self, path: Path) -> None:
        """Record it. Raises OSError."""
        write_whole(path, f"{self.pid} {self.start_time} {self.boot_id}\n".encode(), 0o600)

    def open(self) -> int | None:
        """A pidfd of it, None if it is gone."""
        if self.boot_id != boot_id():
            return None
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return None
        if start_time(self.pid) == self.start_time:
            return handle
        os.close(handle)
        return None


def boot_id() -> str:
    """The id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is never seen in part; who has the old one open keeps the old text. Raises OSError."""
    new = path.with_name(f".{os.getpid()}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
    new.rename(path)


class Record:
    """The files of one state directory."""

    def __init__(self, state: Path) -> None:
        self.place = state / "actions"

    def prepare(self) -> None:
        """Make the directories, for this user alone. Raises StateError."""
        try:
            for directory in (self.place, *(self.place / name for name in _DIRECTORIES)):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                directory.chmod(0o700)
        except OSError as error:
            raise StateError(f"{self.place}: {error.strerror}") from error

    @property
    def keeper(self) -> Path:
        """The record of the keeper."""
        return self.place / "keeper"

    def reaper(self, resource: str, action: int) -> Path:
        """The record of one action."""
        return self.place / "reapers" / f"{resource}:{action}"

    def reapers(self) -> list[tuple[str, Path]]:
        """All records of actions with their resources."""
        found = (self.place / "reapers").iterdir()
        return [(path.name.rpartition(":")[0], path) for path in found if path.name[0] != "."]

    def cgroup(self) -> Path | None:
        """The directory of cgroups of the last keeper that had one."""
        try:
            return Path((self.place / "cgroup").read_text().rstrip("\n"))
        except OSError:
            return None

    def set_cgroup(self, place: Path | None) -> None:
        """Record it before it is made, forget it when it is removed. Raises OSError."""
        if place is None:
            (self.place / "cgroup").unlink(missing_ok=True)
        else:
            write_whole(self.place / "cgroup", f"{place}\n".encode(), 0o600)

    def units(self) -> dict[str, str]:
        """The recorded units of all resources."""
        found = {}
        for path in (self.place / "units").iterdir():
            if not path.name.startswith("."):
                with suppress(OSError):
                    found[path.name] = path.read_text().strip()
        return found

    def set_unit(self, resource: str, unit: str | None) -> None:
        """Record that an application is a unit, or that it is ended. Raises OSError."""
        path = self.place / "units" / resource
        if unit is None:
            path.unlink(missing_ok=True)
        else:
            write_whole(path, f"{unit}\n".encode(), 0o600)

    def keep_script(self, resource: str, name: str, text: bytes) -> Path:
        """Put a script where it can be run; who runs the old text goes on with it. Raises OSError."""
        directory = self.scripts(resource)
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / name
        try:
            same = path.read_bytes() == text
        except OSError:
            same = False
        if not same:
            write_whole(path, text, 0o700)
        return path

    def scripts(self, resource: str) -> Path:
        """Where the script of a resource is kept."""
        return self.place / "scripts" / resource
