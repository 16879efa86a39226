"""The six lock modes and the tables that rule them (Tru64 manual, 9.3.1 to 9.6.6)."""

from enum import IntEnum


class Mode(IntEnum):
    """A lock mode, lowest access first; CW and PR are of equal level (9.3.2)."""

    NL = 0
    CR = 1
    CW = 2
    PR = 3
    PW = 4
    EX = 5


_YES = {
    Mode.NL: (Mode.NL, Mode.CR, Mode.CW, Mode.PR, Mode.PW, Mode.EX),
    Mode.CR: (Mode.NL, Mode.CR, Mode.CW, Mode.PR, Mode.PW),
    Mode.CW: (Mode.NL, Mode.CR, Mode.CW),
    Mode.PR: (Mode.NL, Mode.CR, Mode.PR),
    Mode.PW: (Mode.NL, Mode.CR),
    Mode.EX: (Mode.NL,),
}

COMPATIBLE: tuple[tuple[bool, ...], ...] = tuple(
    tuple(granted in _YES[asked] for granted in Mode) for asked in Mode
)
"""COMPATIBLE[asked][granted] (Table 9-3)."""

INCOMPATIBLE_MASK: tuple[int, ...] = tuple(
    sum(1 << granted for granted in Mode if granted not in _YES[asked]) for asked in Mode
)
"""For each mode asked, the set of granted modes that stand in its way, as bits 1 << mode."""

_QUECVT = {
    Mode.NL: (Mode.CR, Mode.CW, Mode.PR, Mode.PW, Mode.EX),
    Mode.CR: (Mode.CW, Mode.PR, Mode.PW, Mode.EX),
    Mode.CW: (Mode.PW, Mode.EX),
    Mode.PR: (Mode.PW, Mode.EX),
    Mode.PW: (),
    Mode.EX: (),
}

QUECVT_LEGAL: tuple[tuple[bool, ...], ...] = tuple(
    tuple(to in _QUECVT[held] for to in Mode) for held in Mode
)
"""QUECVT_LEGAL[held][to] (Table 9-5)."""

_WRITES = {
    Mode.PW: (Mode.NL, Mode.CR, Mode.CW, Mode.PR, Mode.PW),
    Mode.EX: (Mode.NL, Mode.CR, Mode.CW, Mode.PR, Mode.PW, Mode.EX),
}
_READS = {
    Mode.NL: tuple(Mode),
    Mode.CR: (Mode.CR, Mode.CW, Mode.PR, Mode.PW, Mode.EX),
    Mode.CW: (Mode.CW, Mode.PR, Mode.PW, Mode.EX),
    Mode.PR: (Mode.PR, Mode.PW, Mode.EX),
    Mode.PW: (Mode.EX,),
    Mode.EX: (),
}

VALUE_EFFECT: tuple[str, ...] = tuple(
    "".join(
        "W" if to in _WRITES.get(held, ()) else "R" if to in _READS[held] else "-" for to in Mode
    )
    for held in Mode
)
"""VALUE_EFFECT[held][to] is "W", "R" or "-" (Table 9-6).

CW to PR is unspecified there and reads, as Linux does.
"""


def lowers(held: Mode, to: Mode) -> bool:
    """Whether a conversion stands in nobody's way who had none before: it is never refused."""
    return not INCOMPATIBLE_MASK[to] & ~INCOMPATIBLE_MASK[held]


def common(one: Mode, other: Mode) -> Mode:
    """The highest mode that lies in both: what somebody holds who has one of them for sure."""
    if lowers(one, other):
        return other
    return one if lowers(other, one) else Mode.CR  # CW and PR


PROTECTED_WRITE_OR_MORE = (1 << Mode.PW) | (1 << Mode.EX)
"""Modes whose holder may write the value block, as bits."""
