"""What the files of a LUN say: pure, but for the questions to the LUN itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clufs.errors import CheckCondition, InvalidRequest, NotSupported
from clufs.storage.certificate import MemberKey
from clufs.storage.inventory import KnownPath, SharedLun
from clufs.storage.paths import LunPath, shown
from clufs.storage.port_groups import AccessState, WantedState
from clufs.storage.reservation_data import FullStatus, ReservationType
from clufs.storage.reservations import (
    read_full_status,
    read_keys,
    read_reservation,
)
from clufs.storage.sense import SenseKey
from clufs.storage.through import ServedPath
from clufs.tree.items import one_line
from clufs.tree.journals import timestamp
from clufs.tree.names import shown as shown_bytes
from clufs.tree.names import shown_word

WhoIs = Callable[[MemberKey], str | None]
"""The name of the member whose key this is, in this cluster; None for another cluster's."""

_ILLEGAL = SenseKey.ILLEGAL_REQUEST
_ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration. initiator: as the array has it, empty where it does not tell; holds: the reservation."""

    key: int
    initiator: str = ""
    port: int = 0
    holds: bool = False


# ------------------------------------------------------------------ reservations


async def ask_keys(opened: LunPath) -> tuple[Registered, ...]:
    """The registrations, none where there can be none. Raises LunError."""
    if opened.lun is None:
        return ()
    try:
        return tuple(_of_status(one) for one in await read_full_status(opened.lun))
    except CheckCondition as refusal:
        if refusal.key != _ILLEGAL:
            raise
    try:
        return tuple(Registered(key) for key in (await read_keys(opened.lun)).keys)
    except CheckCondition as refusal:
        if refusal.key != _ILLEGAL:
            raise
        return ()


def _of_status(one: FullStatus) -> Registered:
    return Registered(one.key, str(one.initiator), one.target_port, one.holder)


def show_keys(keys: Iterable[Registered], who_is: WhoIs) -> str:
    """A line for each registration."""
    lines = []
    for one in keys:
        words = [_key(one.key, who_is)]
        if one.initiator:
            initiator = shown_word(one.initiator.encode())
            words.append(f"INITIATOR={initiator} PORT={one.port} HOLDS={int(one.holds)}")
        lines.append(" ".join(words) + "\n")
    return "".join(sorted(lines))


def _key(number: int, who_is: WhoIs) -> str:
    key = MemberKey.of(number)
    member = who_is(key) if key is not None else None
    if key is None or member is None:
        return f"KEY={number:#018x}"
    return f"KEY={number:#018x} MEMBER={member} INCARNATION={key.incarnation}"


@dataclass(frozen=True, slots=True)
class Reserved:
    """What PERSISTENT RESERVE IN says. type: None without a reservation."""

    generation: int
    key: int = 0
    type: int | None = None


async def ask_reservation(opened: LunPath) -> Reserved | None:
    """The reservation; None where there can be none. Raises LunError."""
    if opened.lun is None:
        return None
    try:
        generation = (await read_keys(opened.lun)).generation
        held = await read_reservation(opened.lun)
    except CheckCondition as refusal:
        if refusal.key != _ILLEGAL:
            raise
        return None
    return Reserved(generation, held.key, held.type) if held else Reserved(generation)


def show_reservation(reserved: Reserved | None, who_is: WhoIs) -> str:
    """TYPE, and whose it is."""
    if reserved is None:
        return "TYPE=impossible\n"
    head = f"GENERATION={reserved.generation}\n"
    if reserved.type is None:
        return f"TYPE=none\n{head}"
    known = reserved.type in ReservationType.__members__.values()
    name = ReservationType(reserved.type).name.lower() if known else str(reserved.type)
    holder = "".join(f"{word}\n" for word in _key(reserved.key, who_is).split())
    return f"TYPE={name}\n{holder}{head}"


# ------------------------------------------------------------------------- paths


def show_path(path: KnownPath, member: str) -> str:
    """What is known of one path."""
    facts = {
        "PATH": path.kind,
        "MEMBER": member,
        "STATE": path.state.value,
        "URL": shown_word(shown(path.url).encode()),
        "ACCESS": path.access.name.lower() if path.access is not None else "",
        "GROUP": "" if path.group is None else str(path.group),
        "HELD": path.held,
        "WHY": path.why,
    }
    return "".join(f"{key}={value}\n" for key, value in facts.items() if value)


def show_served(path: ServedPath) -> str:
    """What another member says of its own paths."""
    facts = {
        "PATH": "served",
        "MEMBER": path.member,
        "STATE": "up" if path.reads else "down",
        "HELD": "" if path.writes or not path.reads else "it does not write there now",
        "WHY": "" if path.reads else "it has no path that works itself",
    }
    return "".join(f"{key}={value}\n" for key, value in facts.items() if value)


# ---------------------------------------------------------------- access states


def show_access(lun: SharedLun) -> str:
    """The best state of all groups, a line for each of them, and what has changed."""
    states = [AccessState(one.state) for one in lun.groups]
    lines = [f"STATE={_best(lun, states)}"]
    for one, state in zip(lun.groups, states, strict=True):
        ports = ",".join(map(str, one.ports)) or "-"
        can = ",".join(name for name, yes in _possible(one) if yes) or "-"
        words = f"GROUP={one.group} STATE={state.name.lower()} PORTS={ports}"
        lines.append(f"{words} PREFERRED={int(one.preferred)} CAN={can}")
    for change in lun.transitions:
        before, after = change.before.name.lower(), change.after.name.lower()
        lines.append(f"{timestamp(change.time_s)} GROUP={change.group} FROM={before} TO={after}")
    return "".join(f"{line}\n" for line in lines)


def _best(lun: SharedLun, states: list[AccessState]) -> str:
    if not states:
        return _ACTIVE if lun.usable() else "unreachable"
    best = min(states)
    active = best in (AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED)
    return _ACTIVE if active else best.name.lower()


def _possible(group: object) -> list[tuple[str, bool]]:
    names = {
        "active_optimized": "can_optimized",
        "active_non_optimized": "can_non_optimized",
        "standby": "can_standby",
        "unavailable": "can_unavailable",
        "offline": "can_offline",
        "transitioning": "can_transition",
    }
    return [(name, getattr(group, field)) for name, field in names.items()]


def parse_access(lun: SharedLun, data: bytes) -> WantedState:
    """A state, then a group where there are several. Raises InvalidRequest, or NotSupported without any."""
    words = one_line(data).decode(errors="replace").split()
    if not words or len(words) > 2:
        raise InvalidRequest("write STATE, or STATE GROUP: `standby 2`")
    names = {state.name.lower(): state for state in AccessState if state <= AccessState.UNAVAILABLE}
    names[_ACTIVE] = AccessState.ACTIVE_OPTIMIZED
    state = names.get(words[0].lower())
    if state is None:
        shown_state = shown_bytes(words[0].encode())
        raise InvalidRequest(f"'{shown_state}' is no state to ask for: {', '.join(sorted(names))}")
    if not lun.groups:
        raise NotSupported(f"{lun.wwid}: its ports have no access states")
    groups = [str(one.group) for one in lun.groups]
    group = words[1] if len(words) == 2 else groups[0] if len(groups) == 1 else ""
    if group not in groups:
        raise InvalidRequest(f"which group? {lun.wwid} has {', '.join(groups)}")
    return WantedState(state, int(group))
