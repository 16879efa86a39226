"""One connection between two members: TLS over a non-blocking socket, with few system calls.

A round trip over trio's own TLS stream takes about 30 % longer: it locks, checkpoints and tries
each operation anew. Here what is sent goes to the kernel in the call of `send`, with no task
switch, and one wake-up reads all that has come.
"""

from __future__ import annotations

import socket
import ssl

import trio

from clufs.errors import GarbageReceived, OldVersion, PeerError, StrangerRefused, TornStream

_RECEIVE_BYTES = 2**18
_RECORD_BYTES = 2**14

# What OpenSSL says of bytes that are not TLS, of other versions, and of foreign certificates.
_VERSIONS = frozenset(("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"))
_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "DECRYPT_ERROR", "ACCESS_DENIED")


def tls_error(error: ssl.SSLError) -> PeerError:
    """Return what an error of OpenSSL means here."""
    reason = error.reason or str(error)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return TornStream("the connection was closed")
    if isinstance(error, ssl.SSLCertVerificationError):
        return StrangerRefused(f"its certificate: {error.verify_message}")
    if any(word in reason for word in _CERTIFICATES):
        return StrangerRefused(f"certificates: {reason}")
    if reason in _VERSIONS:
        return OldVersion(f"TLS: {reason}")
    return GarbageReceived(f"not TLS: {reason}")


class Link:
    """A connection. Errors are PeerErrors; after one, or after `close`, it is of no further use.

    heard: when something last came that was good, in trio's time; set by the owner.
    """

    __slots__ = (
        "_blocked", "_failure", "_incoming", "_outgoing", "_unsent", "closed", "heard", "sock", "tls"
    )  # fmt: skip

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, accepting: bool) -> None:
        """Take a connected socket over; TornStream, and it is closed, if it is so no more."""
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            raise TornStream(f"connecting: {error}") from error
        self.sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=accepting)
        self._unsent = b""
        self._blocked = trio.Event()
        self._failure: PeerError | None = None
        self.closed = False
        self.heard = trio.current_time()

    async def handshake(self) -> None:
        """Agree on keys; the other end's certificate is one of the cluster's after it."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                await self._pull()
            except ssl.SSLError as error:
                self._push_alert()
                raise tls_error(error) from error
            else:
                self._push()
                return

    async def receive(self) -> bytes:
        """Wait for something, and return all that has come."""
        while True:
            plain = self._plain()
            if plain:
                return plain
            await self._pull()

    def receive_now(self) -> bytes:
        """Return what has come by now, without waiting; nothing if nothing has."""
        return self._plain() if self._fetch() else b""

    def fail(self, error: PeerError) -> None:
        """Have whoever waits in `receive` get this error."""
        self._failure = error
        trio.lowlevel.notify_closing(self.sock)

    @property
    def congested(self) -> bool:
        """The socket takes no more for now; `write_on` is at work."""
        return bool(self._unsent)

    def send(self, data: bytes) -> None:
        """Send, at once if the socket takes it; what it does not take, `write_on` sends later."""
        try:
            self.tls.write(data)
        except ssl.SSLError as error:
            raise tls_error(error) from error
        self._push()

    async def write_on(self) -> None:
        """Wait until the socket is congested, and then until it is not."""
        await self._blocked.wait()
        while self._unsent:
            self._check_open()
            try:
                await trio.lowlevel.wait_writable(self.sock)
            except trio.ClosedResourceError as error:
                raise TornStream("closed here") from error
            self._push()
        self._blocked = trio.Event()

    def close(self) -> None:
        """Close the connection; whoever waits for it in another task gets TornStream."""
        if not self.closed:
            self.closed = True
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()

    def _check_open(self) -> None:
        """Raises TornStream after `close`: a closed socket has no descriptor to wait for."""
        if self._failure is not None:
            raise self._failure
        if self.closed:
            raise TornStream("closed here")

    def _plain(self) -> bytes:
        """Return all that can be decrypted of what has come."""
        plain = b""
        # OpenSSL reads no further than the record asked for, and a read has room for all of it: with
        # nothing left in the buffer there is nothing left, and the exception that would say so is saved.
        while self._incoming.pending:
            try:
                part = self.tls.read(_RECORD_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                raise tls_error(error) from error
            if not part:
                break
            plain = plain + part if plain else part
        return plain

    async def _pull(self) -> None:
        """Wait for bytes and give them to OpenSSL."""
        self._check_open()
        try:
            await trio.lowlevel.wait_readable(self.sock)
        except (OSError, trio.ClosedResourceError) as error:
            raise self._failure or TornStream(f"receiving: {error}") from error
        self._fetch()

    def _fetch(self) -> bool:
        """Give OpenSSL what the socket has; whether it had anything."""
        try:
            data = self.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            raise TornStream(f"receiving: {error}") from error
        if not data:
            raise TornStream("the connection was closed")
        self._incoming.write(data)
        return True

    def _push(self) -> None:
        """Give the socket what OpenSSL has made, as far as it takes it."""
        made = self._outgoing.read()
        unsent = self._unsent + made if self._unsent else made
        if not unsent:
            return
        try:
            count = self.sock.send(unsent)
        except BlockingIOError:
            count = 0
        except OSError as error:
            raise TornStream(f"sending: {error}") from error
        self._unsent = unsent[count:]
        if self._unsent:
            self._blocked.set()

    def _push_alert(self) -> None:
        """Tell the other end why the handshake failed, if it still listens."""
        try:
            self._push()
        except TornStream:
            return
