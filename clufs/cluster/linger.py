"""Waiting a moment longer for what is likely to come at once, before the event loop is asked.

A request to another member and its answer are a few hundred microseconds apart, and a third of that
time would go into the event loop: it arms a socket anew for each wait, and wakes a task for each
message. Here sockets stand in an epoll set of their own, and who has nothing left to do waits on
all of them in one system call, for LINGER_S; only then does it wait in trio. The tasks that wait
there for the same sockets find nothing, and wait on. Nobody lingers for longer than LINGER_MAX_S
in a row without a turn of trio's, nor while a task is ready to run.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import trio

from clufs.timeouts import LINGER_MAX_S, LINGER_S


class Linger(trio.abc.Instrument):
    """The sockets, and who reads each. Everything is for the trio thread.

    As an instrument of trio it knows whether a task is ready.
    """

    __slots__ = ("_epoll", "_readers", "_ready", "_requests", "_turn_s")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._requests = -1
        self._turn_s = 0.0
        self._ready = 0

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """A task is ready from now on."""
        self._ready += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """It runs now; what was ready before this instrument was there is not counted."""
        if self._ready:
            self._ready -= 1

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Call `read` when the descriptor is readable; it must not block, nor raise."""
        trio.lowlevel.add_instrument(self)
        self._readers[fd] = read
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int, read: Callable[[], None]) -> None:
        """The descriptor is no longer read so; it may be closed, and its number be another's."""
        if self._readers.get(fd) == read:
            del self._readers[fd]
            with suppress(OSError, ValueError):
                self._epoll.unregister(fd)

    def requests_from(self, fd: int) -> None:
        """The descriptor from which requests of processes are read: they end a `stay`."""
        if fd != self._requests:
            self._requests = fd
            self._epoll.register(fd, select.EPOLLIN)

    def turned(self) -> None:
        """trio has just had its turn."""
        self._turn_s = monotonic()

    def stay(self) -> bool:
        """Serve the sockets until nothing has come for a moment. Whether there are requests to read."""
        if not self._readers:
            return False
        poll, readers, end_s = self._epoll.poll, self._readers, self._turn_s + LINGER_MAX_S
        while not self._ready and monotonic() < end_s:
            found = poll(LINGER_S)
            if not found:
                return False
            is_asked = False
            for fd, _ in found:
                read = readers.get(fd)
                if read is not None:
                    read()
                else:
                    is_asked = True
            if is_asked:
                return True
        return False
