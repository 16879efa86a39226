"""Between the pure planner and the world: commands of users, records, profiles, the time of day."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from clufs.caa import interface as i
from clufs.caa.profile import Profile, read
from clufs.caa.records import ResourceRecord
from clufs.daemon.applications.messages import Ask
from clufs.errors import InvalidRequest, ProfileRefused

log = logging.getLogger("clufsd")


def joined(earlier: ResourceRecord | None, later: ResourceRecord) -> ResourceRecord:
    """What to save where both were to be: the later, with the history of both."""
    if earlier is None:
        return later
    return msgspec.structs.replace(
        later,
        profile=later.profile or earlier.profile,
        history=earlier.history + later.history,
        starts_and_stops=earlier.starts_and_stops + later.starts_and_stops,
    )


def command_of(ask: Ask, member: str) -> i.Command:
    """The planner's command. Raises InvalidRequest for a verb that it does not know, ProfileRefused."""
    commands: dict[str, Callable[[], i.Command]] = {
        "start": lambda: i.Start(ask.resource, ask.member, ask.force, ask.variables, ask.dry_run),
        "stop": lambda: i.Stop(ask.resource, ask.force, ask.variables, ask.dry_run),
        "relocate": lambda: i.Relocate(
            ask.resource, ask.member, ask.force, ask.variables, ask.dry_run
        ),
        "balance": lambda: i.Balance(ask.resource, ask.dry_run),
        "update": lambda: i.Update(ask.resource, read(ask.profile)),
        "maintain": lambda: i.Maintain(
            ask.resource, ask.on, member if ask.holder else "", ask.holder
        ),
        "drain": lambda: i.Drain(ask.member, ask.on, ask.dry_run),
        "leave": lambda: i.Drain(member, leaves=True),
        "what-if": lambda: i.WhatIf(ask.member),
    }
    make = commands.get(ask.verb)
    if make is None:
        raise InvalidRequest(f"'{ask.verb}' is no command")
    return make()


def profile_of(record: ResourceRecord) -> Profile | None:
    """The profile of a record; None, and a line in the log, for one that no version of clufs wrote."""
    try:
        return read(record.profile)
    except ProfileRefused as error:
        log.warning("resource %s is left alone: %s", record.name, error)
        return None


def local_time(time_s: float) -> i.LocalTime:
    """The minute that REBALANCE means: by the time zone of this machine."""
    now = time.localtime(time_s)
    day = (int(time_s) + now.tm_gmtoff) // 86400
    return i.LocalTime(day, (now.tm_wday + 1) % 7, now.tm_hour, now.tm_min)


def dependents_first(
    names: Iterable[str], records: Mapping[str, ResourceRecord]
) -> Iterator[set[str]]:
    """These applications in the order in which they are to be stopped: groups, each before what it requires."""
    left = set(names)
    required = {
        name: set(profile.required) & left
        for name in left
        if name in records and (profile := profile_of(records[name])) is not None
    }
    while left:
        wanted = {each for name in left for each in required.get(name, ())}
        group = left - wanted or left
        yield group
        left = left - group
