"""What takes a command to a LUN: the one interface of SG_IO and libiscsi, and how a busy LUN is met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from clufs.errors import LunBusy
from clufs.limits import BUSY_RETRIES_MAX, UNIT_ATTENTIONS_MAX
from clufs.storage.commands import Command
from clufs.storage.outcome import Refusal
from clufs.storage.sense import Sense, SenseKey
from clufs.timeouts import LUN_BUSY_PAUSE_S, LUN_COMMAND_S


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

    A command that meets a unit attention, or a LUN that is busy, was not begun (SAM-5, 5.3.1 and 5.14), so it
    is sent again.
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
        """As the carrier's `run`, but raises LunBusy only if the LUN is so again and again, and a Refusal for a
        unit attention only after more of them than any array has to tell."""
        attentions = busy = 0
        while True:
            try:
                return await self._carrier.run(
                    command, data, block_bytes=block_bytes, timeout_s=timeout_s
                )
            except Refusal as refusal:
                attentions += 1
                sense = refusal.sense
                again = sense.key == SenseKey.UNIT_ATTENTION and not sense.deferred
                if not again or attentions > UNIT_ATTENTIONS_MAX:
                    raise
                self._on_attention(sense)
            except LunBusy:
                busy += 1
                if busy > BUSY_RETRIES_MAX:
                    raise
                await trio.sleep(LUN_BUSY_PAUSE_S)
