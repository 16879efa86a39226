"""One open of a lock file: what its reads show, its writes ask and its close releases."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

from clufs.dlm.modes import PROTECTED_WRITE_OR_MORE
from clufs.errors import StaleValue
from clufs.fuse import processes
from clufs.fuse.owners import DescriptorOwner, FlockOwner, LockOwner
from clufs.tree.names import parent_block, ranges_of

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.fuse.lock_service import LockService
    from clufs.fuse.lowlevel import Request
    from clufs.tree.lock_tree import LockFile

READABLE = select.POLLIN | select.POLLRDNORM
WRITABLE = select.POLLOUT | select.POLLWRNORM


class PollHandle(Protocol):
    """Where a poll(2) waits."""

    def notify(self) -> None:
        """Wake it: it will ask again."""


class LockHandle:
    """An open lock file.

    owner: the descriptor's own owner if it was opened read-write, None if processes own.
    locker: who owns what was asked for last through it. fresh: a write came since the last
    read. base: the descriptor's offset at which the snapshot begins. lost: the lock is lost.
    wants_flush: every close of it is told, not the last one alone.
    """

    __slots__ = (
        "base",
        "created",
        "file",
        "fresh",
        "key",
        "locker",
        "lost",
        "node",
        "owner",
        "parent_key",
        "poll_handle",
        "service",
        "snapshot",
        "strict",
        "wants_flush",
    )

    def __init__(
        self, service: LockService, file: LockFile, node: int, read_write: bool, created: bool
    ) -> None:
        self.service = service
        self.file = file
        self.key = file.key
        self.node = node
        self.parent_key = parent_block(file.key) if file.directory.parent is not None else None
        self.owner: DescriptorOwner | None = DescriptorOwner(node) if read_write else None
        self.locker: LockOwner | None = self.owner
        self.created = created
        self.fresh = False
        self.base = 0
        self.snapshot: bytes | None = None
        self.strict = False
        self.lost = False
        self.wants_flush = read_write
        self.poll_handle: PollHandle | None = None
        file.opens += 1

    def write(self, request: Request, data: bytes) -> int | None:
        """One write, one request (contract 2.1)."""
        return self.service.write(self, request, data)

    def _is_new(self, offset: int) -> bool:
        """Whether a read at this offset begins a snapshot (contract 2.3)."""
        return self.fresh or offset == 0 or self.snapshot is None

    def must_ask(self, offset: int) -> bool:
        """Whether the read begins a snapshot of a value that another member knows."""
        return self._is_new(offset) and self.file.elsewhere

    async def ask(self, offset: int, size: int) -> bytes:
        """Such a read. Raises HostDown, StaleValue."""
        facts = await self.service.tree.elsewhere.facts(self.key)
        if facts is None:
            self._begin(offset, b"", True, 1)
        else:
            self._begin(offset, facts.value, facts.valid, facts.quorum)
        return self._part(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """The value block and a newline, as one snapshot (contract 2.3).

        Raises StaleValue when the descriptor is strict and the value invalid.
        """
        if self._is_new(offset):
            service = self.service
            block = service.node.find(self.key)
            if block is None:
                self._begin(offset, b"", True, 1)
            else:
                self._begin(offset, block.value, block.valid, service.tree.elsewhere.quorum)
        return self._part(offset, size)

    def _part(self, offset: int, size: int) -> bytes:
        assert self.snapshot is not None
        begin = offset - self.base if offset >= self.base else offset
        return self.snapshot[begin : begin + size]

    def _begin(self, offset: int, value: bytes, valid: bool, quorum: int) -> None:
        if self.strict and not (valid and quorum):
            what = "the value block is invalid" if quorum else "this member has no quorum"
            raise StaleValue(f"{what}, and this descriptor is strict")
        self.snapshot = value + b"\n" if value else b""
        self.base = offset if self.fresh else 0
        self.fresh = False

    @property
    def range_key(self) -> bytes:
        """The resource block of what fcntl(2) locks of the file."""
        return ranges_of(self.key)

    @property
    def lock(self) -> Lock | None:
        """What was asked for through this descriptor and still is held or awaited."""
        return self.locker.locks.get(self.key) if self.locker is not None else None

    def descriptor_owner(self) -> DescriptorOwner:
        """The owner that the descriptor itself is: of one not opened read-write, from now on."""
        if self.owner is None:
            self.owner = FlockOwner(self.node)
        return self.owner

    @property
    def lock_of_descriptor(self) -> Lock | None:
        """What the descriptor itself holds or awaits."""
        return self.owner.locks.get(self.key) if self.owner is not None else None

    def poll(self, poll_handle: PollHandle | None) -> int:
        """What poll(2) reports now; the handle is woken when that may have changed."""
        if poll_handle is not None:
            self.poll_handle = poll_handle
            self.service.wants_news(self)
        lock = self.lock
        events = READABLE
        if lock is None or lock.wanted is None:
            events |= WRITABLE
        if lock is not None and lock.rsb.blocks_others(lock):
            events |= select.POLLPRI
        if lock is not None and lock.granted is not None and not self.service.quorate:
            events |= select.POLLERR
        if self.lost:
            events |= select.POLLHUP
        return events

    def wake(self) -> None:
        """Wake whoever polls this descriptor."""
        poll_handle, self.poll_handle = self.poll_handle, None
        self.service.forget_poller(self)
        if poll_handle is not None:
            poll_handle.notify()

    def flush(self, tid: int) -> None:
        """A close by the thread `tid`: judge what a release now would be (contract 2.2)."""
        owner = self.owner
        if owner is None or owner.asker is None:
            return
        lock = owner.locks.get(self.key)
        held = lock.granted if lock is not None else None
        if held is not None and PROTECTED_WRITE_OR_MORE >> held & 1:
            asker = owner.asker
            owner.abnormal = not asker.is_alive or processes.is_ending(asker.pid)

    def release(self) -> None:
        """The last close."""
        self.service.forget_poller(self)
        if self.owner is not None:
            self.service.descriptor_closed(self.owner)
        file = self.file
        file.opens -= 1
        if self.created:
            file.creators -= 1
        if not file.lookups:
            file.forgotten()
