"""Who is registered on a LUN, as a key says it, and what proves that somebody no longer is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, order=True)
class MemberKey:
    """A reservation key: cluster and member (16 bits each), incarnation (32 bits). Never 0, which is no key.

    cluster: a number of the cluster, 1 to 65535, so that clusters that share a LUN by mistake do not take
    each other's keys for their own.
    """

    cluster: int
    member: int
    incarnation: int

    def __post_init__(self) -> None:
        """Raises ValueError for a number out of range."""
        if not (
            0 < self.cluster < 1 << 16
            and 0 <= self.member < 1 << 16
            and 0 <= self.incarnation < 1 << 32
        ):
            raise ValueError(f"no key: {self}")

    @property
    def number(self) -> int:
        """As the LUN knows it."""
        return self.cluster << 48 | self.member << 32 | self.incarnation

    @classmethod
    def of(cls, number: int) -> MemberKey | None:
        """The key of a number; None for one whose first 16 bits are 0: not a key of clufs."""
        if not number >> 48:
            return None
        return cls(number >> 48, number >> 32 & 0xFFFF, number & 0xFFFFFFFF)

    def ends(self, number: int) -> bool:
        """Is this number a key of the same member, of this life or of one before?

        Who fences a life fences those before it: what they registered may still be there.
        """
        first = self.number - self.incarnation
        return first <= number <= self.number


@dataclass(frozen=True, slots=True)
class Proof:
    """What a LUN said through one path after a fencing.

    generation: PRgeneration, which grows with every change of registrations. type: of the reservation; each bars
    the writes of those that are not registered.
    """

    path: str
    generation: int
    keys: tuple[int, ...]
    type: int

    def line(self) -> str:
        """For a person."""
        keys = ",".join(f"{key:#018x}" for key in self.keys)
        return f"PATH={self.path} GENERATION={self.generation} TYPE={self.type} KEYS={keys}"


@dataclass(frozen=True, slots=True)
class Unproven:
    """A path that did not answer, or answered with an error, and why."""

    path: str
    why: str

    def line(self) -> str:
        """For a person."""
        return f"PATH={self.path} no answer: {self.why}"


class Certificate(Protocol):
    """That a member writes nothing to a LUN any more, as far as its words go; each kind says why that is so."""

    @property
    def lun(self) -> str:
        """The LUN."""

    def line(self) -> str:
        """All of it as one line."""


@dataclass(frozen=True, slots=True)
class FenceCertificate:
    """A LUN refuses the writes of `victim` since `time_ns` (wall clock), as every path in `proofs` has shown.

    aborted: commands of the victim that were under way were ended, too (PREEMPT AND ABORT); otherwise a write
    that the LUN had taken in before may still reach the medium. already: the key was gone when we looked, or
    the answer to what took it away was lost. unproven: paths that did not answer.
    """

    lun: str
    victim: int
    by: int
    time_ns: int
    aborted: bool
    already: bool
    proofs: tuple[Proof, ...]
    unproven: tuple[Unproven, ...] = ()

    @property
    def how(self) -> str:
        """What was done to the victim's key."""
        if self.already:
            return "was gone"
        return "preempted, commands aborted" if self.aborted else "preempted"

    def lines(self) -> list[str]:
        """For a person: one line, then one for each path."""
        head = (
            f"LUN={self.lun} VICTIM={self.victim:#018x} BY={self.by:#018x} TIME_NS={self.time_ns}"
        )
        paths = [*(one.line() for one in self.proofs), *(one.line() for one in self.unproven)]
        return [f"{head} HOW={self.how}", *paths]

    def line(self) -> str:
        """All of it as one line."""
        return " ".join(self.lines())
