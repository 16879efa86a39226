"""Seeds: three members, random requests, messages in any order that their wires allow."""

from __future__ import annotations

from random import Random

import pytest

from clufs.dlm.interface import Asked, Grant, Queue, Refuse, Released, Request, Verb
from clufs.dlm.modes import Mode
from tests.dlm.cluster import MEMBERS, Cluster, make_eager

NAMES = [b"db/x", b"db/y"]
SUB = b".sub/s"
WORDS = [(), (), (), ("nowait",), ("quecvt",), ("notify",), ("nodeadlock",)]


class Crowd:
    """Owners at every member; remembers who was told what, and what was written."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.cluster = Cluster(seed)
        self.members: list[str] = list(MEMBERS)
        self.asked: dict[str, str] = {}
        self.held: dict[int, Mode] = {}
        self.count = 0
        self.valseqs: dict[bytes, int] = {}

    def act(self) -> None:
        pick = self.random.random
        member, who = self.random.choice(self.members), self.random.choice("pq")
        name = self.random.choice(NAMES)
        person = self.cluster.person(member, who)
        lock = person.locks.get(name)
        if pick() < 0.05:
            self.die(member, who, pick() < 0.5)
        elif pick() < 0.1 and lock is not None and lock.wanted is not None:
            self.asked.pop(lock.client, None)
            self.cluster.withdraws(member, who, name)
            assert lock.wanted is None
        elif pick() < 0.25 and lock is not None and lock.granted is not None:
            if name + SUB not in person.locks:
                self.ask(member, who, name + SUB, Request(Verb.LOCK, self.mode()), lock)
        else:
            self.ask(member, who, self.random.choice([name, name, name + SUB]), self.request())

    def die(self, member: str, who: str, abnormal: bool) -> None:
        person = self.cluster.person(member, who)
        for client in [key for key, owner in self.asked.items() if owner == person.name]:
            del self.asked[client]
        self.cluster.dies(member, who, abnormal)
        assert person.locks == {}

    def mode(self) -> Mode:
        return self.random.choice(list(Mode))

    def request(self) -> Request:
        verb = self.random.choices(list(Verb), (6, 3, 1, 1))[0]
        if verb is Verb.LOCK:
            words = dict.fromkeys(self.random.choice(WORDS), True)
            value = self.random.choice([None, None, b"one", b"two"])
            return Request(verb, self.mode(), value=value, **words)
        return Request(verb, value=self.random.choice([None, None, b"three"]))

    def ask(
        self, member: str, who: str, name: bytes, request: Request, parent: object = None
    ) -> None:
        person = self.cluster.person(member, who)
        if name.endswith(SUB) and parent is None and name not in person.locks:
            return
        self.count += 1
        client = f"{person.name} {self.count}"
        if request.verb is Verb.LOCK:
            self.asked[client] = person.name
        event = Asked(person, name, request, person.name, client, parent)  # type: ignore[arg-type]
        self.cluster.step(member, event)

    def hear(self) -> None:
        """Every request is answered once, and nothing is heard of what was given up."""
        heard = [effect for _, effect in self.cluster.heard]
        answered = {effect.client for effect in heard if isinstance(effect, Refuse)}
        answered |= {effect.lock.client for effect in heard if isinstance(effect, Grant)}
        for effect in heard:
            if isinstance(effect, Grant):
                assert self.asked.pop(effect.lock.client, None) is not None, effect.lock.client
            elif isinstance(effect, Refuse):
                self.asked.pop(effect.client, None)
            elif isinstance(effect, Released):
                assert effect.lock.queue == "GONE"
            elif isinstance(effect, Queue):
                gone = effect.lock.queue == "GONE" and effect.lock.client not in answered
                assert not gone or effect.lock.client not in self.asked
        self.cluster.heard.clear()
        for node in self.cluster.nodes.values():
            for name, block in node.blocks.items():
                assert block.valseq >= self.valseqs.get(name, 0), "an older value"
                self.valseqs[name] = block.valseq

    def settle(self) -> None:
        while any(self.cluster.wires.values()):
            self.cluster.deliver()
            self.hear()
        self.cluster.settle()

    def end(self) -> None:
        """When all owners have gone, nothing of them is left anywhere."""
        for member, who in list(self.cluster.people):
            self.die(member, who, False)
            self.hear()
        assert not self.asked
        self.settle()
        for node in self.cluster.nodes.values():
            assert not node.blocks and not node.copies and not node.guests
            assert not node.open_requests()
            assert not node.parties.waits


@pytest.mark.parametrize("eager", [1, 4, 16])
@pytest.mark.parametrize("idle", [0, 1, 10_000])
@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_granted_twice_lost_or_left_behind(
    seed: int, idle: int, eager: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clufs.dlm.seeking.IDLE_NAMES_KEPT", idle)
    make_eager(monkeypatch, eager)
    crowd = Crowd(seed)
    cluster = crowd.cluster
    for _ in range(150):
        if crowd.random.random() < 0.4:
            crowd.act()
        elif any(cluster.wires.values()):
            cluster.deliver()
        cluster.check()
        crowd.hear()
    crowd.settle()
    waiting = {
        lock.client
        for person in cluster.people.values()
        for lock in person.locks.values()
        if lock.wanted is not None
    }
    assert waiting == set(crowd.asked), "every request is answered or waits"
    crowd.end()
