"""What goes into the lock manager and what comes out: owners, requests, events, effects.

The lock manager is pure: `Node.step(now, event)` returns effects, and knows no
clock, socket, file or log. Events are in the past tense, effects in the imperative.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from clufs.dlm.modes import Mode
from clufs.dlm.ranges import Ranges

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.dlm.messages import Message
    from clufs.errors import RequestError


class Life(NamedTuple):
    """A member from one start to its end; what it holds is of this life and of no other."""

    member: str
    incarnation: int


class Verb(Enum):
    """What a request wants."""

    LOCK = "LOCK"  # a new lock, or the conversion of the one the owner has
    UNLOCK = "UN"
    UNLOCK_ALL = "UN all"
    CANCEL = "CANCEL"


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request as the lock manager understands it; immutable, so that a parsed line can be kept.

    `value` is the new value block or None. `notify` asks for Blocking effects. `ranges` are the bytes
    that the lock is on: all locks of a resource block have them, or none; a conversion gives up some.
    `expedite` words of other DLMs have no place here: NL is always granted at once.
    It travels as an array: fields are only added at the end.
    """

    verb: Verb
    mode: Mode = Mode.NL
    nowait: bool = False
    quecvt: bool = False
    invalidate: bool = False
    nodeadlock: bool = False
    value: bytes | None = None
    hint: int = 0
    notify: bool = False
    ranges: Ranges | None = None

    @property
    def needs_judging(self) -> bool:
        """Whether it says anything that not every lock allows."""
        return self.quecvt or self.invalidate or self.value is not None


class Owner:
    """Who owns locks: a process, an open descriptor, a group, the member. Subclassed by the edge.

    locks: this owner's locks by resource block name, granted or waiting; kept by the node.
    """

    __slots__ = ("locks",)

    def __init__(self) -> None:
        self.locks: dict[bytes, Lock] = {}

    @property
    def pid(self) -> int:
        """The process to name in reports, 0 when there is none."""
        return 0

    @property
    def command(self) -> str:
        """The command to name in reports."""
        return "-"

    def is_above(self, other: Owner) -> bool:
        """Whether a process of this owner is an ancestor of `other`'s."""
        return False


# ---------------------------------------------------------------- events


@dataclass(slots=True)
class Asked:
    """An owner asked for something on a resource block.

    name: `namespace/name`, sublocks `namespace/name.sub/name`.
    party: who is stuck while this waits and who can release what is granted, for deadlocks:
        any hashable; two locks of one party belong to one thread of control.
    parent: the owner's lock on the parent resource block, for sublocks.
    client: the edge's own reference, kept in the lock as `client`, never looked at.
    place: the queue place that an interrupted request gave up (`Lock.place`), to take again.
    waiter: who is stuck while this waits, where that is not `party`: one process of a group,
        or whoever converts a lock of the member. None: `party`.
    """

    owner: Owner
    name: bytes
    request: Request
    party: Any
    client: Any = None
    parent: Lock | None = None
    place: int | None = None
    waiter: Any = None


@dataclass(slots=True)
class Withdrew:
    """The request that waits on `lock` is given up: interrupted, timed out, its caller gone.

    A new lock goes away; a conversion keeps its granted mode. No Refuse comes of it.
    """

    lock: Lock


@dataclass(slots=True)
class OwnerEnded:
    """An owner is gone: all its locks are released, sublocks first.

    abnormal: PW and EX locks leave their value block invalid (9.6.6).
    """

    owner: Owner
    abnormal: bool


@dataclass(slots=True)
class PartyChanged:
    """The parties behind a party changed (the processes of a group): cycles may have closed.

    Such a party can release while one of its members can: it is stuck when all of them are.
    No members: the party is an ordinary one again.
    """

    party: Any
    members: frozenset[Any] = frozenset()


@dataclass(slots=True)
class Received:
    """A message came from another member of the view."""

    member: str
    message: Message


@dataclass(slots=True)
class Suspended:
    """No view, or one without quorum: until a view is installed nothing more is granted.

    New locks and conversions wait (with `nowait` they are refused); what gives something up,
    releases and conversions to lower modes, takes effect at once.
    """


@dataclass(slots=True)
class Resumed:
    """The view that was installed last holds again, as it was: what waits goes on."""


@dataclass(slots=True)
class ViewInstalled:
    """These members are the cluster now, this one among them; recovery begins.

    view: greater than any before. lost: the lives that are gone and may still act upon what
    they hold, because nobody knows yet that they are finished.
    """

    view: int
    members: tuple[Life, ...]
    lost: frozenset[Life]


@dataclass(slots=True)
class Fenced:
    """This life is surely finished; what it held may be granted to others."""

    life: Life


@dataclass(slots=True)
class Leaving:
    """This member is about to leave, its own locks are released: `Left` comes when others master
    all that was mastered here."""


@dataclass(slots=True)
class Ticked:
    """Time has passed. Expected every TICK_S while `Node.wants_tick()`, and only then."""


@dataclass(slots=True)
class TurnCame:
    """Everybody else who waited has been served. Expected soon while `Node.wants_turn()`, and only
    then: a recovery goes on by one step."""


# --------------------------------------------------------------- effects


@dataclass(slots=True)
class Grant:
    """The request on this lock is granted: `lock.granted` is held. sync: without waiting."""

    lock: Lock
    sync: bool


@dataclass(slots=True)
class Done:
    """An UNLOCK, UNLOCK_ALL or CANCEL took effect. client: the edge's, as it was asked."""

    request: Request
    client: Any = None


@dataclass(slots=True)
class Queue:
    """The request waits on the CONVERTING or the WAITING queue."""

    lock: Lock


@dataclass(slots=True)
class Refuse:
    """The request is refused and changed nothing (or: the waiting request ended so).

    lock: the lock whose waiting request ended, or None when it was refused at once.
    client: of the request that is refused.
    """

    error: RequestError
    client: Any
    lock: Lock | None = None


@dataclass(slots=True)
class Notify:
    """This granted lock blocks a request for `mode` (9.6.3): once per grant."""

    lock: Lock
    mode: Mode
    hint: int


@dataclass(slots=True)
class Released:
    """A lock went away that was granted in `mode` (None: it only waited)."""

    lock: Lock
    mode: Mode | None
    abnormal: bool


@dataclass(slots=True)
class BlockEnded:
    """The last lock of a resource block went; the block is gone."""

    name: bytes


@dataclass(slots=True)
class Cycle:
    """A deadlock was found and is broken: the locks in it, in order, and the victim.

    A lock that waits is followed by the lock in its way, that one by what its party waits for.
    modes: granted and wanted mode of each lock before the victim's request was refused.
    """

    locks: tuple[Lock, ...]
    victim: Lock
    kind: str  # "conversion" or "multi-resource"
    modes: tuple[tuple[Mode | None, Mode | None], ...]


class CycleLock(NamedTuple):
    """A lock of a deadlock as it was found, wherever it lived; pid 0: not known any more."""

    name: bytes
    granted: Mode | None
    wanted: Mode | None
    member: str
    pid: int
    command: str
    is_victim: bool


@dataclass(slots=True)
class FoundCycle:
    """What `Cycle` is to a member alone: every member of the view gets every deadlock that is
    found and broken anywhere."""

    kind: str
    locks: tuple[CycleLock, ...]


@dataclass(slots=True)
class Send:
    """Send this to another member: in order, without loss, while both are in the view."""

    member: str
    message: Message


@dataclass(slots=True)
class Recovered:
    """Recovery for this view is complete here: every name can be asked for.

    blocks, locks: how many were rebuilt here.
    """

    view: int
    blocks: int
    locks: int


@dataclass(slots=True)
class Left:
    """Nothing is mastered here any more, and others know it: the member may go."""


Event = (
    Asked
    | Withdrew
    | OwnerEnded
    | PartyChanged
    | Received
    | Suspended
    | Resumed
    | ViewInstalled
    | Fenced
    | Leaving
    | Ticked
    | TurnCame
)
Effect = (
    Grant
    | Done
    | Queue
    | Refuse
    | Notify
    | Released
    | BlockEnded
    | Cycle
    | FoundCycle
    | Send
    | Recovered
    | Left
)
