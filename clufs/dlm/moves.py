"""What lock managers tell each other to move a tree of locks to another master while they stand.

The master offers the tree to the member that does nearly all the work on it. If that one takes
it, the master stops, and tells every home its last word and the new master; what it has not
answered by then had no effect. Each home hands over to the new master what it holds, and asks
again what was not answered; when all have, the new master goes on. A directory member that is no
home says that it has heard.

    master    Offer -> taker, Taken -> master          (or Kept: not any more)
    master    Moved -> all homes, the taker and the directory among them
    homes     HandedOver, Ask again..., HandedOver(is_all) -> taker; MoveHeard -> old master
    directory MoveHeard -> taker
    taker     Built -> all homes and the old master
"""

from __future__ import annotations

from clufs.dlm.held import BlockCopies, LastWord
from clufs.dlm.said import Said


class Offer(Said, frozen=True, tag=32):
    """You do nearly all the work on this name: will you master it?"""

    view: int
    name: bytes


class Taken(Said, frozen=True, tag=33):
    """The sender will master the name, and waits for Moved or Kept; or it will not."""

    view: int
    name: bytes
    wanted: bool


class Kept(Said, frozen=True, tag=34):
    """The offer does not stand any more."""

    view: int
    name: bytes


class Moved(Said, frozen=True, tag=35):
    """The sender does nothing more with this tree; `master` is its new master.

    words: its blocks; none for a directory of the name that has no lock there.
    floor: the new master's sequencers and VALSEQ start above.
    homes: to the new master, who will hand over to it what it holds.
    """

    view: int
    name: bytes
    master: str
    words: tuple[LastWord, ...]
    floor: int
    homes: tuple[str, ...] = ()


class HandedOver(Said, frozen=True, tag=36):
    """The sender's granted locks in a tree, to its new master; what it asks again follows.

    is_all: all has been handed over.
    """

    view: int
    name: bytes
    blocks: tuple[BlockCopies, ...]
    is_all: bool


class Built(Said, frozen=True, tag=37):
    """The sender masters the tree, and knows all that there is to know of it."""

    view: int
    name: bytes


class MoveHeard(Said, frozen=True, tag=38):
    """What the sender says from now on about the tree, it says to the new master or of it."""

    view: int
    name: bytes
