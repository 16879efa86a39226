"""Several members in one process: every pair of them has a wire, and a seed says who is next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from clufs.dlm.interface import (
    Asked,
    Effect,
    Grant,
    Life,
    OwnerEnded,
    PartyChanged,
    Received,
    Refuse,
    Send,
    Ticked,
    Withdrew,
)
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Message
from clufs.dlm.node import Node
from clufs.timeouts import TICK_S
from tests.dlm.cluster_of_one import Person, parse
from tests.dlm.oracle import check

MEMBERS = ("provolone", "polishham", "pepicelli")


def make_eager(monkeypatch: pytest.MonkeyPatch, requests: int) -> None:
    """Names move after so few requests of one other member, whoever else asks."""
    monkeypatch.setattr("clufs.dlm.seeking.REMASTER_AFTER", requests)
    monkeypatch.setattr("clufs.dlm.moving.REMASTER_LOCKED_AFTER", requests)
    monkeypatch.setattr("clufs.dlm.usage.REMASTER_OTHERS_COUNT", 1)


class Cluster:
    """`says` is a request at a member; `deliver` brings one message, `settle` all of them."""

    def __init__(self, seed: int = 0, members: Sequence[str] = MEMBERS, view: int = 1) -> None:
        self.random = Random(seed)
        lives = [Life(member, 7) for member in members]
        self.nodes = {member: Node(member, view, lives, incarnation=7) for member in members}
        self.wires: dict[tuple[str, str], deque[Message]] = {}
        self.people: dict[tuple[str, str], Person] = {}
        self.now = 0.0
        self.pace = 1.0
        self.sent = 0
        self.heard: list[tuple[str, Effect]] = []

    def person(self, member: str, who: str) -> Person:
        return self.people.setdefault((member, who), Person(f"{who}@{member}"))

    def step(self, member: str, event: Any) -> list[Effect]:
        """What the edge of this member hears; messages go onto the wires."""
        self.now += self.pace
        heard: list[Effect] = []
        for effect in self.nodes[member].step(self.now, event):
            if isinstance(effect, Send):
                assert effect.member != member, effect
                self.wires.setdefault((member, effect.member), deque()).append(effect.message)
                self.sent += 1
            else:
                heard.append(effect)
                self.heard.append((member, effect))
        return heard

    def says(
        self, member: str, who: str, line: str, name: bytes = b"db/x", **more: Any
    ) -> list[Effect]:
        more.setdefault("party", f"{who}@{member}")
        more.setdefault("client", f"{who}: {line}")
        request = parse(line, f"{who[0]}@{member}")
        return self.step(member, Asked(self.person(member, who), name, request, **more))

    def withdraws(self, member: str, who: str, name: bytes = b"db/x") -> list[Effect]:
        return self.step(member, Withdrew(self.lock(member, who, name)))

    def dies(self, member: str, who: str, abnormal: bool = True) -> list[Effect]:
        return self.step(member, OwnerEnded(self.person(member, who), abnormal))

    def lock(self, member: str, who: str, name: bytes = b"db/x") -> Lock:
        return self.person(member, who).locks[name]

    def group(self, member: str, party: str, *members: str) -> list[Effect]:
        """Who stands behind a party; all of them are `name@member`."""
        names = frozenset(f"{who}@{member}" for who in members)
        return self.step(member, PartyChanged(f"{party}@{member}", names))

    def tick(self) -> bool:
        """TICK_S passes; whoever wants to know is told. Whether anybody did."""
        self.now += TICK_S
        wanting = [member for member, node in self.nodes.items() if node.wants_tick()]
        for member in wanting:
            self.step(member, Ticked())
        return bool(wanting)

    def pass_time(self, seconds: float) -> None:
        """Time passes, tick by tick, in which every message arrives at once."""
        self.pace = 0.0
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.tick()
            self.settle()

    # -- the wires

    def deliver(self, pair: tuple[str, str] | None = None) -> list[Effect]:
        """The next message of one pair; without a pair the seed chooses."""
        if pair is None:
            pair = self.random.choice([pair for pair, wire in self.wires.items() if wire])
        sender, receiver = pair
        message = self.wires[pair].popleft()
        return self.step(receiver, Received(sender, message))

    def settle(self) -> None:
        """Deliver everything, in an order that the seed chooses, and check after each."""
        before = self.sent
        while any(self.wires.values()):
            self.deliver()
            self.check()
            assert self.sent - before < 10_000, "they never stop talking"
        self.check_settled()

    # -- what must hold

    def check(self) -> None:
        """After every step: each member is in order, and no name has two masters."""
        for member, node in self.nodes.items():
            owners = [person for (home, _), person in self.people.items() if home == member]
            check(node, owners)
        names = [name for node in self.nodes.values() for name in node.blocks]
        assert len(names) == len(set(names)), "two masters of one name"

    def check_settled(self) -> None:
        """With nothing on the wires the copies are what their masters say, and only what waits
        is unanswered."""
        copies = {}
        for node in self.nodes.values():
            waiting = sum(len(list(block.queued())) for block in node.copies.values())
            assert len(node.open_requests()) == waiting
            for block in node.copies.values():
                for lock in [*block.granted, *block.converting, *block.waiting]:
                    copies[node.lock_id(lock)] = lock
        guests = {id: guest for node in self.nodes.values() for id, guest in node.guests.items()}
        assert copies.keys() == guests.keys()
        for id, copy in copies.items():
            (lock,) = guests[id].locks.values()
            assert (copy.granted, copy.wanted) == (lock.granted, lock.wanted), (copy, lock)
            assert lock.granted is None or copy.number == lock.number
            assert lock.wanted is None or copy.place == lock.place
            assert copy.sublocks == lock.sublocks

    def master(self, name: bytes = b"db/x") -> str:
        (found,) = [member for member, node in self.nodes.items() if name in node.blocks]
        return found

    def granted(self) -> list[str]:
        """Who has heard of a grant since this was asked last."""
        found = [str(effect.lock.owner) for _, effect in self.heard if isinstance(effect, Grant)]
        self.heard.clear()
        return found

    def refused(self) -> list[tuple[str, str]]:
        """Who has heard of a refusal, and which, since this was asked last."""
        found = [
            (member, type(effect.error).__name__)
            for member, effect in self.heard
            if isinstance(effect, Refuse)
        ]
        self.heard.clear()
        return found
