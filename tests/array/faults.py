"""What goes wrong, from a seed: the same seed and the same commands in the same order give the same faults."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """The first four are of writes, the others of any command that touches the medium."""

    TORN = "torn"  # acknowledged, but only the first sectors are written
    LATE = "late"  # the reservation is looked at now, the data is written and acknowledged later
    MISDIRECTED = "misdirected"  # acknowledged, but written elsewhere
    FORGOTTEN = "forgotten"  # acknowledged, but not written
    SESSION_LOST = "session_lost"  # the connection breaks before the command is done
    ANSWER_LOST = "answer_lost"  # the connection breaks after the command was done
    RESET = "reset"  # the LUN is reset, and then does the command's initiator hear of it
    BUSY = "busy"  # nothing is done: status BUSY


OF_WRITES = (Fault.TORN, Fault.LATE, Fault.MISDIRECTED, Fault.FORGOTTEN)

LATE_S = (0.05, 0.5)
"""A late write is this late."""


@dataclass
class Faults:
    """rates: the chance of each fault, for each command. `next` are one-shot: the next command that fits has it."""

    seed: int = 0
    rates: dict[Fault, float] = field(default_factory=dict)
    next: deque[Fault] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def decide(self, write: bool) -> Fault | None:
        """The fault of a command, if any."""
        if self.next and (write or self.next[0] not in OF_WRITES):
            return self.next.popleft()
        for fault, rate in self.rates.items():
            if (write or fault not in OF_WRITES) and self.random.random() < rate:
                return fault
        return None

    def late_s(self) -> float:
        """How late a late write is."""
        return self.random.uniform(*LATE_S)
