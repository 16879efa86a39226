"""The fencer's sequence: how a life of a member is kept from every data LUN, and how that is proved. Pure.

    on every LUN of clufs   the tombstone is written; a majority of them must have it
    on every path           meanwhile: make sure that the LUN is reserved; then, once the tombstone stands,
                            PREEMPT (AND ABORT); then READ KEYS and READ RESERVATION, both at once

Why it is enough: who registers a key looks for its tombstone afterwards, before it writes (`entering`). If it
registered before we read the keys, we see it and take it away again; if it did so later, the tombstone was
there before. Majorities of the LUNs of clufs share one. So after the certificate nothing that the victim
sends is let in, whatever it does; what was let in before is ended by the abort, where the array has one.

All LUNs and paths go side by side. A tombstone takes three round trips (`OwnLun.evict` looks before and
after), so a fencing takes five in sequence; one more where FUA is refused, or where nobody knew yet that the
array has no PREEMPT AND ABORT.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard, TypeVar

from clufs.errors import LunError, NotFenced, ReservationConflict
from clufs.limits import FENCE_ROUNDS_MAX
from clufs.storage import steps
from clufs.storage.certificate import FenceCertificate, MemberKey, Proof, Unproven
from clufs.storage.reservation_data import Keys, Reservation
from clufs.storage.steps import Sent, Steps

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class PathId:
    """A path of a LUN, by their names."""

    lun: str
    path: str

    def __str__(self) -> str:
        return f"{self.lun} by {self.path}"


@dataclass(frozen=True, slots=True)
class Bury:
    """Write the tombstone on this LUN of clufs, safe from power failure; then call buried()."""

    disk: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a command; then call answered()."""

    at: PathId
    sent: Sent


@dataclass(frozen=True, slots=True)
class Target:
    """A data LUN: our paths to it. aborts: False where the array is known to have no PREEMPT AND ABORT."""

    paths: tuple[str, ...]
    aborts: bool = True


_TOMBSTONE = ()
"""Yielded by a path that goes no further until the tombstone stands."""

_PathSteps = Generator[tuple[Sent, ...], tuple[bytes, ...], "_Seen"]
"""What one path does: commands that go at once, side by side, and all their answers."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one path did and saw. taken: the keys that it took away -> were their commands aborted?"""

    taken: Mapping[int, bool]
    keys: Keys
    held: Reservation | None


@dataclass(slots=True)
class _Lun:
    """How far one LUN is. preempted, aborted: the victim's key. gap: it was found without a reservation."""

    target: Target
    rounds: int = 0
    seen: dict[str, _Seen] = field(default_factory=dict)
    failed: dict[str, LunError] = field(default_factory=dict)
    preempted: bool = False
    aborted: bool = False
    gap: bool = False
    end: FenceCertificate | NotFenced | None = None


def majority(disks: int) -> int:
    """How many of the LUNs of clufs a tombstone must be written to, and be looked for on."""
    return disks // 2 + 1


def _one_by_one(wanted: Steps[T]) -> Generator[tuple[Sent, ...], tuple[bytes, ...], T]:
    """Steps as a path takes them."""
    try:
        sent = next(wanted)
        while True:
            try:
                (answer,) = yield (sent,)
            except LunError as error:
                sent = wanted.throw(error)
            else:
                sent = wanted.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _prepare(key: int) -> Steps[None]:
    """A LUN without a reservation lets in what no abort ends later."""
    if (yield from steps.read_reservation()) is None:
        yield from steps.reserve(key)


def _take_away(key: int, victims: Sequence[int], aborts: bool) -> _PathSteps:
    taken: dict[int, bool] = {}
    for victim in victims:
        # It is not there, or we are not: the keys say which.
        with contextlib.suppress(ReservationConflict):
            taken[victim] = yield from _one_by_one(steps.preempt(key, victim, aborts))
    first, second = yield (steps.READ_KEYS, steps.READ_RESERVATION)
    return _Seen(taken, steps.keys_of(first), steps.reservation_of(second))


class Fencing:
    """One fencing of one life. Methods return what is to be done at once, side by side.

    luns: the data LUNs by name. disks: the LUNs of clufs. results: of each LUN that is finished.
    """

    def __init__(
        self,
        key: MemberKey,
        victim: MemberKey,
        disks: Sequence[str],
        luns: Mapping[str, Target],
        now_ns: Callable[[], int],
    ) -> None:
        """Raises NotFenced for who would fence its own member."""
        if (key.cluster, key.member) == (victim.cluster, victim.member):
            raise NotFenced("nobody fences itself")
        self._key = key.number
        self._victim = victim
        self._now_ns = now_ns
        self._disks: dict[str, LunError | None] = {}
        self._wanted = tuple(disks)
        self._luns = {name: _Lun(target) for name, target in luns.items()}
        self._running: dict[PathId, _PathSteps] = {}
        self._asked: dict[PathId, dict[int, bytes | LunError | None]] = {}
        self._waiting: set[PathId] = set()

    # ------------------------------------------------------------ what is so

    @property
    def done(self) -> bool:
        """Is every LUN finished, and the tombstone written or given up?"""
        ended = all(lun.end is not None for lun in self._luns.values())
        return ended and (self._stands or bool(self.unburied))

    @property
    def unburied(self) -> str:
        """Why no tombstone can stand any more; empty while one may."""
        failed = {name: why for name, why in self._disks.items() if why is not None}
        if len(self._wanted) - len(failed) >= majority(len(self._wanted)) or not self._wanted:
            return ""
        why = "; ".join(f"{name}: {error}" for name, error in failed.items())
        return f"no tombstone could be written: {why}"

    @property
    def certificates(self) -> tuple[FenceCertificate, ...]:
        """Of the LUNs that were fenced."""
        return tuple(
            lun.end for lun in self._luns.values() if isinstance(lun.end, FenceCertificate)
        )

    @property
    def failures(self) -> tuple[NotFenced, ...]:
        """Why others were not; each names its LUN, and the paths."""
        return tuple(why for why in self.unfenced.values() if why is not None)

    @property
    def unfenced(self) -> dict[str, NotFenced | None]:
        """The LUNs without a certificate, and why; None where the end is not known yet."""
        return {
            name: lun.end
            for name, lun in self._luns.items()
            if not isinstance(lun.end, FenceCertificate)
        }

    @property
    def is_buried(self) -> bool:
        """Does the tombstone stand?"""
        return self._stands

    @property
    def aborts(self) -> dict[str, bool]:
        """Whether the array has PREEMPT AND ABORT, for each LUN where that has shown."""
        return {name: lun.aborted for name, lun in self._luns.items() if lun.preempted}

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The LUNs of clufs, or the paths, that have not answered."""
        if not self._stands:
            return tuple(
                f"the tombstone on {one}" for one in self._wanted if one not in self._disks
            )
        return tuple(str(at) for at in sorted(self._running) if self._luns[at.lun].end is None)

    @property
    def _stands(self) -> bool:
        written = sum(error is None for error in self._disks.values())
        return not self._wanted or written >= majority(len(self._wanted))

    # ---------------------------------------------------------------- events

    def begin(self) -> list[Bury | Ask]:
        """What is done first."""
        effects: list[Bury | Ask] = [Bury(disk) for disk in self._wanted]
        for name, lun in self._luns.items():
            if not lun.target.paths:
                lun.end = NotFenced(f"{name}: there is no path to it")
            for path in lun.target.paths:
                effects += self._start(PathId(name, path), [self._victim.number])
        return effects

    def buried(self, disk: str, error: LunError | None) -> list[Bury | Ask]:
        """The tombstone is on that disk, or could not be written."""
        self._disks[disk] = error
        if self._stands:
            waiting, self._waiting = sorted(self._waiting), set()
            return [ask for at in waiting for ask in self._go_on(at, ())]
        if self.unburied:
            for name, lun in self._luns.items():
                lun.end = lun.end or NotFenced(f"{name}: {self.unburied}")
        return []

    def answered(self, ask: Ask, answer: bytes | LunError) -> list[Bury | Ask]:
        """A command was answered, or failed."""
        asked = self._asked[ask.at]
        asked[id(ask.sent)] = answer
        if any(one is None for one in asked.values()):
            return []
        answers = list(asked.values())
        errors = [one for one in answers if isinstance(one, LunError)]
        return list(self._go_on(ask.at, errors[0] if errors else tuple(filter(_is_data, answers))))

    # ------------------------------------------------------------- each path

    def _start(self, at: PathId, victims: Sequence[int]) -> list[Ask]:
        self._running[at] = self._path(victims, self._luns[at.lun].target.aborts)
        return self._advance(at, lambda: next(self._running[at]))

    def _path(self, victims: Sequence[int], aborts: bool) -> _PathSteps:
        yield from _one_by_one(_prepare(self._key))
        if not self._stands:
            yield _TOMBSTONE
        return (yield from _take_away(self._key, victims, aborts))

    def _go_on(self, at: PathId, answers: tuple[bytes, ...] | LunError) -> list[Ask]:
        running = self._running[at]
        if isinstance(answers, LunError):
            return self._advance(at, lambda: running.throw(answers))
        return self._advance(at, lambda: running.send(answers))

    def _advance(self, at: PathId, step: Callable[[], tuple[Sent, ...]]) -> list[Ask]:
        lun = self._luns[at.lun]
        if lun.end is not None:
            return []
        try:
            wanted = step()
        except StopIteration as end:
            lun.seen[at.path] = end.value
        except LunError as error:
            lun.failed[at.path] = error
        else:
            if wanted == _TOMBSTONE:
                self._waiting.add(at)
            self._asked[at] = {id(sent): None for sent in wanted}
            return [Ask(at, sent) for sent in wanted]
        del self._running[at]
        return self._judge(at.lun, lun)

    # -------------------------------------------------------------- each LUN

    def _judge(self, name: str, lun: _Lun) -> list[Ask]:
        """Once all paths have spoken: is it proved, is another round worth it, or is it over?"""
        if any(at.lun == name for at in self._running):
            return []
        if not lun.seen:
            lun.end = NotFenced(f"{name}: no path answered: {_why(lun.failed)}")
            return []
        lun.rounds += 1
        for seen in lun.seen.values():
            self._count(lun, seen)
        left = self._left(lun)
        bare = [path for path, seen in lun.seen.items() if seen.held is None]
        fenced = [path for path, seen in lun.seen.items() if self._key not in seen.keys.keys]
        if fenced:
            why = f"our own key is not registered any more, says {fenced[0]}"
        elif left:
            keys = ", ".join(f"{key:#018x}" for key in left)
            why = f"{keys} is still registered after {lun.rounds} attempts"
        elif bare:
            why = f"it does not stay reserved, says {bare[0]}"
        else:
            lun.end = self._certificate(name, lun)
            return []
        if fenced or lun.rounds == FENCE_ROUNDS_MAX:
            lun.end = NotFenced("; ".join(filter(None, (f"{name}: {why}", _why(lun.failed)))))
            return []
        paths, lun.seen = list(lun.seen), {}
        victims = left or [self._victim.number]
        return [ask for path in paths for ask in self._start(PathId(name, path), victims)]

    def _count(self, lun: _Lun, seen: _Seen) -> None:
        aborted = seen.taken.get(self._victim.number)
        lun.preempted |= aborted is not None
        lun.aborted |= bool(aborted)
        lun.gap |= seen.held is None

    def _left(self, lun: _Lun) -> list[int]:
        found = {key for seen in lun.seen.values() for key in seen.keys.keys}
        return sorted(key for key in found if self._victim.ends(key))

    def _certificate(self, name: str, lun: _Lun) -> FenceCertificate:
        proofs = [
            Proof(path, lun.seen[path].keys.generation, lun.seen[path].keys.keys, held.type)
            for path in lun.target.paths
            if path in lun.seen and (held := lun.seen[path].held) is not None
        ]
        return FenceCertificate(
            name,
            self._victim.number,
            self._key,
            self._now_ns(),
            lun.aborted and not lun.gap,
            not lun.preempted,
            tuple(proofs),
            tuple(Unproven(path, str(error)) for path, error in lun.failed.items()),
        )


def _is_data(answer: object) -> TypeGuard[bytes]:
    return isinstance(answer, bytes)


def _why(failed: Mapping[str, LunError]) -> str:
    return "; ".join(f"{path}: {error}" for path, error in failed.items())
