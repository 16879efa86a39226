"""Members that come and go: a cluster whose views, crashes, cuts and fences a seed decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from clufs.dlm.interface import (
    Fenced,
    Grant,
    Leaving,
    Left,
    Life,
    Received,
    Recovered,
    Send,
    Suspended,
    TurnCame,
    ViewInstalled,
)
from clufs.dlm.lock import Lock
from clufs.dlm.messages import Message
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from clufs.dlm.remote import Copy
from tests.dlm.cluster import Cluster
from tests.dlm.cluster_of_one import Person
from tests.dlm.oracle import check, compatible


class Views(Cluster):
    """Lives instead of members. A life that is cut off goes on with what it has until it is fenced.

    nodes, people: as in Cluster, by the name of the member; those of lives that are gone are in
    `zombies`, and the `acting` ones go on. post: the messages under way, from which life to
    which. due: what each member is still to hear of views and fences, in order.
    """

    def __init__(self, seed: int, members: tuple[str, ...]) -> None:
        super().__init__(seed, ())
        self.random = Random(seed)
        self.view = 0
        self.names = members
        self.incarnations = dict.fromkeys(members, 0)
        self.lives: dict[str, Life] = {}
        self.zombies: dict[Life, tuple[Node, dict[str, Person]]] = {}
        self.unfenced: set[Life] = set()
        self.due: dict[str, deque[Any]] = {}
        self.post: dict[tuple[str, str], deque[tuple[Life, Life, Message]]] = {}
        self.acting: dict[Life, bool] = {}
        self.leaving: set[str] = set()
        self.left: set[str] = set()
        self.recovered: dict[str, int] = {}
        self.ex_numbers: dict[bytes, int] = {}
        self.newest: dict[bytes, tuple[int, bytes]] = {}

    def person(self, member: str, who: str) -> Person:
        name = f"{who}@{member}{self.incarnations[member]}"
        return self.people.setdefault((member, who), Person(name))

    # -- what befalls the members

    def start(self, member: str) -> None:
        """A new life of this member, which waits for a view."""
        self.incarnations[member] += 1
        life = Life(member, self.incarnations[member])
        self.nodes[member] = Node(member, 0, (), life.incarnation)
        self.due[member] = deque()
        self.lives[member] = life

    def loses(self, member: str, crashed: bool) -> None:
        """The member is gone for the others: what it sent last may be lost, or all is.

        crashed: it does nothing more, but what it had may still be used.
        """
        self.leaving.discard(member)
        self.left.discard(member)
        life, node = self.lives.pop(member), self.nodes.pop(member)
        people = {
            who: self.people.pop((home, who)) for home, who in list(self.people) if home == member
        }
        if node.view:
            self.zombies[life] = (node, people)
            self.acting[life] = not crashed
            self.unfenced.add(life)
        else:
            self.gone(people)
        del self.due[member]
        for (sender, _), wire in self.post.items():
            if sender == member:
                for _ in range(self.random.randint(0, len(wire))):
                    wire.pop()

    def leaves(self, member: str) -> None:
        """The member, all its locks released, leaves in order; it is in `left` when it may go."""
        self.leaving.add(member)
        self.step(member, Leaving())

    def goes(self, member: str) -> None:
        """It has left, and nobody has to fear it."""
        self.leaving.discard(member)
        self.left.discard(member)
        self.nodes.pop(member)
        self.lives.pop(member)
        self.gone(
            {who: self.people.pop((home, who)) for home, who in list(self.people) if home == member}
        )
        del self.due[member]

    def gone(self, people: dict[str, Person]) -> None:
        """Nobody will ever hear of these again."""

    def install(self) -> None:
        """The view of all lives that there are now; each learns of it when its turn comes."""
        self.view += 1
        members = tuple(sorted(self.lives.values()))
        for member in self.lives:
            self.due[member].append(ViewInstalled(self.view, members, frozenset(self.unfenced)))

    def fence(self, life: Life) -> None:
        """The life is surely finished; those who know of it as lost will hear so."""
        self.unfenced.discard(life)
        _, people = self.zombies.pop(life)
        self.gone(people)
        for member in self.lives:
            self.due[member].append(Fenced(life))

    def suspend(self, member: str) -> None:
        self.step(member, Suspended())

    def learn(self, member: str) -> None:
        """The member hears the next thing of views and fences."""
        event = self.due[member].popleft()
        if isinstance(event, ViewInstalled):
            there = {*event.members, *self.lives.values()}
            for (_, receiver), wire in self.post.items():
                if receiver == member:
                    kept = [sent for sent in wire if sent[0] in there]
                    wire.clear()
                    wire.extend(kept)
        self.step(member, event)

    def step(self, member: str, event: Any) -> list[Any]:
        self.now += self.pace
        heard = []
        node, life = self.nodes[member], self.lives[member]
        for effect in node.step(self.now, event):
            if isinstance(effect, Send):
                assert effect.member != member, effect
                to = Life(effect.member, node.lives[effect.member])
                self.post.setdefault((member, effect.member), deque()).append(
                    (life, to, effect.message)
                )
                self.sent += 1
                continue
            heard.append(effect)
            self.heard.append((member, effect))
            if isinstance(effect, Left):
                self.left.add(member)
            if isinstance(effect, Recovered):
                self.recovered[member] = effect.view
            if isinstance(effect, Grant):
                self.note(effect, node)
        return heard

    def note(self, effect: Grant, node: Node) -> None:
        """Sequencers grow: a lock that nobody else can hold comes after all before it."""
        lock = effect.lock
        if lock.granted is Mode.EX and lock.ranges is None:
            if isinstance(lock, Copy) and node._least(lock) is not Mode.EX:
                return  # its owner has released it meanwhile
            name = lock.rsb.name
            assert lock.number >= self.ex_numbers.get(name, 0), "a sequencer went back"
            self.ex_numbers[name] = lock.number

    # -- what must hold

    def check(self) -> None:
        for member, node in self.nodes.items():
            check(node, [p for (home, _), p in self.people.items() if home == member])
        names = [name for node in self.nodes.values() for name in node.blocks]
        assert len(names) == len(set(names)), "two masters of one name"
        self.check_holders()
        self.check_values()

    def check_holders(self) -> None:
        """No two lives that may still act hold what does not go together."""
        held: dict[bytes, list[tuple[Lock, Mode]]] = {}
        everybody = [
            (self.lives[member], self.nodes[member], person)
            for (member, _), person in self.people.items()
        ]
        for life, (node, people) in self.zombies.items():
            everybody += [(life, node, person) for person in people.values()]
        for _, node, person in everybody:
            for name, lock in person.locks.items():
                mode = (
                    node._least(lock)
                    if type(lock) is Copy and lock.granted is not None
                    else lock.granted
                )
                if mode is not None:
                    held.setdefault(name, []).append((lock, mode))
        for name, holders in held.items():
            for i, (one, mode) in enumerate(holders):
                for other, its in holders[:i]:
                    assert compatible(one, mode, other, its), (name, one, mode, other, its)

    def check_values(self) -> None:
        """A valid value is never older than one that there has been."""
        for node in [*self.nodes.values(), *(node for node, _ in self.zombies.values())]:
            for name, block in node.blocks.items():
                before, value = self.newest.get(name, (0, b""))
                if block.valseq > before:
                    self.newest[name] = (block.valseq, block.value)
                elif block.valid and node in self.nodes.values():
                    assert (block.valseq, block.value) == (before, value), "an older value"

    def finish(self, after_each: Callable[[], None]) -> None:
        """Everybody is fenced or here, all is heard."""
        for life in list(self.zombies):
            self.fence(life)
        self.install()
        for _ in range(100_000):
            if not self.some_time():
                if not self.leaving:
                    break
                for member in list(self.leaving):
                    assert member in self.left, "it cannot leave"
                    self.goes(member)
                self.install()
            self.check()
            after_each()
        else:
            raise AssertionError("they never stop talking")
        self.check_settled()
        assert all(node.waits_for() == "" for node in self.nodes.values())
        assert set(self.recovered[member] for member in self.nodes) == {self.view}

    def some_time(self) -> bool:
        """Something of what is under way happens, if there is anything."""
        due = [member for member, events in self.due.items() if events]
        turns = [member for member, node in self.nodes.items() if node.wants_turn()]
        if turns and (self.random.random() < 0.3 or not (due or self.under_way())):
            self.step(self.random.choice(turns), TurnCame())
        elif due and (self.random.random() < 0.2 or not self.under_way()):
            self.learn(self.random.choice(due))
        elif self.under_way():
            self.deliver()
        else:
            return False
        return True

    def under_way(self) -> list[tuple[str, str]]:
        return [pair for pair, wire in self.post.items() if wire]

    def deliver(self, pair: tuple[str, str] | None = None) -> list[Any]:
        """The next message of one pair; what was meant for a life that is gone is lost."""
        if pair is None:
            pair = self.random.choice(self.under_way())
        sender, receiver = pair
        _, to, message = self.post[pair].popleft()
        if self.lives.get(receiver) != to:
            return []
        return self.step(receiver, Received(sender, message))

    def zombie_step(self, life: Life, event: Any) -> None:
        """A life that is cut off acts on: what it sends is lost."""
        self.now += self.pace
        node, _ = self.zombies[life]
        for effect in node.step(self.now, event):
            if not isinstance(effect, Send):
                self.heard.append((life.member, effect))
                if isinstance(effect, Grant):
                    self.note(effect, node)


def small_steps(monkeypatch: pytest.MonkeyPatch, locks: int) -> None:
    """A recovery goes so many locks at a time."""
    for module in ("lost", "telling", "turns"):
        monkeypatch.setattr(f"clufs.dlm.{module}.RECOVERY_STEP_LOCKS", locks)
