"""What all messages of lock managers have in common."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Id(NamedTuple):
    """A lock, a request or a party, everywhere: who made it, in which life, and a count that grows
    (for parties: falls, so that none has the name of a lock)."""

    member: str
    incarnation: int
    serial: int


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message. It travels as an array: its tag, then its fields in their order.

    A tag never changes its meaning, and fields are only added at the end, with defaults: so two
    neighbouring versions work together. A message that takes part in no cycle need not be walked
    by the collector.
    """
