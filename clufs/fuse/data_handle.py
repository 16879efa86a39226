"""Opens of a LUN's `data`: every read and write goes to the LUN, beside all other requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clufs.errors import ClufsError
from clufs.fuse import lowlevel
from clufs.fuse.lock_handle import READABLE, WRITABLE, PollHandle
from clufs.tree.items import Caller

if TYPE_CHECKING:
    from clufs.fuse.handles import Storing
    from clufs.fuse.lowlevel import Request
    from clufs.tree.luns import LunData


class DataHandle:
    """An open LUN. What a write wrote is on the medium when it returns, so fsync(2) has nothing to do."""

    __slots__ = ("file", "node", "storing")
    wants_flush = False

    def __init__(self, file: LunData, node: int, storing: Storing) -> None:
        self.file = file
        self.node = node
        self.storing = storing

    def must_ask(self, offset: int) -> bool:
        """Nothing of a LUN is kept here."""
        return True

    async def ask(self, offset: int, size: int) -> bytes:
        """Read. Raises LunError."""
        return await self.file.read_at(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """Never without asking."""
        return b""

    def write(self, request: Request, data: bytes) -> int | None:
        """Write; answered when it is on the medium. A signal ends the wait, not the write."""
        try:
            rest = self.file.write_at(lowlevel.current_offset(), data)
        except ClufsError as error:
            caller = Caller(request.pid, request.uid, request.gid)
            return -self.storing.refused(caller, self.file, error)
        self.storing.answer_after(rest, self.file, request, len(data))
        return None

    def poll(self, poll_handle: PollHandle | None) -> int:
        """As of a disk."""
        return READABLE | WRITABLE

    def flush(self, tid: int) -> None:
        """Nothing depends on it."""

    def release(self) -> None:
        """Nothing depends on it."""
