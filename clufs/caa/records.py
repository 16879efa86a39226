"""What the registry keeps of each resource, and how what is saved becomes what is kept.

A planner saves often, and history is long: what it saves carries only the entries that are new.
`absorb` joins them with those kept, the same way on every member.
"""

from __future__ import annotations

import msgspec

from clufs.limits import RESOURCE_HISTORY_KEPT, RESOURCE_STARTS_KEPT

ONLINE = "ONLINE"
OFFLINE = "OFFLINE"
UNKNOWN = "UNKNOWN"


class Transition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of state: when (wall clock), from and to as `caa_stat` prints a state, and why, a sentence."""

    time_s: float
    before: str
    after: str
    reason: str


class StartOrStop(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An application began or ceased to run (what: "start" or "stop"): what caa_report counts."""

    time_s: float
    member: str
    what: str


class MonitorRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A network, tape or changer on one member. target OFFLINE: no longer monitored, until caa_start."""

    member: str
    target: str
    state: str
    failure_times_s: tuple[float, ...] = ()

    @property
    def failure_count(self) -> int:
        """FAILURE_COUNT of `caa_stat -v`: failures within FAILURE_INTERVAL, as of the last failure."""
        return len(self.failure_times_s)


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What keeps an application in maintenance: an open descriptor of a member's life, by a number of that member's.

    An empty member: nothing but an order ends it.
    """

    member: str = ""
    incarnation: int = 0
    number: int = 0


class AgainRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When and how an application that is down is started again: `caa.resources.Again`, for the next planner."""

    at_s: float
    cause: str
    reason: str
    prefer: str = ""
    avoid: str = ""
    retry: bool = False


class ResourceRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A registered resource. Fields are only ever added, at the end.

    profile: its text, merged with the templates. member: where it runs, for UNKNOWN where that is,
    otherwise empty; incarnation: that member's life then, 0 where nobody said. failure_times_s:
    the check failures within FAILURE_INTERVAL (wall clock). changed_ns: the last transition.
    monitors: for network, tape and changer, one for each member. holds: of the maintenance; none
    where it was begun before there were any. again, retries: what is to come, and how many starts
    failed in a row. In what a planner saves, history and starts_and_stops hold what is new only, and
    an empty profile means the one kept.
    """

    name: str
    profile: str = ""
    target: str = OFFLINE
    state: str = OFFLINE
    member: str = ""
    incarnation: int = 0
    restart_count: int = 0
    failure_times_s: tuple[float, ...] = ()
    maintenance: bool = False
    changed_ns: int = 0
    monitors: tuple[MonitorRecord, ...] = ()
    history: tuple[Transition, ...] = ()
    starts_and_stops: tuple[StartOrStop, ...] = ()
    holds: tuple[Hold, ...] = ()
    again: AgainRecord | None = None
    retries: int = 0

    @property
    def failure_count(self) -> int:
        """FAILURE_COUNT of `caa_stat -v`: check failures within FAILURE_INTERVAL, as of the last one."""
        return len(self.failure_times_s)


def state_text(state: str, member: str) -> str:
    """Return a state as `caa_stat` prints it: `ONLINE on provolone`, `OFFLINE`, `UNKNOWN on rye`."""
    return f"{state} on {member}" if member else state


def absorb(kept: ResourceRecord, saved: ResourceRecord) -> ResourceRecord:
    """Return the record to keep where `kept` was and a planner saves `saved`."""
    return msgspec.structs.replace(
        saved,
        profile=saved.profile or kept.profile,
        history=(kept.history + saved.history)[-RESOURCE_HISTORY_KEPT:],
        starts_and_stops=(kept.starts_and_stops + saved.starts_and_stops)[-RESOURCE_STARTS_KEPT:],
    )
