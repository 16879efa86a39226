"""The embedded engine: a cluster of one in the same process, always quorate."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import trio

from clufs.cluster.interface import Delivered, GroupChanged, Peer, QuorumChanged, Report, RingId
from clufs.limits import MULTICAST_MAX_BYTES

_ID = 1
_RING = (_ID, 1)


class EmbeddedEngine:
    """A cluster of one member: what it multicasts comes back to it, in order."""

    def __init__(self, name: str) -> None:
        self.cluster_name = name
        self.me = Peer(_ID, name, "")
        self.peers: tuple[Peer, ...] = (self.me,)
        self.disk_votes = 0
        self._outgoing: deque[bytes] = deque()
        self._more_to_send = trio.Event()

    def multicast(self, data: bytes) -> None:
        """Send to oneself. Raises ValueError if `data` is longer than MULTICAST_MAX_BYTES."""
        if len(data) > MULTICAST_MAX_BYTES:
            raise ValueError(f"a multicast of {len(data)} bytes")
        self._outgoing.append(data)
        self._more_to_send.set()

    def vote(self, ring: RingId, cast: bool) -> None:
        """There is no disk: nothing is counted."""

    async def run(self, tell: Callable[[Report], None]) -> None:
        """Report the group of one and its quorum, then every message, until cancelled."""
        tell(QuorumChanged(_RING, True, (_ID,)))
        tell(GroupChanged(_RING, ((_ID, os.getpid()),)))
        while True:
            await self._more_to_send.wait()
            self._more_to_send = trio.Event()
            while self._outgoing:
                tell(Delivered(_ID, self._outgoing.popleft()))
                await trio.lowlevel.checkpoint()
