"""Which applications go together, in which order, and why something is refused, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clufs.caa.placement import Candidate, why_not
from clufs.caa.resources import OFFLINE, ONLINE, UNKNOWN, Resource, Table


def required(table: Table, resource: Resource) -> list[Resource]:
    """Return the registered resources that it requires, in its own order."""
    found = (table.resources.get(name) for name in resource.profile.required)
    return [one for one in found if one is not None]


def group_of(table: Table, resource: Resource) -> list[Resource]:
    """Return the applications that move with `resource` under -f, in the order of starting (manual 2.7).

    What any of them requires, whatever its state, and what requires any of them and is ONLINE.
    """
    found = {resource.name: resource}
    todo = [resource]
    while todo:
        one = todo.pop()
        near = [each for each in required(table, one) if each.is_application]
        near += [each for each in table.dependents(one.name) if each.state == ONLINE]
        for each in near:
            if each.name not in found:
                found[each.name] = each
                todo.append(each)
    return in_order(table, found.values())


def with_dependents(table: Table, resource: Resource) -> list[Resource]:
    """Return the resource and the ONLINE applications that require it, however far, in the order of stopping."""
    found = {resource.name: resource}
    todo = [resource]
    while todo:
        for each in table.dependents(todo.pop().name):
            if each.state == ONLINE and each.name not in found:
                found[each.name] = each
                todo.append(each)
    return in_order(table, found.values())[::-1]


def in_order(table: Table, group: Iterable[Resource]) -> list[Resource]:
    """Return the group so that each stands behind all that it requires; otherwise by name."""
    left = {one.name: one for one in sorted(group, key=lambda one: one.name)}
    ordered: list[Resource] = []
    while left:
        free = [
            one for one in left.values() if not any(name in left for name in one.profile.required)
        ]
        # A circle cannot be registered; if there is one, the order does not matter.
        for one in free or list(left.values()):
            ordered.append(left.pop(one.name))
    return ordered


def choices(
    table: Table, resource: Resource, group: Sequence[Resource], *, besides: str = ""
) -> list[Candidate]:
    """Return the members for the whole group, ranked for `resource`; `besides` is not considered."""
    together = frozenset(one.name for one in group)
    others = [one for one in group if one is not resource]
    found = []
    for each in table.ranked(resource, where=resource.member, granted=together):
        if each.member == besides:
            continue
        if each.eligible:
            for one in others:
                why = why_not(one.profile, table, each.member, together)
                if why:
                    each = Candidate(each.member, False, 0, f"'{one.name}' cannot run there: {why}")
                    break
        found.append(each)
    return sorted(found, key=lambda one: not one.eligible)


def nowhere(name: str, ranked: Sequence[Candidate]) -> list[str]:
    """Return what is said where no member can run an application: the fact, and why of each member."""
    lines = [f"Resource '{name}' has placement error."]
    return lines + [f"  {one.member}: {one.reason}" for one in ranked if not one.eligible]


def required_elsewhere(table: Table, resource: Resource, member: str) -> str:
    """Return why a start is refused: what it requires is ONLINE on another member (manual 2.6)."""
    places: dict[str, str] = {}
    for one in required(table, resource):
        if one.is_application and one.state == ONLINE:
            places.setdefault(one.member, one.name)
    if not member and len(places) < 2:
        return ""
    away = [
        f"'{name}', which is ONLINE on member '{where}'"
        for where, name in places.items()
        if where != member
    ]
    return f"Resource '{resource.name}' requires {' and '.join(away)}." if away else ""


def required_online(table: Table, resource: Resource) -> str:
    """Return why a relocation is refused: an application that it requires is ONLINE (manual 2.7)."""
    for one in required(table, resource):
        if one.is_application and one.state == ONLINE:
            return f"Resource '{resource.name}' requires '{one.name}', which is ONLINE."
    return ""


def dependents_online(table: Table, resource: Resource) -> str:
    """Return why a stop or relocation is refused: an ONLINE application requires it (manual 2.7, 2.9)."""
    for one in table.dependents(resource.name):
        if one.state == ONLINE:
            return f"Resource '{resource.name}' is required by '{one.name}', which is ONLINE."
    return ""


def in_maintenance(group: Iterable[Resource]) -> str:
    """Return why nothing is done with the group, if one of them is in maintenance."""
    for one in group:
        if one.maintenance:
            return f"Resource '{one.name}' is in maintenance."
    return ""


def unknown(group: Iterable[Resource]) -> str:
    """Return why nothing is done with the group, if one of them is UNKNOWN."""
    for one in group:
        if one.state == UNKNOWN:
            return (
                f"Resource '{one.name}' is UNKNOWN on member '{one.member}':"
                f" look at it there, then stop it."
            )
    return ""


def why_not_unregister(table: Table, resource: Resource) -> str:
    """Return why a resource cannot be unregistered, a sentence, or an empty string (manual 2.10)."""
    if resource.is_application and resource.state != OFFLINE:
        return f"Resource '{resource.name}' is {resource.state} on member '{resource.member}'."
    if resource.busy:
        return f"Resource '{resource.name}' is being started or stopped."
    dependents = table.dependents(resource.name)
    if dependents:
        return f"Resource '{resource.name}' is required by '{dependents[0].name}'."
    return ""
