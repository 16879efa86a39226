"""What the keeper knows of an action that is under way, or of which something is left."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from clufs.actions import cgroup, descendants
from clufs.caa.output import Tail
from clufs.limits import OUTPUT_KEPT_BYTES
from clufs.timeouts import OUTPUT_BATCH_S, OUTPUT_LATER_S


@dataclass(slots=True)
class Action:
    """One action. reaper_handle: a pidfd; outcome: the pipe from the reaper."""

    number: int
    resource: str
    reaper: int
    reaper_handle: int
    outcome: int
    cgroup: Path | None
    record: Path
    stream: Stream | None = None
    left: bool = True
    reaper_gone: bool = False
    killing: bool = False

    def is_gone(self) -> bool:
        """Whether nothing of it is left."""
        return self.reaper_gone and (self.cgroup is None or cgroup.is_empty(self.cgroup))

    def has_left(self) -> bool:
        """Whether something of it runs; a reaper that is about to end does not count."""
        return self.left and not self.is_gone()

    def kill(self) -> None:
        """Send SIGKILL to all that is left of it now."""
        # While the reaper lives, all are found below it, also those who have left the cgroup.
        if not self.reaper_gone:
            with cgroup.frozen(self.cgroup):
                descendants.kill_reaper(self.reaper)
        elif self.cgroup is not None:
            cgroup.kill(self.cgroup)


@dataclass(slots=True, eq=False)
class Stream:
    """What an action, and what it started, prints.

    While the action is under way every byte of it is told, and it waits while more than
    OUTPUT_KEPT_BYTES are untold; later (when it has ended) only the last of it.
    """

    action: int
    resource: str
    fd: int
    due: float | None = None
    later: bool = False
    held_back: bool = False
    closed: bool = False
    _tail: Tail = field(default_factory=Tail)
    _untold: int = 0

    def read(self, now: float) -> bool:
        """Take once what is there; False at the end."""
        room = OUTPUT_KEPT_BYTES if self.later else OUTPUT_KEPT_BYTES - self._untold
        try:
            data = os.read(self.fd, room)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._tail.add(data)
        self._untold += len(data)
        if self.due is None:
            self.put_off(now)
        return True

    @property
    def is_full(self) -> bool:
        """Whether the writer has to wait."""
        return not self.later and self._untold >= OUTPUT_KEPT_BYTES

    def is_due(self, now: float) -> bool:
        """Whether it is time to tell."""
        return self.due is not None and self.due <= now

    def put_off(self, now: float) -> None:
        """Tell it a moment later."""
        self.due = now + (OUTPUT_LATER_S if self.later else OUTPUT_BATCH_S)

    def take(self) -> bytes:
        """What is to be told now."""
        data = bytes(self._tail)
        self._tail = Tail()
        self._untold = 0
        self.due = None
        return data
