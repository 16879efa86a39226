"""The planner of applications alone: all of a lost member's resources are placed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from clufs.caa.attributes import Placement, ResourceType
from clufs.caa.interface import ActionEnded, Effect, MembersChanged, RunAction, Ticked
from clufs.caa.machine import Planner
from clufs.caa.profile import Profile
from clufs.caa.records import MonitorRecord, ResourceRecord
from tests.bench.measure import Size
from tests.bench.report import Row, Target, figure

_MEMBERS = ("m1", "m2", "m3")
_TIME_S = 1e9


def measure(size: Size, directory: Path) -> Iterator[Row]:
    """Every application runs on the member that is lost: none of them is spared."""
    found = [lose_one(size.resources) for _ in range(size.rounds)]
    what = f"{size.resources} resources on three members: placement of all after one's loss"
    yield figure("placement", what, "ms", [ms for ms, _ in found], Target(200))
    what = "the same, and each start answered and followed up"
    yield figure("placement-all", what, "ms", [ms for _, ms in found])


def lose_one(resources: int) -> tuple[float, float]:
    """Return the milliseconds until every start is ordered that can be, and until all run again.

    Of each five applications two require a third, and so start after it; every one requires a network.
    """
    planner = _planner(resources)
    began = perf_counter()
    actions = _starts(planner.step(_TIME_S, MembersChanged(_MEMBERS[1:])))
    ordered = perf_counter()
    while actions:
        number = actions.pop()
        actions += _starts(planner.step(_TIME_S, ActionEnded(number, True)))
    ended = perf_counter()
    states = [one.state for one in planner.records()]
    assert states == ["ONLINE"] * resources + ["OFFLINE"], "the network is on members, not one"
    return (ordered - began) * 1000, (ended - began) * 1000


def _starts(effects: list[Effect]) -> list[int]:
    return [one.action for one in effects if isinstance(one, RunAction)]


def _planner(resources: int) -> Planner:
    profiles = {name: _profile(number) for number, name in enumerate(map(_name, range(resources)))}
    records = [
        ResourceRecord(name, target="ONLINE", state="ONLINE", member=_MEMBERS[0])
        for name in profiles
    ]
    profiles["net"] = Profile("net", ResourceType.NETWORK)
    monitors = tuple(MonitorRecord(member, "ONLINE", "ONLINE") for member in _MEMBERS)
    records.append(ResourceRecord("net", monitors=monitors))
    planner = Planner(records, profiles, _MEMBERS, running={_MEMBERS[0]: list(profiles)})
    planner.step(_TIME_S - 1, Ticked())
    return planner


def _name(number: int) -> str:
    return f"app{number:05}"


def _profile(number: int) -> Profile:
    base = _name(number - number % 5)
    kind = number % 5
    return Profile(
        _name(number),
        ResourceType.APPLICATION,
        required=("net", base) if kind in (1, 2) else ("net",),
        optional=("net",),
        placement=Placement.FAVORED if kind == 3 else Placement.BALANCED,
        hosting_members=(_MEMBERS[2],) if kind == 3 else (),
    )
