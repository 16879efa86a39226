"""The quorum disk as corosync knows it: a device of votequorum, whose votes each member casts for itself.

corosync counts the votes of a device that is polled with the ring's id, and only where the last poll cast them. Where
a ring breaks it waits for a poll in the new one before it goes on: so that comes at once, and casts nothing; who may
cast is worked out in the new ring, whose messages come only then.
"""

from __future__ import annotations

from typing import Any

import trio

from clufs.cluster import libcorosync as lib
from clufs.cluster.interface import RingId
from clufs.timeouts import QUORUM_DEVICE_AGAIN_S, QUORUM_DEVICE_POLLS

NAME = "clufs"


class QuorumDevice(lib.Source):
    """The votes of the disk, cast for this member as it is told. Use: open, run, close; vote at any time."""

    name = "votequorum"

    def __init__(self, timeout_s: float) -> None:
        """timeout_s: for so long corosync counts the votes after a poll. Connects to nothing yet."""
        self._every_s = timeout_s / QUORUM_DEVICE_POLLS
        self._ring: RingId | None = None
        self._wanted: tuple[RingId, bool] | None = None
        self._news = trio.Event()
        self._is_open = False

    def vote(self, ring: RingId, cast: bool) -> None:
        """Cast the votes in that ring, or no longer; an earlier one than the present is over."""
        if self._ring is None or ring == self._ring or ring[1] > self._ring[1]:
            self._wanted = (ring, cast)
            self._news.set()

    def open(self) -> None:
        """Register, and cast nothing. Blocks. Raises CorosyncError, MissingPart."""
        ffi = lib.ffi
        self.library = lib.votequorum()
        self._callbacks = ffi.new("votequorum_callbacks_t *")
        # cffi frees a callback with its Python object.
        self._on_nodes = ffi.callback("votequorum_nodelist_fn_t", self._ring_changed)
        self._callbacks.nodelist = self._on_nodes
        self.handle = ffi.new("uint64_t *")
        code = self.library.votequorum_initialize(self.handle, self._callbacks)
        lib.checked("votequorum_initialize", code)
        self._is_open = True
        self.opened()
        self._call("votequorum_qdevice_register", NAME.encode())
        self._call("votequorum_trackstart", 0, lib.TRACK_CHANGES_AND_CURRENT)
        while self.dispatch():
            pass
        if self._ring is not None:
            self._poll(self._ring, cast=False)

    def close(self) -> None:
        """Take the device away, and its votes with it. Blocks."""
        if self._is_open:
            self._is_open = False
            self.library.votequorum_qdevice_unregister(self.handle[0], NAME.encode())
            super().close()

    async def run(self) -> None:
        """Poll until cancelled, once open. Raises CorosyncError when corosync is gone or wants no device."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            while True:
                self._news = trio.Event()
                if self._ring is None or await self._polled(self._ring):
                    with trio.move_on_after(self._every_s):
                        await self._news.wait()
                else:
                    await trio.sleep(QUORUM_DEVICE_AGAIN_S)

    async def _receive(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.fd)
            while self.dispatch():
                pass

    async def _polled(self, ring: RingId) -> bool:
        cast = self._wanted == (ring, True)
        return await trio.to_thread.run_sync(self._poll, ring, cast, abandon_on_cancel=True)

    def _poll(self, ring: RingId, cast: bool) -> bool:
        """False if corosync is busy. A ring that is over does not matter: there is news of the next one."""
        call = self.library.votequorum_qdevice_poll
        code = call(self.handle[0], NAME.encode(), cast, {"nodeid": ring[0], "seq": ring[1]})
        if code not in (lib.TRY_AGAIN, lib.MESSAGE_ERROR):
            lib.checked("votequorum_qdevice_poll", code)
        return bool(code != lib.TRY_AGAIN)

    def _call(self, call: str, *words: Any) -> None:
        lib.checked(call, getattr(self.library, call)(self.handle[0], *words))

    def _ring_changed(
        self, _handle: int, _context: int, ring: Any, _count: int, _nodes: Any
    ) -> None:
        self._ring = (ring.nodeid, ring.seq)
        self._news.set()
