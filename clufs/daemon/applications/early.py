"""Messages that come before what they speak of: they wait until the registry has brought it here.

Each member applies the registry in its own time, while a message goes straight. So who has just
registered a resource could order its start before the planner has heard of it, the member that is to
start it might not have its script yet, and who was told that a start succeeded might still read OFFLINE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from clufs.daemon.applications.messages import Ask, JobOver, Message, Order

Spoken = Ask | Order | JobOver
"""The messages that say how far their sender's registry was."""


class Early:
    """Holds back what came too early. applied: the index of the last command that is applied here.

    hear: gets each message once that index has reached what its sender had applied.
    """

    def __init__(self, applied: Callable[[], int], hear: Callable[[str, Message], None]) -> None:
        self._applied = applied
        self._hear = hear
        self._held: list[tuple[str, int, Spoken]] = []

    def take(self, sender: str, life: int, message: Message) -> None:
        """A message came from this life of a member; it is heard now, or when its time has come."""
        if isinstance(message, Spoken) and message.applied > self._applied():
            self._held.append((sender, life, message))
        else:
            self._hear(sender, message)

    def reached(self) -> None:
        """The registry may have come further."""
        if not self._held:
            return
        held, self._held = self._held, []
        for sender, life, message in held:
            self.take(sender, life, message)

    def forget(self, lives: Mapping[str, int]) -> None:
        """Whoever is not among these lives does not wait for an answer any more."""
        self._held = [one for one in self._held if lives.get(one[0]) == one[1]]
