"""Sessions: nothing lost, doubled or reordered within a view, whatever connections and views do."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clufs.cluster.frames import Batch
from clufs.cluster.session import HELD_MAX_BYTES, Session
from clufs.errors import GarbageReceived
from clufs.limits import (
    MESSAGE_COST_BYTES,
    MESSAGE_MAX_BYTES,
    SEND_QUEUE_MAX_BYTES,
    SEND_WINDOW_BYTES,
)

INCARNATIONS = (10, 20)


def connect(ends: tuple[Session, Session]) -> None:
    """Make a connection between the two, as their hellos would."""
    hellos = [end.hello_numbers() for end in ends]
    for here in (0, 1):
        ends[here].connected(INCARNATIONS[1 - here], *hellos[1 - here])


def pair(view: int = 1) -> tuple[Session, Session]:
    """Two ends, connected, in one view."""
    ends = Session(), Session()
    for here in (0, 1):
        ends[here].install(view, INCARNATIONS[1 - here])
    connect(ends)
    return ends


def carry(source: Session, target: Session) -> None:
    """Everything that may be sent arrives."""
    while (batch := source.next_batch()) is not None:
        target.receive(batch)


def taken(session: Session) -> list[bytes]:
    found = list(session.ready)
    session.ready.clear()
    return found


class Streams(RuleBasedStateMachine):
    """Two ends, a connection with frames under way that is cut anywhere, and views."""

    @initialize()
    def begin(self) -> None:
        self.ends = Session(), Session()
        self.way: tuple[deque[Batch], deque[Batch]] = deque(), deque()  # to the other end of each
        self.up = False
        self.next_view = 1
        self.count = 0
        # By sender and view: what was sent, and how much of that has arrived.
        self.sent: dict[tuple[int, int], list[bytes]] = {}
        self.arrived: dict[tuple[int, int], int] = {}

    @rule(here=st.integers(0, 1), size=st.sampled_from([0, 5, 70_000, 300_000]))
    def send(self, here: int, size: int) -> None:
        if self.ends[here].member is None:
            return
        self.count += 1
        message = self.count.to_bytes(4, "big") + bytes(size)
        self.ends[here].send(message)
        self.sent.setdefault((here, self.ends[here].view), []).append(message)

    @precondition(lambda self: self.up)
    @rule(here=st.integers(0, 1))
    def flush(self, here: int) -> None:
        if (batch := self.ends[here].next_batch()) is not None:
            self.way[here].append(batch)

    @precondition(lambda self: self.up)
    @rule(here=st.integers(0, 1))
    def keep_alive(self, here: int) -> None:
        self.way[here].append(self.ends[here].acknowledgement())

    @rule(here=st.integers(0, 1))
    def deliver(self, here: int) -> None:
        if self.way[here]:
            self.ends[1 - here].receive(self.way[here].popleft())
            self.check(1 - here)

    @precondition(lambda self: self.up)
    @rule()
    def cut(self) -> None:
        self.up = False
        for way in self.way:
            way.clear()

    @precondition(lambda self: not self.up)
    @rule()
    def connect(self) -> None:
        connect(self.ends)
        self.up = True

    @rule(here=st.integers(0, 1), skip=st.integers(0, 1))
    def install(self, here: int, skip: int) -> None:
        """One end installs a view before or after the other, or goes over one that the other sees."""
        session, other = self.ends[here], self.ends[1 - here]
        view = max(session.view + 1, min(other.view, self.next_view)) + skip
        self.next_view = max(self.next_view, view)
        session.install(view, INCARNATIONS[1 - here])
        self.check(here)

    def check(self, here: int) -> None:
        """What is ready continues what has arrived of the other end in this view, without a gap."""
        key = 1 - here, self.ends[here].view
        start = self.arrived.get(key, 0)
        found = taken(self.ends[here])
        assert found == self.sent.get(key, [])[start : start + len(found)]
        self.arrived[key] = start + len(found)

    @invariant()
    def nothing_is_broken(self) -> None:
        assert not any(session.broken for session in getattr(self, "ends", ()))

    def teardown(self) -> None:
        """With a connection that lasts and one view, all of that view has arrived."""
        view = max(session.view for session in self.ends)
        for here in (0, 1):
            if self.ends[here].view < view:
                self.ends[here].install(view, INCARNATIONS[1 - here])
                self.check(here)
        self.cut()
        connect(self.ends)
        for _ in range(50):
            for here in (0, 1):
                carry(self.ends[here], self.ends[1 - here])
                self.check(1 - here)
        for (here, in_view), messages in self.sent.items():
            if in_view == view:
                assert self.arrived.get((here, view), 0) == len(messages)


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


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
    assert b.next_batch() == Batch(1, 1, 1, [b"answer"])


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


def test_too_much_for_one_member_breaks_its_session_until_the_next_view() -> None:
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
    for session, other in ((a, 20), (b, 10)):
        session.install(2, other)
    a.send(b"anew")
    carry(a, b)
    assert taken(b) == [b"anew"]


def test_a_message_beyond_the_limit_is_a_mistake_of_the_caller() -> None:
    a, _ = pair()
    with pytest.raises(ValueError, match="at most"):
        a.send(bytes(MESSAGE_MAX_BYTES + 1))


def test_to_a_member_out_of_the_view_nothing_goes() -> None:
    a, _ = pair()
    a.install(2, None)
    a.send(b"lost")
    assert a.tally.unsent == 1
    assert a.next_batch() is None


def test_another_incarnation_is_not_the_member() -> None:
    a, b = pair()
    a.send(b"for the old one")
    a.connected(21, 0, 0)
    assert a.next_batch() is None
    a.receive(Batch(1, 1, 0, [b"from the new one"]))
    assert taken(a) == []
    a.receive(Batch(2, 1, 0, [b"held"]))
    a.install(2, 21)
    assert taken(a) == [b"held"]
    assert b.tally.duplicates == 0


def test_what_another_incarnation_left_to_be_held_is_gone() -> None:
    a, _ = pair()
    a.receive(Batch(2, 1, 0, [b"of 20"]))
    a.connected(21, 2, 0)
    a.install(2, 21)
    assert taken(a) == []


def test_views_older_dropped_newer_held() -> None:
    a, b = pair()
    a.send(b"one")
    b.install(2, 10)
    carry(a, b)
    assert taken(b) == []
    assert b.tally.old_views == 1
    b.send(b"two")
    carry(b, a)
    assert taken(a) == []
    assert a.tally.held == 1
    a.install(2, 20)
    assert taken(a) == [b"two"]
    assert a.next_batch() is None
    assert a.acknowledgement() == Batch(2, 1, 1, [])


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
    a.connected(20, 1, 1)
    a.send(b"new")
    batch = a.next_batch()
    assert batch is not None
    assert (batch.first, len(batch.messages)) == (2, 3)
    assert a.tally.resent == 2


@pytest.mark.parametrize(
    "batch",
    [
        Batch(1, 3, 0, [b"a gap"]),
        Batch(1, 0, 0, [b"no number"]),
        Batch(1, -5, 0, [b"no number"]),
        Batch(1, 2, 1, []),
        Batch(1, 2, -1, []),
        Batch(2, 2, 0, [b"a gap in a view to come"]),
        Batch(2, 1, 0, [bytes(HELD_MAX_BYTES)]),
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


def test_going_back_to_a_view_is_impossible() -> None:
    a, _ = pair()
    a.receive(Batch(3, 1, 0, [b"three"]))
    with pytest.raises(GarbageReceived, match="view 2 after 3"):
        a.receive(Batch(2, 1, 0, [b"two"]))
    a.install(3, 20)
    assert taken(a) == [b"three"]


@pytest.mark.parametrize("received", [3, 9])
def test_a_hello_that_has_received_what_was_never_sent(received: int) -> None:
    a, b = pair()
    a.send(b"x")
    carry(a, b)
    with pytest.raises(GarbageReceived):
        a.connected(20, 1, received)
