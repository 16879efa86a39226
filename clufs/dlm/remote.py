"""What a home keeps of what lies at other members: blocks, copies of locks, open requests."""

from __future__ import annotations

from dataclasses import dataclass

from clufs.dlm.interface import Asked
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Ask, Ended, Id, Withdraw
from clufs.dlm.rsb import ResourceBlock

LOST = ""
"""The master of a block whose master is gone, until its new master has been told of the locks here:
what is asked meanwhile is kept."""


class RemoteBlock(ResourceBlock):
    """What this member knows of a resource block elsewhere: its own locks, the value last told.

    master: None while the directory is asked; this member itself while it rebuilds the block; LOST
        while nobody else could.
    is_final: the master has said that it does nothing more with the block, for it is leaving;
        writer: the lock that could still write it then.
    is_stale: a request that writes was taken back and may have taken effect, or a new master was told of
        no lock that proves the value, and may have invalidated it: none here does, until the value is
        told again.
    """

    __slots__ = ("is_final", "is_stale", "master", "writer")

    def __init__(self, name: bytes, now: float, master: str | None) -> None:
        super().__init__(name, now, 0)
        self.master = master
        self.is_final = False
        self.is_stale = False
        self.writer: Id | None = None

    def blocks_others(self, lock: Lock) -> bool:
        """Of requests of other members the master tells, once for each grant: not when they are gone."""
        return (lock.granted is not None and lock.notified) or super().blocks_others(lock)


class Copy(Lock):
    """A lock whose master is another member; `rsb` is a RemoteBlock."""

    __slots__ = ()

    rsb: RemoteBlock


@dataclass(slots=True)
class Open:
    """A message that awaits its answer; kept, so that nothing it carries is lost before.

    master: who was asked. root: of the tree it is about; none for Ended, which may be about many.
    lock: None when the copy is gone. event: None when nobody waits for the answer any more.
    queued: the edge knows that it waits. placed: the master has said at which place.
    below: an Ended that is about sublocks, too.
    unsent: nobody has heard of it yet, for the master is LOST or being rebuilt here.
    """

    message: Ask | Withdraw | Ended
    master: str
    root: bytes = b""
    lock: Copy | None = None
    event: Asked | None = None
    queued: bool = False
    placed: bool = False
    below: bool = False
    unsent: bool = False
