"""A reliable stream of messages to and from one member, whatever connections and views do. Pure.

A session lasts as long as the views installed at both ends name the same two incarnations: every
message arrives once, in the order of sending, as long as connections are made again and again. A
view without one of them, or with another incarnation in its place, ends it: what was not delivered
is gone. A life that a view dropped is in no later one (formation sees to that), so no session comes
back with other numbers.

Both ends install views at moments of their own. Each says on the connection whether its view has the
other; messages are sent once it has, so that nobody has to keep what it cannot deliver yet.

Memory is bounded: SEND_WINDOW_BYTES unacknowledged, SEND_QUEUE_MAX_BYTES waiting. Beyond the second the
session is `broken`: it delivers nothing more to this incarnation, and the member counts as silent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from clufs.cluster.frames import Batch
from clufs.errors import GarbageReceived
from clufs.limits import (
    BATCH_BYTES,
    MESSAGE_COST_BYTES,
    MESSAGE_MAX_BYTES,
    SEND_QUEUE_MAX_BYTES,
    SEND_WINDOW_BYTES,
)

ACK_AFTER_BYTES = SEND_WINDOW_BYTES // 4


@dataclass(slots=True)
class Tally:
    """What sessions count, for the metrics. dismissed: messages of a member that a view dropped."""

    resent: int = 0
    duplicates: int = 0
    dismissed: int = 0
    unsent: int = 0
    overruns: int = 0


class Session:
    """One member's stream, as this member sees it.

    member: the other's incarnation in the view installed here, None if it is not in it.
    caller: the incarnation at the other end of the last connection, None before the first.
    broken: why no more can be delivered of this incarnation, or an empty string.
    ready: what was received and is to be handled, oldest first.
    """

    __slots__ = (
        "_acknowledged", "_flying", "_in_flight", "_incarnation", "_owed", "_queued", "_received",
        "_sent", "_top", "_unsaid", "_waiting", "_welcome", "broken", "caller", "member", "ready",
        "tally",
    )  # fmt: skip

    def __init__(self, incarnation: int, tally: Tally | None = None) -> None:
        """incarnation: this member's own."""
        self._incarnation = incarnation
        self.tally = tally if tally is not None else Tally()
        self.caller: int | None = None
        self._welcome = False  # the other end has said that its view has this incarnation
        self._unsaid = False  # whether the view here has the other is not said on this connection
        self.ready: deque[bytes] = deque()
        self._flying: deque[bytes] = deque()  # messages _acknowledged + 1 to _sent
        self._waiting: deque[bytes] = deque()  # messages _sent + 1 and up
        self._reset(None)

    def _reset(self, member: int | None) -> None:
        self.member = member
        self.broken = ""
        self.ready.clear()
        self._flying.clear()
        self._waiting.clear()
        self._queued = self._in_flight = 0  # bytes of both; of _flying alone
        self._acknowledged = self._sent = 0  # numbers of messages; _sent: on this connection
        self._top = 0  # the highest number ever sent: up to it, sending is sending again
        self._received = self._owed = 0  # number of the last message; bytes not acknowledged yet

    # ---------------------------------------------------------- views and connections

    def install(self, member: int | None) -> bool:
        """A view was installed here; `member` is the other's incarnation in it, None if it is out.

        The same incarnation as before: nothing changes. Returns whether the session began anew.
        """
        if member == self.member:
            return False
        self._reset(member)
        self._unsaid = True
        return True

    def hello_numbers(self) -> tuple[int, int]:
        """Return what a Hello says of this session: peer and received."""
        return self.member or 0, self._received

    def connected(self, incarnation: int, peer: int, received: int) -> None:
        """A connection is made; the other end's Hello said this.

        What it has not received is sent again. GarbageReceived: it claims what was never sent.
        """
        welcome = peer == self._incarnation
        if welcome and incarnation == self.member and not self.broken:
            if not self._acknowledged <= received <= self._top:
                raise GarbageReceived(f"it has received {received} of {self._top} messages")
            self._acknowledge(received)
        self.caller, self._welcome, self._unsaid = incarnation, welcome, True
        self._waiting.extendleft(reversed(self._flying))
        self._flying.clear()
        self._sent, self._in_flight = self._acknowledged, 0

    @property
    def _together(self) -> bool:
        """The view installed here has the incarnation at the other end."""
        return self.member is not None and self.caller == self.member

    # ---------------------------------------------------------- sending

    @property
    def crowded(self) -> bool:
        """More is queued than the window lets go: who waits for this member shall wait, too."""
        return self._queued > SEND_WINDOW_BYTES

    def send(self, message: bytes) -> None:
        """Queue a message; to a member that is not in the view installed here, it is lost.

        ValueError: longer than MESSAGE_MAX_BYTES.
        """
        if len(message) > MESSAGE_MAX_BYTES:
            raise ValueError(
                f"a message of {len(message)} bytes, at most {MESSAGE_MAX_BYTES} may be"
            )
        if self.member is None or self.broken:
            self.tally.unsent += 1
            return
        self._waiting.append(message)
        self._queued += len(message) + MESSAGE_COST_BYTES
        if self._queued > SEND_QUEUE_MAX_BYTES:
            self.tally.overruns += 1
            self.give_up("it takes nothing, and too much waits for it")

    def give_up(self, why: str) -> None:
        """Deliver nothing more to or of this incarnation; memory is given back."""
        self.tally.unsent += len(self._flying) + len(self._waiting)
        for queue in (self._flying, self._waiting, self.ready):
            queue.clear()
        self._queued = self._in_flight = 0
        self.broken = why

    def next_batch(self) -> Batch | None:
        """Return what to send next on the connection, None if nothing may or need be sent now."""
        messages: list[bytes] = []
        if self._waiting and self._welcome and self._together:
            messages = self._fitting()
        if not messages and self._owed < ACK_AFTER_BYTES and not self._unsaid:
            return None
        first = self._sent + 1
        self._sent = sent = self._sent + len(messages)
        if first <= self._top:
            self.tally.resent += min(sent, self._top) - first + 1
        if sent > self._top:
            self._top = sent
        return self._batch(first, messages)

    @property
    def has_more(self) -> bool:
        """Whether messages wait that `next_batch` has not returned: then it may return another."""
        return bool(self._waiting)

    def acknowledgement(self) -> Batch:
        """Return a batch without messages: what keeps a connection alive."""
        return self._batch(self._sent + 1, [])

    def _batch(self, first: int, messages: list[bytes]) -> Batch:
        self._owed = 0
        self._unsaid = False
        if not self._together:
            return Batch(False, 1, 0, [])
        return Batch(True, first, self._received, messages)

    def _fitting(self) -> list[bytes]:
        """Move messages from waiting to flying, for one frame and as the window allows."""
        found: list[bytes] = []
        waiting = self._waiting
        size = 0
        while waiting:
            cost = len(waiting[0]) + MESSAGE_COST_BYTES
            if found and size + cost > BATCH_BYTES:
                break
            # What is below the window may grow beyond it by one message: a large one must not wait
            # for an acknowledgement that is sent after ACK_AFTER_BYTES only.
            if self._in_flight >= SEND_WINDOW_BYTES:
                break
            found.append(waiting.popleft())
            size += cost
            self._in_flight += cost
        self._flying.extend(found)
        return found

    def _acknowledge(self, received: int) -> None:
        """Forget messages up to `received`."""
        size = 0
        flying, waiting = self._flying, self._waiting
        for _ in range(received - self._acknowledged):
            size += len((flying or waiting).popleft()) + MESSAGE_COST_BYTES
        self._queued -= size
        self._in_flight = self._in_flight - size if self._in_flight > size else 0
        self._acknowledged = received
        if received > self._sent:
            self._sent = received

    # ---------------------------------------------------------- receiving

    def receive(self, batch: Batch) -> None:
        """Take a batch in: what is new in it goes to `ready`.

        GarbageReceived, and nothing changed: a gap, or an acknowledgement of what was never sent.
        """
        if batch.member and self._together and not self.broken:
            self._take(batch)
        else:
            self.tally.dismissed += len(batch.messages)
        self._welcome = batch.member

    def _take(self, batch: Batch) -> None:
        if not 0 <= batch.received <= self._top:
            raise GarbageReceived(f"message {batch.received} acknowledged, {self._top} sent")
        new = self._new(batch)
        if batch.received > self._acknowledged:
            self._acknowledge(batch.received)
        if new:
            self.ready.extend(new)
            self._received += len(new)
            for message in new:
                self._owed += len(message) + MESSAGE_COST_BYTES

    def _new(self, batch: Batch) -> list[bytes]:
        """Return the messages of a batch that are not known yet."""
        if not 1 <= batch.first <= self._received + 1:
            raise GarbageReceived(f"message {batch.first} after {self._received}")
        known = self._received + 1 - batch.first
        if not known:
            return batch.messages
        self.tally.duplicates += min(known, len(batch.messages))
        return batch.messages[known:]
