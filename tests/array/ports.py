"""The array's target ports, in target port groups of one each (ALUA, implicit and explicit)."""

from __future__ import annotations

from collections.abc import Callable

from clufs.storage.port_groups import AccessState, PortGroup

BY_COMMAND, BY_ITSELF = 1, 2


class Ports:
    """Relative target ports 1 to `count`; port n is in group n. `changed` is called after each transition."""

    def __init__(self, count: int) -> None:
        self.all = tuple(range(1, count + 1))
        self._states = {port: AccessState.ACTIVE_OPTIMIZED for port in self.all}
        self._why = dict.fromkeys(self.all, 0)
        self.changed: Callable[[], None] = lambda: None

    def group(self, port: int) -> int:
        """The target port group of a port."""
        return port

    def state(self, port: int) -> AccessState:
        """What may be done through it."""
        return self._states[port]

    def set(self, group: int, state: int, asked: bool) -> bool:
        """Change a group's state. False if there is no such group, or it cannot be asked for that."""
        allowed = range(AccessState.ACTIVE_OPTIMIZED, AccessState.UNAVAILABLE + 1)
        if group not in self._states or (asked and state not in allowed):
            return False
        if self._states[group] != state:
            self._states[group] = AccessState(state)
            self._why[group] = BY_COMMAND if asked else BY_ITSELF
            self.changed()
        return True

    def report(self) -> tuple[PortGroup, ...]:
        """All groups."""
        return tuple(
            PortGroup(
                preferred=port == 1,
                state=self._states[port],
                can_transition=True,
                can_unavailable=True,
                can_standby=True,
                can_non_optimized=True,
                can_optimized=True,
                group=self.group(port),
                why=self._why[port],
                ports=(port,),
            )
            for port in self.all
        )
