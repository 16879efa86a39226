"""Both sides of served LUNs in one member: what it does for others, and what others do for it."""

from __future__ import annotations

from collections.abc import Callable

import trio

from clufs.storage.inventory import KnownPath, SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.served_wire import Answer, Ask, Offer, Reach, decode
from clufs.storage.serving import Cluster, Server
from clufs.storage.through import Through
from clufs.timeouts.served import SERVED_TELL_S


class Served:
    """say: lets go what the group was not to hear before; see `serving`. `serve` must run."""

    def __init__(self, luns: Luns, cluster: Cluster) -> None:
        self._cluster = cluster
        self.server = Server(luns, cluster, self._drained)
        self.through = Through(luns, cluster)
        self.say: Callable[[], None] = lambda: None
        self._told: tuple[object, dict[str, Offer]] = (None, {})
        self._moved = trio.Event()
        luns.inventory.listeners.append(self._path_moved)

    async def serve(self) -> None:
        """Tell the others what this member reaches, whenever that changes; until cancelled."""
        while True:
            self._moved = trio.Event()
            self._tell()
            with trio.move_on_after(SERVED_TELL_S):
                await self._moved.wait()

    def received(self, member: str, data: bytes) -> None:
        """Another member says something. Raises GarbageReceived."""
        match decode(data):
            case Reach() as reach:
                self.through.reached(member, reach)
            case Ask() as ask:
                self.server.asked(member, ask)
            case Answer() as answer:
                self.through.answered(member, answer)

    def drains(self, view: int | None) -> bool:
        """See Ledger."""
        return self.server.ledger.drains(view)

    def view_changed(self) -> None:
        """Views or lives may have changed."""
        self.through.look()
        if self._cluster.view() != self._told[0]:
            self._moved.set()

    async def finished(self) -> None:
        """Nothing is written here for others, nor elsewhere for this member: it may say goodbye."""
        await self.through.settled()
        await self.server.drained()

    def _drained(self) -> None:
        self.say()

    def _path_moved(self, lun: SharedLun, path: KnownPath) -> None:
        self._moved.set()

    def _tell(self) -> None:
        view = self._cluster.view()
        now = (view, self.server.reach())
        if view is None or now == self._told:
            return
        news = now[1] or self._told[1]
        self._told = now
        me = self._cluster.me()
        for member in view[1] if news else ():
            if member != me.member:
                self._cluster.send(member, Reach(me.incarnation, now[1]))
