"""The deadlock search (Tru64 manual, 9.3.5; clufs contract 2.1).

The graph has a node for every request that waits and for every party. A waiting
request needs every lock that is granted in its way released and, unless it is for a range, every
request ahead of it in the queues granted first. A released lock needs its party to go on,
and, while the lock itself is converting, that conversion. A party is stuck when
one of its requests is; a party with members when all of them are. What cannot be
made to move in this graph is a deadlock.

Requests with `nodeadlock` are not nodes: nothing is concluded from their waiting.

No deadlock is left standing, so a new one leads through the request or the party
that has just changed. Most searches therefore end before they begin: a party that
holds nothing anybody waits for closes no cycle. `looks` counts the locks looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from clufs.dlm.lock import Lock
from clufs.dlm.modes import COMPATIBLE, Mode
from clufs.dlm.parties import Parties
from clufs.dlm.rsb import BLOCKING, UNIT, ResourceBlock

_Edges = dict[Any, dict[Any, tuple[Lock, ...]]]
"""For each node what it needs, each with the granted lock in between, for the report."""


_FEW = 16
"""So many holders are asked before the locks of the one who waits."""


class Search:
    """Finds the cycle that a change has closed."""

    __slots__ = ("_parties", "looks")

    def __init__(self, parties: Parties) -> None:
        self._parties = parties
        self.looks = 0

    def through_request(self, lock: Lock) -> list[Lock] | None:
        """The cycle that leads through this waiting request: the locks in it, in order."""
        if lock.wanted is None or lock.request.nodeadlock or not self._may_close(lock):
            return None
        return self._cycle(lock)

    def through_party(self, party: Any) -> list[Lock] | None:
        """The cycle that leads through what this party holds."""
        parties = self._parties
        if party not in parties.waits and party not in parties.members:
            return None
        return self._cycle((party,))

    def stuck(self) -> set[Any]:
        """Every node that cannot be made to move, whatever may have changed: requests are Locks,
        parties are tuples of one."""
        return self._stuck(self._reached(*self._counted()))

    def anywhere(self, starts: Iterable[Lock]) -> list[Lock] | None:
        """The cycle through the first of these waiting requests that is in one, whatever may have
        changed: the locks in it, in order."""
        edges = self._reached(*self._counted())
        stuck = self._stuck(edges)
        needed = _needed_in_turn(edges, stuck)
        for start in starts:
            if start in needed and _on_a_cycle(start, edges, stuck) is start:
                return _shorten(_way_round(start, edges, stuck))
        return None

    def _counted(self) -> Iterator[Lock]:
        for waits in self._parties.waits.values():
            for lock in waits:
                if not lock.request.nodeadlock:
                    yield lock

    # A request that has just been queued, as a rule at the end of its queue: cheap answers first.

    def _may_close(self, lock: Lock) -> bool:
        parties = self._parties
        if parties.groups_of and lock.waiter in parties.groups_of:
            return True
        if self._stands_in_a_way(lock):
            return True
        plain = parties.plain
        if plain and self._holders_are_free(lock):
            return False
        if not self._others_contended(lock):
            return False
        return not plain or self._reaches_back(lock)

    def _stands_in_a_way(self, lock: Lock) -> bool:
        """Somebody waits for this very lock: for what it holds or for its place in the queue."""
        rsb = lock.rsb
        if lock.after is not None or lock.wanted is None:
            return True
        if lock.granted is None:
            return False
        others = rsb.wants - UNIT[lock.wanted]
        return rsb.waiting.first is not None or bool(others & BLOCKING[lock.granted])

    def _holders_are_free(self, lock: Lock) -> bool:
        """Few hold what is asked for, and none of them waits for anything."""
        rsb, waits = lock.rsb, self._parties.waits
        if rsb.size > _FEW or rsb.converting.size:
            return False
        self.looks += rsb.size
        return not any(
            self._is_in_a_way(holder) and holder.party in waits for holder in rsb.holders()
        )

    def _others_contended(self, lock: Lock) -> bool:
        """Another lock of the one who waits lies where somebody waits."""
        for other in self._parties.locks(lock.waiter):
            self.looks += 1
            rsb = other.rsb
            if other is not lock and (rsb.converting.first or rsb.waiting.first):
                return True
        return False

    def _reaches_back(self, lock: Lock) -> bool:
        """Following the holders that wait from block to block leads to another lock of the waiter:
        only asked where the parties are plain."""
        home = lock.waiter
        waits = self._parties.waits
        blocks = [lock.rsb]
        seen = {lock.rsb}
        while blocks:
            for holder in blocks.pop().holders():
                self.looks += 1
                if holder is lock or not self._is_in_a_way(holder):
                    continue
                if holder.wanted is not None or holder.party == home:
                    return True
                for wait in waits.get(holder.party, ()):
                    if wait.rsb not in seen:
                        seen.add(wait.rsb)
                        blocks.append(wait.rsb)
        return False

    @staticmethod
    def _is_in_a_way(holder: Lock) -> bool:
        assert holder.granted is not None
        return bool(holder.rsb.wants & BLOCKING[holder.granted])

    # The whole graph as far as it is reached, then what of it cannot move.

    def _cycle(self, start: Any) -> list[Lock] | None:
        edges = self._reached(start)
        stuck = self._stuck(edges)
        if start not in stuck:
            return None
        return _shorten(_way_round(_on_a_cycle(start, edges, stuck), edges, stuck))

    def _reached(self, *starts: Any) -> _Edges:
        edges: _Edges = {}
        pending = [*starts]
        special: dict[ResourceBlock, list[Lock]] = {}
        while pending:
            node = pending.pop()
            if node in edges:
                continue
            needs: dict[Any, tuple[Lock, ...]] = {}
            for need, between in self._needs(node, special):
                self.looks += 1
                needs.setdefault(need, between)
            edges[node] = needs
            pending.extend(needs)
        return edges

    def _needs(
        self, node: Any, special: dict[ResourceBlock, list[Lock]]
    ) -> Iterator[tuple[Any, tuple[Lock, ...]]]:
        if type(node) is Lock:
            return self._needs_of_request(node, special)
        if len(node) == 2:
            return self._needs_of_mode(node[0], node[1], None)
        return self._needs_of_party(node[0])

    def _needs_of_party(self, party: Any) -> Iterator[tuple[Any, tuple[Lock, ...]]]:
        members = self._parties.members.get(party)
        if members is not None:
            for member in members:
                yield (member,), ()
            return
        for wait in self._parties.waits.get(party, ()):
            if not wait.request.nodeadlock:
                yield wait, ()

    def _needs_of_request(
        self, lock: Lock, special: dict[ResourceBlock, list[Lock]]
    ) -> Iterator[tuple[Any, tuple[Lock, ...]]]:
        rsb, wanted = lock.rsb, lock.wanted
        assert wanted is not None
        if lock.request.ranges is not None:
            for holder in rsb.in_the_way(lock.request, lock):
                self.looks += 1
                yield from _needs_of_holder(holder)
            return
        if lock.granted is None:
            yield (rsb, wanted), ()
        else:
            yield from self._needs_of_mode(rsb, wanted, lock)
        for other in rsb.ahead(lock):
            if not other.request.nodeadlock:
                yield other, ()
                break
        if self._parties.plain:
            return
        if rsb not in special:
            special[rsb] = [lock for lock in rsb.queued() if self._parties.is_special(lock)]
        for other in special[rsb]:
            if not _is_ahead(other, lock):
                break
            assert other.wanted is not None
            if not COMPATIBLE[wanted][other.wanted]:
                yield (other.party,), (other,)

    def _needs_of_mode(
        self, rsb: ResourceBlock, wanted: Mode, asking: Lock | None
    ) -> Iterator[tuple[Any, tuple[Lock, ...]]]:
        compatible = COMPATIBLE[wanted]
        for holder in rsb.holders():
            self.looks += 1
            assert holder.granted is not None
            if holder is not asking and not compatible[holder.granted]:
                yield from _needs_of_holder(holder)

    def _stuck(self, edges: _Edges) -> set[Any]:
        """What is left when everything that can move has been taken away."""
        needed_by: dict[Any, list[Any]] = {}
        missing: dict[Any, int] = {}
        for node, needs in edges.items():
            for need in needs:
                needed_by.setdefault(need, []).append(node)
            missing[node] = 1 if self._has_members(node) else len(needs)
        free = deque(node for node, needs in edges.items() if not needs)
        stuck = set(edges).difference(free)
        while free:
            for node in needed_by.get(free.popleft(), ()):
                missing[node] -= 1
                if missing[node] == 0 and node in stuck:
                    stuck.discard(node)
                    free.append(node)
        return stuck

    def _has_members(self, node: Any) -> bool:
        return type(node) is tuple and len(node) == 1 and node[0] in self._parties.members


def _needs_of_holder(holder: Lock) -> Iterator[tuple[Any, tuple[Lock, ...]]]:
    yield (holder.party,), (holder,)
    if holder.wanted is not None and not holder.request.nodeadlock:
        yield holder, ()


def _is_ahead(other: Lock, lock: Lock) -> bool:
    if (other.granted is None) != (lock.granted is None):
        return lock.granted is None
    return other.place < lock.place


def _needed_in_turn(edges: _Edges, stuck: set[Any]) -> set[Any]:
    """What is left of the stuck when everything that nothing left needs has been taken away."""
    needed_by = dict.fromkeys(stuck, 0)
    for node in stuck:
        for need in edges[node]:
            if need in stuck:
                needed_by[need] += 1
    ends = [node for node, count in needed_by.items() if not count]
    while ends:
        node = ends.pop()
        del needed_by[node]
        for need in edges[node]:
            if need in needed_by:
                needed_by[need] -= 1
                if not needed_by[need]:
                    ends.append(need)
    return set(needed_by)


def _on_a_cycle(start: Any, edges: _Edges, stuck: set[Any]) -> Any:
    """The start if a way leads back to it; else something stuck that it waits for and that is part
    of a cycle. What is stuck needs something that is stuck, so a way ends in a cycle."""
    seen: set[Any] = set()
    pending = [start]
    while pending:
        for need in edges[pending.pop()]:
            if need == start:
                return start
            if need in stuck and need not in seen:
                seen.add(need)
                pending.append(need)
    passed: set[Any] = set()
    node = start
    while node not in passed:
        passed.add(node)
        node = next(need for need in edges[node] if need in stuck)
    return node


def _way_round(start: Any, edges: _Edges, stuck: set[Any]) -> list[Lock]:
    """The shortest way from the start back to it through what is stuck, as locks."""
    came: dict[Any, Any] = {}
    pending = deque([start])
    while start not in came:
        node = pending.popleft()
        for need in edges[node]:
            if need in stuck and need not in came:
                came[need] = node
                pending.append(need)
    way = [start]
    while len(way) == 1 or way[-1] != start:
        way.append(came[way[-1]])
    way.reverse()
    locks: list[Lock] = []
    for node, need in pairwise(way):
        if type(node) is Lock:
            locks.append(node)
        locks.extend(edges[node][need])
    return locks


def _shorten(locks: list[Lock]) -> list[Lock]:
    """Each lock once, and of requests that wait one behind the other the first and the last."""
    found = list(dict.fromkeys(locks))
    return [
        lock
        for i, lock in enumerate(found)
        if not (
            0 < i < len(found) - 1
            and lock.queue == "WAITING"
            and found[i - 1].queue == found[i + 1].queue == "WAITING"
            and found[i - 1].rsb is lock.rsb is found[i + 1].rsb
        )
    ]


def kind_of(locks: list[Lock]) -> str:
    """Conversion deadlock or multiple resource deadlock (9.3.5)."""
    conversion = all(lock.queue == "CONVERTING" and lock.rsb is locks[0].rsb for lock in locks)
    return "conversion" if conversion else "multi-resource"
