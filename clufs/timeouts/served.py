"""The times of LUNs that members reach through each other: a LUN's own, and how soon a change is noticed."""

from __future__ import annotations

from clufs.timeouts import LUN_COMMAND_S

SERVED_READ_S = 2 * LUN_COMMAND_S
"""A member that reads a LUN for another has so long: one of its paths may be lost on the way. A write is not bounded:
it may be done until its server has answered or is surely off."""

SERVED_S = LUN_COMMAND_S
"""So long a LUN without a path is tried through all members in turn, while none of them can just now: as long as a
command has. The time that a write waits for the fate of its server does not count."""

SERVED_AGAIN_S = 0.2
"""The pause between two such rounds, where nothing is heard that could make a difference."""

SERVED_TELL_S = 1.0
"""How often a member looks which LUNs it reaches, to tell the others where that has changed unheard."""
