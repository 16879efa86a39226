"""The deadlocks of a whole cluster, computed the slow and obvious way by one who sees all of it."""

from __future__ import annotations

from typing import Any

from clufs.dlm.guests import Guest
from clufs.dlm.lock import Lock
from tests.dlm.cluster import Cluster
from tests.dlm.oracle import compatible

Party = tuple[str, Any]


class World:
    """All masters' queues at this moment. at_rest: only what nothing is under way about."""

    def __init__(self, cluster: Cluster, at_rest: bool) -> None:
        self.nodes = cluster.nodes
        self.queues: dict[Lock, list[Lock]] = {}
        self.holders: dict[Lock, list[Lock]] = {}
        self.home: dict[Lock, str] = {}
        self.ignored: set[Lock] = set()
        for member, node in self.nodes.items():
            for block in node.blocks.values():
                queue = [*block.converting, *block.waiting]
                holders = [*block.granted, *block.converting]
                for lock in {*queue, *holders}:
                    self.queues[lock], self.holders[lock] = queue, holders
                    owner = lock.owner
                    self.home[lock] = owner.id.member if isinstance(owner, Guest) else member
                    if at_rest and not self.is_at_rest(lock):
                        self.ignored.add(lock)

    def is_at_rest(self, lock: Lock) -> bool:
        if not isinstance(lock.owner, Guest):
            return True
        if lock.owner.id.member not in self.nodes:
            return False
        home = self.nodes[lock.owner.id.member]
        copy = home.copy(lock.owner.id)
        if copy is None or copy in home._releasing:
            return False
        if lock.wanted is not None:
            return lock.client in home._open_on[copy]
        return copy.wanted is None and copy.number == lock.number

    def party(self, lock: Lock, party: Any) -> Party:
        member = self.home[lock]
        home = self.nodes.get(member)
        return member, party if home is None else home.names.named.get(party, party)

    def deadlocked(self) -> set[Lock]:
        """Every request that nothing can make move."""
        stuck = {
            lock for lock in self.queues if lock.wanted is not None and not lock.request.nodeadlock
        } - self.ignored
        changed = True
        while changed:
            free = {lock for lock in stuck if not self.is_stuck(lock, stuck)}
            changed = bool(free)
            stuck -= free
        return stuck

    def is_stuck(self, lock: Lock, stuck: set[Lock]) -> bool:
        for other in self.holders[lock]:
            if other is lock or compatible(lock, lock.wanted, other, other.granted):
                continue
            if other in stuck:
                return True
            if other not in self.ignored and self.party_stuck(
                self.party(other, other.party), stuck
            ):
                return True
        queue = self.queues[lock]
        for other in queue[: queue.index(lock)]:
            if other in stuck:
                return True
            if other in self.ignored or compatible(lock, lock.wanted, other, other.wanted):
                continue
            if self.party_stuck(self.party(other, other.party), stuck):
                return True
        return False

    def party_stuck(self, party: Party, stuck: set[Lock]) -> bool:
        member, who = party
        home = self.nodes.get(member)
        members = None if home is None else home.parties.members.get(who)
        if members is not None:
            return all(self.party_stuck((member, one), stuck) for one in members)
        return any(self.party(lock, lock.waiter) == party for lock in stuck)
