"""What every test leaves behind: nothing.

A mount below pytest's temporary directories, a process that was started by a test
and outlives the session, a mount namespace kept by one of them, or a control group that
one of them made makes the session fail; they are cleared all the same, so that one broken
test does not break the machine. To tell its control groups from those of others the session
runs in one of its own, where it may make any.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from clufs.actions import cgroup

# How long an example takes is no fault of what it tests.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

MARK = "CLUFS_TEST_SESSION"
"""An environment variable that every child of this session inherits; daemons that detach keep it."""

GROUP = "clufs-tests-"
"""Before the pid, the name of a session's control group."""

LABS_WITHIN = 0.6
"""Files with labs begin within so much of a session's files."""

GRACE_S = 1.0
"""A daemon that was told to end by the last test may still be on its way out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Labs mostly wait, other tests compute: files of both kinds take turns, and the labs are done before the end."""
    files = dict.fromkeys(item.path for item in items)
    labs = [path for path in files if path.parent.name in ("cluster", "bench")]
    others = [path for path in files if path not in labs]
    place = {path: (at + 0.5) / len(labs) * LABS_WITHIN for at, path in enumerate(labs)}
    place |= {path: (at + 0.5) / len(others) for at, path in enumerate(others)}
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Clear what is left of mounts and processes at the end, and fail if there was any."""
    base = tmp_path_factory.getbasetemp().resolve()
    mark = f"{os.getpid()}-{base.name}"
    os.environ[MARK] = mark
    group = own_group()
    yield
    del os.environ[MARK]
    deadline = time.monotonic() + GRACE_S
    while _is_left(base, mark, group) and time.monotonic() < deadline:
        time.sleep(0.05)
    mounts = left_mounts(base)
    processes = left_processes(mark)
    groups = left_groups(group)
    for pid in processes:
        _kill(pid)
    for mount in mounts:
        subprocess.run(["umount", "-l", mount], check=False)
    found = [f"mount {mount}" for mount in mounts]
    found += [f"process {pid}: {command}" for pid, command in processes.items()]
    found += [f"control group {place}" for place in groups]
    if group is not None:
        _end_group(group)
    if found:
        pytest.fail("left behind by the tests: " + "; ".join(found), pytrace=False)


def _is_left(base: Path, mark: str, group: Path | None) -> bool:
    return bool(left_mounts(base) or left_processes(mark) or left_groups(group))


def own_group() -> Path | None:
    """Go into a control group of this session's; None where none can be made.

    Those of sessions that were killed are removed.
    """
    place = cgroup.own_place()
    if place is None:
        return None
    for old in place.glob(f"{GROUP}*"):
        if not Path("/proc", old.name.removeprefix(GROUP)).exists():
            cgroup.remove(old)
    own = place / f"{GROUP}{os.getpid()}"
    try:
        own.mkdir()
        cgroup.join(own)
    except OSError:
        cgroup.remove(own)
        return None
    return own


def left_groups(group: Path | None) -> list[Path]:
    """Return the control groups that were made in that of the session."""
    return [] if group is None else sorted(one for one in group.rglob("*") if one.is_dir())


def _end_group(group: Path) -> None:
    """Leave it, and remove it with all that is in it."""
    cgroup.join(group.parent)
    cgroup.kill(group)
    deadline = time.monotonic() + GRACE_S
    while not cgroup.is_empty(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    cgroup.remove(group)


def left_mounts(base: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> list[str]:
    """Return the mount points below `base`, the innermost first."""
    points = [
        line.split()[4].encode().decode("unicode_escape")
        for line in mountinfo.read_text().splitlines()
    ]
    return sorted((p for p in points if Path(p).is_relative_to(base)), key=len, reverse=True)


def left_processes(mark: str) -> dict[int, str]:
    """Return pid and command line of every process, other than this one, that carries `mark`."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        if wanted in _read(entry / "environ").split(b"\0"):
            words = _read(entry / "cmdline").split(b"\0")
            found[int(entry.name)] = b" ".join(words).decode(errors="replace").strip()
    return found


def _read(path: Path) -> bytes:
    """The file, empty if it is gone. A process in the midst of an exec(2) is not waited for."""
    found: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(GRACE_S)
    return found[0] if found else b""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
