"""The lease process: it writes this member's heartbeat on the LUNs of clufs' own, and reads all the others'.

    python -m clufs.storage.lease_process DAEMON SUPERVISOR

DAEMON and SUPERVISOR are sockets that it inherits. A program of its own, so that nothing else can delay
it: memory that is locked, a real-time priority where it may, an event loop that serves nobody else, and
per beat no work but the record's. Each LUN has a task: one that hangs delays no other.

It outlives neither its daemon nor its lease: when the daemon's socket ends without a goodbye, when a
message tells this incarnation to stop, or when no majority of the LUNs was written for too long, it
resets the watchdog no more.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import trio

from clufs.errors import ClufsError, LunError
from clufs.storage.beat import Beat
from clufs.storage.lease import Lease, Standing
from clufs.storage.lease_wire import (
    END,
    FRAME_BYTES,
    Looked,
    Poison,
    Said,
    Settings,
    boottime,
    decode_word,
)
from clufs.storage.records import LeaseState, MemberRecord
from clufs.storage.watchdog import Device, Supervised, Watchdog
from clufs.timeouts.lease import LUN_AGAIN_S, LeaseTimeline

log = logging.getLogger("clufs-lease")

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_THREAD_STACK_BYTES = 1 << 18
_PRIORITY = 1


class LeaseProcess:
    """One life of a member, on all LUNs; see `beat.Life`."""

    def __init__(
        self, settings: Settings, daemon: trio.socket.SocketType, line: socket.socket
    ) -> None:
        self.settings = settings
        self.boot_id = UUID(settings.boot_id).int
        self.lease: Lease | None = None
        self.stopped = ""
        self._said = Said()
        self._daemon = daemon
        self._line = line
        self._watchdogs: list[Watchdog] = []
        self._beats = [Beat(self, number) for number in range(len(settings.luns))]

    async def run(self) -> None:
        """Until this life's end. Raises OSError if the supervisor is gone, MissingPart for an unfit watchdog."""
        async with trio.open_nursery() as nursery:
            for beat in self._beats:
                nursery.start_soon(beat.run)
            nursery.start_soon(self._watch)
            await self._listen()
            nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        """Until the daemon says that it ends, or is gone."""
        while frame := await self._daemon.recv(FRAME_BYTES):
            if frame == END:
                await self._end()
                return
            self._heard(decode_word(frame))
        log.warning("the daemon is gone: the watchdog is left alone from now on")

    def _heard(self, word: Said | Poison) -> None:
        """What others want to know at once does not wait for the next beat that is due."""
        if isinstance(word, Poison):
            for beat in self._beats:
                beat.poison(word)
            return
        before, self._said = self._said, word
        if (before.state, before.view) != (word.state, word.view):
            for beat in self._beats:
                beat.hurry.set()

    async def _end(self) -> None:
        """Nobody holds anything any more: let the watchdog go, and tell every LUN that takes it in time."""
        for watchdog in self._watchdogs:
            watchdog.let_go()
        self._said = replace(self._said, state=LeaseState.ENDED)
        if self.lease is not None:
            with trio.move_on_after(self.lease.line.io_timeout_s):
                async with trio.open_nursery() as nursery:
                    for beat in self._beats:
                        nursery.start_soon(beat.say_goodbye)

    async def _watch(self) -> None:
        """Reset the watchdogs as long as the lease stands, and tell the daemon when it stands otherwise."""
        told = Standing.NONE
        while True:
            lease, pause_s = self.lease, LUN_AGAIN_S
            if lease is not None:
                standing = lease.standing(boottime())
                if standing == Standing.FAILED:
                    troubles = "; ".join(beat.trouble for beat in self._beats if beat.trouble)
                    self.stop(f"not renewed for {lease.line.fail_s:g} s: {troubles}")
                self._pet(lease)
                if standing != told:
                    told = standing
                    self._beats[0].tell(self._beats[0].trouble)
                pause_s = min(lease.line.pet_s, lease.line.io_timeout_s)
            await trio.sleep(pause_s)

    def _pet(self, lease: Lease) -> None:
        if lease.may_pet(boottime()) and not self.stopped:
            for watchdog in self._watchdogs:
                watchdog.pet()

    # ------------------------------------------------------------ for the beats

    def begin_lease(self, line: LeaseTimeline) -> None:
        """See `beat.Life`."""
        if self.lease is None:
            self.lease = Lease(len(self._beats), line)
            self._watchdogs.append(
                Supervised(self._line, line.supervisor_s, self.settings.trusts_supervisor)
            )
            if self.settings.watchdog:
                self._watchdogs.append(Device(self.settings.watchdog, line.watchdog_s))
        elif self.lease.line != line:
            raise LunError("it was formatted with other times than another LUN of this cluster")

    def renewed(self, number: int, began_s: float) -> None:
        """See `beat.Life`. A watchdog runs before anybody hears that there is a lease."""
        assert self.lease is not None
        self.lease.renewed(number, began_s)
        self._pet(self.lease)

    def record(self, cluster: int, began_s: float) -> MemberRecord:
        """See `beat.Life`."""
        assert self.lease is not None
        said, line = self._said, self.lease.line
        return MemberRecord(
            cluster,
            self.settings.member,
            self.settings.incarnation,
            self.boot_id,
            said.view,
            said.key,
            said.heard,
            round(began_s * 1000),
            time.time_ns(),
            round(line.io_timeout_s * 1000),
            round(line.watchdog_s * 1000),
            said.state,
            said.votes,
            said.quorate,
            any(watchdog.guards for watchdog in self._watchdogs),
        )

    def stop(self, why: str) -> None:
        """See `beat.Life`. The daemon hears of it with the next frame."""
        if not self.stopped:
            self.stopped = why
            log.error("the lease is over: %s", why)
            for beat in self._beats:
                beat.tell(why)

    def tell(self, looked: Looked) -> None:
        """See `beat.Life`. A daemon that does not read now hears the next one: each has all there is to say."""
        with suppress(BlockingIOError, ConnectionError):
            os.write(self._daemon.fileno(), looked.encode())


def _come_first() -> None:
    """Ask for what keeps others from delaying this process; what is not permitted is said in the log."""
    threading.stack_size(_THREAD_STACK_BYTES)
    libc = ctypes.CDLL(None, use_errno=True)
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    future = _MCL_FUTURE if os.geteuid() == 0 or hard == resource.RLIM_INFINITY else 0
    if libc.mlockall(_MCL_CURRENT | future) != 0:
        log.warning("memory is not locked: %s", os.strerror(ctypes.get_errno()))
    try:
        # Its threads, which wait for files, have it, too; it starts no program.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except OSError as error:
        log.warning("no real-time priority: %s", error.strerror)
    gc.collect()
    gc.freeze()
    # What a beat leaves behind is collected after it, when there is time.
    gc.disable()


async def _serve(daemon_fd: int, line_fd: int) -> None:
    daemon = trio.socket.fromfd(daemon_fd, socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket.socket(fileno=line_fd) as line, daemon:
        frame = await daemon.recv(FRAME_BYTES * 8)
        if frame:
            await LeaseProcess(Settings.decode(frame), daemon, line).run()


def main(daemon_fd: str, line_fd: str) -> int:
    """1 after a failure, which the log names."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A terminal's Ctrl-C is for the daemon, which says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _come_first()
    status = 0
    try:
        trio.run(_serve, int(daemon_fd), int(line_fd))
    except* (ClufsError, OSError) as failures:
        for error in failures.exceptions:
            log.error("%s", error)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
