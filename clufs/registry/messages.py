"""What registries tell each other in a view, in one order, and what a replica wants done."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from clufs.registry.commands import Command, CommandId, Entry
from clufs.registry.log import Write

VERSION = 3
"""The version of these messages and of the commands in them. A member that did not know
a command could not apply it: what only a later version knows is proposed when all speak it."""

OLDEST = 3
"""The oldest version with which this one makes a log: 2 knows no /clu/lockfiles."""


class Tail(msgspec.Struct, frozen=True, array_like=True, tag="tail"):
    """What the sender has on disk: the log of the view `adopted` up to `last`.

    committed: up to here it knows that its log is everybody's. origin: the registry that it is of,
    empty where it is new. votes: the configured ones, by peer id; who counts otherwise would come to
    another end. oldest: the oldest version that the sender understands. Each member's first message
    in a view.
    """

    version: int
    votes: tuple[tuple[int, int], ...]
    adopted: int
    last: int
    committed: int
    origin: bytes
    oldest: int = 1

    @property
    def is_understood(self) -> bool:
        """Whether its sender and this clufs can make a log together."""
        return self.oldest <= VERSION and self.version >= OLDEST

    def belongs_to(self, origin: bytes) -> bool:
        """Whether the sender can follow a log of this origin: nothing of another was ever committed to it."""
        return self.origin == origin or self.committed == 0


class Base(msgspec.Struct, frozen=True, array_like=True, tag="base"):
    """The sender leads this view: the view's log is what it has up to `end`, and what it fills in later."""

    end: int
    origin: bytes


class Fill(msgspec.Struct, frozen=True, array_like=True, tag="fill"):
    """Entries of the view's log, from the leader."""

    entries: tuple[Entry, ...]


class Part(msgspec.Struct, frozen=True, array_like=True, tag="part"):
    """Part `number` of `count` of a snapshot after the entry `at`, from the leader.

    receivers: those who lack what is before the leader's first entry.
    """

    receivers: tuple[int, ...]
    at: int
    number: int
    count: int
    data: bytes


class Proposal(msgspec.Struct, frozen=True, array_like=True, tag="proposal"):
    """A command that the leader is to make the next entry of the log."""

    id: CommandId
    command: Command


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="ack"):
    """The sender has the view's log on disk up to this index."""

    index: int


Message = Tail | Base | Fill | Part | Proposal | Ack
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
encode = msgspec.msgpack.encode


def decode(body: bytes) -> Message | None:
    """Return the message, or None for what is none."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# ------------------------------------------------- what is to be done


@dataclass(frozen=True, slots=True)
class Say:
    """Multicast to all members of the installed view, oneself included, in one order."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Synced:
    """This member's log is the view's, and a majority of all votes has it on disk: commands may flow.

    Whatever was ever acknowledged is applied here.
    """

    view: int


@dataclass(frozen=True, slots=True)
class Applied:
    """A command is committed and its effect is in the state, unless it was refused.

    made: the inode that it made in /clu/lockfiles, 0 where it made none.
    """

    index: int
    id: CommandId
    command: Command
    refusal: str | None
    made: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """The state was replaced as a whole by that after a later entry: look at all of it again."""

    index: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A command proposed here is committed and applied; told once.

    made, index: as in Applied, but 0 where the state came with a snapshot.
    """

    id: CommandId
    refusal: str | None
    made: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A command proposed here is on no disk, as this one is full, and will never be applied."""

    id: CommandId
    why: str


Effect = Say | Write | Synced | Applied | Restored | Answered | GaveUp
