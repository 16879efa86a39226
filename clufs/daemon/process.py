"""What a daemon is to the system that runs it: signals, limits, memory, systemd's watchdog."""

from __future__ import annotations

import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from clufs import notify
from clufs.fuse import mount_point
from clufs.fuse.left_over import end_owners
from clufs.timeouts import FREEZE_S
from clufs.tree.journals import Events

log = logging.getLogger("clufsd")

_GENERATION_0_OBJECTS = 10_000
_NEVER = 1_000_000_000


def clear_stale_mount(path: str, owners: Path, events: Events) -> None:
    """End what a killed daemon's lock owners might still do, then take its mount away.

    Raises MountError, StateError or MissingPart.
    """
    left = end_owners(path, owners)
    if left.unseen:
        log.warning("descriptors held locks, but the old mount is gone: nobody can be using them")
    for pid in left.killed:
        log.warning("killed process %d: it held a lock of the daemon before", pid)
        events.add("owner-killed", pid=pid)
    if left.stale is not None:
        mount_point.detach(left.stale.path)
        log.warning("cleared the stale mount on %s", path)


@contextmanager
def received(*numbers: signal.Signals) -> Iterator[AsyncIterator[int]]:
    """The signals that come, one by one; those that come later do not keep the daemon from unmounting."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.signal(number, lambda number, frame: None)
    with trio.open_signal_receiver(*numbers) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        yield signals
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def others_may_be_allowed() -> bool:
    """Whether users other than the one that mounts may be let in."""
    try:
        lines = Path("/etc/fuse.conf").read_text().split("\n")
    except OSError:
        return False
    return "user_allow_other" in (line.strip() for line in lines)


def allow_many_owners() -> None:
    """Every process that asks costs a descriptor: the usual soft limit of 1,024 would be the end of a crowd."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def mind_the_collector() -> None:
    """Collect only the young: locks make no cycles, and a million of them must not be walked."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GENERATION_0_OBJECTS, _NEVER, _NEVER)


async def freeze_the_old() -> None:
    """Every so often take what has lived through a young collection out of the collector's sight."""
    while True:
        await trio.sleep(FREEZE_S)
        gc.freeze()


async def tell_watchdog() -> None:
    """Tell systemd that the loop turns, as often as it wants to hear it."""
    period_s = notify.watchdog_period_s()
    while period_s is not None:
        notify.tell(WATCHDOG=1)
        await trio.sleep(period_s)
