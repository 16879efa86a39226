"""clufsd: one member, from its start to its end."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from clufs import __version__, notify
from clufs.config import Config
from clufs.dlm.node import Node
from clufs.errors import MissingPart, MountError
from clufs.fuse import loop, lowlevel, mount_point
from clufs.fuse.groups import Groups
from clufs.fuse.lock_handle import LockHandle
from clufs.fuse.lock_service import LockService
from clufs.fuse.operations import Operations
from clufs.fuse.owner_record import OwnerRecord, left_behind
from clufs.fuse.timers import Timers
from clufs.registry.store import RegistryStore
from clufs.timeouts import FREEZE_S, POLL_GRACE_S
from clufs.tree import status
from clufs.tree.cluster import OneMember
from clufs.tree.events_file import EventsFile
from clufs.tree.items import Root
from clufs.tree.lock_tree import LockTree
from clufs.tree.member import Journals, Member
from clufs.tree.names import shown
from clufs.tree.namespaces import AloneStore, Namespace

import pyfuse3  # isort: skip  (lowlevel comes first)

log = logging.getLogger("clufsd")

_GENERATION_0_OBJECTS = 10_000
_NEVER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon works: its mount point and its state directory."""

    mount_point: str
    state: Path

    @property
    def owners(self) -> Path:
        """The file of the owner record."""
        return self.state / "owners"


class Daemon:
    """Everything of one running member."""

    def __init__(self, place: Place, config: Config, store: RegistryStore) -> None:
        """Raises StateError, MountError or MissingPart."""
        self.place = place
        self.config = config
        self.store = store
        self.member = Member(config.member.name, store.next_view(), __version__)
        self.journals = Journals(self.member)
        node = Node(self.member.name, self.member.view)
        root = Root()
        self.locks = LockTree(
            node, AloneStore(store), time.time, time.monotonic, self._namespace_changed
        )
        groups = Groups()
        self._clear_stale_mount()
        self.record = OwnerRecord(place.owners)
        self.timers = Timers()
        self.service = LockService(
            node,
            self.locks,
            self.record,
            self.timers,
            self.journals,
            groups,
            self._kill_within_s(),
        )
        root.add(self.locks.root)
        root.add(groups)
        root.add(EventsFile(self.journals.events))
        cluster = OneMember(self.member)
        facts = status.Facts(self.member, cluster, self.locks, self.journals)
        status.build(root, facts)
        self._add_gauges()
        self.operations = Operations(root, self.service, self.journals)

    def _kill_within_s(self) -> float | None:
        quorum = self.config.quorum
        return quorum.quorum_kill_ms / 1000 if quorum.on_lost_quorum == "kill" else None

    def _add_gauges(self) -> None:
        gauges = self.journals.metrics.gauges
        gauges["resource_blocks"] = (
            "Resource blocks there are",
            lambda: len(self.locks.node.blocks),
        )
        gauges["waiting"] = ("System calls that wait for a grant", lambda: len(self.service.parked))
        gauges["open_files"] = ("Files open", lambda: len(self.operations.handles))
        gauges["queue_length_max"] = (
            "Requests queued on the most wanted block",
            self._longest_queue,
        )

    def _longest_queue(self) -> float:
        blocks = self.locks.node.blocks.values()
        return max((len(b.converting) + len(b.waiting) for b in blocks), default=0)

    def _namespace_changed(self, kind: str, space: Namespace) -> None:
        mode = f"{space.mode:04o}"
        self.journals.events.add(kind, name=shown(space.name), uid=space.uid, mode=mode)

    def _clear_stale_mount(self) -> None:
        """End what a killed daemon's lock owners might still do, then take its mount away."""
        stale = mount_point.check(self.place.mount_point)
        owners, descriptors = left_behind(self.place.owners)
        if stale is not None:
            owners += mount_point.openers(stale)
        elif descriptors:
            log.warning(
                "descriptors held locks, but the old mount is gone: nobody can be using them"
            )
        killed = mount_point.end_owners(owners)
        for pid in killed:
            log.warning("killed process %d: it held a lock of the daemon before", pid)
            self.journals.events.add("owner-killed", pid=pid)
        if stale is not None:
            mount_point.detach(stale.path)
            log.warning("cleared the stale mount on %s", stale.path)

    def mount(self) -> None:
        """Mount the file system. Raises MountError, or MissingPart if the C extension is not used."""
        options = {"default_permissions", "fsname=clufs", "subtype=clufs", "nosuid", "nodev"}
        if os.geteuid() == 0 or _others_may_be_allowed():
            options.add("allow_other")
        interrupted = loop.install(self.service.parked.interrupted)
        lowlevel.handlers(write=self.operations.write_now, interrupted=interrupted)
        try:
            pyfuse3.init(self.operations, self.place.mount_point, options)
        except RuntimeError as error:
            raise MountError(f"{self.place.mount_point} cannot be mounted: {error}") from error
        if not lowlevel.installed():
            pyfuse3.close(unmount=True)
            raise MissingPart("the C extension does not stand before libfuse: install clufs again")
        mount = mount_point.mount_on(self.place.mount_point)
        if mount is None:
            raise MountError(f"{self.place.mount_point} was unmounted at once")
        self.service.device = mount.device

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or umount(8); everybody is told before it returns."""
        _mind_the_collector()
        _allow_many_owners()
        with _received(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.timers.run)
                nursery.start_soon(self._watch_exits)
                nursery.start_soon(self._freeze)
                nursery.start_soon(self._tell_watchdog)
                nursery.start_soon(self._stop_on, signals)
                nursery.start_soon(self._say_ready)
                await loop.run()
                self._tell_everybody()
                nursery.cancel_scope.cancel()

    async def _watch_exits(self) -> None:
        watch = self.service.processes.watch
        while True:
            await trio.lowlevel.wait_readable(watch.fd)
            self.service.sweep(time.monotonic())

    async def _freeze(self) -> None:
        while True:
            await trio.sleep(FREEZE_S)
            gc.freeze()

    async def _tell_watchdog(self) -> None:
        period_s = notify.watchdog_period_s()
        while period_s is not None:
            notify.tell(WATCHDOG=1)
            await trio.sleep(period_s)

    async def _say_ready(self) -> None:
        await trio.to_thread.run_sync(os.stat, self.place.mount_point, abandon_on_cancel=True)
        self.journals.events.add("start", member=self.member.name, version=__version__)
        notify.tell(READY=1, STATUS=f"serving {self.place.mount_point}, alone and quorate")
        print(f"ready {self.place.mount_point}", flush=True)

    async def _stop_on(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            log.info("%s: stopping", signal.Signals(number).name)
            notify.tell(STOPPING=1)
            self._tell_everybody()
            with trio.move_on_after(POLL_GRACE_S):
                await anext(signals)
            pyfuse3.terminate()
            return

    def _tell_everybody(self) -> None:
        if not self.service.stopping:
            self.journals.events.add("stop", member=self.member.name)
            handles = self.operations.handles.values()
            self.service.stop([h for h in handles if isinstance(h, LockHandle)])

    def close(self) -> None:
        """Unmount, detached if somebody still stands in it, and leave no record of owners."""
        pyfuse3.close(unmount=True)
        self.record.close()


@contextmanager
def _received(*numbers: signal.Signals) -> Iterator[AsyncIterator[int]]:
    """The signals that come, one by one; those that come later do not keep the daemon from unmounting."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.signal(number, lambda number, frame: None)
    with trio.open_signal_receiver(*numbers) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        yield signals
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _others_may_be_allowed() -> bool:
    try:
        lines = Path("/etc/fuse.conf").read_text().split("\n")
    except OSError:
        return False
    return "user_allow_other" in (line.strip() for line in lines)


def _allow_many_owners() -> None:
    """Every process that asks costs a descriptor: the usual soft limit of 1,024 would be the end of a crowd."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _mind_the_collector() -> None:
    """Collect only the young: locks make no cycles, and a million of them must not be walked."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GENERATION_0_OBJECTS, _NEVER, _NEVER)


def serve(place: Place, config: Config) -> None:
    """Run a member on `place` until it is told to end. Raises the ProgramErrors of its parts."""
    store = RegistryStore(place.state)
    try:
        daemon = Daemon(place, config, store)
        daemon.mount()
        try:
            trio.run(daemon.run)
        finally:
            daemon.close()
    finally:
        store.close()
    log.info("ended")
    sys.stderr.flush()
