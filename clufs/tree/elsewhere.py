"""What the tree asks of other members: resource blocks that one of them masters."""

from __future__ import annotations

from typing import Protocol

from clufs.dlm.modes import Mode
from clufs.dlm.ranges import Ranges
from clufs.member.facts import BlockFacts, Obstacle


class Elsewhere(Protocol):
    """Answers from the other members of the view.

    Each question ends within a bounded time; HostDown says that the member that knows does not answer.
    Asking creates nothing and waits for no quorum.
    """

    @property
    def shared(self) -> bool:
        """Whether there are other members at all."""

    @property
    def quorum(self) -> int:
        """1 while this member has quorum, else 0."""

    def knows(self, name: bytes) -> bool:
        """Whether value and existence of this block are known here without asking."""

    async def facts(self, name: bytes) -> BlockFacts | None:
        """The block as its master sees it; None if no lock on it exists."""

    async def report(self, name: bytes) -> bytes | None:
        """The report of the block, by its master; None if no lock on it exists."""

    async def names(self, directory: bytes) -> set[bytes]:
        """The names that locks of the other members give this directory, `.sub` ones among them."""

    async def holds(self, name: bytes, mode: str, number: int) -> bool:
        """Whether the lock of this sequencer is still held."""

    async def in_the_way(self, name: bytes, mode: Mode, ranges: Ranges) -> Obstacle | None:
        """What keeps somebody from these ranges in this mode."""


class Nobody:
    """The Elsewhere of a member that is alone."""

    shared = False
    quorum = 1

    def knows(self, name: bytes) -> bool:
        return True

    async def facts(self, name: bytes) -> BlockFacts | None:
        return None

    async def report(self, name: bytes) -> bytes | None:
        return None

    async def names(self, directory: bytes) -> set[bytes]:
        return set()

    async def holds(self, name: bytes, mode: str, number: int) -> bool:
        return False

    async def in_the_way(self, name: bytes, mode: Mode, ranges: Ranges) -> Obstacle | None:
        return None
