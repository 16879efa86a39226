"""What members say to each other about LUNs: who reaches which, and what is read and written for whom.

MessagePack arrays that start with their kind. A later version may add fields at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from clufs.errors import (
    GarbageReceived,
    LunBusy,
    LunError,
    LunTimedOut,
    PathLost,
    ReservationConflict,
    WriteProtected,
)

DONE, NOT_NOW = 0, 1
"""Outcomes. NOT_NOW: nothing was begun; another member, or a later time, may do. The rest: see `_KINDS`."""
_KINDS: dict[int, type[LunError]] = {
    2: PathLost,
    3: LunTimedOut,
    4: LunBusy,
    5: ReservationConflict,
    6: WriteProtected,
}
_OTHER = 15


class Offer(NamedTuple):
    """What a member reaches by itself."""

    reads: bool
    writes: bool


class Reach(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The LUNs that this life of the sender knows, by name: all of them, each time."""

    incarnation: int
    luns: dict[str, Offer]


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Write `data` from block `lba` on or, without any, read `count` blocks.

    incarnation: the life of the sender that asks. A serial is used once in a life.
    """

    serial: int
    incarnation: int
    wwid: str
    lba: int
    count: int
    data: bytes = b""


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """What became of the request `serial`: nothing of it is done after this was said."""

    serial: int
    outcome: int
    why: str = ""
    data: bytes = b""


Message = Reach | Ask | Answer

encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def decode(data: bytes) -> Message:
    """Raises GarbageReceived."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GarbageReceived(f"nothing about LUNs: {error}") from error


def outcome_of(error: LunError) -> int:
    """What an answer says of an error."""
    return next((code for code, kind in _KINDS.items() if isinstance(error, kind)), _OTHER)


def error_of(answer: Answer, member: str) -> LunError:
    """The error that an answer which is not DONE stands for."""
    kind = PathLost if answer.outcome == NOT_NOW else _KINDS.get(answer.outcome, LunError)
    return kind(f"through {member}: {answer.why}")
