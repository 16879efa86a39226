"""What goes into the planner of applications and what comes out: commands, events and effects.

Times are wall clock, seconds since 1970: what one member's planner counted goes on at another's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

from clufs.caa.profile import Profile
from clufs.caa.records import ResourceRecord

Entry = Literal["start", "stop", "clear"]
"""What an executor is to do: call an entry of the action script, or, `clear`, end whatever the application
left behind without calling any (from UNKNOWN, and where `-f` ignores a stop that failed). After a `stop`
or `clear` that succeeded the application's lock is released; after any that failed it stays."""


class Reason(StrEnum):
    """Why an action script is called: its _CAA_REASON (manual 2.3.3)."""

    USER = "user"
    FAILURE = "failure"
    DEPENDENCY = "dependency"
    BOOT = "boot"
    AUTOSTART = "autostart"
    SYSTEM = "system"
    UNKNOWN = "unknown"


class LocalTime(NamedTuple):
    """A minute by the wall clock of the cluster's time zone. day counts local days; weekday 0 is Sunday."""

    day: int
    weekday: int
    hour: int
    minute: int


LocalClock: TypeAlias = Callable[[float], LocalTime]


@dataclass(frozen=True, slots=True)
class Start:
    """caa_start: TARGET ONLINE. member: only there. force: start or relocate what it requires, too.

    A network, tape or changer is monitored again (on `member`, or everywhere).
    """

    resource: str
    member: str = ""
    force: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """caa_stop: TARGET OFFLINE. force: stop what requires it first, and ignore stops that fail."""

    resource: str
    force: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Relocate:
    """caa_relocate: to `member`, or to the best of the others. force: with all that depends on it or it on."""

    resource: str
    member: str = ""
    force: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """caa_balance of one application: relocated if placement would choose another member now."""

    resource: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """caa_register -u: a new profile, validated, for a registered resource."""

    resource: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class Maintain:
    """Maintenance begins or ends: while it lasts nothing is started, stopped or checked; TARGET may change.

    member, holder: the descriptor, one of that member's life, that holds it; it ends for others only
    when none holds it any more. Without: begun, it lasts until it is ended; ended, nobody holds it.
    """

    resource: str
    on: bool
    member: str = ""
    holder: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    """All applications leave the member, and none is placed there until it is `on` no more.

    leaves: nobody has drained it: it is about to leave the cluster in good order.
    """

    member: str
    on: bool = True
    dry_run: bool = False
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would happen if the member were lost now. Nothing does; the job's text tells."""

    lost: str


Command: TypeAlias = Start | Stop | Relocate | Balance | Update | Maintain | Drain | WhatIf


@dataclass(frozen=True, slots=True)
class Ordered:
    """Somebody gave a command. job: a number of the caller's choice; what is said to it names it."""

    job: int
    command: Command


@dataclass(frozen=True, slots=True)
class ActionEnded:
    """An action that was run has ended. why: a sentence, without a full stop.

    fenced_s: waited for a fencing, then waited_s for the application's lock; ran_s: for the script.
    One that is no longer known, since its member was lost meanwhile, is ignored.
    """

    action: int
    ok: bool
    why: str = ""
    waited_s: float = 0.0
    ran_s: float = 0.0
    fenced_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """A view: the members up, in the order in which equals are preferred. joined: those with a new life in it.

    What ran on a member that is not up, or that joined, runs there no more. running: of those that
    joined, the applications whose lock the executor holds all the same: it had been silent when
    the planner began. incarnations: of those up, for the records. silent_s: of those that were lost,
    how long nothing had been heard of them then.
    """

    up: tuple[str, ...]
    joined: tuple[str, ...] = ()
    incarnations: Mapping[str, int] = field(default_factory=dict)
    running: Mapping[str, Collection[str]] = field(default_factory=dict)
    silent_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MonitorChanged:
    """A monitor found a network, tape or changer ONLINE on a member, or not."""

    resource: str
    member: str
    online: bool


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """The check entry of an application failed where it runs."""

    resource: str
    member: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """An application runs no more on a member that is up, and holds no lock there: its executor ended it.

    failed: as if its check had failed; not where the member gave up all that it ran.
    """

    resource: str
    member: str
    why: str = ""
    failed: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """A member that is up holds an application's lock, and no action is under way for it there."""

    resource: str
    member: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A resource is registered: its record as kept, and its profile."""

    record: ResourceRecord
    profile: Profile


@dataclass(frozen=True, slots=True)
class Unregistered:
    """A resource is no longer registered."""

    resource: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed: it is WakeAt's."""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """The wall clock was set, forward by so much: delays are as long as they were."""

    by_s: float


Event: TypeAlias = (
    Ordered
    | ActionEnded
    | MembersChanged
    | MonitorChanged
    | CheckFailed
    | Ended
    | Found
    | Registered
    | Unregistered
    | Ticked
    | ClockSet
)


@dataclass(frozen=True, slots=True)
class RunAction:
    """Run an entry of the action script on the member; an ActionEnded is awaited.

    action: grows, also from planner to planner. why: the sentence for people. job: whose output
    format and locale apply, 0 for nobody's. variables: USR_ values of its command line.
    """

    action: int
    resource: str
    member: str
    entry: Entry
    reason: Reason
    why: str
    variables: Mapping[str, str]
    job: int


@dataclass(frozen=True, slots=True)
class Save:
    """Keep these records (`records.absorb`). They do not depend on each other, in whichever parts they go."""

    records: tuple[ResourceRecord, ...]


@dataclass(frozen=True, slots=True)
class SaveDrained:
    """Keep which members are drained: a new planner is given them."""

    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """A line of progress for a job, without its newline."""

    job: int
    text: str


@dataclass(frozen=True, slots=True)
class EndJob:
    """A job is done; exit 0 for success. To be told after every Save before it is acknowledged."""

    job: int
    exit: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """A Ticked is wanted at this time; it replaces the time wanted before."""

    time_s: float


Effect: TypeAlias = RunAction | Save | SaveDrained | Say | EndJob | WakeAt


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An action that an executor still runs when a new planner takes over."""

    action: int
    resource: str
    member: str
    entry: Entry
