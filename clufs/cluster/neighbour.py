"""One other member as the mesh sees it: its session, its connection, when it was last heard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field

import trio

from clufs.cluster.frames import Batch, Cutter, Hello, Refusal, pack
from clufs.cluster.interface import Peer
from clufs.cluster.linger import Linger
from clufs.cluster.link import Link
from clufs.cluster.session import Session, Tally
from clufs.errors import GarbageReceived, PeerError, TornStream
from clufs.limits import BATCH_BYTES
from clufs.timeouts import KEEPALIVE_S, LINK_SILENT_S

Handler = Callable[[int, bytes], None]
"""Called with a peer's id and a message. A PeerError from it: the message cannot be understood."""


@dataclass(slots=True)
class Counters(Tally):
    """What the mesh counts since it started, for /clu/status/metrics.

    strangers, wrong_names, old_versions, other_clusters, garbage, torn: connections refused or
    dropped for that. unreachable: attempts that reached nobody. silent: dropped because nothing came
    for LINK_SILENT_S. turned_away: not even looked at, because too many were being made.
    connections: those that reached the first message.
    """

    strangers: int = 0
    wrong_names: int = 0
    old_versions: int = 0
    other_clusters: int = 0
    garbage: int = 0
    torn: int = 0
    unreachable: int = 0
    silent: int = 0
    turned_away: int = 0
    connections: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def refused(self, error: PeerError) -> None:
        """Count a connection that ended with `error`."""
        setattr(self, error.counter, getattr(self, error.counter) + 1)


class Outbox:
    """The neighbours for whom something is queued; `wake` tells the task that flushes.

    held: whoever holds it flushes before the next task switch, so that nobody needs to be woken,
    and what one event gives rise to leaves in one write.
    linger: where all of them are waited for when something has just come.
    """

    __slots__ = ("_touched", "held", "linger", "wake")

    def __init__(self, linger: Linger) -> None:
        self.linger = linger
        self._touched: dict[Neighbour, None] = {}
        self.wake = trio.Event()
        self.held = False

    def touch(self, neighbour: Neighbour) -> None:
        """Something is queued for `neighbour`, or ready to be handled."""
        self._touched[neighbour] = None
        if not self.held:
            self.wake.set()

    def post(self, neighbour: Neighbour) -> None:
        """The same by somebody who calls `flush` before the next task switch."""
        self._touched[neighbour] = None

    def flush(self) -> None:
        """Handle what is ready and send what is queued, as far as sockets take it.

        While somebody holds it, that one will.
        """
        if self.held:
            return
        self.held = True
        try:
            self.flush_held()
        finally:
            self.held = False

    def flush_held(self) -> None:
        """`flush` by who holds it.

        The last to be touched is first: a grant follows the answer to the release that made way for it,
        and is awaited by somebody who has waited.
        """
        while self._touched:
            neighbour, _ = self._touched.popitem()
            neighbour.handle()
            neighbour.flush()


@dataclass(slots=True, eq=False)
class Neighbour:
    """State and deeds of the stream to and from one member.

    incarnation: this member's own. where: the address and port at which the other one listens.
    heard: the last time something good came, or when this incarnation came into a view, in trio's time.
    version: the protocol spoken with it, None before the first connection.
    trouble: why the last connection failed or ended, or an empty string.
    """

    peer: Peer
    incarnation: InitVar[int]
    counters: Counters
    outbox: Outbox
    handler: Handler
    where: tuple[str, int]
    session: Session = field(init=False)
    link: Link | None = None
    version: int | None = None
    trouble: str = ""
    heard: float = 0.0
    spoke: bool = False  # since the last tick
    room: trio.Event = field(default_factory=trio.Event)
    arrived: trio.Event = field(
        default_factory=trio.Event
    )  # a life of it that is there to be dialled
    handling: bool = False

    def __post_init__(self, incarnation: int) -> None:
        self.session = Session(incarnation, self.counters)

    # ---------------------------------------------------------- views

    def install(self, incarnation: int | None, now: float) -> None:
        """A view was installed, with this member's incarnation in it or None."""
        if self.session.install(incarnation):
            self.heard = now
            self.room.set()
            if incarnation is not None:
                self.arrived.set()

    def silent_since(self, now: float, dead_s: float) -> float | None:
        """When it was last heard, if it is in the view and that is `dead_s` before `now`; else None."""
        if self.session.member is None:
            return None
        if self.session.broken or now - self.heard >= dead_s:
            return self.heard
        return None

    def tick(self, now: float, late: float) -> None:
        """Every KEEPALIVE_S: say something if nothing was said, give a silent connection up.

        late: for how long this process did nothing, so that it could hear nobody.
        """
        self.heard += late
        if self.link is not None:
            self.link.heard += late
            if now - self.link.heard > LINK_SILENT_S:
                self.counters.silent += 1
                self.drop("nothing came for too long")
            elif not self.spoke and not self.link.congested:
                self._write(pack(self.session.acknowledgement()))
        self.spoke = False

    # ---------------------------------------------------------- the connection

    def take(self, link: Link, hello: Hello, version: int) -> None:
        """Go on over `link`, whose other end has said `hello`. A connection before it is closed."""
        self.session.connected(hello.incarnation, hello.peer, hello.received)
        if self.link is not None:
            self.drop("it has connected again")
        self.link, self.version, self.trouble = link, version, ""
        self.counters.connections += 1

    def drop(self, why: str) -> None:
        """Close the connection, if there is one; messages wait for the next."""
        self.trouble = why
        if self.link is not None:
            link, self.link = self.link, None
            link.close()

    async def serve(self, link: Link, cutter: Cutter) -> PeerError:
        """Read and write until the connection fails, and return why. `take` comes before it."""
        error: PeerError = TornStream("")

        async def write() -> None:
            while not link.closed:
                try:
                    await link.write_on()
                except PeerError:
                    return  # the reading end says why
                self.flush()

        def read() -> None:
            try:
                if data := link.receive_now():
                    cutter.feed(data)
                    self._digest(link, cutter)
            except PeerError as caught:
                linger.remove(fd, read)
                link.fail(caught)

        linger, fd = self.outbox.linger, link.sock.fileno()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            self.flush()
            try:
                self._digest(link, cutter)
                if not link.closed:
                    linger.add(fd, read)
                while True:
                    cutter.feed(await link.receive())
                    linger.turned()
                    if self._digest(link, cutter):
                        await linger.wait()
            except PeerError as caught:
                error = caught
            finally:
                linger.remove(fd, read)
            nursery.cancel_scope.cancel()
        # Whoever dropped the link has said why already.
        if self.link is link:
            self.drop(str(error))
            return error
        return TornStream(self.trouble)

    def _digest(self, link: Link, cutter: Cutter) -> bool:
        """Handle every whole frame that has come, and send what that gave rise to.

        Whether there was a message, and not only what keeps a connection alive.
        """
        before = self.counters.messages_received
        self.outbox.held = True
        now = trio.current_time()
        try:
            while not link.closed and (frame := cutter.next()) is not None:
                self._accept(frame)
                link.heard = now
                if self.session.caller == self.session.member:
                    self.heard = now
                self.handle()
        finally:
            # Answers to others, too, leave without a task switch.
            self.outbox.post(self)
            try:
                self.outbox.flush_held()
            finally:
                self.outbox.held = False
        return self.counters.messages_received != before

    def _accept(self, frame: Hello | Refusal | Batch) -> None:
        if not isinstance(frame, Batch):
            raise GarbageReceived("a second hello")
        self.counters.frames_received += 1
        self.session.receive(frame)
        if not self.room.is_set() and not self.session.crowded:
            self.room.set()

    def handle(self) -> None:
        """Hand what is ready to the handler, in order; a handler that comes back here changes nothing."""
        ready = self.session.ready
        if not ready or self.handling:
            return
        self.handling = True
        try:
            counters, handler, sender = self.counters, self.handler, self.peer.id
            while ready:
                counters.messages_received += 1
                message = ready.popleft()
                counters.bytes_received += len(message)
                handler(sender, message)
        except PeerError as error:
            # It was received, so it will not come again; without it nothing behind it is right.
            self.counters.refused(error)
            self.session.give_up(f"a message cannot be understood: {error}")
        finally:
            self.handling = False

    # ---------------------------------------------------------- sending

    def send(self, message: bytes) -> None:
        """Queue a message; `flush` sends it."""
        self.session.send(message)
        if self.session.crowded and self.room.is_set():
            self.room = trio.Event()
        elif self.session.broken:
            self.room.set()

    def flush(self) -> None:
        """Send what is queued, as far as window and socket allow, many messages in one write."""
        while self.link is not None and not self.link.congested:
            frames = self._frames()
            if not frames:
                return
            self._write(frames)
            if not self.session.has_more:
                return

    def _frames(self) -> bytes:
        """Return frames for one write, at least one if any may be sent."""
        session, counters = self.session, self.counters
        frames = b""
        while len(frames) < BATCH_BYTES and (batch := session.next_batch()) is not None:
            counters.frames_sent += 1
            counters.messages_sent += len(batch.messages)
            frames = frames + pack(batch) if frames else pack(batch)
            if not session.has_more:
                break
        return frames

    def _write(self, data: bytes) -> None:
        assert self.link is not None
        self.spoke = True
        self.counters.bytes_sent += len(data)
        try:
            self.link.send(data)
        except PeerError as error:
            self.drop(str(error))


def late_by(now: float, last: float) -> float:
    """For how long this process stood still, if a tick at `now` follows one at `last`.

    A little lateness is load, and says nothing of what could be heard.
    """
    late = now - last - KEEPALIVE_S
    return late if late > KEEPALIVE_S else 0.0
