"""A LUN without persistent reservations is taken from a lost member: the cluster lock disk of the older systems. Pure.

    on every LUN of clufs   the tombstone is written; a majority of them must have it
    by one path             LOGICAL UNIT RESET   ends all commands, and whoever had reserved has no more
                            RESERVE(6)           from now on the LUN serves this path alone
                            CLEAR TASK SET       ends what came in between; not every array has it
    by every path           a session that is nobody's writes no blocks: it must meet a conflict, which is the proof
    by the first            RESERVE(6) once more: no reset was heard of since the first

The reservation is no registration. It ends with our session, with any reset, and with the array's power, and then the
LUN is open to everybody, to the lost one, too. So the certificate is of a moment, and says for how long it holds: as
long as the reservation stands. `Holding` renews it until the lost member is known to be off. A lost member of clufs
that lives does not break it: it resets nothing, and after the reset that it hears of, which comes with its first
command, it reads the tombstones before it writes (`entering`). What it has sent and not yet got through is what the
reservation keeps out. A kernel that drives a LUN itself is another matter: it resets a LUN that does not answer. So
only sessions of our own (iscsi://) go this way.

While it stands nobody else uses the LUN, neither by our other paths nor on other members.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from clufs.errors import LunError, NotFenced, NotSupported
from clufs.limits import FENCE_ROUNDS_MAX
from clufs.storage.carrier import Management
from clufs.storage.certificate import MemberKey, Unproven
from clufs.storage.commands import Release6, Reserve6
from clufs.storage.fencing import majority
from clufs.storage.steps import Sent

RESERVE, RELEASE = Sent(Reserve6()), Sent(Release6())


@dataclass(frozen=True, slots=True)
class Reserve:
    """Send RESERVE(6) by this path; the answer is how many resets, of whatever kind, were heard of there so far."""

    path: str


@dataclass(frozen=True, slots=True)
class Manage:
    """Do this to the LUN, by this path; the answer is nothing."""

    path: str
    what: Management


@dataclass(frozen=True, slots=True)
class Witness:
    """Write no blocks by this path, in a session that is nobody's; the answer is whether that met a conflict."""

    path: str


Effect = Reserve | Manage | Witness
_Steps = Generator[Effect, Any, "LockCertificate"]


@dataclass(frozen=True, slots=True)
class LockCertificate:
    """At `time_ns` (wall clock) `lun` was reserved for `path` of `by`, and had refused all others by `witnesses`.

    It keeps `victim` out as long as that reservation stands, and no longer. cleared: what the victim had under way was
    ended; otherwise a write that came in between the reset and the reservation may still reach the medium. resets: how
    many `path` had heard of when it was reserved.
    """

    lun: str
    victim: int
    by: int
    time_ns: int
    path: str
    cleared: bool
    witnesses: tuple[str, ...]
    unproven: tuple[Unproven, ...] = ()
    resets: int = 0

    @property
    def how(self) -> str:
        """What was done, and for how long it holds."""
        ended = "commands ended" if self.cleared else "commands of before the reset ended"
        return (
            f"reset and reserved, {ended}; holds until that session, the power or a reset ends it"
        )

    def line(self) -> str:
        """All of it as one line."""
        head = (
            f"LUN={self.lun} VICTIM={self.victim:#018x} BY={self.by:#018x} TIME_NS={self.time_ns}"
        )
        refused = " ".join(f"REFUSED_BY={one}" for one in self.witnesses)
        unproven = " ".join(one.line() for one in self.unproven)
        return " ".join(
            filter(None, (f"{head} HOW={self.how} RESERVED_BY={self.path}", refused, unproven))
        )


class _Again(LunError):
    """The LUN was reset by somebody else meanwhile."""


@dataclass(slots=True)
class Taking:
    """One LUN, for one life of a member. Methods return what is to be done at once.

    paths: ours to it, the best first. end: the certificate, or why there is none.
    """

    key: MemberKey
    victim: MemberKey
    disks: Sequence[str]
    lun: str
    paths: Sequence[str]
    now_ns: Callable[[], int]
    end: LockCertificate | NotFenced | None = None
    _disks: dict[str, bool] = field(default_factory=dict)
    _running: _Steps | None = None
    _awaits: Effect | None = None

    def buried(self, disk: str, error: LunError | None) -> list[Effect]:
        """The tombstone is on that disk, or could not be written."""
        self._disks[disk] = error is None
        if self._running is not None or self.end is not None:
            return []
        if sum(self._disks.values()) >= majority(len(self.disks)):
            self._running = self._take()
            return self._advance(lambda: next(self._steps))
        if len(self.disks) - list(self._disks.values()).count(False) < majority(len(self.disks)):
            self.end = NotFenced(f"{self.lun}: no tombstone could be written")
        return []

    def answered(self, effect: Effect, answer: Any) -> list[Effect]:
        """It was done, or failed with a LunError."""
        if effect is not self._awaits or self.end is not None:
            return []
        if isinstance(answer, LunError):
            return self._advance(lambda: self._steps.throw(answer))
        return self._advance(lambda: self._steps.send(answer))

    @property
    def waits_for(self) -> str:
        """What has not been answered."""
        if self._running is None:
            return f"{self.lun}: the tombstone"
        return f"{self.lun} by {self._awaits.path}" if self._awaits is not None else self.lun

    @property
    def _steps(self) -> _Steps:
        assert self._running is not None
        return self._running

    def _advance(self, step: Callable[[], Effect]) -> list[Effect]:
        try:
            self._awaits = step()
            return [self._awaits]
        except StopIteration as end:
            self.end = end.value
        except NotFenced as failure:
            self.end = failure
        self._awaits = None
        return []

    # ----------------------------------------------------------- the sequence

    def _take(self) -> _Steps:
        why = {}
        for _ in range(FENCE_ROUNDS_MAX):
            for path in self.paths:
                try:
                    return (yield from self._take_by(path))
                except NotFenced:
                    raise
                except LunError as error:
                    why[path] = f"{path}: {error}"
        raise NotFenced(f"{self.lun}: {'; '.join(why.values()) or 'there is no path to it'}")

    def _take_by(self, path: str) -> _Steps:
        yield from self._reset(path)
        resets = yield Reserve(path)
        cleared = yield from self._clear(path)
        witnesses, unproven = yield from self._ask_witnesses()
        yield from self._look(path, resets)
        return LockCertificate(
            self.lun,
            self.victim.number,
            self.key.number,
            self.now_ns(),
            path,
            cleared,
            witnesses,
            unproven,
            resets,
        )

    def _reset(self, path: str) -> Generator[Effect, Any, None]:
        yield Manage(path, Management.RESET)

    def _look(self, path: str, resets: int) -> Generator[Effect, Any, None]:
        if (yield Reserve(path)) != resets:
            raise _Again("it was reset by somebody else meanwhile")

    def _clear(self, path: str) -> Generator[Effect, Any, bool]:
        try:
            yield Manage(path, Management.CLEAR_TASK_SET)
        except NotSupported:
            return False
        return True

    def _ask_witnesses(
        self,
    ) -> Generator[Effect, Any, tuple[tuple[str, ...], tuple[Unproven, ...]]]:
        refused, unproven = [], []
        for path in self.paths:
            try:
                conflict = yield Witness(path)
            except LunError as error:
                unproven.append(Unproven(path, str(error)))
                continue
            if not conflict:
                raise NotFenced(f"{self.lun}: it is reserved, and lets others write by {path}")
            refused.append(path)
        if not refused:
            raise LunError(f"no path shows that it is reserved: {unproven[0].why}")
        return tuple(refused), tuple(unproven)
