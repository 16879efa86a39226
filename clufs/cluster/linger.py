"""Waiting a moment longer for what is likely to come at once, before the event loop is asked.

A request to another member and its answer are a few hundred microseconds apart, and a third of that
time would go into the event loop: it arms a socket anew for each wait, and wakes a task for each
message. Here sockets stand in an epoll set of their own, and who has nothing left to do waits on
all of them in one system call, for LINGER_S; only then does it wait in trio. Where that has paid
lately it does not even sleep at first (clufs.cluster.eager). The tasks that wait
there for the same sockets find nothing, and wait on. Nobody lingers for longer than LINGER_MAX_S
in a row without a turn of trio's, nor while a task is ready to run.

A member whose processes ask for nothing that others decide pays nothing for it: what counts the
ready tasks is taken out of trio when nobody has lingered for a while.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import trio

from clufs.cluster.eager import Eager
from clufs.timeouts import LINGER_MAX_S, LINGER_S

_STEPS_COUNTED = 500
"""So many steps of tasks are counted after somebody has lingered: some milliseconds of work."""


class Linger(trio.abc.Instrument):
    """The sockets, and who reads each. Everything is for the trio thread.

    As an instrument of trio it knows whether a task is ready.
    """

    __slots__ = (
        "_after_asking", "_after_hearing", "_eager", "_epoll", "_is_counting", "_is_cut_short",
        "_is_used", "_readers", "_ready", "_requests", "_serve", "_steps", "_turn_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._requests = -1
        self._serve: Callable[[], bool] = lambda: True
        self._after_asking = Eager()  # the answer may be on its way
        self._after_hearing = Eager()  # whoever has been told something may ask for more
        self._eager = self._after_hearing
        self._turn_s = 0.0
        self._ready = 0
        self._steps = 0
        self._is_counting = False
        self._is_cut_short = False
        self._is_used = False

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """A task is ready from now on."""
        self._ready += 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """It runs now; what was ready before this instrument was there is not counted."""
        if self._ready:
            self._ready -= 1
        self._steps += 1
        if self._steps > _STEPS_COUNTED:
            trio.lowlevel.remove_instrument(self)
            self._is_counting = False

    def _count(self) -> None:
        """Know from now on which tasks are ready."""
        if not self._is_counting:
            self._is_counting = True
            self._ready = 0
            trio.lowlevel.add_instrument(self)
        self._steps = 0

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Call `read` when the descriptor is readable; it must not block, nor raise."""
        self._readers[fd] = read
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int, read: Callable[[], None]) -> None:
        """The descriptor is no longer read so; it may be closed, and its number be another's."""
        if self._readers.get(fd) == read:
            del self._readers[fd]
            with suppress(OSError, ValueError):
                self._epoll.unregister(fd)

    def requests_from(self, fd: int, serve: Callable[[], bool]) -> None:
        """The descriptor from which requests of processes are read.

        serve: called when there are some; those that it leaves to others, and says so, end a `stay`.
        """
        if fd != self._requests:
            self._requests = fd
            self._serve = serve
            self._epoll.register(fd, select.EPOLLIN)

    def turned(self) -> None:
        """trio has just had its turn."""
        self._turn_s = monotonic()

    async def wait(self, *, has_asked: bool = False) -> bool:
        """`stay` as long as something comes, with trio's turns in between. Whether there are requests
        to read.

        has_asked: something was asked of another member, not heard from one. While one task is in it,
        others do not linger; nor does it while other tasks have enough to do.
        """
        if self._is_used:
            return False
        self._is_used = True
        self._eager = self._after_asking if has_asked else self._after_hearing
        try:
            while not self.stay():
                if not self._is_cut_short:
                    return False
                await trio.lowlevel.checkpoint()
                self.turned()
            return True
        finally:
            self._is_used = False

    def stay(self) -> bool:
        """Serve the sockets until nothing has come for a moment. Whether there are requests to read."""
        self._is_cut_short = False
        if not self._readers:
            return False
        self._count()
        poll, readers, end_s = self._epoll.poll, self._readers, self._turn_s + LINGER_MAX_S
        has_read = False
        while not self._ready and (left_s := end_s - monotonic()) > 0.0:
            found = self._eager.look(poll) or poll(LINGER_S if left_s > LINGER_S else left_s)
            if not found:
                self._is_cut_short = has_read and left_s < LINGER_S
                return False
            is_asked = False
            for fd, _ in found:
                read = readers.get(fd)
                if read is not None:
                    has_read = True
                    self._eager = self._after_hearing
                    read()
                else:
                    self._eager = self._after_asking
                    is_asked = self._serve()
            if is_asked:
                return True
        self._is_cut_short = has_read or not self._ready
        return False
