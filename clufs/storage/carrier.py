"""What takes a command to a LUN: the one interface of SG_IO and libiscsi, and how a busy LUN is met."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol, runtime_checkable

import trio

from clufs.errors import LunBusy, NotSupported, PathLost
from clufs.limits import BUSY_RETRIES_MAX, UNIT_ATTENTIONS_MAX
from clufs.storage.commands import Command, CompareAndWrite, Write16
from clufs.storage.outcome import Refusal
from clufs.storage.sense import Sense, SenseKey
from clufs.timeouts import LUN_BUSY_PAUSE_S, LUN_COMMAND_S

_WRITES = (Write16, CompareAndWrite)
_RESETS = 0x29


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


class Management(IntEnum):
    """What is done to a LUN beside its commands, numbered as iSCSI does (RFC 7143, 11.5.1)."""

    CLEAR_TASK_SET = 4
    """Every command under way, of anybody, is ended; reservations stay (SAM-5, 7.5)."""
    RESET = 5
    """The same, and what RESERVE(6) has reserved is free again (SAM-5, 7.7); registrations stay."""


@runtime_checkable
class Manager(Protocol):
    """A carrier that can do this, too."""

    async def manage(self, what: Management) -> None:
        """It is done when this returns, and our own commands under way have failed with PathLost.

        Raises NotSupported where the array does not know it, LunError.
        """


class Lun:
    """A path whose unit attentions are fetched, told to `on_attention`, and not taken for failures.

    A command that meets a unit attention, or a LUN that is busy, was not begun (SAM-5, 5.3.1 and 5.14), so it
    is sent again; a write that met a reset only if `may_write` still says so when that was told: where nothing else
    keeps a lost member away, it was the word to write nothing any more.
    """

    def __init__(
        self, carrier: Carrier, on_attention: Callable[[Sense], None] = lambda _: None
    ) -> None:
        self._carrier = carrier
        self._on_attention = on_attention
        self.may_write: Callable[[], bool] = lambda: True

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
                of_reset = sense.asc == _RESETS and isinstance(command, _WRITES)
                if of_reset and not self.may_write():
                    raise PathLost(f"{self.path}: not written: {sense}") from refusal
            except LunBusy:
                busy += 1
                if busy > BUSY_RETRIES_MAX:
                    raise
                await trio.sleep(LUN_BUSY_PAUSE_S)

    async def manage(self, what: Management) -> None:
        """As the carrier's; NotSupported where it has none: the kernel lets nobody end all commands of a LUN."""
        if not isinstance(self._carrier, Manager):
            raise NotSupported(f"{self.path}: no {what.name.replace('_', ' ')}")
        await self._carrier.manage(what)
