"""The corosync engine: CPG for the group and the total order, votequorum for the quorum.

Every callback of the libraries only appends to a queue; what it means is worked out after the
dispatch, in the trio thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from clufs.cluster import corosync_config
from clufs.cluster import libcorosync as lib
from clufs.cluster.interface import (
    Delivered,
    EngineLost,
    GroupChanged,
    Peer,
    QuorumChanged,
    Report,
    RingId,
)
from clufs.cluster.quorum_device import QuorumDevice
from clufs.errors import ConfigError, MissingPart
from clufs.limits import MULTICAST_MAX_BYTES
from clufs.timeouts import ENGINE_CLOSE_S, MULTICAST_RETRY_MAX_S, MULTICAST_RETRY_MIN_S

GROUP = "clufs"

# Between two looks at the rest of the daemon, no more events than this are taken in one go.
_DISPATCHED_AT_ONCE = 64


class CorosyncEngine:
    """One process of a CPG group.

    run() may be called once. After EngineLost nothing more is told and run() returns.
    """

    def __init__(self, group: str = GROUP) -> None:
        """Read the cluster from cmap. Raises MissingPart (no corosync) or ConfigError."""
        found, votes = corosync_config.read()
        self.cluster_name = found.cluster_name
        self.peers: tuple[Peer, ...] = found.peers
        self.disk_votes = votes.disk
        self._device = QuorumDevice(found.device_timeout_s) if votes.disk else None
        self._reports: deque[Report] = deque()
        self._group = _Group(self._reports, group)
        self.me = self._own_peer()
        self._outgoing: deque[bytes] = deque()
        self._more_to_send = trio.Event()

    def _own_peer(self) -> Peer:
        own = self._group.own_id()
        for peer in self.peers:
            if peer.id == own:
                return peer
        raise ConfigError(f"corosync.conf: nodelist: this machine's node {own} is not in it")

    def multicast(self, data: bytes) -> None:
        """Send to all members, oneself included; queued while the engine is busy, in order.

        Raises ValueError if `data` is longer than MULTICAST_MAX_BYTES.
        """
        if len(data) > MULTICAST_MAX_BYTES:
            raise ValueError(f"a multicast of {len(data)} bytes")
        self._outgoing.append(data)
        self._more_to_send.set()

    def vote(self, ring: RingId, cast: bool) -> None:
        """Cast the disk's votes in that ring, or no longer; see Engine."""
        if self._device is not None:
            self._device.vote(ring, cast)

    async def run(self, tell: Callable[[Report], None]) -> None:
        """Join the group and report until cancelled or until EngineLost has been told."""
        quorum = None
        try:
            # corosync answers these calls when it can: not while it forms a ring, or is stopped.
            if self._device is not None:
                # What a former life cast ends before the quorum is told.
                await trio.to_thread.run_sync(self._device.open, abandon_on_cancel=True)
            quorum = await trio.to_thread.run_sync(_Quorum, self._reports, abandon_on_cancel=True)
            await trio.to_thread.run_sync(self._group.join, abandon_on_cancel=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                if self._device is not None:
                    nursery.start_soon(self._device.run)
                nursery.start_soon(self._receive, quorum, tell)
                nursery.start_soon(self._receive, self._group, tell)
        except* lib.CorosyncError as errors:
            tell(EngineLost(str(errors.exceptions[0])))
        finally:
            # The library may wait for a corosync that is dead or stands still.
            with trio.move_on_after(ENGINE_CLOSE_S, shield=True):
                await trio.to_thread.run_sync(self._close, quorum, abandon_on_cancel=True)

    def _close(self, quorum: _Quorum | None) -> None:
        if self._device is not None:
            self._device.close()
        self._group.close()
        if quorum is not None:
            quorum.close()

    async def _receive(self, source: lib.Source, tell: Callable[[Report], None]) -> None:
        while True:
            await trio.lowlevel.wait_readable(source.fd)
            for _ in range(_DISPATCHED_AT_ONCE):
                more = source.dispatch()
                while self._reports:
                    tell(self._reports.popleft())
                if not more:
                    break

    async def _send(self) -> None:
        while True:
            await self._more_to_send.wait()
            self._more_to_send = trio.Event()
            delay_s = MULTICAST_RETRY_MIN_S
            while self._outgoing:
                if self._group.send(self._outgoing[0]):
                    self._outgoing.popleft()
                    delay_s = MULTICAST_RETRY_MIN_S
                else:
                    await trio.sleep(delay_s)
                    delay_s = min(2 * delay_s, MULTICAST_RETRY_MAX_S)


class _Group(lib.Source):
    """The CPG group. Messages and configurations come from it in the one order of all members."""

    name = "cpg"

    def __init__(self, reports: deque[Report], group: str) -> None:
        """Connect; nothing is joined yet. Raises MissingPart."""
        ffi = lib.ffi
        self.group = group
        self.library = lib.cpg()
        self._reports = reports
        self._ring: RingId | None = None
        self._members: tuple[tuple[int, int], ...] = ()
        # cffi frees a callback with its Python object.
        self._callbacks = (
            ffi.callback("cpg_deliver_fn_t", self._delivered),
            ffi.callback("cpg_confchg_fn_t", self._changed),
            ffi.callback("cpg_totem_confchg_fn_t", self._ring_changed),
        )
        self._model = ffi.new("cpg_model_v1_data_t *")
        self._model.model = lib.MODEL_V1
        self._model.deliver, self._model.confchg, self._model.totem_confchg = self._callbacks
        self._model.flags = lib.INITIAL_TOTEM_CONFCHG
        self.handle = ffi.new("uint64_t *")
        code = self.library.cpg_model_initialize(self.handle, lib.MODEL_V1, self._model, ffi.NULL)
        if code != lib.OK:
            raise MissingPart(f"corosync lets nobody in: {lib.CorosyncError('cpg', code)}")
        self.opened()

    def own_id(self) -> int:
        """This machine's node id."""
        found = lib.ffi.new("unsigned int *")
        lib.checked("cpg_local_get", self.library.cpg_local_get(self.handle[0], found))
        return int(found[0])

    def join(self) -> None:
        """Join the group; waits while corosync is busy. Raises CorosyncError."""
        name = lib.ffi.new("struct cpg_name *")
        name.length = len(self.group)
        name.value = self.group.encode()
        lib.checked("cpg_join", self.library.cpg_join(self.handle[0], name))

    def send(self, data: bytes) -> bool:
        """Send; False if corosync is busy. Raises CorosyncError when it is gone."""
        buffer = lib.ffi.from_buffer(data)
        vector = lib.ffi.new("struct iovec *", (buffer, len(data)))
        code = self.library.cpg_mcast_joined(self.handle[0], lib.AGREED, vector, 1)
        if code == lib.TRY_AGAIN:
            return False
        lib.checked("cpg_mcast_joined", code)
        return True

    def _delivered(
        self, _handle: int, _name: Any, node: int, _pid: int, data: Any, size: int
    ) -> None:
        self._reports.append(Delivered(node, bytes(lib.ffi.buffer(data, size))))

    def _changed(self, _handle: int, _name: Any, members: Any, count: int, *_rest: Any) -> None:
        found = ((members[at].nodeid, members[at].pid) for at in range(count))
        self._members = tuple(sorted(found))
        self._tell()

    def _ring_changed(self, _handle: int, ring: Any, _count: int, _nodes: Any) -> None:
        self._ring = (ring.nodeid, ring.seq)
        self._tell()

    def _tell(self) -> None:
        """Report ring and group. Between the two callbacks of one change the pair is a mixture:
        the older ring with the newer group, which no message will ever be delivered under."""
        if self._ring is not None and self._members:
            self._reports.append(GroupChanged(self._ring, self._members))


class _Quorum(lib.Source):
    """votequorum's notifications."""

    name = "quorum"

    def __init__(self, reports: deque[Report]) -> None:
        """Connect and ask for the present state and every change. Raises CorosyncError."""
        ffi = lib.ffi
        self.library = lib.quorum()
        self._reports = reports
        self._callbacks = (
            ffi.callback("quorum_notify_fn_t", self._notified),
            ffi.callback("quorum_nodelist_fn_t", self._nodes_changed),
        )
        self._model = ffi.new("quorum_model_v1_data_t *")
        self._model.model = lib.MODEL_V1
        self._model.notify, self._model.nodelist = self._callbacks
        self.handle = ffi.new("uint64_t *")
        kind = ffi.new("uint32_t *")
        code = self.library.quorum_model_initialize(
            self.handle, lib.MODEL_V1, self._model, kind, ffi.NULL
        )
        lib.checked("quorum_model_initialize", code)
        self.opened()
        flags = lib.TRACK_CHANGES_AND_CURRENT
        lib.checked("quorum_trackstart", self.library.quorum_trackstart(self.handle[0], flags))

    def _notified(self, _handle: int, quorate: int, ring: Any, count: int, nodes: Any) -> None:
        found = tuple(sorted(nodes[at] for at in range(count)))
        self._reports.append(QuorumChanged((ring.nodeid, ring.seq), bool(quorate), found))

    def _nodes_changed(self, *_rest: Any) -> None:
        """A ring before its votes are counted; the notification with the quorum follows."""
