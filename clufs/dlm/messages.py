"""What lock managers tell each other.

Messages between two lives of members come in order, and none is lost or doubled while both
are in the views; nothing else is relied on. Each carries the view of the sender. Locks and
requests are named by the member that made them, its incarnation and a count, so that a
request that is sent again takes effect once.

    home        the member of the lock's owner: it has a copy of the lock
    master      the member where the resource block lives and where everything is decided
    directory   the member that knows, for a name, who its master is
"""

from __future__ import annotations

from clufs.dlm.held import BlockCopies as BlockCopies
from clufs.dlm.held import HeldCopy as HeldCopy
from clufs.dlm.held import LastWord as LastWord
from clufs.dlm.interface import Request
from clufs.dlm.modes import Mode
from clufs.dlm.moves import Built, HandedOver, Kept, Moved, MoveHeard, Offer, Taken
from clufs.dlm.said import Id as Id
from clufs.dlm.said import Said
from clufs.dlm.survey_messages import (
    Blockers,
    Break,
    Describe,
    Described,
    Found,
    Overdue,
    Waits,
    WhatWaits,
    WhoBlocks,
)
from clufs.errors import RequestError

# ------------------------------------------------- home and master, directory


class Lookup(Said, frozen=True, tag=0):
    """Who masters this name? Whoever asks first does."""

    view: int
    name: bytes


class LookedUp(Said, frozen=True, tag=1):
    """floor: a new master's sequencers and VALSEQ start above."""

    view: int
    name: bytes
    master: str
    floor: int


class Dropped(Said, frozen=True, tag=2):
    """The sender no longer masters this name, where no lock is left; `floor` as in LookedUp."""

    view: int
    name: bytes
    floor: int


# ------------------------------------------------------------ home to master


class Ask(Said, frozen=True, tag=3):
    """A request on a lock; kept at home until it is answered.

    new: it makes the lock. parent: the lock above, for a sublock.
    place: the queue place to take again. pid, command: whose it is, for reports; said with a
    new lock. party: who can release the lock, as its home names it; waiter: who is stuck while it
    waits, where that is another.
    """

    view: int
    id: Id
    lock: Id
    name: bytes
    request: Request
    new: bool
    parent: Id | None = None
    place: int | None = None
    pid: int = 0
    command: str = "-"
    party: Id | None = None
    waiter: Id | None = None
    again: bool = False
    """Sent before, to a master that is lost: it may have taken effect there."""


class Withdraw(Said, frozen=True, tag=4):
    """The request `asked` is given up, even if it has been granted meanwhile.

    kept: what the lock goes back to, or None if it goes away. mode: what was asked.
    """

    view: int
    id: Id
    lock: Id
    name: bytes
    asked: Id
    kept: Request | None
    mode: Mode
    again: bool = False


class Ended(Said, frozen=True, tag=5):
    """The owners of these locks are gone; sublocks come before what is above them."""

    view: int
    id: Id
    locks: tuple[Id, ...]
    abnormal: bool


# ------------------------------------------------------------ master to home


class NotMaster(Said, frozen=True, tag=6):
    """The request had no effect: ask the directory again."""

    view: int
    id: Id


class Granted(Said, frozen=True, tag=7):
    """The request is granted; with it comes the value block as it is now."""

    view: int
    id: Id
    mode: Mode
    number: int
    sync: bool
    value: bytes
    valid: bool
    valseq: int


class Queued(Said, frozen=True, tag=8):
    """The request waits at this place."""

    view: int
    id: Id
    place: int


class Refused(Said, frozen=True, tag=9, gc=True):
    """The request is refused, at once or after it has waited."""

    view: int
    id: Id
    error: RequestError


class Finished(Said, frozen=True, tag=10):
    """An UNLOCK (its value is stored now), UNLOCK_ALL, CANCEL, Withdraw or Ended took effect."""

    view: int
    id: Id


class Withdrawn(Said, frozen=True, tag=11):
    """A withdrawn conversion left the lock in this mode with this number."""

    view: int
    id: Id
    mode: Mode
    number: int


class Gone(Said, frozen=True, tag=12):
    """The lock is released at the master, by something else than its own UNLOCK or Ended."""

    view: int
    lock: Id
    mode: Mode | None
    abnormal: bool


class Blocking(Said, frozen=True, tag=13):
    """The granted lock blocks a request for `mode`."""

    view: int
    lock: Id
    mode: Mode
    hint: int


# ------------------------------------------------------------------ recovery


class Masters(Said, frozen=True, tag=23):
    """The sender masters these names, whose directory the receiver is."""

    view: int
    names: tuple[bytes, ...]


class Unsettled(Said, frozen=True, tag=24):
    """The sender does not know whether anybody masters these names, whose directory the receiver
    is: where no master says so, all homes are asked."""

    view: int
    names: tuple[bytes, ...]


class Copies(Said, frozen=True, tag=25):
    """To the new master of these names; requests that are not answered yet follow, again."""

    view: int
    blocks: tuple[BlockCopies, ...]


class End(Said, frozen=True, tag=26):
    """That is all the receiver needs to know from the sender for this view."""

    view: int


class Gather(Said, frozen=True, tag=27):
    """To all homes, from the directory of these names, their new master: send copies.

    is_all: no more names follow.
    """

    view: int
    names: tuple[bytes, ...]
    is_all: bool


class Gathered(Said, frozen=True, tag=28):
    """The sender's copies of all names asked for in Gather have been sent."""

    view: int


class Settled(Said, frozen=True, tag=29):
    """The sender has rebuilt all names that it had been sent copies of for this view."""

    view: int


class Farewell(Said, frozen=True, tag=30):
    """The sender is leaving and does nothing more with these blocks; what it has not answered had
    no effect. is_all: no more blocks follow."""

    view: int
    blocks: tuple[LastWord, ...]
    is_all: bool


class FarewellHeard(Said, frozen=True, tag=31):
    """The sender has heard the whole Farewell."""

    view: int


Message = (
    Lookup
    | LookedUp
    | Dropped
    | Ask
    | Withdraw
    | Ended
    | NotMaster
    | Granted
    | Queued
    | Refused
    | Finished
    | Withdrawn
    | Gone
    | Blocking
    | Overdue
    | WhoBlocks
    | Blockers
    | WhatWaits
    | Waits
    | Break
    | Describe
    | Described
    | Found
    | Masters
    | Unsettled
    | Copies
    | End
    | Gather
    | Gathered
    | Settled
    | Farewell
    | FarewellHeard
    | Offer
    | Taken
    | Kept
    | Moved
    | HandedOver
    | Built
    | MoveHeard
)
