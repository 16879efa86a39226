"""What membership is to the rooms above: peers, views, and the engine that tells of them.

Two engines speak it: the embedded one (a cluster of one, in the same process) and corosync.
The engine moves messages and reports facts; what they mean is decided in `formation`, pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

RingId = tuple[int, int]
"""Representative node and sequence of a ring, as corosync gives it; grows with every membership."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A configured member. id: corosync's nodeid; address: where its streams are accepted."""

    id: int
    name: str
    address: str
    votes: int = 1


@dataclass(frozen=True, slots=True)
class View:
    """An agreed membership. number: never used before, not even when all members were off.

    members: (peer id, incarnation) of everyone in it, by id.
    """

    number: int
    members: tuple[tuple[int, int], ...]
    quorate: bool


# ------------------------------------------------- what an engine reports


@dataclass(frozen=True, slots=True)
class GroupChanged:
    """CPG delivered a configuration: these clufsd processes (peer id, pid) are in the group now."""

    ring: RingId
    members: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class QuorumChanged:
    """votequorum's word on a ring."""

    ring: RingId
    quorate: bool
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A multicast, in the one order that all members see; also one's own."""

    sender: int
    data: bytes


@dataclass(frozen=True, slots=True)
class EngineLost:
    """The engine is gone: this member is expelled as far as the others know."""

    why: str


Report = GroupChanged | QuorumChanged | Delivered | EngineLost


class Engine(Protocol):
    """Membership, quorum and total order."""

    cluster_name: str
    me: Peer
    peers: tuple[Peer, ...]
    disk_votes: int
    """The votes of the quorum disk, beside those of the peers; 0 without one."""

    async def run(self, tell: Callable[[Report], None]) -> None:
        """Join the group and report until cancelled; every call of `tell` is in the trio thread."""

    def multicast(self, data: bytes) -> None:
        """Send to all members, oneself included; queued while the engine is busy, in order."""

    def vote(self, ring: RingId, cast: bool) -> None:
        """Count the disk's votes for this member in that ring, or no longer; in a new ring they are not counted.

        May be said before that ring is reported, and after it has ended: then it means nothing. What comes of it is
        reported as QuorumChanged, in the same ring.
        """
