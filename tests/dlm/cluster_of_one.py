"""A lock manager of one member and a few owners, for tests that tell a story."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clufs.dlm.interface import (
    Asked,
    Effect,
    Grant,
    Owner,
    OwnerEnded,
    PartyChanged,
    Queue,
    Refuse,
    Request,
    Verb,
    Withdrew,
)
from clufs.dlm.lock import Lock
from clufs.dlm.modes import Mode
from clufs.dlm.node import Node
from clufs.dlm.ranges import Ranges, Spans, union
from clufs.dlm.rsb import ResourceBlock

VERBS = {"UN": Verb.UNLOCK, "CANCEL": Verb.CANCEL}


def parse(line: str, who: str = "") -> Request:
    """`EX nowait value=abc`, `UN all`, `CANCEL`: the words of the contract that the core knows; and
    `EX bytes=0-3,8-9` for ranges, which are of the side of whoever says it."""
    first, *words = line.split()
    fields: dict[str, Any] = {}
    verb = VERBS.get(first, Verb.LOCK)
    for word in words:
        key, _, text = word.partition("=")
        if key == "all":
            verb = Verb.UNLOCK_ALL
        elif key == "value":
            fields["value"] = text.encode()
        elif key == "bytes":
            fields["ranges"] = Ranges(who, spans_of(text))
        elif key == "hint":
            fields["hint"] = int(text)
        else:
            fields[key] = True
    if verb is Verb.LOCK:
        fields["mode"] = Mode[first]
    return Request(verb, **fields)


def spans_of(text: str) -> Spans:
    """`0-3,8-9` as the core has it."""
    pairs = [part.split("-") for part in text.split(",")]
    return union((int(first), int(last)) for first, last in pairs)


class Person(Owner):
    """An owner with a name, for readable failures."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Story:
    """One node; `says` is a request, and what came of it is returned and kept in `effects`."""

    def __init__(self, view: int = 1) -> None:
        self.node = Node("provolone", view)
        self.now = 0.0
        self.people: dict[str, Person] = {}
        self.effects: Sequence[Effect] = ()

    def person(self, name: str) -> Person:
        return self.people.setdefault(name, Person(name))

    def step(self, event: Any) -> Sequence[Effect]:
        self.now += 1.0
        self.effects = self.node.step(self.now, event)
        return self.effects

    def says(self, who: str, line: str, name: bytes = b"db/x", **more: Any) -> Sequence[Effect]:
        """`more`: party, client, parent, place, waiter; the party is the person by default. Whose names
        begin alike are of one side."""
        more.setdefault("party", who)
        more.setdefault("client", f"{who}: {line}")
        return self.step(Asked(self.person(who), name, parse(line, who[0]), **more))

    def withdraws(self, who: str, name: bytes = b"db/x") -> Sequence[Effect]:
        return self.step(Withdrew(self.lock(who, name)))

    def dies(self, who: str, abnormal: bool = True) -> Sequence[Effect]:
        return self.step(OwnerEnded(self.person(who), abnormal))

    def group(self, party: str, *members: str) -> Sequence[Effect]:
        return self.step(PartyChanged(party, frozenset(members)))

    def lock(self, who: str, name: bytes = b"db/x") -> Lock:
        return self.person(who).locks[name]

    def block(self, name: bytes = b"db/x") -> ResourceBlock:
        found = self.node.find(name)
        assert found is not None
        return found

    def all(self, kind: type) -> list[Any]:
        """The last effects of this kind."""
        return [effect for effect in self.effects if type(effect) is kind]

    def granted(self) -> list[str]:
        """Who was granted something in the last step, in order."""
        return [effect.lock.owner.name for effect in self.all(Grant)]

    def refusal(self) -> str:
        """The class of the error that the last request was refused with at once, or nothing."""
        refused = [effect for effect in self.all(Refuse) if effect.lock is None]
        return type(refused[0].error).__name__ if refused else ""

    def outcome(self) -> str:
        """GRANTED, QUEUED or the refusal of the last request."""
        if self.refusal():
            return self.refusal()
        if self.all(Queue):
            return "QUEUED"
        return "GRANTED" if self.all(Grant) else "DONE"

    def queues(self, name: bytes = b"db/x") -> str:
        """`a EX | b NL>EX | c PR`: granted, converting, waiting."""
        block = self.node.find(name)
        if block is None:
            return ""
        return " | ".join(
            " ".join(_show(lock) for lock in queue)
            for queue in (block.granted, block.converting, block.waiting)
        ).strip()


def _show(lock: Lock) -> str:
    assert isinstance(lock.owner, Person)
    modes = [mode.name for mode in (lock.granted, lock.wanted) if mode is not None]
    return f"{lock.owner.name}:{'>'.join(modes)}"
