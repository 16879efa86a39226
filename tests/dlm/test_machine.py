"""Random requests of several owners on a few names, everything checked after every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clufs.dlm.interface import (
    Asked,
    BlockEnded,
    Effect,
    Grant,
    OwnerEnded,
    PartyChanged,
    Queue,
    Refuse,
    Released,
    Request,
    Verb,
    Withdrew,
)
from clufs.dlm.lock import Lock
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from tests.dlm.cluster_of_one import Person
from tests.dlm.oracle import check

NAMES = [b"x", b"y", b"z"]
SUBS = {name: name + b".sub/s" for name in NAMES}
PEOPLE = [Person(f"p{i}") for i in range(5)]

people = st.integers(0, 4)
names = st.sampled_from(NAMES)
modes = st.sampled_from(list(Mode))
flags = st.sampled_from([(), (), (), ("nowait",), ("quecvt",), ("nodeadlock",), ("notify",)])
values = st.sampled_from([None, None, b"one", b"two", b""])


class Machine(RuleBasedStateMachine):
    """The model remembers values, numbers and who was told what; the node does the work."""

    def __init__(self) -> None:
        super().__init__()
        self.node = Node("m", 1)
        self.owners = [Person(f"p{i}") for i in range(5)]
        self.now = 0.0
        self.values: dict[bytes, tuple[bytes, bool]] = {}
        self.valseqs: dict[bytes, int] = {}
        self.numbers: dict[int, tuple[Mode, int]] = {}
        self.highest = 0
        self.pending: dict[str, Lock] = {}
        self.places: dict[str, int] = {}
        self.asked = 0

    # -- what is done

    def step(self, event: Any) -> Sequence[Effect]:
        self.now += 1
        before = {name: (b.value, b.valid, b.valseq) for name, b in self.node.blocks.items()}
        effects = self.node.step(self.now, event)
        for effect in effects:
            self.hear(effect)
        refused = [e for e in effects if type(e) is Refuse and e.lock is None]
        if refused:
            after = {name: (b.value, b.valid, b.valseq) for name, b in self.node.blocks.items()}
            assert before == after, "a refused request changed something"
        return effects

    def hear(self, effect: Effect) -> None:
        if type(effect) is Queue:
            assert isinstance(effect.lock.owner, Person)
            client = f"{self.owners.index(effect.lock.owner)}.{self.asked}"
            assert client not in self.pending
            self.pending[client] = effect.lock
        elif type(effect) is Grant and not effect.sync:
            assert self.pending.pop(effect.lock.client) is effect.lock
        elif type(effect) is Refuse and effect.lock is not None:
            assert self.pending.pop(effect.client) is effect.lock
        elif type(effect) is Released:
            assert effect.lock.queue == "GONE"
        elif type(effect) is BlockEnded:
            self.values.pop(effect.name, None)

    def ask(self, who: int, name: bytes, request: Request, **more: Any) -> Sequence[Effect]:
        self.asked += 1
        owner = self.owners[who]
        more.setdefault("party", f"p{who % 4}")
        event = Asked(owner, name, request, client=f"{who}.{self.asked}", **more)
        held = owner.locks.get(name)
        mode = None if held is None else held.granted
        effects = self.step(event)
        if any(type(e) is Refuse and e.lock is None for e in effects):
            return effects
        releases = request.verb is Verb.UNLOCK
        if request.value is not None:
            assert mode in (Mode.PW, Mode.EX) and (releases or request.mode <= mode)
            self.values[name] = (request.value, True)
        elif request.invalidate:
            assert mode in (Mode.PW, Mode.EX) and (releases or request.mode < mode)
            self.values[name] = (self.values.get(name, (b"", True))[0], False)
        if name not in self.node.blocks:
            self.values.pop(name, None)
        return effects

    @rule(who=people, name=names, mode=modes, words=flags, value=values, invalid=st.booleans())
    def requests(
        self,
        who: int,
        name: bytes,
        mode: Mode,
        words: tuple[str, ...],
        value: bytes | None,
        invalid: bool,
    ) -> None:
        held = self.owners[who].locks.get(name)
        if held is None:
            value, invalid = None, False
        more = dict.fromkeys(words, True)
        request = Request(Verb.LOCK, mode, value=value, invalidate=invalid and not value, **more)
        self.ask(who, name, request)

    @rule(who=people, name=names, mode=modes)
    def asks_simply(self, who: int, name: bytes, mode: Mode) -> None:
        self.ask(who, name, Request(Verb.LOCK, mode))

    @rule(who=people, name=names, mode=modes, other=people)
    def asks_below(self, who: int, name: bytes, mode: Mode, other: int) -> None:
        parent = self.owners[other].locks.get(name)
        if parent is None or SUBS[name] in self.owners[who].locks:
            return
        effects = self.ask(who, SUBS[name], Request(Verb.LOCK, mode), parent=parent)
        if parent.granted is None:
            assert type(effects[0]) is Refuse

    @rule(who=people, name=names, value=values, below=st.booleans())
    def unlocks(self, who: int, name: bytes, value: bytes | None, below: bool) -> None:
        name = SUBS[name] if below else name
        held = self.owners[who].locks.get(name)
        if held is not None and held.granted not in (Mode.PW, Mode.EX):
            value = None
        self.ask(who, name, Request(Verb.UNLOCK, value=value))

    @rule(who=people, name=names)
    def unlocks_all(self, who: int, name: bytes) -> None:
        lock = self.owners[who].locks.get(name)
        self.ask(who, name, Request(Verb.UNLOCK_ALL))
        if lock is not None:
            assert lock.sublocks == 0
            assert lock.rsb.name in self.owners[who].locks

    @rule(who=people, name=names)
    def cancels(self, who: int, name: bytes) -> None:
        self.ask(who, name, Request(Verb.CANCEL))

    @precondition(lambda self: self.pending)
    @rule(pick=st.integers(0, 99))
    def gives_up(self, pick: int) -> None:
        client = sorted(self.pending)[pick % len(self.pending)]
        lock = self.pending.pop(client)
        self.places[client] = lock.place
        self.step(Withdrew(lock))
        assert lock.wanted is None

    @precondition(lambda self: self.places)
    @rule(who=people, name=names, mode=modes, pick=st.integers(0, 99))
    def comes_back(self, who: int, name: bytes, mode: Mode, pick: int) -> None:
        client = sorted(self.places)[pick % len(self.places)]
        self.ask(who, name, Request(Verb.LOCK, mode), place=self.places.pop(client))

    @rule(who=people, abnormal=st.booleans())
    def dies(self, who: int, abnormal: bool) -> None:
        owner = self.owners[who]
        gone = set(owner.locks.values())
        grown = True
        while grown:
            more = {
                lock
                for other in self.owners
                for lock in other.locks.values()
                if lock.parent in gone and lock not in gone
            }
            gone |= more
            grown = bool(more)
        if abnormal:
            for lock in gone:
                if lock.granted in (Mode.PW, Mode.EX):
                    value = self.values.get(lock.rsb.name, (b"", True))[0]
                    self.values[lock.rsb.name] = (value, False)
        own = {client for client, lock in self.pending.items() if lock.owner is owner}
        for client in own:
            del self.pending[client]
        self.step(OwnerEnded(owner, abnormal))
        assert not owner.locks
        assert all(lock.queue == "GONE" for lock in gone)

    @rule(party=st.sampled_from(["g", "p0"]), members=st.sets(st.sampled_from(["p1", "p2", "p3"])))
    def group_changes(self, party: str, members: set[str]) -> None:
        self.step(PartyChanged(party, frozenset(members)))

    @rule(who=people, name=names, mode=modes)
    def asks_for_the_group(self, who: int, name: bytes, mode: Mode) -> None:
        self.ask(who, name, Request(Verb.LOCK, mode), party="g", waiter=f"p{who}")

    # -- what holds

    @invariant()
    def everything_is_in_order(self) -> None:
        check(self.node, self.owners)
        waiting = {id(lock) for b in self.node.blocks.values() for lock in b.queued()}
        assert waiting == {id(lock) for lock in self.pending.values()}, "a lost waiter"

    @invariant()
    def values_are_those_written_and_valseq_grows(self) -> None:
        for name, block in self.node.blocks.items():
            assert (block.value, block.valid) == self.values.get(name, (b"", True))
            assert block.valseq >= self.valseqs.get(name, 0)
            self.valseqs[name] = block.valseq

    @invariant()
    def numbers_change_with_the_mode_and_grow(self) -> None:
        fresh = []
        for block in self.node.blocks.values():
            for lock in block.holders():
                assert lock.granted is not None
                known = self.numbers.get(lock.id)
                if known is None or known[0] is not lock.granted:
                    fresh.append(lock.number)
                else:
                    assert known[1] == lock.number
                self.numbers[lock.id] = (lock.granted, lock.number)
        assert all(number > self.highest for number in fresh)
        self.highest = max([self.highest, *fresh])


Machine.TestCase.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
TestMachine = Machine.TestCase
