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

from dataclasses import dataclass
from typing import NamedTuple

from clufs.dlm.interface import CycleLock, Request
from clufs.dlm.modes import Mode
from clufs.errors import RequestError


class Id(NamedTuple):
    """A lock, a request or a party, everywhere: who made it, in which life, and a count that grows
    (for parties: falls, so that none has the name of a lock)."""

    member: str
    incarnation: int
    serial: int


# ------------------------------------------------- home and master, directory


@dataclass(frozen=True, slots=True)
class Lookup:
    """Who masters this name? Whoever asks first does."""

    view: int
    name: bytes


@dataclass(frozen=True, slots=True)
class LookedUp:
    """floor: a new master's sequencers and VALSEQ start above."""

    view: int
    name: bytes
    master: str
    floor: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """The sender no longer masters this name, where no lock is left; `floor` as in LookedUp."""

    view: int
    name: bytes
    floor: int


# ------------------------------------------------------------ home to master


@dataclass(frozen=True, slots=True)
class Ask:
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


@dataclass(frozen=True, slots=True)
class Withdraw:
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


@dataclass(frozen=True, slots=True)
class Ended:
    """The owners of these locks are gone; sublocks come before what is above them."""

    view: int
    id: Id
    locks: tuple[Id, ...]
    abnormal: bool


# ------------------------------------------------------------ master to home


@dataclass(frozen=True, slots=True)
class NotMaster:
    """The request had no effect: ask the directory again."""

    view: int
    id: Id


@dataclass(frozen=True, slots=True)
class Granted:
    """The request is granted; with it comes the value block as it is now."""

    view: int
    id: Id
    mode: Mode
    number: int
    sync: bool
    value: bytes
    valid: bool
    valseq: int


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits at this place."""

    view: int
    id: Id
    place: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is refused, at once or after it has waited."""

    view: int
    id: Id
    error: RequestError


@dataclass(frozen=True, slots=True)
class Finished:
    """An UNLOCK (its value is stored now), UNLOCK_ALL, CANCEL, Withdraw or Ended took effect."""

    view: int
    id: Id


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A withdrawn conversion left the lock in this mode with this number."""

    view: int
    id: Id
    mode: Mode
    number: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The lock is released at the master."""

    view: int
    lock: Id
    mode: Mode | None
    abnormal: bool


@dataclass(frozen=True, slots=True)
class Blocking:
    """The granted lock blocks a request for `mode`."""

    view: int
    lock: Id
    mode: Mode
    hint: int


# ------------------------------------------- deadlocks over several members


class Group(NamedTuple):
    """A party behind which others stand, at its home. formed: never the same for two memberships."""

    party: Id
    formed: int
    members: tuple[Id, ...]


class Part(NamedTuple):
    """A lock in the survey, as its master has it: the same as long as nothing happens to it.

    since: when it was granted or, while it waits, asked, by the master's clock.
    asked: the request that waits, where its home is another member.
    """

    lock: Id
    number: int
    granted: Mode | None
    wanted: Mode | None
    place: int
    since: float
    nodeadlock: bool
    party: Id
    waiter: Id | None
    asked: Id | None


class Check(NamedTuple):
    """Does nothing happen to this lock, as far as its home knows? asked: the request that waits."""

    lock: Id
    number: int
    asked: Id | None


class InCycle(NamedTuple):
    """A lock of a deadlock as it was found."""

    lock: Id
    name: bytes
    granted: Mode | None
    wanted: Mode | None


@dataclass(frozen=True, slots=True)
class Overdue:
    """A request has waited for long: look for a deadlock."""

    view: int


@dataclass(frozen=True, slots=True)
class WhoBlocks:
    """Whose locks stand in somebody's way at your blocks?"""

    view: int
    number: int


@dataclass(frozen=True, slots=True)
class Blockers:
    """parties: those asked for. groups: of the sender's own parties, those that may be stuck."""

    view: int
    number: int
    parties: tuple[Id, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class WhatWaits:
    """In which requests at your blocks are these parties stuck? And are these locks at rest?"""

    view: int
    number: int
    parties: tuple[Id, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Waits:
    """blocks: those where the parties wait, each with the locks that matter to them.

    now: the sender's clock. groups: as in Blockers. moving: the locks not at rest.
    is_partial: somebody stands in the way who was not asked for, or there was too much to tell.
    """

    view: int
    number: int
    now: float
    blocks: tuple[tuple[bytes, tuple[Part, ...]], ...]
    groups: tuple[Group, ...]
    moving: tuple[Id, ...]
    is_partial: bool


@dataclass(frozen=True, slots=True)
class Break:
    """Refuse the request of the first of these locks, if it still waits at this place since then."""

    view: int
    kind: str
    locks: tuple[InCycle, ...]
    place: int
    since: float


@dataclass(frozen=True, slots=True)
class Describe:
    """Whose are these locks of yours? They are named with their blocks."""

    view: int
    asker: str
    number: int
    locks: tuple[tuple[Id, bytes], ...]


@dataclass(frozen=True, slots=True)
class Described:
    """Process and command of each owner, in the order of the question."""

    view: int
    number: int
    owners: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A deadlock was found and is broken."""

    view: int
    kind: str
    locks: tuple[CycleLock, ...]


# ------------------------------------------------------------------ recovery


@dataclass(frozen=True, slots=True)
class Masters:
    """The sender masters these names, whose directory the receiver is."""

    view: int
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The sender does not know whether anybody masters these names, whose directory the receiver
    is: where no master says so, all homes are asked."""

    view: int
    names: tuple[bytes, ...]


class HeldCopy(NamedTuple):
    """A granted lock as its home knows it.

    least: what the lost master can have left of it, if all took effect that is on its way.
    """

    lock: Id
    parent: Id | None
    granted: Mode
    least: Mode
    number: int
    request: Request
    notified: bool
    age_ms: int
    pid: int
    command: str
    party: Id


class BlockCopies(NamedTuple):
    """The granted locks of one home on a resource block, and the value that it was told last.

    is_final: the master itself said that this value is the last one. writer: the lock that could
    still write it then.
    """

    name: bytes
    value: bytes
    valid: bool
    valseq: int
    locks: tuple[HeldCopy, ...]
    is_final: bool = False
    writer: Id | None = None


@dataclass(frozen=True, slots=True)
class Copies:
    """To the new master of these names; requests that are not answered yet follow, again."""

    view: int
    blocks: tuple[BlockCopies, ...]


@dataclass(frozen=True, slots=True)
class End:
    """That is all the receiver needs to know from the sender for this view."""

    view: int


@dataclass(frozen=True, slots=True)
class Gather:
    """To all homes, from the directory of these names, their new master: send copies.

    is_all: no more names follow.
    """

    view: int
    names: tuple[bytes, ...]
    is_all: bool


@dataclass(frozen=True, slots=True)
class Gathered:
    """The sender's copies of all names asked for in Gather have been sent."""

    view: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The sender has rebuilt all names that it had been sent copies of for this view."""

    view: int


class LastWord(NamedTuple):
    """The value block as its master leaves it, and the lock that may yet write it."""

    name: bytes
    value: bytes
    valid: bool
    valseq: int
    writer: Id | None = None


@dataclass(frozen=True, slots=True)
class Farewell:
    """The sender is leaving and does nothing more with these blocks; what it has not answered had
    no effect. is_all: no more blocks follow."""

    view: int
    blocks: tuple[LastWord, ...]
    is_all: bool


@dataclass(frozen=True, slots=True)
class FarewellHeard:
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
)
