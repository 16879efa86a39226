"""What must hold after every step, computed the slow and obvious way."""

from __future__ import annotations

from typing import Any

from clufs.dlm.lock import Lock
from clufs.dlm.modes import COMPATIBLE, Mode
from clufs.dlm.node import Node
from clufs.dlm.remote import Copy
from clufs.dlm.rsb import ResourceBlock


def check(node: Node, owners: list[Any]) -> None:
    everything = []
    frozen = node.suspended or node._leaving
    for name, block in node.blocks.items():
        assert block.name == name
        check_block(block, node)
        locks = [*block.granted, *block.converting, *block.waiting]
        assert locks, "a block without locks"
        everything += locks
    guests = [*node.guests.values(), *node.phantoms.values()]
    owned = [lock for owner in [*owners, *guests] for lock in owner.locks.values()]
    copies = [
        lock
        for block in node.copies.values()
        for lock in [*block.granted, *block.converting, *block.waiting]
    ]
    assert sorted(map(id, copies)) == sorted(id(lock) for lock in owned if type(lock) is Copy)
    owned = [lock for lock in owned if type(lock) is not Copy]
    assert sorted(map(id, everything)) == sorted(map(id, owned))
    for lock in everything + copies:
        assert lock.owner.locks[lock.rsb.name] is lock
        assert lock.sublocks == sum(other.parent is lock for other in everything + copies)
        assert lock.parent is None or lock.parent.granted is not None
    check_parties(node, everything, copies)
    assert frozen or deadlocked(node) == []


def check_block(block: ResourceBlock, node: Node) -> None:
    granted, converting, waiting = block.granted, list(block.converting), list(block.waiting)
    assert all(lock.queue == "GRANTED" for lock in granted)
    assert all(lock.queue == "CONVERTING" for lock in converting)
    assert all(lock.queue == "WAITING" for lock in waiting)
    assert block.size == len(granted)
    assert len(block.converting) == len(converting) and len(block.waiting) == len(waiting)
    for queue in (converting, waiting):
        assert [lock.place for lock in queue] == sorted(lock.place for lock in queue)
    holders = [*granted, *converting]
    phantoms = {id(lock) for owner in node.phantoms.values() for lock in owner.locks.values()}
    known = [lock for lock in holders if id(lock) not in phantoms]
    for i, one in enumerate(known):
        for other in known[:i]:
            assert compatible(one, one.granted, other, other.granted), (one, other)
    modes = [lock.granted for lock in holders if lock.granted is not None]
    assert len(modes) == len(holders)
    assert block.group_mode() == (max(modes) if modes else None)
    assert len({lock.number for lock in holders}) == len(holders)
    if node.suspended or node._leaving:
        return
    if converting:
        assert not fits(converting[0], holders), f"{converting[0]} could be granted"
    elif waiting:
        for lock in waiting if waiting[0].ranges is not None else waiting[:1]:
            assert not fits(lock, holders), f"{lock} could be granted"
    assert all(lock.wanted is not Mode.NL for lock in waiting)


def compatible(one: Lock, mode: Mode | None, other: Lock, its: Mode | None) -> bool:
    """Whether one lock in this mode and the other in its mode go together, byte by byte."""
    assert mode is not None and its is not None
    if COMPATIBLE[mode][its]:
        return True
    if one.ranges is None or other.ranges is None:
        return False
    if one.ranges.side == other.ranges.side:
        return True
    return not any(
        first <= end and begin <= last
        for first, last in one.ranges.spans
        for begin, end in other.ranges.spans
    )


def fits(lock: Lock, holders: list[Lock]) -> bool:
    return all(
        compatible(lock, lock.wanted, other, other.granted)
        for other in holders
        if other is not lock
    )


def check_parties(node: Node, everything: list[Lock], copies: list[Lock]) -> None:
    parties = node.parties
    linked = everything + copies
    for party in {lock.party for lock in linked}:
        indexed = {id(lock) for lock in parties.locks(party)}
        assert indexed == {id(lock) for lock in linked if lock.party == party}
    waits = {id(lock) for found in parties.waits.values() for lock in found}
    assert waits == {id(lock) for lock in everything if lock.wanted is not None}
    assert parties.crowded == {who for who, found in parties.waits.items() if len(found) > 1}


def deadlocked(node: Node) -> list[Lock]:
    """The requests that nothing can ever make move: start from all of them and take away, as
    long as there is one, each whose every obstacle can go."""
    stuck = {
        lock: None
        for block in node.blocks.values()
        for lock in block.queued()
        if not lock.request.nodeadlock
    }
    changed = True
    while changed:
        changed = False
        for lock in list(stuck):
            if not is_stuck(node, lock, stuck):
                del stuck[lock]
                changed = True
    return list(stuck)


def is_stuck(node: Node, lock: Lock, stuck: dict[Lock, None]) -> bool:
    block = lock.rsb
    for other in [*block.granted, *block.converting]:
        if other is lock or compatible(lock, lock.wanted, other, other.granted):
            continue
        if other in stuck or party_stuck(node, other.party, stuck):
            return True
    queue = [*block.converting, *block.waiting] if lock.ranges is None else [lock]
    for other in queue[: queue.index(lock)]:
        if other in stuck:
            return True
        if not compatible(lock, lock.wanted, other, other.wanted) and party_stuck(
            node, other.party, stuck
        ):
            return True
    return False


def party_stuck(node: Node, party: Any, stuck: dict[Lock, None], depth: int = 0) -> bool:
    members = node.parties.members.get(party)
    if members is None:
        return any(lock.waiter == party for lock in stuck)
    assert depth < 2, "groups of groups are not tried here"
    return all(party_stuck(node, member, stuck, depth + 1) for member in members)
