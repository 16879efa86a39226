"""Byte ranges: which part of what a resource block names a lock is on.

Two locks stand in each other's way where their modes are incompatible and their ranges meet.
What has a range is judged by what is granted alone, as fcntl(2) has it: nobody waits for those
who wait before, or a process would be part of a deadlock that it has nothing to do with. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

LAST_BYTE = 2**63 - 1
"""Where a range ends that goes on to the end of the file, whatever is appended."""

Span = tuple[int, int]
"""First and last byte."""

Spans = tuple[Span, ...]
"""In order, disjoint, and no two of them touch."""

WHOLE: Spans = ((0, LAST_BYTE),)


class Ranges(NamedTuple):
    """The bytes that a lock is on. side: for whom: locks of one side never exclude each other."""

    side: str
    spans: Spans


def exclude(one: Ranges | None, other: Ranges | None) -> bool:
    """Whether locks on these ranges exclude each other where their modes do; None is all of it."""
    if one is None or other is None:
        return True
    return one.side != other.side and meet(one.spans, other.spans)


def meet(one: Spans, other: Spans) -> bool:
    """Whether a byte is in both."""
    if len(one) > len(other):
        one, other = other, one
    for first, last in one:
        at = bisect_right(other, (last, LAST_BYTE))
        if at and other[at - 1][1] >= first:
            return True
    return False


def union(*several: Iterable[Span]) -> Spans:
    """All bytes that are in any."""
    found: list[Span] = []
    for first, last in sorted(span for spans in several for span in spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def without(spans: Spans, first: int, last: int) -> Spans:
    """The same less the bytes from `first` to `last`."""
    found: list[Span] = []
    for begin, end in spans:
        if end < first or begin > last:
            found.append((begin, end))
            continue
        if begin < first:
            found.append((begin, first - 1))
        if end > last:
            found.append((last + 1, end))
    return tuple(found)


def covers(spans: Spans, first: int, last: int) -> bool:
    """Whether all bytes from `first` to `last` are in it."""
    at = bisect_right(spans, (first, LAST_BYTE))
    return at > 0 and spans[at - 1][1] >= last


def first_met(spans: Spans, first: int, last: int) -> Span | None:
    """The first span with a byte from `first` to `last`."""
    return next((span for span in spans if span[1] >= first and span[0] <= last), None)
