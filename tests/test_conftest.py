"""The watch over what tests leave behind sees it."""

import os
import subprocess
import sys
from pathlib import Path

from clufs.actions import cgroup
from tests.conftest import GROUP, MARK, left_groups, left_mounts, left_processes

HERE = Path(__file__).parent

LEAVES_A_PROCESS = """
import subprocess
from tests.conftest import nothing_is_left

def test_leaves():
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
"""

LEAVES_A_MOUNT = """
import subprocess
from tests.conftest import nothing_is_left

def test_leaves(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "left", tmp_path], check=True)
"""


LEAVES_A_CONTROL_GROUP = """
from clufs.actions import cgroup
from tests.conftest import GROUP, nothing_is_left

def test_leaves():
    place = cgroup.own_place()
    if place is not None and place.name.startswith(GROUP):
        (place / "clufs-1" / "app-web").mkdir(parents=True)
"""


def session(tmp_path: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run one made-up test in a session, and a mount namespace, of its own."""
    path = tmp_path / "test_made_up.py"
    path.write_text(source)
    return subprocess.run(
        ["unshare", "-m" if os.geteuid() == 0 else "-Urm", sys.executable, "-m", "pytest", "-p", "no:cacheprovider",
         "-W", "ignore", f"--rootdir={tmp_path}", f"--basetemp={tmp_path}/t", path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
    )  # fmt: skip


def test_a_process_left_behind_fails_the_session(tmp_path: Path) -> None:
    done = session(tmp_path, LEAVES_A_PROCESS)
    assert done.returncode == 1, done.stdout
    assert "left behind by the tests: process " in done.stdout
    assert "sleep 1000" in done.stdout


def test_a_mount_left_behind_fails_the_session(tmp_path: Path) -> None:
    done = session(tmp_path, LEAVES_A_MOUNT)
    assert done.returncode == 1, done.stdout
    assert f"left behind by the tests: mount {tmp_path}/t" in done.stdout


def test_a_control_group_left_behind_fails_the_session_and_is_removed(tmp_path: Path) -> None:
    """Where control groups can be made at all: then this very session is in one of its own."""
    mine = cgroup.own_place()
    can_be_made = mine is not None and mine.name.startswith(GROUP)
    done = session(tmp_path, LEAVES_A_CONTROL_GROUP)
    assert (done.returncode == 1) == can_be_made, done.stdout
    left = f"left behind by the tests: control group {mine}/{GROUP}"
    assert (left in done.stdout) == can_be_made
    assert not can_be_made or left_groups(mine) == []


def test_mounts_are_found_innermost_first(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 0:1 / / rw - ext4 /dev/vda rw\n"
        "2 1 0:2 / /t/a rw - fuse.clufs clufs rw\n"
        "3 2 0:3 / /t/a/b\\040c rw - tmpfs none rw\n"
        "4 1 0:4 / /tt rw - tmpfs none rw\n"
    )
    assert left_mounts(Path("/t"), table) == ["/t/a/b c", "/t/a"]


def test_processes_are_found_by_their_mark() -> None:
    child = subprocess.Popen(["sleep", "1000"], env={MARK: "of this test"})
    try:
        assert left_processes("of this test") == {child.pid: "sleep 1000"}
        assert left_processes("of another") == {}
    finally:
        child.kill()
        child.wait()
