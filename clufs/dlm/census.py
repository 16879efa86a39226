"""What one member tells in a search for deadlocks: who is in somebody's way at its blocks, what
waits there and for whom.

Little of what waits can be part of a deadlock. First every member names the parties
whose locks are in somebody's way, however many may wait for each; then only the requests in
which one of these parties is stuck are told, with what stands in their way. A block for
which ten thousand processes wait that hold nothing else is one party long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from clufs.dlm.copies import Copies
from clufs.dlm.guests import Guest
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Id
from clufs.dlm.modes import Mode
from clufs.dlm.remote import Copy
from clufs.dlm.rsb import BLOCKING, ResourceBlock
from clufs.dlm.survey_messages import Blockers, Group, Part, Waits, WhatWaits, WhoBlocks
from clufs.limits import SURVEY_LOCKS_MAX, SURVEY_PARTIES_MAX

_FEW = 16
"""So many holders are looked at to see that a wait leads nowhere."""


class Census:
    """The part of one member. Reads the node, changes nothing."""

    __slots__ = ("_node",)

    def __init__(self, node: Copies) -> None:
        self._node = node

    # -------------------------------------------------- may this wait matter?

    def may_matter(self, locks: Iterable[Lock]) -> bool:
        """Whether a deadlock over several members may lead through one of these requests that wait."""
        stuck = self._node.stuck_elsewhere()
        return any(self._may_matter(lock, stuck) for lock in locks)

    def _may_matter(self, lock: Lock, stuck: dict[Any, int]) -> bool:
        """No: it is a copy and whoever is stuck in it has no other lock; or only parties that this
        member knows to be free stand in its way.
        """
        if lock.request.nodeadlock:
            return False
        if isinstance(lock, Copy):
            return self._has_more(lock)
        node = self._node
        if not node.guests and not node.copies:
            return False
        block = lock.rsb
        if block.size + block.converting.size + block.waiting.size > _FEW:
            return True
        return any(
            type(other.owner) is Guest or self._may_be_stuck(other.party, stuck)
            for other in (*block.holders(), *block.ahead(lock))
            if other is not lock
        )

    def _has_more(self, copy: Copy) -> bool:
        parties = self._node.parties
        if copy.granted is not None or copy.waiter != copy.party:
            return True
        if copy.waiter in parties.groups_of:
            return True
        return any(other is not copy for other in parties.locks(copy.party))

    def _may_be_stuck(self, party: Any, stuck_elsewhere: dict[Any, int]) -> bool:
        parties = self._node.parties
        members = parties.members.get(party)
        if members is not None:
            return all(self._may_be_stuck(member, stuck_elsewhere) for member in members)
        return party in parties.waits or party in stuck_elsewhere

    # ---------------------------------------------------------- who is in the way

    def blockers(self, question: WhoBlocks) -> Blockers:
        """The parties in somebody's way here, but for those that surely can go on, and those of
        this member that stand for one request and are stuck in another."""
        node, stuck = self._node, self._node.stuck_elsewhere()
        found: dict[Id, None] = {}
        for party in self._special(stuck):
            found[node.names.of(party)] = None
        crowds_last = sorted(node.parties.contended, key=lambda block: block.size)
        for block in crowds_last:
            for holder in _in_the_way(block):
                if type(holder.owner) is Guest or self._may_be_stuck(holder.party, stuck):
                    found[node.names.of(holder.party)] = None
            if len(found) > SURVEY_PARTIES_MAX:
                break
        parties = tuple(found)[:SURVEY_PARTIES_MAX]
        return Blockers(node.view, question.number, parties, self._groups(stuck))

    def _special(self, stuck: dict[Any, int]) -> Iterator[Any]:
        """Who waits in several requests, or in one of another party; and that party."""
        node = self._node
        for who, waits in node.parties.waits.items():
            if type(who) is not Id:
                if len(waits) + stuck.get(who, 0) > 1:
                    yield who
                yield from _odd(waits)
        for who, count in stuck.items():
            if count > 1:
                yield who
        yield from _odd(node.waiting_copies())

    def _groups(self, stuck: dict[Any, int]) -> tuple[Group, ...]:
        node = self._node
        parties, name = node.parties, node.names.of
        return tuple(
            Group(name(party), parties.formed[party], tuple(sorted(map(name, members))))
            for party, members in parties.members.items()
            if self._may_be_stuck(party, stuck)
        )

    # --------------------------------------------------------------- what waits

    def waits(self, now: float, question: WhatWaits) -> Waits:
        """The requests here in which these parties are stuck, and what they need."""
        node = self._node
        asked = frozenset(question.parties)
        stuck = node.stuck_elsewhere()
        blocks: dict[ResourceBlock, set[Lock]] = {}
        for id in question.parties:
            party = node.names.named.get(id, id)
            for lock in node.parties.waits.get(party, ()):
                blocks.setdefault(lock.rsb, set()).add(lock)
        told: list[tuple[bytes, tuple[Part, ...]]] = []
        room = SURVEY_LOCKS_MAX
        is_partial = False
        for block, waits in blocks.items():
            holders = []
            for holder in _in_the_way(block):
                if node.names.of(holder.party) in asked:
                    holders.append(holder)
                elif type(holder.owner) is Guest or self._may_be_stuck(holder.party, stuck):
                    is_partial = True
            locks = dict.fromkeys([*holders, *_needed(block, waits)])
            room -= len(locks)
            if room < 0:
                is_partial = True
                break
            told.append((block.name, tuple(self._part(lock) for lock in locks)))
        moving = tuple(
            check.lock
            for check in question.checks
            if not node.is_at_rest(check.lock, check.number, check.asked)
        )
        return Waits(
            node.view, question.number, now, tuple(told), self._groups(stuck), moving, is_partial
        )

    def _part(self, lock: Lock) -> Part:
        node = self._node
        party, waiter = node.names.of_lock(lock)
        if type(lock.owner) is Guest:
            id = lock.owner.id
            asked = lock.client if lock.wanted is not None else None
        else:
            id, asked = node.lock_id(lock), None
        return Part(
            id,
            lock.number,
            lock.granted,
            lock.wanted,
            lock.place,
            lock.since,
            lock.request.nodeadlock,
            party,
            waiter,
            asked,
            lock.request.ranges,
        )


def _odd(waits: Iterable[Lock]) -> Iterator[Any]:
    for lock in waits:
        if lock.party != lock.waiter:
            yield lock.waiter
            yield lock.party


def _in_the_way(block: ResourceBlock) -> Iterator[Lock]:
    for holder in block.holders():
        assert holder.granted is not None
        if block.wants & BLOCKING[holder.granted]:
            yield holder


def _needed(block: ResourceBlock, waits: set[Lock]) -> Iterator[Lock]:
    """These requests, and of those ahead of each as many as lead to everything that all of them
    lead to: the last two for each mode (of two conversions, each may be what the other waits for)."""
    last: dict[Mode, tuple[Lock, ...]] = {}
    for lock in block.queued():
        assert lock.wanted is not None
        if lock in waits:
            for ahead in last.values():
                yield from ahead
            yield lock
        if not lock.request.nodeadlock:
            last[lock.wanted] = (*last.get(lock.wanted, ()), lock)[-2:]
