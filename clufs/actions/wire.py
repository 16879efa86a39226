"""What the daemon and its keeper say to each other: MessagePack in frames, over a pair of sockets."""

from __future__ import annotations

import struct

import msgspec

from clufs.errors import GarbageReceived
from clufs.limits import KEEPER_FRAME_MAX_BYTES

_LENGTH = struct.Struct("<I")


class Run(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Run an action. action: its number, never used again. name, script: if there is a text, it is kept under that
    name and run as argv[0]. unit: the systemd unit that the application is, if it is one."""

    action: int
    resource: str
    argv: list[str]
    environment: dict[str, str]
    name: str
    script: bytes | None
    unit: str


class Kill(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Kill all that is left of one action."""

    action: int


class End(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Kill all that is left of a resource's actions, and say when it is gone. unit_ended: its unit is gone already.
    order: the number of this request."""

    order: int
    resource: str
    unit_ended: bool


class Ask(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What is left, of whom?"""


class Ready(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Nothing is left of an earlier keeper, which had started something for these resources."""

    found: list[str]


class Printed(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What an action printed since the last time, or the end of it."""

    action: int
    resource: str
    data: bytes


class Ended(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """An action's process ended. status: as of waitpid(2); error: the errno that kept it from being run, and in whose
    place no status counts; -1 for both if the process above it was killed."""

    action: int
    status: int
    error: int


class Emptied(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """Nothing is left of what a resource's actions had started before the End of this number."""

    order: int


class Left(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The answer to Ask: the resources of which something is left, and the units of those that are one."""

    resources: list[str]
    units: dict[str, str]


ToKeeper = Run | Kill | End | Ask
ToDaemon = Ready | Printed | Ended | Emptied | Left

to_keeper = msgspec.msgpack.Decoder(ToKeeper)
to_daemon = msgspec.msgpack.Decoder(ToDaemon)
_encoder = msgspec.msgpack.Encoder()


def frame(message: ToKeeper | ToDaemon) -> bytes:
    """A message as bytes. Raises GarbageReceived if it is too long to be one."""
    body = _encoder.encode(message)
    if len(body) > KEEPER_FRAME_MAX_BYTES:
        raise GarbageReceived(f"a {type(message).__name__} of {len(body)} bytes")
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a stream of bytes into messages' bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def add(self, data: bytes) -> list[bytes]:
        """The bodies that are whole now. Raises GarbageReceived for an impossible length."""
        self._buffer += data
        found = []
        at = 0
        while len(self._buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, at)
            if length > KEEPER_FRAME_MAX_BYTES:
                raise GarbageReceived(f"a frame of {length} bytes")
            end = at + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            found.append(bytes(self._buffer[at + _LENGTH.size : end]))
            at = end
        del self._buffer[:at]
        return found
