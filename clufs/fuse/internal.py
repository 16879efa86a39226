"""Locks that the daemon asks for itself: who plans, and who runs which application.

They are ordinary EX locks in the reserved namespace `.caa`: queued, recovered and gated as all
others are. Their owner has no process: who ends what runs under one, when it is lost, is its user.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from clufs.dlm.interface import Asked, OwnerEnded, Request, Verb
from clufs.dlm.modes import Mode
from clufs.errors import ClufsError, NoQuorum
from clufs.fuse.owners import LockOwner
from clufs.tree.reserved import reserve

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.fuse.lock_service import LockService

_EXCLUSIVE = Request(Verb.LOCK, Mode.EX, nodeadlock=True, notify=True)


class InternalLock(LockOwner):
    """One EX lock of the daemon: owner, party and client in one. Asked for once, ended once.

    decided: it is granted, refused or lost. number: its sequencer while it is held, else 0.
    over: the sentence why it is not, and will not be, held; empty before.
    on_lost: called when it went without a release, because this life of the member is over.
    on_blocks: called when another member waits for it (once per grant).
    """

    __slots__ = ("decided", "name", "number", "on_blocks", "on_lost", "over")
    kind = "internal"

    def __init__(self, name: bytes) -> None:
        super().__init__()
        self.name = name
        self.decided = trio.Event()
        self.number = 0
        self.over = ""
        self.on_lost: Callable[[], None] = _nothing
        self.on_blocks: Callable[[], None] = _nothing

    @property
    def command(self) -> str:
        return "clufsd"

    @property
    def held(self) -> bool:
        """Whether it is granted here, as far as this member knows."""
        return self.number > 0

    async def granted(self) -> int:
        """Wait for the grant; its sequencer. Raises the refusal, NoQuorum where the life ended."""
        await self.decided.wait()
        if self.over:
            raise NoQuorum(self.over)
        return self.number

    def was_granted(self, lock: Lock) -> None:
        """The lock manager tells of the grant."""
        self.number = lock.number
        self.decided.set()

    def ended(self, why: str) -> None:
        """Nothing is held or awaited any more."""
        self.over = self.over or why
        self.number = 0
        self.decided.set()

    def was_refused(self, error: ClufsError) -> None:
        """The lock manager refuses the request."""
        self.ended(str(error))

    def all_lost(self) -> None:
        held = self.held
        self.ended("this member was expelled")
        if held:
            self.on_lost()


def _nothing() -> None:
    """Nobody wants to be told."""


class InternalLocks:
    """Asks for them and releases them, through the service that all locks of this member pass."""

    def __init__(self, service: LockService) -> None:
        self._service = service

    def ask(self, name: bytes) -> InternalLock:
        """Ask for EX on `name`, which the grant, a refusal or the end of this life decides."""
        lock = InternalLock(name)
        service = self._service
        if service.is_expelled:
            lock.ended("this member was expelled")
            return lock
        reserve(service.tree).file_of(name)
        service.run(Asked(lock, name, _EXCLUSIVE, lock, lock))
        return lock

    def release(self, lock: InternalLock) -> None:
        """Give it up, granted or awaited; what is given up already stays so."""
        if lock.locks and not self._service.is_expelled:
            self._service.run(OwnerEnded(lock, abnormal=False))
        lock.ended("it was released")
