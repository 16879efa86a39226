"""The wires between machines, and the FIFO streams between two lives that run over them.

A stream loses nothing and doubles nothing while both of its lives last: a cut or a stalled link
only makes it late. When a life ends, an end of what it had sent never arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from clufs.dlm.interface import Life
from tests.sim.clock import Clock


class Network:
    """Which machine hears which, and how late.

    cut: (sender, receiver) pairs that are severed now, one way each.
    """

    def __init__(
        self, clock: Clock, latency: float, jitter: float, below: Network | None = None
    ) -> None:
        """below: the network that this one runs over; a cut there is one here."""
        self.clock, self.below = clock, below
        self.latency, self.jitter = latency, jitter
        self.cut: set[tuple[str, str]] = set()
        self.slow: dict[tuple[str, str], float] = {}
        self.healed: list[Callable[[], None]] = []

    def hears(self, sender: str, receiver: str) -> bool:
        if (sender, receiver) in self.cut:
            return False
        return self.below is None or self.below.hears(sender, receiver)

    def delay(self, sender: str, receiver: str) -> float:
        slow = self.slow if self.below is None else self.below.slow
        extra = slow.get((sender, receiver), 0.0)
        return self.latency + extra + self.clock.random.random() * self.jitter

    def sever(self, sender: str, receiver: str) -> None:
        self.cut.add((sender, receiver))

    def mend(self, pairs: list[tuple[str, str]]) -> None:
        self.cut.difference_update(pairs)
        for told in self.healed:
            told()

    def heal(self) -> None:
        self.cut.clear()
        self.slow.clear()
        for told in self.healed:
            told()


class Stream:
    """What one life has sent to another and has not arrived yet."""

    __slots__ = ("due", "queue", "receiver", "sender", "waits")

    def __init__(self, sender: Life, receiver: Life) -> None:
        self.sender, self.receiver = sender, receiver
        self.queue: deque[tuple[float, Any]] = deque()
        self.due = 0.0
        self.waits = False  # a pump is scheduled


class Streams:
    """All streams.

    takes(receiver, sender): it reads now. arrive(receiver, sender, message): it has read this.
    """

    def __init__(
        self,
        network: Network,
        takes: Callable[[Life, Life], bool],
        arrive: Callable[[Life, Life, Any], None],
    ) -> None:
        self.network = network
        self.clock = network.clock
        self.takes, self.arrive = takes, arrive
        self.streams: dict[tuple[Life, Life], Stream] = {}
        self.sent = 0
        network.healed.append(self.pump_all)
        if network.below is not None:
            network.below.healed.append(self.pump_all)

    def send(self, sender: Life, receiver: Life, message: Any) -> None:
        stream = self.streams.get((sender, receiver))
        if stream is None:
            stream = self.streams[sender, receiver] = Stream(sender, receiver)
        delay = self.network.delay(sender.member, receiver.member)
        stream.due = max(stream.due, self.clock.now + delay)
        stream.queue.append((stream.due, message))
        self.sent += 1
        self._schedule(stream)

    def _schedule(self, stream: Stream) -> None:
        if stream.queue and not stream.waits:
            stream.waits = True
            self.clock.after(max(0.0, stream.queue[0][0] - self.clock.now), self._pump, stream)

    def _pump(self, stream: Stream) -> None:
        stream.waits = False
        if self.streams.get((stream.sender, stream.receiver)) is not stream or not stream.queue:
            return
        if not self.network.hears(stream.sender.member, stream.receiver.member):
            return  # pump_all comes when it is healed
        if not self.takes(stream.receiver, stream.sender):
            return  # and when it has woken
        _, message = stream.queue.popleft()
        self.arrive(stream.receiver, stream.sender, message)
        self._schedule(stream)

    def pump_all(self) -> None:
        """Links or receivers may take again what they did not take before."""
        for stream in list(self.streams.values()):
            self._schedule(stream)

    def begun(self, life: Life) -> None:
        """A life listens."""

    def installed(self, life: Life, lives: tuple[Life, ...], gone: list[Life]) -> None:
        """A view is installed there, of these lives; those others were in the one before."""
        for other in gone:
            self.close(life, other)
        self.pump_all()

    def close(self, one: Life, other: Life) -> None:
        """`one` has left `other` behind: nothing of it is let in, nothing more goes out to it."""
        self.streams.pop((other, one), None)
        if stream := self.streams.get((one, other)):
            self._tear(stream)

    def _tear(self, stream: Stream) -> None:
        for _ in range(self.clock.random.randint(0, len(stream.queue))):
            stream.queue.pop()

    def ended(self, life: Life) -> None:
        """The life is over: nothing arrives there; of what it had sent an end is lost."""
        for key, stream in list(self.streams.items()):
            if key[1] == life:
                del self.streams[key]
            elif key[0] == life:
                self._tear(stream)

    def quiet(self) -> bool:
        return not any(stream.queue for stream in self.streams.values())
