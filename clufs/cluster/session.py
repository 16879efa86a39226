"""A reliable stream of messages to and from one member within a view, whatever connections do. Pure.

Within a view, between two incarnations: every message arrives once, in the order of sending, as long
as connections are made again and again. With a new view both directions start afresh; what was not
delivered in the view before is gone. A message belongs to the view in which it was sent: one of an
older view than that installed here is dropped, one of a newer is held until that view is installed.

Memory is bounded: SEND_WINDOW_BYTES unacknowledged, SEND_QUEUE_MAX_BYTES waiting, and the other end's
window held for a view to come. Beyond the second the session is `broken`: it delivers nothing more in
this view, and the member counts as silent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from clufs.cluster.frames import Batch
from clufs.errors import GarbageReceived
from clufs.limits import (
    BATCH_BYTES,
    FRAME_MAX_BYTES,
    MESSAGE_COST_BYTES,
    MESSAGE_MAX_BYTES,
    SEND_QUEUE_MAX_BYTES,
    SEND_WINDOW_BYTES,
)

HELD_MAX_BYTES = SEND_WINDOW_BYTES + FRAME_MAX_BYTES
ACK_AFTER_BYTES = SEND_WINDOW_BYTES // 4


@dataclass(slots=True)
class Tally:
    """What sessions count, for the metrics."""

    resent: int = 0
    duplicates: int = 0
    old_views: int = 0
    held: int = 0
    unsent: int = 0
    overruns: int = 0


@dataclass(slots=True)
class _Held:
    """What came of a view that is not installed here yet."""

    view: int
    messages: list[bytes] = field(default_factory=list)
    bytes: int = 0


class Session:
    """One member's stream, as this member sees it.

    view: the view installed here. member: the other's incarnation in it, None if it is not in it.
    caller: the incarnation at the other end of the last connection, None before the first.
    broken: why no more can be delivered in this view, or an empty string.
    ready: what was received in this view and is to be handled, oldest first.
    """

    __slots__ = (
        "_acknowledged", "_flying", "_held", "_in_flight", "_owed", "_queued", "_received", "_sent",
        "_top", "_waiting", "broken", "caller", "member", "ready", "tally", "view",
    )  # fmt: skip

    def __init__(self, tally: Tally | None = None) -> None:
        self.tally = tally if tally is not None else Tally()
        self.caller: int | None = None
        self._held: _Held | None = None
        self.ready: deque[bytes] = deque()
        self._flying: deque[bytes] = deque()  # messages _acknowledged + 1 to _sent
        self._waiting: deque[bytes] = deque()  # messages _sent + 1 and up
        self._reset(0, None)

    def _reset(self, view: int, member: int | None) -> None:
        self.view, self.member = view, member
        self.broken = ""
        self.ready.clear()
        self._flying.clear()
        self._waiting.clear()
        self._queued = self._in_flight = 0  # bytes of both; of _flying alone
        self._acknowledged = self._sent = 0  # numbers of messages; _sent: on this connection
        self._top = 0  # the highest number ever sent: up to it, sending is sending again
        self._received = self._owed = 0  # number of the last message; bytes not acknowledged yet

    # ---------------------------------------------------------- views and connections

    def install(self, view: int, member: int | None) -> None:
        """A view was installed here; `member` is the other's incarnation in it, None if it is out.

        What was held for this view is `ready` after it.
        """
        self._reset(view, member)
        held, self._held = self._held, None
        if held is None or held.view < view:
            return
        if held.view > view:
            self._held = held
        elif self.caller == member:
            self.ready.extend(held.messages)
            self._received = len(held.messages)
            self._owed = held.bytes

    def hello_numbers(self) -> tuple[int, int]:
        """Return what a Hello says of this session: view and received."""
        return self.view, self._received

    def connected(self, incarnation: int, view: int, received: int) -> None:
        """A connection is made; the other end's Hello said this.

        What it has not received is sent again. GarbageReceived: it claims what was never sent.
        """
        if incarnation == self.member and view == self.view and not self.broken:
            if not self._acknowledged <= received <= self._top:
                raise GarbageReceived(f"it has received {received} of {self._top} messages")
            self._acknowledge(received)
        if incarnation != self.caller:
            self._held = None
        self.caller = incarnation
        self._waiting.extendleft(reversed(self._flying))
        self._flying.clear()
        self._sent, self._in_flight = self._acknowledged, 0

    # ---------------------------------------------------------- sending

    @property
    def crowded(self) -> bool:
        """More is queued than the window lets go: who waits for this member shall wait, too."""
        return self._queued > SEND_WINDOW_BYTES

    def send(self, message: bytes) -> None:
        """Queue a message for the view installed here; to a member that is not in it, it is lost.

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
        """Deliver nothing more in this view, either way; memory is given back."""
        self.tally.unsent += len(self._flying) + len(self._waiting)
        for queue in (self._flying, self._waiting, self.ready):
            queue.clear()
        self._queued = self._in_flight = 0
        self.broken = why

    def next_batch(self) -> Batch | None:
        """Return what to send next on the connection, None if nothing may or need be sent now."""
        if self.caller != self.member or self.member is None or self.broken:
            return None
        messages = self._fitting() if self._waiting else []
        if not messages and self._owed < ACK_AFTER_BYTES:
            return None
        first = self._sent + 1
        self._sent += len(messages)
        self.tally.resent += max(0, min(self._sent, self._top) - first + 1)
        self._top = max(self._top, self._sent)
        self._owed = 0
        return Batch(self.view, first, self._received, messages)

    def acknowledgement(self) -> Batch:
        """Return a batch without messages: what keeps a connection alive."""
        self._owed = 0
        return Batch(self.view, self._sent + 1, self._received, [])

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
        """Forget messages up to `received`.

        After a reconnection that may be more than was sent on it: the other end held them for a view
        that it installed just now.
        """
        size = 0
        for _ in range(received - self._acknowledged):
            queue = self._flying or self._waiting
            size += len(queue.popleft()) + MESSAGE_COST_BYTES
        self._queued -= size
        self._in_flight = max(0, self._in_flight - size)
        self._acknowledged = received
        self._sent = max(self._sent, received)

    # ---------------------------------------------------------- receiving

    def receive(self, batch: Batch) -> None:
        """Take a batch in: what is new in it goes to `ready`, or is held for a view to come.

        GarbageReceived, and nothing changed: a gap, or an acknowledgement of what was never sent.
        """
        if batch.view > self.view:
            self._hold(batch)
        elif batch.view < self.view or self.caller != self.member or self.broken:
            self.tally.old_views += len(batch.messages)
        else:
            if not 0 <= batch.received <= self._top:
                raise GarbageReceived(f"message {batch.received} acknowledged, {self._top} sent")
            new = self._new(batch, self._received)
            if batch.received > self._acknowledged:
                self._acknowledge(batch.received)
            if new:
                self.ready.extend(new)
                self._received += len(new)
                self._owed += sum(map(len, new)) + MESSAGE_COST_BYTES * len(new)

    def _new(self, batch: Batch, received: int) -> list[bytes]:
        """Return the messages of a batch behind number `received`."""
        if not 1 <= batch.first <= received + 1:
            raise GarbageReceived(f"message {batch.first} after {received}")
        known = received + 1 - batch.first
        if not known:
            return batch.messages
        self.tally.duplicates += min(known, len(batch.messages))
        return batch.messages[known:]

    def _hold(self, batch: Batch) -> None:
        """Keep a batch of a view that is not installed here yet.

        The other end went from view to view: of those it has left nothing is worth keeping.
        """
        held = self._held
        if held is None or held.view < batch.view:
            held = _Held(batch.view)
        elif held.view > batch.view:
            raise GarbageReceived(f"view {batch.view} after {held.view}")
        new = self._new(batch, len(held.messages))
        size = held.bytes + sum(map(len, new)) + MESSAGE_COST_BYTES * len(new)
        if size > HELD_MAX_BYTES:
            raise GarbageReceived(f"{size} bytes unacknowledged in view {batch.view}")
        held.messages.extend(new)
        held.bytes = size
        self._held = held
        self.tally.held += len(new)
