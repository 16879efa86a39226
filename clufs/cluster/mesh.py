"""The streams between members: one TLS connection to each, and on it a session that survives it.

Guarantees: as long as the views at both ends have the same two incarnations, a message from one to the
other arrives once and in order (FIFO between two members, nothing across three), whatever happens to
connections and from view to view. Whoever cannot show a
certificate of this cluster with the name of a configured member is refused; so are another cluster, an
incompatible version, garbage and torn frames: counted, the connection dropped, nothing else changed.

The member with the lower id dials. A stream is no membership: that a member is silent is told by
`silent_since`, and what follows from it is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

from clufs.cluster.frames import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Batch,
    Cutter,
    Hello,
    Refusal,
    check_hello,
    pack,
)
from clufs.cluster.interface import Peer, View
from clufs.cluster.keys import Keys, peer_name
from clufs.cluster.linger import Linger
from clufs.cluster.link import Link
from clufs.cluster.neighbour import Counters, Handler, Neighbour, Outbox, late_by
from clufs.errors import (
    ConfigError,
    GarbageReceived,
    PeerError,
    TornStream,
    Unreachable,
    WrongName,
)
from clufs.limits import GREETINGS_MAX
from clufs.timeouts import (
    DIAL_MAX_S,
    DIAL_MIN_S,
    GREETING_S,
    KEEPALIVE_S,
    LISTEN_PAUSE_S,
    PEER_DEAD_S,
)

__all__ = ["Counters", "Mesh", "StreamState"]

_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class StreamState:
    """What reports say of one stream. trouble: why the last connection ended, or an empty string."""

    peer: Peer
    connected: bool
    version: int | None
    trouble: str


class Mesh:
    """All streams of this member. Every method is for the trio thread; none but `run` and `room` waits.

    me, peers: the configured members, this one may be among `peers`. port: where this one listens, and
    the others until `set_addresses` says better. incarnation: this daemon's, as views name it, 1 or more.
    handler: gets each message, in order; see Handler. peer_dead_s: see `silent_since`; several KEEPALIVE_S.
    linger: shared with whoever else lingers in this thread.
    """

    def __init__(
        self,
        me: Peer,
        peers: Sequence[Peer],
        keys: Keys,
        handler: Handler,
        *,
        cluster: str,
        incarnation: int,
        port: int,
        peer_dead_s: float = PEER_DEAD_S,
        linger: Linger | None = None,
    ) -> None:
        self.me = me
        self.counters = Counters()
        self.port = port
        self._cluster = cluster
        self._incarnation = incarnation
        self._peer_dead_s = peer_dead_s
        self._outbox = Outbox(linger or Linger())
        self._neighbours = {
            peer.id: Neighbour(
                peer, incarnation, self.counters, self._outbox, handler, (peer.address, port)
            )
            for peer in peers
            if peer.id != me.id
        }
        self._by_name = {n.peer.name: n for n in self._neighbours.values()}
        self._accepting = keys.accepting()
        self._dialing = keys.dialing()
        self._greetings = 0
        self._ticked = 0.0

    # ---------------------------------------------------------- what the daemon calls

    def send(self, peer_id: int, message: bytes) -> bool:
        """Queue a message for a member of the view; it leaves with the next `flush`, or in a moment.

        Returns whether there is room for more: if not, whoever can wait awaits `room`. A message to a
        member that is not in the view, or whose session is broken, is lost and counted.
        """
        neighbour = self._neighbours[peer_id]
        neighbour.send(message)
        self._outbox.touch(neighbour)
        return neighbour.room.is_set()

    def post(self, peer_id: int, message: bytes) -> None:
        """`send` by somebody who calls `flush` before the next task switch, and waits for no room."""
        neighbour = self._neighbours[peer_id]
        neighbour.send(message)
        self._outbox.post(neighbour)

    def flush(self) -> None:
        """Send what is queued now: saves a task switch to who calls it after a step of its own."""
        self._outbox.flush()

    async def room(self, peer_id: int) -> None:
        """Wait until a slow member has taken enough, is out of the view or is given up."""
        await self._neighbours[peer_id].room.wait()

    def set_view(self, view: View) -> None:
        """Install a view: the session with each incarnation that was in the view before goes on.

        With one that is new it begins; with one that is gone it ends.
        """
        incarnations = dict(view.members)
        for neighbour in self._neighbours.values():
            neighbour.install(incarnations.get(neighbour.peer.id), trio.current_time())
            self._outbox.touch(neighbour)

    def lost_by(self, view: View, now: float) -> list[tuple[int, float]]:
        """Whom the view that is about to be installed does without, and for how long each was not heard."""
        incarnations = dict(view.members)
        return [
            (peer_id, now - one.heard)
            for peer_id, one in self._neighbours.items()
            if one.session.member not in (None, incarnations.get(peer_id))
        ]

    def set_addresses(self, streams: Mapping[int, tuple[str, int]]) -> None:
        """Take where members listen, by their ids: for the next connections that are dialled."""
        for peer_id, where in streams.items():
            if peer_id in self._neighbours:
                self._neighbours[peer_id].where = where

    def silent_since(self, peer_id: int) -> float | None:
        """When a member of the view was last heard, in trio's time, if peer_dead_s or more ago; else None.

        Also a member whose session is broken is silent. Time in which this process itself stood
        still does not count.
        """
        return self._neighbours[peer_id].silent_since(self._ticked, self._peer_dead_s)

    def states(self) -> list[StreamState]:
        """Return the state of every stream, by the members' ids."""
        return [
            StreamState(n.peer, n.link is not None, n.version, n.session.broken or n.trouble)
            for _, n in sorted(self._neighbours.items())
        ]

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the streams up until cancelled; started with the port once it listens.

        ConfigError: this member's address cannot be listened on.
        """
        listener = await self._listener()
        try:
            async with trio.open_nursery() as nursery:
                self._ticked = trio.current_time()
                nursery.start_soon(self._listen, listener, nursery)
                nursery.start_soon(self._flush_soon)
                nursery.start_soon(self._tick)
                for neighbour in self._neighbours.values():
                    if neighbour.peer.id > self.me.id:
                        nursery.start_soon(self._keep_dialing, neighbour)
                task_status.started(self.port)
        finally:
            listener.close()
            for neighbour in self._neighbours.values():
                neighbour.drop("stopped")

    # ---------------------------------------------------------- the tasks of `run`

    async def _flush_soon(self) -> None:
        """Flush in the round of the event loop after the one in which something was sent."""
        while True:
            await self._outbox.wake.wait()
            self._outbox.wake = trio.Event()
            self._outbox.flush()

    async def _tick(self) -> None:
        last = trio.current_time()
        while True:
            await trio.sleep(KEEPALIVE_S)
            now = trio.current_time()
            late, last = late_by(now, last), now
            for neighbour in self._neighbours.values():
                neighbour.tick(now, late)
            self._ticked = now

    async def _keep_dialing(self, neighbour: Neighbour) -> None:
        """Connect to a member with a higher id, again and again; never two connections at once."""
        pause = DIAL_MIN_S
        while True:
            before = neighbour.counters.connections
            error = await self._dial(neighbour)
            self.counters.refused(error)
            neighbour.trouble = str(error)
            pause = DIAL_MIN_S if neighbour.counters.connections != before else pause * 2
            with trio.move_on_after(min(pause, DIAL_MAX_S)):
                await neighbour.arrived.wait()
                pause = DIAL_MIN_S
            neighbour.arrived = trio.Event()

    async def _dial(self, neighbour: Neighbour) -> PeerError:
        """Connect once and serve the connection to its end; return why it ended."""
        link: Link | None = None
        cutter = Cutter()
        try:
            with trio.fail_after(GREETING_S):
                sock = await _connect(*neighbour.where)
                link = Link(sock, self._dialing, accepting=False)
                hello, version = await self._call(link, cutter, neighbour)
            neighbour.take(link, hello, version)
            return await neighbour.serve(link, cutter)
        except trio.TooSlowError:
            return TornStream("no hello in time")
        except PeerError as error:
            return error
        finally:
            if link is not None:
                link.close()

    async def _call(self, link: Link, cutter: Cutter, neighbour: Neighbour) -> tuple[Hello, int]:
        """Greet as the one who dials: check the name, say hello, hear the other's."""
        await link.handshake()
        if peer_name(link.tls) != neighbour.peer.name:
            raise WrongName(f"its certificate is of {peer_name(link.tls)!r}")
        link.send(pack(self._hello(neighbour)))
        hello = await _first_frame(link, cutter)
        version = check_hello(hello, self._cluster, neighbour.peer.id)
        cutter.known()
        return hello, version

    async def _listen(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionError):
                continue
            except OSError:
                # No descriptors left, most likely; the connection waits in the kernel.
                await trio.sleep(LISTEN_PAUSE_S)
                continue
            if self._greetings >= GREETINGS_MAX:
                self.counters.turned_away += 1
                sock.close()
            else:
                nursery.start_soon(self._answer, sock)

    async def _answer(self, sock: socket.socket) -> None:
        """Serve a connection that came in, to its end."""
        cutter = Cutter()
        link: Link | None = None
        self._greetings += 1
        greeting = True
        try:
            link = Link(sock, self._accepting, accepting=True)
            with trio.fail_after(GREETING_S):
                neighbour = await self._be_called(link, cutter)
            self._greetings -= 1
            greeting = False
            self.counters.refused(await neighbour.serve(link, cutter))
        except trio.TooSlowError:
            self.counters.refused(TornStream("no hello in time"))
        except PeerError as error:
            self.counters.refused(error)
        finally:
            self._greetings -= greeting
            if link is not None:
                link.close()

    async def _be_called(self, link: Link, cutter: Cutter) -> Neighbour:
        """Greet as the one who was dialled: nothing is said of this member before all is checked."""
        await link.handshake()
        try:
            neighbour = self._by_name.get(name := peer_name(link.tls))
            if neighbour is None or neighbour.peer.id > self.me.id:
                raise WrongName(f"{name!r} is no member that dials {self.me.name!r}")
            hello = await _first_frame(link, cutter)
            version = check_hello(hello, self._cluster, neighbour.peer.id)
            neighbour.take(link, hello, version)
        except PeerError as error:
            _refuse(link, error)
            raise
        cutter.known()
        try:
            link.send(pack(self._hello(neighbour)))
        except PeerError as error:
            neighbour.drop(str(error))
            raise
        return neighbour

    def _hello(self, neighbour: Neighbour) -> Hello:
        peer, received = neighbour.session.hello_numbers()
        return Hello(
            PROTOCOL_MIN, PROTOCOL_MAX, self._cluster, self.me.id, self._incarnation, peer, received
        )

    async def _listener(self) -> socket.socket:
        """Return a socket that listens on this member's address."""
        try:
            family, kind, protocol, address = await _resolve(self.me.address, self.port)
            with contextlib.ExitStack() as on_error:
                listener = on_error.enter_context(socket.socket(family, kind, protocol))
                listener.setblocking(False)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen(_BACKLOG)
                on_error.pop_all()
        except OSError as error:
            where = f"{self.me.address} port {self.port}"
            raise ConfigError(f"{where}: cannot listen: {error.strerror or error}") from error
        self.port = listener.getsockname()[1]
        return listener


_Address = tuple[int, int, int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


async def _resolve(address: str, port: int) -> _Address:
    """Return family, kind, protocol and socket address of a numeric address or a host's name."""
    found = await trio.socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    return family, kind, protocol, where


async def _connect(address: str, port: int) -> socket.socket:
    """Return a connected socket; Unreachable says why there is none."""
    try:
        family, kind, protocol, where = await _resolve(address, port)
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Unreachable(f"{address} port {port}: {error.strerror or error}") from error
    try:
        sock.setblocking(False)
        try:
            sock.connect(where)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        sock.getpeername()
    except OSError as error:
        sock.close()
        raise Unreachable(f"{address} port {port}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _first_frame(link: Link, cutter: Cutter) -> Hello:
    """Return the other end's hello; a Refusal instead of it raises TornStream with its reason."""
    while (frame := cutter.next()) is None:
        cutter.feed(await link.receive())
    if isinstance(frame, Refusal):
        raise TornStream(f"refused there: {frame.why}")
    if isinstance(frame, Batch):
        raise GarbageReceived("messages before a hello")
    return frame


def _refuse(link: Link, error: PeerError) -> None:
    """Tell the other end, whose certificate is good, why; it may be gone already."""
    try:
        link.send(pack(Refusal(str(error)[:500])))
    except PeerError:
        return
