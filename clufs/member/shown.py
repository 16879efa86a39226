"""Who shows what the registry has applied: so that a change is answered when no member shows the time before.

A command of /clu/lockfiles is applied by every member at the same place in the order of all messages,
but not in the same instant. Each tells the asker how far it has come, and all others when it has
entered a view. Who does not tell for SHOWN_S is not waited for: it stood still for longer than its lease,
and asks whether its view still holds before it shows anything, or it is out of the view.
"""

from __future__ import annotations

from collections.abc import Iterable

from clufs.errors import GarbageReceived

_INDEX_BYTES = 8


class Shown:
    """How far other members have come, by peer id; nobody ever goes back."""

    def __init__(self) -> None:
        self._reached: dict[int, int] = {}

    def heard(self, member: int, body: bytes) -> None:
        """A member told. Raises GarbageReceived."""
        if len(body) != _INDEX_BYTES:
            raise GarbageReceived(f"an index of {len(body)} bytes")
        index = int.from_bytes(body, "big")
        self._reached[member] = max(index, self._reached.get(member, 0))

    def by_all(self, members: Iterable[int], index: int) -> bool:
        """Whether all of these have applied the entry of this index."""
        return all(self._reached.get(one, 0) >= index for one in members)


def told(index: int) -> bytes:
    """What `heard` understands."""
    return index.to_bytes(_INDEX_BYTES, "big")
