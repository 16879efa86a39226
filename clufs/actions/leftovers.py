"""Ends what an earlier keeper started, by its record: before anything is started anew nothing of it runs."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clufs.actions import cgroup, descendants
from clufs.actions.record import Process, Record
from clufs.timeouts import ENDING_AGAIN_S, ENDING_LOOK_S, UNIT_END_S


def end_all(record: Record, systemctl: str) -> list[str]:
    """Kill all that is on record and wait until it is gone, however long; the names of its resources.

    First the keeper that started it, so that it starts nothing more.
    """
    keeper = Process.read(record.keeper)
    if keeper is not None and keeper.pid != os.getpid():
        _kill(keeper)
    found = set(_end_units(record, systemctl))
    place = record.cgroup()
    reapers = record.reapers()
    if place is not None:
        found |= cgroup.resources(place)
    found |= {resource for resource, path in reapers if _is_alive(Process.read(path))}
    wait_until(lambda: _end_step(record))
    if place is not None:
        cgroup.remove(place)
        record.set_cgroup(None)
    return sorted(found)


def forget_cgroups(state: Path) -> None:
    """Remove the empty cgroups that the keeper of a state directory made, when it cannot do it any more."""
    place = Record(state).cgroup()
    if place is not None:
        cgroup.remove(place)


def wait_until(step: Callable[[], bool]) -> None:
    """Take a step until it says that there is nothing left to do."""
    pause_s = ENDING_LOOK_S
    while not step():
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, ENDING_AGAIN_S)


def _kill(process: Process) -> None:
    handle = process.open()
    if handle is None:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [])
    finally:
        os.close(handle)


def _is_alive(process: Process | None) -> bool:
    handle = process.open() if process is not None else None
    if handle is None:
        return False
    gone = bool(select.select([handle], [], [], 0)[0])
    os.close(handle)
    return not gone


def _end_step(record: Record) -> bool:
    """Kill what is left; whether nothing was."""
    done = True
    place = record.cgroup()
    with cgroup.frozen(place):
        for _, path in record.reapers():
            process = Process.read(path)
            if process is not None and _is_alive(process):
                descendants.kill_reaper(process.pid)
                done = False
            else:
                path.unlink(missing_ok=True)
    # Only then: reapers are in cgroups, and who left these is found below them alone.
    if done and place is not None and not cgroup.is_empty(place):
        cgroup.kill(place)
        done = False
    return done


def _end_units(record: Record, systemctl: str) -> list[str]:
    found = record.units()
    if not found:
        return []
    # Only here: the threading module, which it brings, would make every fork of the keeper dearer.
    import subprocess

    for resource, unit in found.items():
        for words in unit_end_commands(systemctl, unit):
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(words, timeout=UNIT_END_S, check=False, capture_output=True)
        record.set_unit(resource, None)
    return list(found)


def unit_end_commands(systemctl: str, unit: str) -> list[list[str]]:
    """What ends a unit surely: its processes at once, and then its restarts."""
    options = ["--no-ask-password", "--no-pager"]
    return [
        [systemctl, *options, "kill", "--signal=SIGKILL", "--", unit],
        [systemctl, *options, "stop", "--", unit],
    ]
