"""What the tree asks of the cluster: who is configured, who is here, is there quorum, what is awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from clufs.errors import InvalidRequest

if TYPE_CHECKING:
    from clufs.tree.member import Member

OFF: Literal["off"] = "off"
CONFIRMED: Literal["confirmed"] = "confirmed"
FenceWord = Literal["off", "confirmed"]

State = Literal["member", "joining", "lost", "fencing", "down"]
"""member: in the view. joining: here, and not in it yet. lost: gone, and may still use its locks.
fencing: lost, and an agent is at work. down: gone for good, until it comes back as another life."""


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """A configured member. address and version: empty when not known; incarnation: 0 then.

    incarnation: of the life in the view; of a lost member, the one that is lost.
    """

    id: int
    name: str
    votes: int
    state: State
    address: str = ""
    port: int = 0
    version: str = ""
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class Votes:
    """present: of the members that are seen; expected: of all; quorum: how many it takes. With those of a
    quorum disk; disk: who keeps it and whether they count, as a sentence; empty without one."""

    quorate: bool
    present: int
    expected: int
    quorum: int
    disk: str = ""


class Cluster(Protocol):
    """The cluster as this member sees it now."""

    name: str
    engine: str
    me: str

    @property
    def view(self) -> int:
        """The number of the installed view, 0 without one."""

    def members(self) -> Sequence[MemberFacts]:
        """All that are configured, by id."""

    def votes(self) -> Votes:
        """Quorum as the engine counts it; quorate only while a view is installed."""

    def waits_for(self) -> str:
        """What the view or its recovery waits for, as a sentence; empty when it waits for nothing."""

    def disk_error(self) -> str:
        """Why this member's disk takes nothing more, as a sentence; empty while it has room."""

    def fence(self, member: str, word: FenceWord, by: str) -> Awaitable[None]:
        """A person's order or word about a configured member; done when what it returns was awaited.

        `confirmed`: the incarnation lost now is finished; awaited until the registry has it.
        `off`: the agents are run; awaited until one says that the member is surely off. Raises, at
        once or then, InvalidRequest, NoQuorum, or FencingFailed when no agent could.
        """


class OneMember:
    """A cluster of one: always quorate, nobody to be lost."""

    engine = "embedded"

    def __init__(self, member: Member) -> None:
        self.name = self.me = member.name
        self.view = member.view
        self._facts = MemberFacts(
            member.id,
            member.name,
            member.votes,
            "member",
            version=member.version,
            incarnation=member.view,
        )

    def members(self) -> Sequence[MemberFacts]:
        """The one."""
        return (self._facts,)

    def votes(self) -> Votes:
        """All of them."""
        votes = self._facts.votes
        return Votes(True, votes, votes, votes // 2 + 1)

    def waits_for(self) -> str:
        """Nothing."""
        return ""

    def disk_error(self) -> str:
        """Nothing."""
        return ""

    def fence(self, member: str, word: FenceWord, by: str) -> Awaitable[None]:
        """Raises InvalidRequest: there is nobody else."""
        if word == CONFIRMED:
            raise InvalidRequest(f"{member} is not lost: there is nothing to confirm")
        raise InvalidRequest("a member does not fence itself, and there is no other one")
