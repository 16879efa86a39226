"""What is told of locks and resource blocks when another member is to master them."""

from __future__ import annotations

from typing import NamedTuple

from clufs.dlm.interface import Request
from clufs.dlm.modes import Mode
from clufs.dlm.said import Id


class HeldCopy(NamedTuple):
    """A granted lock as its home knows it.

    least: what the lost master can have left of it, if all took effect that is on its way.
    """

    lock: Id
    parent: Id | None
    granted: Mode
    least: Mode
    number: int
    request: Request
    notified: bool
    age_ms: int
    pid: int
    command: str
    party: Id


class BlockCopies(NamedTuple):
    """The granted locks of one home on a resource block, and the value that it was told last.

    is_final: the master itself said that this value is the last one. writer: the lock that could
    still write it then.
    """

    name: bytes
    value: bytes
    valid: bool
    valseq: int
    locks: tuple[HeldCopy, ...]
    is_final: bool = False
    writer: Id | None = None


class LastWord(NamedTuple):
    """The value block as its master leaves it, and the lock that may yet write it."""

    name: bytes
    value: bytes
    valid: bool
    valseq: int
    writer: Id | None = None
