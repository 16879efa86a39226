"""A real systemd, process 1 of namespaces of its own, that knows no units but those of the tests.

Nothing of the machine can be changed by it: the file system is read-only there, and systemd reads
no directory of units and no generator of the machine's. Its control groups are below the session's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clufs.actions import cgroup
from clufs.actions.commands import Machine
from tests.blackbox.clu import until

_SYSTEMD = "/usr/lib/systemd/systemd"
_INSIDE = f"""
set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/units
cp "$1"/*.service "$1"/*.target /run/units
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var
mount -t proc proc /proc
mount --bind -o ro /proc/sys /proc/sys
mount -o remount,bind,ro /
exec env -i container=other SYSTEMD_UNIT_PATH=/run/units SYSTEMD_GENERATOR_PATH=/run/none \\
    SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none SYSTEMD_LOG_TARGET=null \\
    {_SYSTEMD} --system --unit=test.target
"""
_UNITS = {
    "test.target": "[Unit]\nDefaultDependencies=no\n",
    "app.service": (
        "[Unit]\nDefaultDependencies=no\n"
        "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\n"
        "TimeoutStopSec=1\n"
    ),
    "ill.service": (
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/false\n"
    ),
}
_SYSTEMCTL = '#!/bin/sh\nexec nsenter -t {pid} -p -m -C -i -u -- systemctl "$@"\n'


@contextmanager
def systemd(directory: Path) -> Iterator[Machine]:
    """A machine on which systemd runs."""
    units = directory / "units"
    units.mkdir()
    for name, text in _UNITS.items():
        (units / name).write_text(text)
    place = cgroup.own_place()
    assert place is not None, "systemd needs control groups"
    group = place / f"systemd-{os.getpid()}"
    group.mkdir()
    process = subprocess.Popen(
        ["unshare", *"--pid --fork --mount --cgroup --ipc --uts --kill-child".split(), "sh", "-c",
         _INSIDE, "sh", str(units)],
        preexec_fn=lambda: cgroup.join(group),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )  # fmt: skip
    try:
        yield _machine(directory, process.pid)
    finally:
        process.kill()
        process.wait()
        until(lambda: cgroup.is_empty(group), "systemd is gone")
        cgroup.remove(group)


def _machine(directory: Path, above: int) -> Machine:
    children = Path(f"/proc/{above}/task/{above}/children")
    until(lambda: children.read_text().split(), "systemd is started")
    (pid,) = children.read_text().split()
    systemctl = directory / "systemctl"
    systemctl.write_text(_SYSTEMCTL.format(pid=pid))
    systemctl.chmod(0o755)
    until(lambda: _says(systemctl, "is-system-running") == "running", "systemd runs")
    return Machine(systemctl=str(systemctl), systemd_runs=directory)


def _says(systemctl: Path, *words: str) -> str:
    done = subprocess.run([systemctl, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()
