"""LUNs for members that have no path of their own: this member reads and writes for them.

What a life asked for is never written once that life is out, whatever happens to whom and when. The rule:

    epoch     A write is begun only while the view that stands here has the author's life, and the registry knows
              that this life may write for it.
    drain     As long as a write is under way that was begun in another view than the one installed now, this
              member says nothing to the group (`Runtime.say`); so it is in no later view before its writes have
              ended: a view has only members whose hello was heard in its round (`formation`).
    gate      A life that is lost gets out only when the lives that may write for it and are lost, too, are proved
              finished (`gate`).

Why that is enough. Let a write of A be done by S after A is out. A got out in a view V without A, and S had begun
the write in an earlier one. If S is in V, it said hello after that, with the write under way, against `drain`. If
S is lost in V, it was proved finished before A got out (`gate`), and a life that is proved finished writes nothing.
If S was out already, it said goodbye, and had ended its writes before (`drained`), or was proved finished likewise.
A that says goodbye has waited for its writes itself (`through`).

Reads need none of that. Who is asked goes by its own paths only: nobody is served what another serves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

import trio

from clufs.dlm.interface import Life
from clufs.errors import LunError, PathLost
from clufs.limits import SERVED_IN_FLIGHT_MAX, SERVED_PIECE_BYTES
from clufs.storage.inventory import SharedLun
from clufs.storage.keeping import Luns
from clufs.storage.served_wire import (
    DONE,
    NOT_NOW,
    Answer,
    Ask,
    Message,
    Offer,
    outcome_of,
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is asked of the rest of this member.

    me: its present life; of incarnation 0 once that is over. view: the number of the view that stands here and its
    lives, by member; None without one. is_in: may that life still hold locks? may_serve: does the registry know that
    the second life may write for the first? note: makes that so, at a quorum; raises ClufsError. send: to a member of
    the view, in order.
    """

    me: Callable[[], Life]
    view: Callable[[], tuple[int, Mapping[str, int]] | None]
    is_in: Callable[[Life], bool]
    may_serve: Callable[[Life, Life], bool]
    note: Callable[[Life, Life], Awaitable[object]]
    send: Callable[[str, Message], None]


class Ledger:
    """The writes for others that are under way, each with the number of the view in which it was begun. Pure."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, view: int) -> None:
        """A write begins."""
        self._begun[view] += 1

    def end(self, view: int) -> None:
        """One that was begun in this view has ended."""
        self._begun -= Counter((view,))

    def drains(self, view: int | None) -> bool:
        """Is one under way that was begun in another view than this (None: there is none now)?"""
        return any(begun != view for begun in self._begun)


class Server:
    """Reads and writes for others. drained: called when a write has ended."""

    def __init__(self, luns: Luns, cluster: Cluster, drained: Callable[[], None]) -> None:
        self._luns = luns
        self._cluster = cluster
        self._drained = drained
        self._under_way: Counter[str] = Counter()
        self._closed = False
        self.ledger = Ledger()

    def reach(self) -> dict[str, Offer]:
        """What others may ask for."""
        luns = self._luns.inventory.luns
        return {wwid: _offer(lun) for wwid, lun in luns.items() if lun.identity is not None}

    def asked(self, author: str, ask: Ask) -> None:
        """A request of another member came: it is answered once, when nothing of it is under way any more."""
        lun, why = self._luns.inventory.luns.get(ask.wwid), ""
        view = self._cluster.view()
        if view is None:
            why = "no view stands here"
        elif self._closed:
            why = "it is about to leave"
        elif view[1].get(author) != ask.incarnation:
            why = f"incarnation {ask.incarnation} of {author} is not in view {view[0]}"
        elif lun is None or lun.identity is None:
            why = "it has no path to that LUN"
        elif self._under_way[author] >= SERVED_IN_FLIGHT_MAX:
            why = "it is busy with what was asked before"
        elif max(len(ask.data), ask.count * lun.identity.block_bytes) > SERVED_PIECE_BYTES:
            why = f"more than {SERVED_PIECE_BYTES} bytes"
        elif ask.data:
            why = self._may_not_write(Life(author, ask.incarnation), lun)
        if why or view is None or lun is None:
            self._answer(author, ask, Answer(ask.serial, NOT_NOW, why))
            return
        self._begin(author, ask, lun, view[0])

    def _may_not_write(self, author: Life, lun: SharedLun) -> str:
        if lun.role != "data":
            return "it writes for others to LUNs for data only"
        if not self._cluster.may_serve(author, self._cluster.me()):
            return f"the registry here does not know yet that it may write for {author.member}"
        return ""

    def _begin(self, author: str, ask: Ask, lun: SharedLun, view: int) -> None:
        try:
            self._luns.begin(partial(self._carry_out, author, ask, lun, view))
        except PathLost as error:
            self._answer(author, ask, Answer(ask.serial, NOT_NOW, str(error)))
            return
        self._under_way[author] += 1
        if ask.data:
            self.ledger.begin(view)

    async def _carry_out(self, author: str, ask: Ask, lun: SharedLun, view: int) -> None:
        try:
            answer = Answer(ask.serial, DONE, data=await self._do(ask, lun))
        except LunError as error:
            answer = Answer(ask.serial, outcome_of(error), str(error))
        finally:
            self._under_way -= Counter((author,))
            if ask.data:
                self.ledger.end(view)
                self._drained()
        self._answer(author, ask, answer)

    async def _do(self, ask: Ask, lun: SharedLun) -> bytes:
        if not ask.data:
            return await self._luns.run(lun, lambda path: path.device.read(ask.lba, ask.count))
        await self._luns.run(lun, lambda path: path.device.write(ask.lba, ask.data), writes=True)
        return b""

    def _answer(self, author: str, ask: Ask, answer: Answer) -> None:
        """To the life that asked; where that is gone there is nobody to tell."""
        view = self._cluster.view()
        if view is not None and view[1].get(author) == ask.incarnation:
            self._cluster.send(author, answer)

    async def drained(self) -> None:
        """Begin nothing more, and wait until no write for others is under way: it may say goodbye."""
        self._closed = True
        while self.ledger.drains(None):  # noqa: ASYNC110 - what ends them tells somebody else
            await trio.sleep(0.01)


def _offer(lun: SharedLun) -> Offer:
    usable = lun.usable()
    writes = lun.role == "data" and any(not path.held for path in usable)
    return Offer(bool(usable), writes)
