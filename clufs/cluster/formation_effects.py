"""What a formation wants done. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from clufs.cluster.formation_messages import Lives, Round
from clufs.cluster.interface import Peer, View


@dataclass(frozen=True, slots=True)
class Multicast:
    """Send through the engine."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Store:
    """Put the number on disk, then call stored() with it."""

    number: int


@dataclass(frozen=True, slots=True)
class DiskStore:
    """Put the number on the quorum disk, as its holder, for this round and these members.

    Then call disk_stored(); or anew() if there is one already that is not below it.
    """

    number: int
    round: Round
    members: Lives


@dataclass(frozen=True, slots=True)
class Suspend:
    """The view that was installed holds no more: nothing may be granted until Install."""

    why: str


@dataclass(frozen=True, slots=True)
class Install:
    """The view holds from now on. After a quorum that went and came it may be the one before.

    streams: peer id -> (address, port) of each member's streams.
    """

    view: View
    streams: dict[int, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Say:
    """Something said in the installed view."""

    sender: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Expelled:
    """This incarnation is in no view any more: the engine is gone, or the others go on without it.

    This formation is finished; the member leaves the group, and joins it as a new incarnation.
    """

    why: str


Effect = Multicast | Store | DiskStore | Suspend | Install | Say | Expelled


@dataclass(frozen=True, slots=True)
class Self:
    """What a member says of itself."""

    peer: Peer
    incarnation: int
    port: int
