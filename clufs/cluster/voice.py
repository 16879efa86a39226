"""Who speaks for the quorum disk in a round of the formation: pure, the same at every member.

The disk is a member without a process. Its id is DISK_ID; it has votes of its own; of a ring at most
one member holds it, under a ballot that no other ever has, and speaks for it in the one order.
Whoever has said the highest ballot of the round is its voice; what an earlier voice says after that
does not count. What it has said before is true all the same: it says that something is on the disk
only after it is there, and whoever takes the disk finds there all that is (clufs.storage).
"""

from __future__ import annotations

from collections.abc import Iterable

DISK_ID = 0
"""The quorum disk's, among the ids of members; corosync gives none below 1."""


class Voice:
    """member: who speaks for the disk, None if nobody does. ballot: the highest that was said."""

    __slots__ = ("ballot", "member")

    def __init__(self) -> None:
        self.member: int | None = None
        self.ballot = 0

    def here(self, sender: int, ballot: int) -> bool:
        """A member says that it holds the disk; whether that makes it the voice."""
        if ballot <= self.ballot:
            return False
        self.member, self.ballot = sender, ballot
        return True

    def gone(self, ballot: int) -> bool:
        """It is held under this ballot no more; whether it was the voice's."""
        if ballot != self.ballot:
            return False
        self.member = None
        return True

    def is_of(self, sender: int, ballot: int) -> bool:
        """Whether what this sender says for the disk counts."""
        return self.member == sender and self.ballot == ballot

    def joins(self, members: Iterable[int]) -> set[int]:
        """These members, and the disk if the one that speaks for it is among them."""
        found = set(members)
        return found | {DISK_ID} if self.member in found else found
