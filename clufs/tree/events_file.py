"""/clu/events: the event journal as a file that grows (contract 1)."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from clufs.tree.items import Attributes, Caller, File

if TYPE_CHECKING:
    from clufs.tree.journals import Events


class EventsFile(File):
    """The last events; an open begins at the oldest kept then."""

    __slots__ = ("events",)

    def __init__(self, events: Events) -> None:
        super().__init__(b"events")
        self.events = events

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFREG | 0o444, size=self.events.end - self.events.begin)

    def show(self, caller: Caller) -> bytes:
        return self.events.read(self.events.begin, self.events.end - self.events.begin)
