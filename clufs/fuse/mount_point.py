"""The mount point before the mount: in use, stale, or free; and what a killed daemon left behind."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clufs.errors import MissingPart, MountError
from clufs.fuse import processes
from clufs.timeouts import MOUNT_LOOK_S, OWNER_KILL_WAIT_S
from clufs.tree.names import read_word

FS_TYPE = "fuse.clufs"
_MNT_DETACH = 2


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo."""

    id: str
    path: str
    fs_type: str
    device: tuple[int, int]


def _mounts() -> Iterator[Mount]:
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n")[:-1]:
        fields = line.split(b" ")
        fs_type = fields[fields.index(b"-") + 1]
        path, device = os.fsdecode(read_word(fields[4])), fields[2].split(b":")
        yield Mount(fields[0].decode(), path, fs_type.decode(), (int(device[0]), int(device[1])))


def mount_on(path: str) -> Mount | None:
    """The topmost mount on exactly this path."""
    found = None
    for mount in _mounts():
        if mount.path == path:
            found = mount
    return found


def _is_stale(path: str) -> bool:
    """Whether the file system on `path` has lost its daemon. Raises MountError when it hangs."""
    answers: list[int] = []

    def look() -> None:
        try:
            os.statvfs(path)
            answers.append(0)
        except OSError as error:
            answers.append(error.errno or errno.EIO)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(MOUNT_LOOK_S)
    if not answers:
        raise MountError(f"{path} is a mount that does not answer; unmount it first")
    return answers[0] in (errno.ENOTCONN, errno.ECONNABORTED)


def check(path: str) -> Mount | None:
    """The stale mount on `path`, None if it is a free directory. Raises MountError or MissingPart."""
    check_fuse()
    mount = mount_on(path)
    if mount is not None and mount.fs_type == FS_TYPE:
        if _is_stale(path):
            return mount
        raise MountError(f"{path} is in use: another clufsd is mounted there")
    try:
        is_directory = os.path.isdir(path)
        os.stat(path)
    except OSError as error:
        raise MountError(f"mount point {path}: {error.strerror}") from error
    if not is_directory:
        raise MountError(f"mount point {path} is not a directory")
    return None


def check_fuse() -> None:
    """Raises MissingPart where this machine cannot mount FUSE file systems."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        cure = (
            "everybody may use it on Debian: chmod 666 /dev/fuse"
            if error.errno == errno.EACCES
            else "load the fuse module: modprobe fuse"
        )
        raise MissingPart(f"/dev/fuse: {error.strerror}; {cure}") from error
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise MissingPart("fusermount3 is missing; install it: apt-get install fuse3")


def detach(path: str) -> None:
    """Unmount `path`, also if somebody stands in it. Raises MountError."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
            raise MountError(f"{path} cannot be unmounted: {os.strerror(ctypes.get_errno())}")
        return
    done = subprocess.run(
        ["fusermount3", "-u", "-z", path], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise MountError(f"{path} cannot be unmounted: {done.stderr.strip()}")


def end_owners(owners: list[tuple[int, int]]) -> list[int]:
    """Kill the recorded owners (pid, start time) and see them gone; their pids.

    A pid that is another process by now is left alone. Raises MountError when one stays.
    """
    pidfds: dict[int, int] = {}
    for pid, start_time in owners:
        pidfd = processes.open_pidfd(pid) if pid != os.getpid() else None
        if pidfd is None:
            continue
        now = processes.stat(pid)
        if now is None or now.start_time != start_time or pid in pidfds:
            os.close(pidfd)
            continue
        pidfds[pid] = pidfd
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    _await_ends(pidfds)
    return list(pidfds)


def _await_ends(pidfds: dict[int, int]) -> None:
    deadline = time.monotonic() + OWNER_KILL_WAIT_S
    for pid, pidfd in pidfds.items():
        left_ms = max(0.0, deadline - time.monotonic()) * 1000
        gone = processes.is_gone(pidfd, left_ms)
        os.close(pidfd)
        if not gone:
            raise MountError(f"process {pid} held a lock of the daemon before and does not die")


def openers(mount: Mount) -> list[tuple[int, int]]:
    """The processes with a file of a stale mount open by which they may hold a lock: (pid, start time).

    flock(2) asks for no access: any descriptor may own a lock.
    """
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _has_open(entry, mount):
            now = processes.stat(int(entry))
            if now is not None:
                found.append((int(entry), now.start_time))
    return found


def _has_open(pid: str, mount: Mount) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith((f"{mount.path}/locks/", f"{mount.path}/lockfiles/")):
            return True
    return False
