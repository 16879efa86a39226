"""Sessions: nothing lost, doubled or reordered between two incarnations, whatever connections and views do."""

import random
from collections import defaultdict, deque

import pytest

from clufs.cluster.frames import Batch
from clufs.cluster.session import Session
from clufs.errors import GarbageReceived
from clufs.limits import (
    MESSAGE_COST_BYTES,
    MESSAGE_MAX_BYTES,
    SEND_QUEUE_MAX_BYTES,
    SEND_WINDOW_BYTES,
)

LIVES = (10, 20)


def connect(ends: tuple[Session, Session], lives: tuple[int, int] = LIVES) -> None:
    """Make a connection between the two, as their hellos would."""
    hellos = [end.hello_numbers() for end in ends]
    for here in (0, 1):
        ends[here].connected(lives[1 - here], *hellos[1 - here])


def pair() -> tuple[Session, Session]:
    """Two ends, connected, in one view."""
    ends = Session(LIVES[0]), Session(LIVES[1])
    for here in (0, 1):
        ends[here].install(LIVES[1 - here])
    connect(ends)
    for here in (0, 1):
        carry(ends[here], ends[1 - here])
    return ends


def carry(source: Session, target: Session) -> None:
    """Everything that may be sent arrives."""
    while (batch := source.next_batch()) is not None:
        target.receive(batch)


def taken(session: Session) -> list[bytes]:
    found = list(session.ready)
    session.ready.clear()
    return found


class Story:
    """Two members that restart, a connection that is cut anywhere, and views of one or both.

    A view has the lives of the moment. Each end installs those that it is in, when it likes, and a
    life that was left out of one is in no later one.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lives = [10, 20]
        self.ends = [Session(10), Session(20)]
        self.way: tuple[deque[Batch], deque[Batch]] = deque(), deque()  # to the other end of each
        self.up = False
        self.views: list[list[int | None]] = []
        self.installed = [0, 0]  # how many of the views each end has gone past
        self.seen: set[int] = set()
        self.count = 0
        # By the two lives, sender first: what was sent, and how much of that has arrived.
        self.sent: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        self.arrived: dict[tuple[int, int], int] = defaultdict(int)

    def step(self) -> None:
        deeds = (self.send, self.flush, self.deliver, self.install, self.keep_alive, self.disturb)
        (deed,) = self.random.choices(deeds, (6, 6, 8, 2, 1, 1))
        deed(self.random.randint(0, 1))
        assert not any(session.broken for session in self.ends)

    def disturb(self, here: int) -> None:
        deeds = (self.form, self.cut, self.connect, self.restart)
        (deed,) = self.random.choices(deeds, (4, 2, 6, 0.3))
        deed(here)

    def send(self, here: int) -> None:
        other = self.ends[here].member
        if other is None:
            return
        self.count += 1
        size = self.random.choice((0, 5, 70_000, 300_000)) if self.random.random() < 0.2 else 9
        message = self.count.to_bytes(4, "big") + bytes(size)
        self.ends[here].send(message)
        self.sent[self.lives[here], other].append(message)

    def flush(self, here: int) -> None:
        if self.up and (batch := self.ends[here].next_batch()) is not None:
            self.way[here].append(batch)

    def keep_alive(self, here: int) -> None:
        if self.up:
            self.way[here].append(self.ends[here].acknowledgement())

    def deliver(self, here: int) -> None:
        if self.way[here]:
            self.ends[1 - here].receive(self.way[here].popleft())
            self.check(1 - here)

    def cut(self, _: int = 0) -> None:
        self.up = False
        for way in self.way:
            way.clear()

    def connect(self, _: int = 0) -> None:
        if not self.up:
            connect((self.ends[0], self.ends[1]), (self.lives[0], self.lives[1]))
            self.up = True

    def restart(self, here: int) -> None:
        self.cut()
        self.lives[here] += 1
        self.ends[here] = Session(self.lives[here])
        self.installed[here] = len(self.views)

    def form(self, here: int) -> None:
        without = here if self.random.random() < 0.05 else None
        last = self.views[-1] if self.views else []
        lives: list[int | None] = [
            None if at == without or (life in self.seen and life not in last) else life
            for at, life in enumerate(self.lives)
        ]
        self.seen |= {life for life in lives if life is not None}
        self.views.append(lives)

    def install(self, here: int) -> None:
        if self.installed[here] < len(self.views):
            view = self.views[self.installed[here]]
            self.installed[here] += 1
            if view[here] == self.lives[here]:
                self.ends[here].install(view[1 - here])
                self.check(here)

    def check(self, here: int) -> None:
        """What is ready continues what has arrived of the other end, without a gap."""
        found = taken(self.ends[here])
        member = self.ends[here].member
        assert not found or member is not None
        key = member or 0, self.lives[here]
        start = self.arrived[key]
        assert found == self.sent[key][start : start + len(found)]
        self.arrived[key] = start + len(found)

    def end(self) -> None:
        """With a connection that lasts, all has arrived between two lives that are in all views."""
        for here in (0, 1):
            while self.installed[here] < len(self.views):
                self.install(here)
        self.cut()
        self.connect()
        for _ in range(50):
            for here in (0, 1):
                carry(self.ends[here], self.ends[1 - here])
                self.check(1 - here)
        if all(self.ends[here].member == self.lives[1 - here] for here in (0, 1)):
            for here in (0, 1):
                key = self.lives[here], self.lives[1 - here]
                assert self.arrived[key] == len(self.sent[key])


def test_every_message_arrives_once_and_in_order() -> None:
    arrived = 0
    for seed in range(300):
        story = Story(seed)
        story.form(0)
        for _ in range(300):
            story.step()
        story.end()
        arrived += sum(story.arrived.values())
    assert arrived > 10_000


def test_several_messages_go_in_one_batch() -> None:
    a, b = pair()
    for number in range(100):
        a.send(b"%d" % number)
    batch = a.next_batch()
    assert batch is not None
    assert batch.messages == [b"%d" % number for number in range(100)]
    assert a.next_batch() is None
    b.receive(batch)
    assert taken(b) == batch.messages


def test_an_acknowledgement_rides_on_the_answer() -> None:
    a, b = pair()
    a.send(b"question")
    carry(a, b)
    assert b.next_batch() is None
    b.send(b"answer")
    assert b.next_batch() == Batch(True, 1, 1, [b"answer"])


def test_the_window_stops_the_sender_and_crowds_it() -> None:
    a, b = pair()
    size = SEND_WINDOW_BYTES // 8
    for _ in range(20):
        a.send(bytes(size))
    assert a.crowded is True
    batches = []
    while (batch := a.next_batch()) is not None:
        batches.append(batch)
    assert 8 <= len(batches) <= 9
    for batch in batches:
        b.receive(batch)
    a.receive(b.acknowledgement())
    carry(a, b)
    a.receive(b.acknowledgement())
    carry(a, b)
    a.receive(b.acknowledgement())
    crowded: bool = a.crowded
    assert (crowded, a.next_batch()) == (False, None)
    assert len(taken(b)) == 20


@pytest.mark.parametrize("size", [0, 100, 5000, 200_000, MESSAGE_MAX_BYTES])
def test_one_way_traffic_never_waits_for_a_keepalive(size: int) -> None:
    a, b = pair()
    for number in range(2 * SEND_WINDOW_BYTES // (size + MESSAGE_COST_BYTES) + 2):
        a.send(bytes(number % 7))
        a.send(bytes(size))
    while a.crowded:
        before = a._queued
        carry(a, b)
        carry(b, a)
        assert a._queued < before


def test_too_much_for_one_member_breaks_its_session_until_it_is_another_incarnation() -> None:
    a, b = pair()
    while not a.tally.overruns:
        a.send(bytes(MESSAGE_MAX_BYTES))
    assert a.broken
    assert a.tally.unsent >= SEND_QUEUE_MAX_BYTES // MESSAGE_MAX_BYTES
    assert a.next_batch() is None
    assert not a.crowded
    b.send(b"in vain")
    carry(b, a)
    assert taken(a) == []
    connect((a, b))
    a.install(20)
    assert a.broken
    successor = Session(21)
    assert a.install(21) and successor.install(10)
    connect((a, successor), (10, 21))
    carry(successor, a)
    a.send(b"anew")
    carry(a, successor)
    assert taken(successor) == [b"anew"]


def test_a_message_beyond_the_limit_is_a_mistake_of_the_caller() -> None:
    a, _ = pair()
    with pytest.raises(ValueError, match="at most"):
        a.send(bytes(MESSAGE_MAX_BYTES + 1))


def test_to_a_member_out_of_the_view_nothing_goes() -> None:
    a, _ = pair()
    a.install(None)
    a.send(b"lost")
    assert a.tally.unsent == 1
    assert a.next_batch() == Batch(False, 1, 0, [])
    assert a.next_batch() is None


def test_another_incarnation_is_not_the_member() -> None:
    a, _ = pair()
    a.send(b"for the old one")
    successor = Session(21)
    successor.install(10)
    connect((a, successor), (10, 21))
    successor.send(b"from the new one")
    carry(successor, a)
    carry(a, successor)
    assert (taken(a), taken(successor), a.tally.dismissed) == ([], [], 0)
    a.install(21)
    carry(a, successor)
    carry(successor, a)
    assert taken(a) == [b"from the new one"]


def test_a_view_that_keeps_both_changes_nothing() -> None:
    a, b = pair()
    a.send(b"one")
    assert not b.install(10)
    carry(a, b)
    a.send(b"two")
    assert not a.install(20)
    carry(a, b)
    assert taken(b) == [b"one", b"two"]
    assert (a.next_batch(), b.acknowledgement()) == (None, Batch(True, 1, 2, []))


def test_messages_wait_until_the_other_end_has_the_view() -> None:
    a, b = Session(10), Session(20)
    a.install(20)
    connect((a, b))
    a.send(b"early")
    assert a.next_batch() == Batch(True, 1, 0, [])
    assert a.next_batch() is None
    b.install(10)
    carry(b, a)
    carry(a, b)
    assert taken(b) == [b"early"]


def test_what_a_dropped_member_still_sends_is_dismissed() -> None:
    a, b = pair()
    a.send(b"under way")
    b.install(None)
    carry(a, b)
    assert (taken(b), b.tally.dismissed) == ([], 1)
    carry(b, a)
    a.send(b"never leaves")
    assert a.next_batch() is None
    connect((a, b))
    assert a.next_batch() == Batch(True, 1, 0, [])
    assert a.next_batch() is None


def test_a_duplicate_is_dropped_and_counted() -> None:
    a, b = pair()
    a.send(b"once")
    batch = a.next_batch()
    assert batch is not None
    b.receive(batch)
    b.receive(batch)
    assert taken(b) == [b"once"]
    assert b.tally.duplicates == 1


def test_what_was_sent_twice_is_counted() -> None:
    a, b = pair()
    for _ in range(3):
        a.send(b"x")
    carry(a, b)
    taken(b)
    a.connected(20, 10, 1)
    a.send(b"new")
    batch = a.next_batch()
    assert batch is not None
    assert (batch.first, len(batch.messages)) == (2, 3)
    assert a.tally.resent == 2


@pytest.mark.parametrize(
    "batch",
    [
        Batch(True, 3, 0, [b"a gap"]),
        Batch(True, 0, 0, [b"no number"]),
        Batch(True, -5, 0, [b"no number"]),
        Batch(True, 2, 1, []),
        Batch(True, 2, -1, []),
    ],
)
def test_the_impossible_changes_nothing(batch: Batch) -> None:
    a, b = pair()
    b.send(b"first")
    carry(b, a)
    with pytest.raises(GarbageReceived):
        a.receive(batch)
    assert taken(a) == [b"first"]
    b.send(b"second")
    carry(b, a)
    assert taken(a) == [b"second"]


@pytest.mark.parametrize("received", [3, 9])
def test_a_hello_that_has_received_what_was_never_sent(received: int) -> None:
    a, b = pair()
    a.send(b"x")
    carry(a, b)
    with pytest.raises(GarbageReceived):
        a.connected(20, 10, received)
