"""What must hold when nothing is under way and nobody is lost any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clufs.dlm.directory import directory_member, root_of
from clufs.dlm.guests import Guest
from clufs.dlm.lock import Lock
from clufs.dlm.modes import COMPATIBLE
from clufs.dlm.node import Node
from tests.dlm.oracle import check, compatible
from tests.sim.clock import Violation
from tests.sim.host import Host


def check_one_view(hosts: list[Host]) -> None:
    """All members are there, in one view, and wait for nothing."""
    for host in hosts:
        if host.dead or host.paused or host.view is None or host.view is not hosts[0].view:
            seen = [(one.life, one.view, one.awaited()) for one in hosts]
            raise Violation(f"there is no one view: {seen}")
        if len(host.view.members) != len(hosts):
            raise Violation(f"not all are in the last view: {host.view.members}")
        if host.node.suspended or host.node.waits_for():
            raise Violation(f"{host.life} waits for {host.node.waits_for()!r} for ever")


def check_settled(hosts: list[Host]) -> None:
    """Every queue stands as it must, what waits waits at its master, names have one master each
    that the directory knows, and nobody keeps what nobody knows of."""
    try:
        for host in hosts:
            check(host.node, [client for client in host.clients if not client.ended])
        _check_masters(hosts)
        _check_copies(hosts)
        _check_answers(hosts)
        for host in hosts:
            _check_nothing_is_kept(host.node)
        stuck = deadlocked(hosts)
        assert not stuck, f"a deadlock is left standing: {stuck[:5]}"
    except AssertionError as error:
        raise Violation(f"settled, but: {error}") from error


def _check_masters(hosts: list[Host]) -> None:
    nodes = {host.life.member: host.node for host in hosts}
    members = sorted(nodes)
    for member, node in nodes.items():
        if len(members) > 1:
            assert node.members == members, (member, node.members, members)
        for name in [*node.blocks, *node._idle]:
            others = [
                one for one, other in nodes.items() if other is not node and name in other.blocks
            ]
            assert not others, f"{name!r} has two masters: {member}, {others}"
            root = root_of(name)
            if len(members) > 1:
                knows = nodes[directory_member(root, members)].directory.masters.get(root)
                assert knows == member, f"{member} masters {name!r}; the directory says {knows}"
        for root, master in node.directory.masters.items() if len(members) > 1 else ():
            other = nodes[master]
            assert root in other.blocks or root in other._idle, f"{root!r} is unknown at {master}"


def _check_copies(hosts: list[Host]) -> None:
    copies = {}
    for host in hosts:
        for block in host.node.copies.values():
            for lock in [*block.granted, *block.converting, *block.waiting]:
                copies[host.node.lock_id(lock)] = lock
    guests = {id: guest for host in hosts for id, guest in host.node.guests.items()}
    lonely = copies.keys() ^ guests.keys()
    assert not lonely, f"copy or guest alone: {sorted(lonely)[:5]}"
    for id, copy in copies.items():
        (lock,) = guests[id].locks.values()
        assert (copy.granted, copy.wanted) == (lock.granted, lock.wanted), (copy, lock)
        assert copy.ranges == lock.ranges, (copy, copy.ranges, lock.ranges)
        assert lock.granted is None or copy.number == lock.number, (copy.number, lock.number)
        assert lock.wanted is None or copy.place == lock.place, (copy.place, lock.place)
        assert copy.sublocks == lock.sublocks


def _check_answers(hosts: list[Host]) -> None:
    for host in hosts:
        node = host.node
        waiting = sum(len(list(block.queued())) for block in node.copies.values())
        assert len(node.open_requests()) == waiting, (host.life, node.open_requests())
        asked = {op for client in host.clients for op in client.ops.values()}
        queued = {
            lock.client
            for client in host.clients
            for lock in client.locks.values()
            if lock.wanted is not None
        }
        assert asked == queued, f"never answered: {asked - queued}; nobody's: {queued - asked}"


def _check_nothing_is_kept(node: Node) -> None:
    """What recovery, look-ups and moves put aside for a while is gone."""
    for name in (
        "_early", "_held", "_seeking", "_collected", "_unsettled", "_releasing", "_unbuilt", "_work",
        "phantoms", "_offered", "_taking", "_arriving", "_departed", "_sought", "_moved", "_wrote", "_last_heard",
    ):  # fmt: skip
        assert not getattr(node, name), f"{node.member} keeps {name}: {getattr(node, name)}"


def deadlocked(hosts: list[Host]) -> list[Lock]:
    """The requests that nothing can ever make move, over all members: start from all of them and
    take away, as long as there is one, each whose every obstacle can go."""
    owners = _owners(hosts)
    blocks = [block for host in hosts for block in host.node.blocks.values()]
    stuck = {
        lock: None for block in blocks for lock in block.queued() if not lock.request.nodeadlock
    }
    groups: dict[Any, frozenset[Any]] = {}
    for host in hosts:
        groups |= host.node.parties.members
    changed = True
    while changed:
        changed = False
        waits = {owners(lock).waiter for lock in stuck} - groups.keys()
        waits |= {group for group, members in groups.items() if members <= waits}
        for lock in list(stuck):
            if not _is_stuck(lock, stuck, waits, owners):
                del stuck[lock]
                changed = True
                break
    return list(stuck)


def _owners(hosts: list[Host]) -> Callable[[Lock], Lock]:
    """What the home of a lock knows of it."""
    homes = {
        host.node.lock_id(lock): lock
        for host in hosts
        for block in host.node.copies.values()
        for lock in [*block.granted, *block.converting, *block.waiting]
    }
    return lambda lock: homes[lock.owner.id] if isinstance(lock.owner, Guest) else lock


def _is_stuck(
    lock: Lock, stuck: dict[Lock, None], waits: set[Any], owners: Callable[[Lock], Lock]
) -> bool:
    block = lock.rsb
    for other in block.holders():
        if other is lock or compatible(lock, lock.wanted, other, other.granted):
            continue
        if other in stuck or owners(other).party in waits:
            return True
    queue = list(block.queued()) if lock.ranges is None else [lock]
    for other in queue[: queue.index(lock)]:
        if other in stuck:
            return True
        if not COMPATIBLE[lock.wanted][other.wanted] and owners(other).party in waits:
            return True
    return False


def check_empty(nodes: list[Node]) -> None:
    """All owners are gone, and nothing of them is left."""
    for node in nodes:
        left = [*node.blocks, *node.copies, *node.guests, *node.open_requests()]
        if left or node.parties.waits:
            raise Violation(f"left behind at {node.member}: {left[:5]}")
