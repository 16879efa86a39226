"""Which member an application is placed on: facts of CAA, manual 2.2.2.1 to 2.2.2.3.

1. Members that are up, not drained, and have every required resource ONLINE; of these the hosting
   members. Where none of those is left, `favored` takes any member, `restricted` none.
2. Of these, the ones with the most optional resources ONLINE.
3. Then the list of optional resources in order: where a member has it ONLINE, those without it go.
4. `balanced` takes the member with the fewest applications, the others the first in their list.
   Equals stand in the order of members, the one where it runs already first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from clufs.caa.profile import Profile

DRAINED = "it is drained"
"""Why not a member that could run the application otherwise."""


class Situation(Protocol):
    """What placement looks at."""

    @property
    def up(self) -> Sequence[str]:
        """The members up, in the order in which equals are preferred."""

    def drained(self, member: str) -> bool:
        """Whether nothing may be placed on the member."""

    def online(self, resource: str, member: str) -> bool:
        """Whether the resource is ONLINE on the member."""

    def applications(self, member: str, besides: str) -> int:
        """How many applications run on the member, or are being started there, `besides` not counted."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What placement thinks of a member. rank: 1 is best, 0 for one that is not eligible. reason: why, a clause."""

    member: str
    eligible: bool
    rank: int
    reason: str


def candidates(
    profile: Profile,
    situation: Situation,
    *,
    where: str = "",
    granted: frozenset[str] = frozenset(),
) -> list[Candidate]:
    """Return every member up and every hosting member, the best first, then those that cannot, and why not.

    where: the member it runs on, preferred among equals. granted: required resources that count
    as ONLINE everywhere, since they are moved or started along.
    """
    refused: list[Candidate] = []
    able: list[str] = []
    for member in situation.up:
        why = why_not(profile, situation, member, granted)
        if why:
            refused.append(Candidate(member, False, 0, why))
        else:
            able.append(member)
    hosts = profile.hosting_members
    refused += [Candidate(m, False, 0, "it is not up") for m in hosts if m not in situation.up]
    if profile.placement != "balanced":
        listed = [member for member in hosts if member in able]
        if listed and profile.placement == "favored":
            spare = [member for member in able if member not in hosts]
            ranked = _ranked(profile, situation, listed, where)
            return ranked + _spare(spare, situation, profile.name, len(ranked)) + refused
    return _ranked(profile, situation, able, where) + refused


def why_not(
    profile: Profile, situation: Situation, member: str, granted: frozenset[str] = frozenset()
) -> str:
    """Return why the member cannot run the application, a clause, or an empty string if it can."""
    if member not in situation.up:
        return "it is not up"
    for resource in profile.required:
        if resource not in granted and not situation.online(resource, member):
            return f"required resource '{resource}' is not ONLINE there"
    if profile.placement == "restricted" and member not in profile.hosting_members:
        return "PLACEMENT is restricted and it is not in HOSTING_MEMBERS"
    return DRAINED if situation.drained(member) else ""


def best(ranked: Sequence[Candidate]) -> str:
    """Return the member to choose, or an empty string."""
    return ranked[0].member if ranked and ranked[0].eligible else ""


def _ranked(
    profile: Profile, situation: Situation, members: Sequence[str], where: str
) -> list[Candidate]:
    """Rank members that may all run the application."""
    policy = _Policy(profile, situation, where)
    left = sorted(members, key=policy.key)
    return [
        Candidate(member, True, rank, policy.reason(member, left))
        for rank, member in enumerate(left, 1)
    ]


class _Policy:
    """Rules (2) to (4) as a sort key: optional resources by number, then in order, then the policy."""

    def __init__(self, profile: Profile, situation: Situation, where: str) -> None:
        self._profile = profile
        self._situation = situation
        self._where = where
        order = situation.up if profile.placement == "balanced" else profile.hosting_members
        self._order = {member: place for place, member in enumerate(order)}

    def _has(self, member: str) -> tuple[bool, ...]:
        return tuple(self._situation.online(name, member) for name in self._profile.optional)

    def _load(self, member: str) -> int:
        return self._situation.applications(member, self._profile.name)

    def _listed(self) -> bool:
        return self._profile.placement != "balanced"

    def key(self, member: str) -> tuple[object, ...]:
        """Smaller is better. That a survivor has a resource and others do not is the order of booleans."""
        has = self._has(member)
        place = self._order.get(member, len(self._order))
        lacks = tuple(not one for one in has)
        if self._listed() and member in self._order:
            return (-sum(has), lacks, place)
        return (-sum(has), lacks, self._load(member), member != self._where, place)

    def reason(self, member: str, ranked: Sequence[str]) -> str:
        """Return what put the member where it is."""
        said = []
        names = self._profile.optional
        if names:
            there = [name for name in names if self._situation.online(name, member)]
            which = f" ({', '.join(there)})" if there else ""
            said.append(f"{len(there)} of {len(names)} optional resources are ONLINE there{which}")
        if self._listed() and member in self._order:
            said.append(f"it is number {self._order[member] + 1} in HOSTING_MEMBERS")
        else:
            if self._listed():
                said.append("no hosting member can")
            load = self._load(member)
            said.append(f"it runs {load} other application{'' if load == 1 else 's'}")
            if member == self._where and len(ranked) > 1:
                said.append("it runs there already")
        return ", ".join(said)


def _spare(members: Sequence[str], situation: Situation, name: str, taken: int) -> list[Candidate]:
    """Rank the members that `favored` falls back to, should every hosting member fail to start it."""
    order = sorted(members, key=lambda member: situation.applications(member, name))
    reason = "it is not in HOSTING_MEMBERS, of which one can"
    return [Candidate(m, True, taken + place, reason) for place, m in enumerate(order, 1)]
