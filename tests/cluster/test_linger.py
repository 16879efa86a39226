"""Waiting a moment longer past the event loop."""

import os
import socket
from collections.abc import Callable, Iterator

import pytest
import trio

from clufs.cluster import linger as module
from clufs.cluster.linger import Linger
from clufs.timeouts import LINGER_MAX_S


class Ends:
    """Two ends of a stream; what comes to one is read by the linger and kept."""

    def __init__(self, linger: Linger, then: Callable[[], object]) -> None:
        self.near, self.far = socket.socketpair()
        self.linger, self.then = linger, then
        self.got: list[bytes] = []
        linger.add(self.near.fileno(), self.read)

    def read(self) -> None:
        self.got.append(self.near.recv(100))
        self.then()

    def close(self) -> None:
        self.near.close()
        self.far.close()


Make = Callable[[Callable[[], object]], Ends]


@pytest.fixture
def linger(monkeypatch: pytest.MonkeyPatch) -> Linger:
    """Its clock stands still."""
    monkeypatch.setattr(module, "monotonic", lambda: 0.0)
    return Linger()


@pytest.fixture
def make(linger: Linger) -> Iterator[Make]:
    """Makes streams, with what is done after each reading."""
    made: list[Ends] = []

    def make(then: Callable[[], object] = lambda: None) -> Ends:
        made.append(Ends(linger, then))
        return made[-1]

    yield make
    for ends in made:
        ends.close()


@pytest.fixture
def requests(linger: Linger) -> Iterator[int]:
    """Where a request is written to; the other end is known to the linger."""
    out, into = os.pipe()
    linger.requests_from(out, lambda: True)
    yield into
    os.close(out)
    os.close(into)


def nothing() -> None:
    """After it was read."""


async def test_what_comes_is_read_and_so_is_what_comes_of_it(linger: Linger, make: Make) -> None:
    there = make(nothing)
    here = make(lambda: there.far.send(b"answer"))
    here.far.send(b"question")
    assert linger.stay() is False
    assert (here.got, there.got) == ([b"question"], [b"answer"])


async def test_a_request_ends_it(linger: Linger, make: Make, requests: int) -> None:
    ends = make(lambda: os.write(requests, b"x"))
    ends.far.send(b"grant")
    assert linger.stay() is True
    assert ends.got == [b"grant"]


async def test_alone_nobody_lingers(linger: Linger, requests: int) -> None:
    os.write(requests, b"x")
    assert linger.stay() is False


async def test_a_task_that_is_ready_comes_first(
    linger: Linger, make: Make, nursery: trio.Nursery
) -> None:
    ran = trio.Event()

    async def ready() -> None:
        ran.set()

    ends = make(lambda: nursery.start_soon(ready))
    await trio.lowlevel.checkpoint()
    ends.far.send(b"1")
    assert linger.stay() is False
    ends.far.send(b"2")
    assert linger.stay() is False
    assert ends.got == [b"1"]
    await ran.wait()
    ends.then = nothing
    assert linger.stay() is False
    assert ends.got == [b"1", b"2"]


async def test_traffic_without_end_leaves_the_others_their_turn(
    linger: Linger, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    linger.turned()

    def more() -> None:
        nonlocal now
        now += LINGER_MAX_S / 10
        ends.far.send(b"x")

    ends = make(more)
    more()
    for turns in (1, 2):
        assert linger.stay() is False
        assert linger.stay() is False
        assert len(ends.got) == pytest.approx(10 * turns, abs=turns)
        linger.turned()


async def test_a_descriptor_that_is_closed_is_forgotten_and_its_successor_is_not(
    linger: Linger, make: Make
) -> None:
    first = make(nothing)
    number = first.near.fileno()
    first.near.close()
    second = make(nothing)
    assert second.near.fileno() == number
    linger.remove(number, first.read)
    second.far.send(b"x")
    linger.stay()
    assert second.got == [b"x"]
    linger.remove(number, second.read)
    second.far.send(b"y")
    assert linger.stay() is False
    assert second.got == [b"x"]


async def test_traffic_is_waited_for_beyond_the_turns_of_others(
    linger: Linger,
    make: Make,
    requests: int,
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
) -> None:
    now, turns = 0.0, 0
    monkeypatch.setattr(module, "monotonic", lambda: now)

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    def more() -> None:
        nonlocal now
        now += LINGER_MAX_S
        if len(ends.got) < 5:
            ends.far.send(b"x")
        else:
            os.write(requests, b"x")

    nursery.start_soon(other)
    ends = make(more)
    ends.far.send(b"x")
    assert await linger.wait() is True
    assert len(ends.got) == 5
    assert turns >= 3
    nursery.cancel_scope.cancel()


async def test_one_task_lingers_at_a_time(linger: Linger, make: Make) -> None:
    answers = []

    def second() -> None:
        with pytest.raises(StopIteration) as ended:
            linger.wait().send(None)
        answers.append(ended.value.value)

    ends = make(second)
    ends.far.send(b"x")
    assert await linger.wait() is False
    assert answers == [False]
    assert ends.got == [b"x"]


async def test_who_does_not_linger_any_more_counts_no_tasks(linger: Linger, make: Make) -> None:
    ends = make(nothing)
    for _ in range(2):
        ends.far.send(b"x")
        assert await linger.wait() is False
        for _ in range(module._STEPS_COUNTED + 1):
            await trio.lowlevel.checkpoint()
        with pytest.raises(KeyError):
            trio.lowlevel.remove_instrument(linger)
    assert ends.got == [b"x", b"x"]


async def test_requests_that_are_served_at_once_end_nothing(linger: Linger, make: Make) -> None:
    ends = make(nothing)
    out, into = socket.socketpair()
    with out, into:

        def serve() -> bool:
            ends.far.send(out.recv(1))
            return False

        linger.requests_from(out.fileno(), serve)
        into.send(b"x")
        assert linger.stay() is False
    assert ends.got == [b"x"]
