"""The mount point before the mount, and the end of those who held locks of a killed daemon."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clufs.errors import MountError
from clufs.fuse import mount_point, processes


@pytest.fixture(params=["plain", "a blank", "größe", "back\\slash"])
def tmpfs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Something else that is mounted."""
    directory = tmp_path / request.param
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
    yield directory
    if os.path.ismount(directory):
        subprocess.run(["umount", "-l", directory], check=True)


def test_a_mount_is_found_whatever_its_name(tmpfs: Path) -> None:
    mount = mount_point.mount_on(str(tmpfs))
    assert mount is not None
    assert (mount.path, mount.fs_type) == (str(tmpfs), "tmpfs")
    assert mount_point.mount_on(str(tmpfs.parent)) is None


def test_another_file_system_can_be_mounted_over(tmpfs: Path) -> None:
    assert mount_point.check(str(tmpfs)) is None


def test_a_mount_is_detached_while_somebody_stands_in_it(tmpfs: Path) -> None:
    standing = subprocess.Popen(["cat"], cwd=tmpfs, stdin=subprocess.PIPE)
    mount_point.detach(str(tmpfs))
    assert mount_point.mount_on(str(tmpfs)) is None
    with pytest.raises(MountError, match="cannot be unmounted"):
        mount_point.detach(str(tmpfs))
    standing.communicate(timeout=10)
    assert standing.returncode == 0


def test_a_free_directory(tmp_path: Path) -> None:
    assert mount_point.check(str(tmp_path)) is None


def test_no_directory_and_a_file_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountError, match=f"{tmp_path}/absent: No such file"):
        mount_point.check(str(tmp_path / "absent"))
    with pytest.raises(MountError, match=f"{tmp_path}/file is not a directory"):
        mount_point.check(str(tmp_path / "file"))


def start_time(pid: int) -> int:
    now = processes.stat(pid)
    assert now is not None
    return now.start_time


def test_recorded_owners_are_killed_and_seen_gone() -> None:
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    owners = [(child.pid, start_time(child.pid)) for child in children]
    try:
        assert mount_point.end_owners([*owners, owners[0]]) == [pid for pid, _ in owners]
        assert all(processes.is_ending(pid) for pid, _ in owners)
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_who_has_the_pid_by_now_is_left_alone() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert mount_point.end_owners([(child.pid, start_time(child.pid) - 1)]) == []
        assert mount_point.end_owners([(os.getpid(), start_time(os.getpid()))]) == []
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    assert mount_point.end_owners([(child.pid, 1)]) == []
