"""What the formations of all members tell each other, in the one order of the group. Pure."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from clufs.cluster.interface import RingId

VERSION = 2
"""The version of these messages. A later one may add fields at the end of a message: an earlier one does
not look at them. 2 knows what is said for the quorum disk."""

DISK_SINCE = 2
"""The first version that counts the votes of a quorum disk."""

OLDEST = 1
"""The oldest version with which this one forms a view; when all members have been brought up to date,
what only this one understands may be said."""

Processes: TypeAlias = tuple[tuple[int, int], ...]
"""(peer id, pid) of each."""

Lives: TypeAlias = tuple[tuple[int, int], ...]
"""(peer id, incarnation) of each."""

Round: TypeAlias = tuple[RingId, Processes, int]
"""Ring, group, and how often the round was begun again."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """Who a member is in this round.

    highest: the highest view number that it has on disk. last: number and members of the view that
    this incarnation installed last, 0 if none. dropped: of members that are not in it, the lives
    seen last in a view. left_out: processes of the group that no view waits for. oldest: the oldest
    version that the sender understands. disk_votes: as the sender has them configured, 0 without one.
    """

    version: int
    round: Round
    name: str
    incarnation: int
    highest: int
    address: str
    port: int
    last: tuple[int, Lives]
    dropped: Lives
    left_out: Processes
    oldest: int = 1
    disk_votes: int = 0


class Missed(msgspec.Struct, frozen=True, array_like=True, tag="missed"):
    """The sender has waited too long for the hellos of these members."""

    round: Round
    members: tuple[int, ...]


class Again(msgspec.Struct, frozen=True, array_like=True, tag="again"):
    """A verdict was given against this member: the round begins again, without it."""

    round: Round
    member: int


class Vouched(msgspec.Struct, frozen=True, array_like=True, tag="vouched"):
    """The sender has the number on disk."""

    round: Round
    number: int


class DiskHere(msgspec.Struct, frozen=True, array_like=True, tag="disk here"):
    """The sender holds the quorum disk, and has not been told that another has taken it."""

    round: Round
    ballot: int


class DiskGone(msgspec.Struct, frozen=True, array_like=True, tag="disk gone"):
    """The sender holds the quorum disk under this ballot no more."""

    round: Round
    ballot: int


class DiskVouched(msgspec.Struct, frozen=True, array_like=True, tag="disk vouched"):
    """The quorum disk has the number, for this round: its holder says so."""

    round: Round
    number: int
    ballot: int


class Anew(msgspec.Struct, frozen=True, array_like=True, tag="anew"):
    """The round begins again with the same members: this one's number or log is of no use to the disk."""

    round: Round


class Said(msgspec.Struct, frozen=True, array_like=True, tag="said"):
    """What the rooms above send in a view."""

    number: int
    body: bytes


Message: TypeAlias = (
    Hello | Missed | Again | Vouched | Said | DiskHere | DiskGone | DiskVouched | Anew
)

_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def pack(message: Message) -> bytes:
    """Return what is multicast for a message."""
    return msgspec.msgpack.encode(message)


def unpack(data: bytes) -> Message | None:
    """Return the message that was multicast, None if it is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
