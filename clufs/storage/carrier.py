"""What takes a command to a LUN: the one interface of SG_IO and libiscsi, and how unit attentions are met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from clufs.limits import UNIT_ATTENTIONS_MAX
from clufs.storage.commands import Command
from clufs.storage.outcome import Refusal
from clufs.storage.sense import Sense, SenseKey
from clufs.timeouts import LUN_COMMAND_S


class Carrier(Protocol):
    """One path to one LUN. `path` is its name for people, the same after every reconnection."""

    @property
    def path(self) -> str:
        """Device or URL."""

    async def run(
        self,
        command: Command,
        data: bytes = b"",
        *,
        block_bytes: int = 512,
        timeout_s: float = LUN_COMMAND_S,
    ) -> bytes:
        """Send a command with its data, and return what came back.

        Raises LunError: those of `outcome.check`, LunTimedOut and PathLost.
        """


class Lun:
    """A path whose unit attentions are fetched, told to `on_attention`, and not taken for failures.

    A command that meets a unit attention was not begun (SAM-5, 5.14), so it is sent again.
    """

    def __init__(
        self, carrier: Carrier, on_attention: Callable[[Sense], None] = lambda _: None
    ) -> None:
        self._carrier = carrier
        self._on_attention = on_attention

    @property
    def path(self) -> str:
        """The carrier's."""
        return self._carrier.path

    async def run(
        self,
        command: Command,
        data: bytes = b"",
        *,
        block_bytes: int = 512,
        timeout_s: float = LUN_COMMAND_S,
    ) -> bytes:
        """As the carrier's `run`, without unit attentions. More than any array has to tell are an error."""
        for _ in range(UNIT_ATTENTIONS_MAX):
            try:
                return await self._carrier.run(
                    command, data, block_bytes=block_bytes, timeout_s=timeout_s
                )
            except Refusal as refusal:
                if refusal.sense.key != SenseKey.UNIT_ATTENTION or refusal.sense.deferred:
                    raise
                self._on_attention(refusal.sense)
        return await self._carrier.run(command, data, block_bytes=block_bytes, timeout_s=timeout_s)
