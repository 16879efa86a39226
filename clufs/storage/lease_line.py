"""The daemon's end of the lease process: started for one life of the member, heard, and ended with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from clufs.errors import GarbledAnswer
from clufs.storage.lease import Lease, Neighbour, Standing, neighbours
from clufs.storage.lease_wire import (
    END,
    FRAME_BYTES,
    Looked,
    Poison,
    Said,
    Seen,
    Settings,
    boottime,
)
from clufs.storage.watchdog import Supervised
from clufs.timeouts.lease import LEASE_END_S, LEASE_MUTE_S, LeaseTimeline

MODULE = "clufs.storage.lease_process"


class LeaseLine:
    """What the lease process, whose pid this is, has told.

    looks: the latest of each LUN, by its number in the settings. over: why this lease is over, or empty: nobody
    who relied on it may go on. changed: called after each word.
    """

    def __init__(
        self,
        pid: int,
        settings: Settings,
        socket_: trio.socket.SocketType,
        supervised: Supervised,
        changed: Callable[[], None],
    ) -> None:
        self.pid = pid
        self.settings = settings
        self.looks: dict[int, Looked] = {}
        self.over = ""
        self._socket = socket_
        self._supervised = supervised
        self._changed = changed
        self._said: Said | None = None
        self._word = trio.Event()

    # ------------------------------------------------------------ hearing

    async def listen(self) -> None:
        """Hear the lease process until it ends."""
        while True:
            try:
                frame = await self._socket.recv(FRAME_BYTES)
            except OSError:
                frame = b""
            if not frame:
                self._give_up("the lease process has ended")
                self._changed()
                return
            self._heard(frame)
            self.catch_up()

    def catch_up(self) -> None:
        """Hear all that has come: who stood still judges by the latest word, not by the first it reads."""
        with suppress(OSError):
            while frame := os.read(self._socket.fileno(), FRAME_BYTES):
                self._heard(frame)
        self._changed()

    def _heard(self, frame: bytes) -> None:
        with suppress(GarbledAnswer):
            looked = Looked.decode(frame)
            self.looks[looked.lun] = looked
            if looked.stopped:
                self._give_up(looked.trouble)
        self._wake()

    def _give_up(self, why: str) -> None:
        self.over = self.over or why
        self._wake()

    def _wake(self) -> None:
        self._word.set()
        self._word = trio.Event()

    async def settled(self) -> str:
        """Wait until there is a lease, which is empty, or none is to come: why."""
        while self.standing() != Standing.GOOD and not self.over:
            with trio.move_on_after(LEASE_MUTE_S) as patience:
                await self._word.wait()
            if patience.cancelled_caught:
                self._give_up(f"the lease process has said nothing for {LEASE_MUTE_S:g} s")
        return self.over

    # ------------------------------------------------------------ our own lease

    @property
    def line(self) -> LeaseTimeline:
        """Its times, as the LUNs' headers set them."""
        latest = max(self.looks.values(), key=lambda one: one.renewed_s, default=None)
        if latest is None:
            return LeaseTimeline()
        return LeaseTimeline(latest.io_timeout_ms / 1000, latest.watchdog_ms / 1000)

    def standing(self) -> Standing:
        """How our lease is by our own clock: a lease process that says nothing renews nothing."""
        if self.over:
            return Standing.FAILED
        lease = Lease(1, self.line)
        renewed_s = max((one.renewed_s for one in self.looks.values()), default=-1.0)
        if renewed_s >= 0:
            lease.renewed(0, renewed_s)
        return lease.standing(boottime())

    def grants_for_s(self) -> float:
        """For how long from now on it may be relied on; 0 or less: no more."""
        if self.standing() != Standing.GOOD:
            return 0.0
        renewed_s = max(one.renewed_s for one in self.looks.values())
        return renewed_s + self.line.warn_s - boottime()

    def trouble(self) -> str:
        """What went wrong in the latest beats, or empty."""
        return "; ".join(one.trouble for _, one in sorted(self.looks.items()) if one.trouble)

    # ------------------------------------------------------------ the others

    def seen(self, lun: int) -> Sequence[Seen]:
        """What one LUN's slots said at the latest look."""
        return self.looks[lun].seen if lun in self.looks else ()

    def neighbours(self, members: Sequence[int], heard: frozenset[int]) -> dict[int, Neighbour]:
        """The other members, as those LUNs show them that could be read lately, and the network."""
        fresh_s = boottime() - self.line.warn_s
        known: list[Mapping[int, Seen]] = [
            {one.member: one for one in looked.seen}
            for looked in self.looks.values()
            if looked.looked_s >= fresh_s
        ]
        return neighbours(known, members, heard)

    # ------------------------------------------------------------ saying

    def say(self, said: Said) -> None:
        """What stands in our record from the next beat on."""
        if said != self._said and self._send(said.encode()):
            self._said = said

    def poison(self, member: int, incarnation: int) -> None:
        """Have this incarnation of a member told to stop, on every LUN."""
        self._send(Poison(member, incarnation).encode())

    def _send(self, frame: bytes) -> bool:
        try:
            os.write(self._socket.fileno(), frame)
        except (BlockingIOError, ConnectionError):
            return False
        return True

    def let_go(self) -> None:
        """Nobody holds anything any more: a goodbye on the LUNs, and no watchdog."""
        with suppress(OSError):
            self._supervised.let_go()
        self._send(END)


@asynccontextmanager
async def lease_of(
    settings: Settings, supervisor: Sequence[str], changed: Callable[[], None]
) -> AsyncIterator[LeaseLine]:
    """A lease process and its supervisor, while inside.

    supervisor: its command line, with `{}` where the number of its socket goes. Who leaves without `let_go`
    leaves an armed watchdog behind.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    watched, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, line:
        with theirs, watched:
            guard = _start([str(watched.fileno()) if w == "{}" else w for w in supervisor], watched)
            words = [sys.executable, "-m", MODULE, str(theirs.fileno()), str(line.fileno())]
            process = _start(words, theirs, line)
        ours.setblocking(False)
        ours.send(settings.encode())
        end = trio.socket.from_stdlib_socket(ours)
        found = LeaseLine(process.pid, settings, end, Supervised(line, 0), changed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.listen)
            try:
                yield found
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await _reap(process)
    await trio.to_thread.run_sync(_wait, guard, abandon_on_cancel=True)


def _start(words: Sequence[str], *inherited: socket.socket) -> subprocess.Popen[bytes]:
    descriptors = [one.fileno() for one in inherited]
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, pass_fds=descriptors, start_new_session=True
    )


async def _reap(process: subprocess.Popen[bytes]) -> None:
    """See it end, soon or by SIGKILL: two of them would write one slot."""
    if not await trio.to_thread.run_sync(_wait, process):
        process.kill()
        await trio.to_thread.run_sync(_wait, process)


def _wait(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(LEASE_END_S)
    except subprocess.TimeoutExpired:
        return False
    return True
