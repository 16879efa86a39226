"""What a formation keeps of the quorum disk. Pure."""

from __future__ import annotations

from clufs.cluster.formation_messages import DiskGone, DiskHere, DiskVouched
from clufs.cluster.voice import Voice


class DiskPart:
    """voice: who speaks for the disk in this round. ballot: under which this member holds it, 0 if it does not.

    caster: the process on whose word the disk votes in this ring.
    """

    __slots__ = ("_asked", "_me", "ballot", "caster", "voice")

    def __init__(self, me: int) -> None:
        self._me = me
        self.ballot = 0
        self.caster: tuple[int, int] | None = None
        self.begin()

    def begin(self) -> None:
        """A round begins."""
        self.voice = Voice()
        self._asked = 0

    def asks(self) -> bool:
        """Whether this member is to have the disk vouch now: it is the voice, and has not done so."""
        if not self.voice.is_of(self._me, self.ballot) or self._asked == self.ballot:
            return False
        self._asked = self.ballot
        return True

    def drop(self) -> int:
        """This member holds it no more; under which ballot it did."""
        gone, self.ballot = self.ballot, 0
        if self.caster is not None and self.caster[0] == self._me:
            self.caster = None
        return gone

    def said(self, sender: int, message: DiskHere | DiskGone | DiskVouched) -> bool:
        """A member said this for the disk in this round; whether it counts."""
        if isinstance(message, DiskHere):
            return self.voice.here(sender, message.ballot)
        if isinstance(message, DiskGone):
            counts = self.voice.gone(message.ballot)
            if self.caster is not None and self.caster[0] == sender != self.voice.member:
                self.caster = None
            return counts
        counts = self.voice.is_of(sender, message.ballot)
        if counts:
            self.caster = (sender, dict(message.round[1])[sender])
        return counts
