"""What goes over a connection between two members: frames. Pure.

A frame is its length (four bytes, big-endian) and that many bytes of MessagePack: an array that
starts with a number, the kind. Whatever is not exactly that raises GarbageReceived.

Versions: the kinds Hello and Refusal are the same in all versions; both ends say which versions they
speak, and the highest in common is used. A later version may add fields at the end of a frame: an
earlier one does not look at them. So two neighbouring versions work together.
"""

from __future__ import annotations

import struct

import msgspec

from clufs.errors import GarbageReceived, OldVersion, OtherCluster, WrongName
from clufs.limits import FRAME_MAX_BYTES, HELLO_MAX_BYTES

PROTOCOL_MIN = 3
PROTOCOL_MAX = 3

_LENGTH = struct.Struct(">I")
_LENGTH_BYTES = _LENGTH.size


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The first frame of each end: who it is, and where it stands.

    peer: the other end's incarnation in the view installed here, 0 if it is not in it.
    received: the number of the last message it has of that incarnation.
    """

    oldest: int
    newest: int
    cluster: str
    member: int
    incarnation: int
    peer: int
    received: int


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Instead of a Hello: why the connection ends, for the other end's report."""

    why: str


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Messages first, first + 1, ... of a session; none: an acknowledgement alone.

    member: the view installed at the sender has the incarnation at the other end; if not, there is
    no session, and nothing else in the batch counts.
    received: the number of the last message the sender has of the other end.
    """

    member: bool
    first: int
    received: int
    messages: list[bytes]


Frame = Hello | Refusal | Batch

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Hello | Refusal | Batch)


def pack(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


class Cutter:
    """Cuts what comes in, in pieces of any size, into frames.

    Until `known` is called a frame may have HELLO_MAX_BYTES only. After GarbageReceived a cutter is
    of no further use: where the next frame would begin is not known.
    """

    __slots__ = ("_buffer", "_largest", "_start")

    def __init__(self) -> None:
        self._buffer: bytes | bytearray = b""
        self._start = 0
        self._largest = HELLO_MAX_BYTES

    def known(self) -> None:
        """The other end has said who it is: frames of full size are let in."""
        self._largest = FRAME_MAX_BYTES

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        buffer, start = self._buffer, self._start
        if len(buffer) == start:  # nearly always: whole frames come, and nothing is copied
            self._buffer = data
        elif start or isinstance(buffer, bytes):
            self._buffer = bytearray(buffer[start:]) + data
        else:
            buffer += data
        self._start = 0

    def next(self) -> Frame | None:
        """Return the next whole frame, or None while there is none."""
        buffer, start = self._buffer, self._start
        there = len(buffer) - start - _LENGTH_BYTES
        if there < 0:
            return None
        (size,) = _LENGTH.unpack_from(buffer, start)
        if size > self._largest:
            raise GarbageReceived(f"a frame of {size} bytes, where {self._largest} may be")
        if there < size:
            return None
        body = start + _LENGTH_BYTES
        self._start = end = body + size
        try:
            return _decoder.decode(buffer[body:end])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise GarbageReceived(f"not a frame: {error}") from error


def check_hello(hello: Hello, cluster: str, peer_id: int) -> int:
    """Return the version to speak with whoever sent `hello`; the certificate said it is `peer_id`.

    Raises OtherCluster, WrongName, OldVersion or GarbageReceived.
    """
    if not (0 <= hello.oldest <= hello.newest and hello.peer >= 0 and hello.received >= 0):
        raise GarbageReceived("a hello with impossible numbers")
    if hello.cluster != cluster:
        raise OtherCluster(f"it is of cluster {hello.cluster!r}, this is {cluster!r}")
    version = min(hello.newest, PROTOCOL_MAX)
    if version < max(hello.oldest, PROTOCOL_MIN):
        raise OldVersion(
            f"it speaks protocol {hello.oldest} to {hello.newest}, this {PROTOCOL_MIN} to {PROTOCOL_MAX}"
        )
    if hello.member != peer_id:
        raise WrongName(f"it says it is member {hello.member}, its certificate is of {peer_id}")
    return version
