"""Long work in small steps: while it is not done, others are served between two of them.

What is asked of every lock at once (a recovery, the release of all that a lost life held) would
keep everybody waiting, whomever it concerns. So it is cut into pieces of bounded work.
"""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Callable, Sequence

from clufs.dlm.grants import Effects
from clufs.dlm.guests import Guests
from clufs.dlm.interface import Effect, TurnCame
from clufs.limits import RECOVERY_STEP_LOCKS

Piece = Callable[[float], Effects]
"""Does a part of something at this time; one that has more to do puts itself in front again."""


class Turns(Guests, abc.ABC):
    """Does long work in its order, piece by piece.

    suspended: there is no view with quorum, and nothing goes on.
    _work: what is still to be done. _spent: about how many locks were worked on in this step.
    """

    __slots__ = ("_spent", "_work", "suspended")

    def __init__(self, view: int) -> None:
        super().__init__(view)
        self.suspended = False
        self._work: deque[Piece] = deque()
        self._spent = 0

    def wants_turn(self) -> bool:
        """Whether a TurnCame is of use: there is more to do, and others come first."""
        return bool(self._work) and not self.suspended

    def _turn_came(self, now: float, event: TurnCame) -> Sequence[Effect]:
        return [] if self.suspended else self._work_on(now)

    def _work_on(self, now: float) -> Effects:
        """Do as much as one step may take."""
        effects: Effects = []
        self._spent = 0
        while self._work and self._has_time():
            effects += self._work.popleft()(now)
        return effects

    def _has_time(self) -> bool:
        return self._spent < RECOVERY_STEP_LOCKS
