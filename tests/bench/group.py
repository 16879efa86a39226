"""Everything measured in one group of the scheduler's.

The kernel gives each session a group of its own (autogroup), and shares out the CPU among groups first. So
a daemon in a session of its own, as services are and those of the lab, gives its client the CPU at
once or not as the rest of the client's session has used it: twice the time for the same calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup/cpu")
"""Version 1 of control groups. With version 2 systemd puts a login, with all its sessions, in one."""

_SHARES = 8 * 1024
"""What as many sessions would have together beside all else that runs: daemons, clients, corosync."""


@contextmanager
def one_group() -> Iterator[None]:
    """This process, and all that it starts meanwhile, in a control group of its own."""
    above = _own_group()
    if above is None:
        yield
        return
    group = above / f"clufs-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.shares").write_text(str(_SHARES))
        _join(group, os.getpid())
        yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                _join(above, int(pid))
        group.rmdir()


def _own_group() -> Path | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(",") and (_ROOT / "cgroup.procs").exists():
            return _ROOT / path.lstrip("/")
    return None


def _join(group: Path, pid: int) -> None:
    (group / "cgroup.procs").write_text(str(pid))
