"""clufsd: one member, from its start to its end."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import trio

from clufs import __version__, notify
from clufs.cluster.gate import Told
from clufs.config import Config
from clufs.daemon import lockfiles, process
from clufs.daemon.applications.caa import ApplicationOrders
from clufs.daemon.applications.service import applications_of
from clufs.daemon.disk_lease import DiskLease
from clufs.daemon.ending import Ending
from clufs.daemon.facts import ClusterFacts, add_gauges, add_metrics
from clufs.daemon.luns import SharedLuns
from clufs.daemon.membership import Membership, RegistryAccess, RegistryNamespaces
from clufs.dlm.interface import (
    Event,
    Received,
    Recovered,
    Resumed,
    Suspended,
    Ticked,
    TurnCame,
    ViewInstalled,
)
from clufs.dlm.node import Node
from clufs.errors import MissingPart, MountError, ProgramError
from clufs.fuse import loop, lowlevel, mount_point
from clufs.fuse.groups import Groups
from clufs.fuse.lock_service import LockService
from clufs.fuse.operations import Operations
from clufs.fuse.owner_record import OwnerRecord
from clufs.fuse.timers import Timers
from clufs.member.queries import Queries
from clufs.member.runtime import Hooks
from clufs.registry.commands import Command, DropNamespace, PutNamespace
from clufs.registry.store import RegistryStore
from clufs.timeouts import (
    LEASE_S,
    TICK_S,
    VIEW_GRACE_S,
)
from clufs.tree import library, resource_news, status
from clufs.tree.events_file import EventsFile
from clufs.tree.items import Root
from clufs.tree.lock_reports import Testimony
from clufs.tree.lock_tree import LockTree
from clufs.tree.member import Journals, Member
from clufs.tree.names import shown
from clufs.tree.namespaces import PUBLIC, Namespace

import pyfuse3  # isort: skip  (lowlevel comes first)

log = logging.getLogger("clufsd")


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
        """Raises StateError, MountError, MissingPart or ConfigError."""
        self.place = place
        self.config = config
        self.store = store
        self.disk_lease = DiskLease(config, place.mount_point, place.owners)
        self.membership = Membership(config, store, self.disk_lease)
        self.membership.hooks = self._hooks()
        self.membership.expelled = self._expelled
        self.membership.reborn = self._reborn
        self.membership.begin()
        name, incarnation = self.membership.name, self.membership.incarnation
        self.journals = Journals(Member(name, incarnation, __version__))
        self.journals.fencing.keep_in(place.state / "fencing.log")
        self.disk_lease.events = self.journals.events
        process.clear_stale_mount(place.mount_point, place.owners, self.journals.events)
        self.standing = trio.Event()
        self._is_ready = False
        self._installed_s = 0.0
        self._told_status = ""
        self._withheld = False
        node = Node(name, 0, (), incarnation)
        root = Root()
        self.queries = Queries(node, self._send_query, self._members)
        self.locks = LockTree(
            node,
            RegistryNamespaces(self.membership),
            time.time,
            time.monotonic,
            self._namespace_changed,
            self.queries,
        )
        self.record = OwnerRecord(place.owners)
        self.timers = Timers()
        groups = Groups()
        self.service = LockService(
            node,
            self.locks,
            self.record,
            self.timers,
            self.journals,
            groups,
            self._kill_within_s(),
        )
        self._turn_wanted = trio.Event()
        self._tick_wanted = trio.Event()
        self._is_ticking = False
        self.applications = applications_of(
            self.membership, self.service, place.state, self._kill_within_s()
        )
        self._quorum_timer = self.timers.at(monotonic(), lambda: None)
        self._join_to_streams()
        self.cluster = ClusterFacts(self.membership, config.engine.kind, config.engine.port)
        self.luns = SharedLuns(config, self.membership, self.journals.events)
        self.cluster.confirm_kept = self.luns.fencing.confirm
        self._furnish(root, groups)
        self.operations = Operations(root, self.service, self.journals)
        metrics = self.journals.metrics
        add_gauges(metrics, self.locks, self.service, self.operations)
        add_metrics(metrics, self.membership, self.cluster)
        self.ephemerals = lockfiles.furnish(root, self.membership, self.service, metrics)
        self.operations.ephemerals = self.ephemerals
        self.ending = Ending(
            self.membership,
            self.service,
            self.applications,
            self.operations.lock_handles,
            config.daemon.stop_s,
            self.luns.served.finished,
        )

    def _furnish(self, root: Root, groups: Groups) -> None:
        root.add(self.locks.root)
        root.add(groups)
        root.add(EventsFile(self.journals.events))
        root.add(self.luns.directory(self.cluster, self.disk_lease))
        member = self.journals.member
        facts = status.Facts(member, self.cluster, self.locks, self.journals)
        status.build(root, facts)
        registry = RegistryAccess(self.membership)
        library.build(root, registry, ApplicationOrders(self.applications))
        self.journals.metrics.families.append(lambda: resource_news.metrics(registry))
        self.queries.witness = Testimony(self.locks, self.locks.node.member)

    # ------------------------------------------------------------ the cluster

    def _hooks(self) -> Hooks:
        return Hooks(
            step=self._step,
            query=lambda member, data: self.queries.received(member, data),
            application=lambda member, data: self.applications.received(member, data),
            blocks=lambda member, data: self.luns.served.received(member, data),
            drains=lambda view: self.luns.served.drains(view),
            applied=self._applied,
            restored=self._restored,
            happened=lambda line: self.journals.events.add(line.what, **dict(line.facts)),
            fencing=self._fencing,
            changed=self._view_changed,
            ticked=self._renew_lease,
        )

    def _fencing(self, told: Told) -> None:
        self.journals.fenced(told)
        self.disk_lease.fencing(told)

    def _step(self, event: Event) -> None:
        """The lock manager takes an event of the cluster."""
        if isinstance(event, Resumed) and self.disk_lease.grants_for_s() <= 0:
            self._withheld = True  # the view holds, our lease on the LUNs does not
            return
        if isinstance(event, ViewInstalled):
            self._installed_s = monotonic()
        self.service.run(event)
        if self.locks.node.wants_turn():
            self._turn_wanted.set()
        self._look_at_the_clock()
        if isinstance(event, Received):
            return  # nearly all of them
        if isinstance(event, ViewInstalled | Resumed):
            self._quorum_timer.cancel()
            self.service.quorum_back()
            self.applications.view_changed()
        elif isinstance(event, Suspended):
            self.applications.suspended()
            # Between two views quorum is not gone; if none comes, it is.
            grace_s = VIEW_GRACE_S if self.membership.runtime.quorate else 0.0
            self._quorum_timer.cancel()
            self._quorum_timer = self.timers.at(monotonic() + grace_s, self._quorum_lost)

    def _quorum_lost(self) -> None:
        self.service.quorum_lost()
        self.applications.quorum_lost()

    def _join_to_streams(self) -> None:
        service, membership = self.service, self.membership
        service.send = lambda member, message: membership.runtime.send(member, message)
        service.flush = lambda: membership.runtime.flush()
        service.probe = lambda: membership.runtime.probe()
        service.recovered = self._recovered
        service.left = lambda: membership.runtime.left()
        membership.recovery_waits_for = lambda: self.locks.node.waits_for()

    def _renew_lease(self, late: bool) -> None:
        """Every so often: this member is awake, unless it has just found out that it was not."""
        self._look_at_the_clock()
        self.disk_lease.tick()
        disk_s = self.disk_lease.grants_for_s()
        if not self.locks.node.shared and disk_s == math.inf:
            return
        if late:
            log.warning("this member stood still for more than %g s", LEASE_S)
        if late or disk_s <= 0:
            self.service.end_lease()
        elif self._withheld:
            self._withheld = False
            self.membership.runtime.probe()
        if not self.locks.node.suspended:
            self.service.lease_until_s = monotonic() + min(LEASE_S, disk_s)

    def _send_query(self, member: str, data: bytes) -> None:
        self.membership.runtime.send_query(member, data)

    def _members(self) -> Sequence[str]:
        return [life.member for life in self.membership.runtime.core.members]

    def _applied(self, command: Command) -> None:
        """The registry has applied a command."""
        self.ephemerals.look(command)
        self.applications.applied(command)
        resource_news.tell(self.journals.events, command)
        match command:
            case PutNamespace():
                self.locks.root.namespace_put(command.name, command.uid, command.gid, command.mode)
            case DropNamespace():
                self.locks.root.namespace_dropped(command.name)

    def _restored(self) -> None:
        """The registry was replaced as a whole."""
        self.ephemerals.look_again()
        self.applications.restored()
        known = self.membership.runtime.core.replica.state.namespaces
        for name, space in known.items():
            self.locks.root.namespace_put(name, space.uid, space.gid, space.mode)
        for name in {name for name, _ in self.locks.root.names()} - known.keys() - {PUBLIC}:
            self.locks.root.namespace_dropped(name)

    def _view_changed(self) -> None:
        """The view, or what is awaited, may have changed."""
        core = self.membership.runtime.core
        self.queries.view_changed()
        self.luns.served.view_changed()
        self.applications.moved()
        if core.standing and not self.standing.is_set():
            self.standing.set()
        if self.service.quorate and self._installed_s and not self.membership.runtime.quorate:
            # corosync often tells of the group first: no grace once it has spoken of the votes.
            self._quorum_timer.cancel()
            self._quorum_lost()
        self._tell_status()

    def _tell_status(self) -> None:
        """Tell systemd, from `ready` on, what this member does or waits for."""
        waits_for = self.cluster.waits_for()
        how = "quorate" if self.locks.node.shared else "alone and quorate"
        full = f"; {error}" if (error := self.cluster.disk_error()) else ""
        status = waits_for or f"serving {self.place.mount_point}, {how}{full}"
        if self._is_ready and status != self._told_status:
            ready = {} if self._told_status else {"READY": 1}
            self._told_status = status
            notify.tell(**ready, STATUS=status)

    def _recovered(self, effect: Recovered) -> None:
        """Recovery is complete here."""
        seconds = f"{monotonic() - self._installed_s:.3f}"
        self.journals.events.add(
            "recovered",
            view=effect.view,
            blocks=effect.blocks,
            locks=effect.locks,
            seconds=seconds,
        )

    async def _expelled(self, why: str) -> None:
        """This life is over: what it held is lost, and nobody goes on as if it were not."""
        self.journals.events.add("life-ended", why=why)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.applications.expelled)
            nursery.start_soon(self.service.expelled, self.operations.lock_handles())
        # Who asked for them is gone; what they hold is another's once this life is said to be over.
        await self.luns.drained()
        self.ephemerals.all_lost()

    def _reborn(self) -> None:
        """Another life begins, with a lock manager that knows of nothing before."""
        node = Node(self.membership.name, 0, (), self.membership.incarnation)
        self.queries.node = node
        self.service.new_node(node)

    def _kill_within_s(self) -> float | None:
        quorum = self.config.quorum
        return quorum.quorum_kill_ms / 1000 if quorum.on_lost_quorum == "kill" else None

    def _namespace_changed(self, kind: str, space: Namespace) -> None:
        mode = f"{space.mode:04o}"
        self.journals.events.add(kind, name=shown(space.name), uid=space.uid, mode=mode)

    def mount(self) -> None:
        """Mount the file system. Raises MountError, or MissingPart if the C extension is not used."""
        options = {"default_permissions", "fsname=clufs", "subtype=clufs", "nosuid", "nodev"}
        if os.geteuid() == 0 or process.others_may_be_allowed():
            options.add("allow_other")
        interrupted = loop.install(
            self.service.parked.interrupted, self._before_rest, self.membership.linger
        )
        operations = self.operations
        lowlevel.handlers(
            write=operations.write_now,
            lock=operations.lock_now,
            read=operations.read_now,
            interrupted=interrupted,
        )
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
        process.mind_the_collector()
        process.allow_many_owners()
        self.journals.events.add("start", member=self.membership.name, version=__version__)
        with process.received(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.timers.run)
                nursery.start_soon(self._watch_exits)
                nursery.start_soon(process.freeze_the_old)
                nursery.start_soon(process.tell_watchdog)
                nursery.start_soon(self.luns.serve)
                nursery.start_soon(self._live, nursery)
                nursery.start_soon(self._tick)
                nursery.start_soon(self._take_turns)
                nursery.start_soon(self._stop_on, signals)
                nursery.start_soon(self._say_ready)
                await loop.run()
                self.ending.tell_everybody()
                await self.ending.say_goodbye()
                await self.luns.fencing.leave()
                if not self.ending.leaves_holders:
                    self.disk_lease.let_go()
                nursery.cancel_scope.cancel()

    async def _live(self, nursery: trio.Nursery) -> None:
        """Be a member, as soon as nothing is left of the applications that a daemon before this ran."""
        await nursery.start(self.applications.run)
        await self.membership.run()

    async def _watch_exits(self) -> None:
        watch = self.service.processes.watch
        while True:
            await trio.lowlevel.wait_readable(watch.fd)
            self.service.sweep(time.monotonic())

    def _before_rest(self) -> bool:
        """Whether an answer is awaited: lingering only delays what is decided here."""
        self.service.flush_sent()
        self._look_at_the_clock()
        return bool(len(self.service.parked))

    def _look_at_the_clock(self) -> None:
        """Have the lock manager told that time passes, if it wants to know: alone it never does."""
        if not self._is_ticking and self.locks.node.wants_tick():
            self._is_ticking = True
            self._tick_wanted.set()

    async def _tick(self) -> None:
        """Let the lock manager look for deadlocks with other members, while anything may be one."""
        while True:
            await self._tick_wanted.wait()
            self._tick_wanted = trio.Event()
            await trio.sleep(TICK_S)
            self._is_ticking = False
            if self.locks.node.wants_tick():
                self.service.run(Ticked())
            self._look_at_the_clock()

    async def _take_turns(self) -> None:
        """Let the lock manager go on with a recovery, each time after all who waited were served."""
        while True:
            await self._turn_wanted.wait()
            self._turn_wanted = trio.Event()
            while self.locks.node.wants_turn() and not self.service.is_expelled:
                await trio.lowlevel.checkpoint()
                self.service.run(TurnCame())

    async def _say_ready(self) -> None:
        await trio.to_thread.run_sync(os.stat, self.place.mount_point, abandon_on_cancel=True)
        if self.config.engine.kind == "embedded":
            await self.standing.wait()
        self._is_ready = True
        self._tell_status()
        print(f"ready {self.place.mount_point}", flush=True)

    async def _stop_on(self, signals: AsyncIterator[int]) -> None:
        await self.ending.on(signals)
        pyfuse3.terminate()

    def close(self) -> None:
        """Unmount, detached if somebody still stands in it, and leave no record of owners but of those whom the next
        daemon has to end."""
        pyfuse3.close(unmount=True)
        self.record.close(keep=self.ending.leaves_holders)


def _run(daemon: Daemon) -> None:
    """Raises the one error of a part that ended the daemon as itself, not as a group."""
    try:
        trio.run(daemon.run)
    except BaseExceptionGroup as group:
        only: BaseException = group
        while isinstance(only, BaseExceptionGroup) and len(only.exceptions) == 1:
            only = only.exceptions[0]
        if isinstance(only, ProgramError):
            raise only from None
        raise


def serve(place: Place, config: Config) -> None:
    """Run a member on `place` until it is told to end. Raises the ProgramErrors of its parts."""
    store = RegistryStore(place.state)
    try:
        daemon = Daemon(place, config, store)
        daemon.mount()
        try:
            _run(daemon)
        finally:
            daemon.close()
    finally:
        store.close()
    log.info("ended")
    sys.stderr.flush()
