"""The member's own sequence at each path of each data LUN: what a life does before it writes there. Pure.

    hold I/O          nothing is written by this path any more, and what was under way has ended, also what a
                      life before this one sent there
    register          this life's key
    read tombstones   on a majority of the LUNs of clufs, after the registration was answered
    open I/O          only if this life has none; else it is over, and so is everything it ran

The fencer does the reverse (`fencing`): tombstone, take the key away, read the keys. Whichever comes first,
one sees the other. The same sequence is gone through for each new session, since some arrays forget a
registration with its session (and keep its key in the list: a ghost), and after a reservation conflict.

A LUN that knows no persistent reservations has no keys: there a life reads the tombstones after each reset that it
hears of, and opens I/O if nobody else has reserved the LUN. What keeps a lost one away there, `method` says.

A key that is gone from the list was taken away, by a fencer or by a person's hand, and the life is over,
unless the LUN itself has begun anew (PRgeneration fell back): then it is registered again, in this sequence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from clufs.errors import CheckCondition, LunError, ReservationConflict
from clufs.storage import steps
from clufs.storage.certificate import MemberKey
from clufs.storage.fencing import Ask, PathId, majority
from clufs.storage.reservation_data import Keys
from clufs.storage.steps import Sent


@dataclass(frozen=True, slots=True)
class Hold:
    """No write goes by this path from now on; call drained() once nothing of this member is under way there."""

    at: PathId


@dataclass(frozen=True, slots=True)
class Exhume:
    """Read on this LUN of clufs which life of this member has a tombstone; then call exhumed()."""

    at: PathId
    disk: str


@dataclass(frozen=True, slots=True)
class Open:
    """This life may write by this path."""

    at: PathId


@dataclass(frozen=True, slots=True)
class Shut:
    """This path stays held, and why; connected() tries again."""

    at: PathId
    why: str


@dataclass(frozen=True, slots=True)
class Left:
    """This life has done with this path."""

    at: PathId


@dataclass(frozen=True, slots=True)
class Fenced:
    """This life is over: it is fenced, and what it holds may be another's. Said once."""

    why: str


Effect = Hold | Ask | Exhume | Open | Shut | Left | Fenced


class _Await(Enum):
    DRAINED = 1
    TOMBSTONES = 2


class _Over(Exception):
    """This life is fenced."""


class _Forgotten(Exception):
    """The LUN knows of no registrations any more."""


_Steps = Generator["Sent | _Await", Any, None]


@dataclass(slots=True)
class _Path:
    """running: what goes on there. awaits: what it waits for: a word, or the very Ask that was sent, since
    an answer to an earlier one may come late. tombs: what the LUNs of clufs have said to the present question."""

    running: _Steps | None = None
    is_open: bool = False
    leaves: bool = False
    awaits: object = None
    tombs: dict[str, int | LunError] = field(default_factory=dict)
    questions: tuple[Exhume, ...] = ()


class Entrance:
    """One life of one member at all its paths. Methods return what is to be done, in this order.

    disks: the LUNs of clufs; without any there are no tombstones, and nobody is fenced by LUN. keyless: the LUNs that
    know no persistent reservations.
    """

    def __init__(self, key: MemberKey, disks: Sequence[str]) -> None:
        self.key = key
        self.fenced = ""
        """Why this life is over; empty while it is not."""
        self._disks = tuple(disks)
        self._paths: dict[PathId, _Path] = {}
        self._generations: dict[str, int] = {}
        self.keyless: set[str] = set()

    def is_open(self, at: PathId) -> bool:
        """May this life write there?"""
        path = self._paths.get(at)
        return path is not None and path.is_open

    # ---------------------------------------------------------------- events

    def connected(self, at: PathId) -> list[Effect]:
        """There is a session, or another try is due: go through the sequence."""
        if self.fenced:
            return []
        path = self._paths[at] = _Path()
        return self._begin(at, path, self._enter(at.lun))

    def lost(self, at: PathId) -> list[Effect]:
        """The session is gone, and with it what was under way."""
        path = self._paths.pop(at, None)
        return [Hold(at)] if path is not None and path.is_open else []

    def look(self, at: PathId) -> list[Effect]:
        """Is our key still there? Asked from time to time, and when the LUN says that something changed."""
        path = self._paths.get(at)
        if self.fenced or path is None or path.running is not None or not path.is_open:
            return []
        path.running = self._look(at.lun)
        return self._advance(at, path, None)

    def reset(self, at: PathId) -> list[Effect]:
        """The LUN was reset. Without keys that may be all that a fencer can do: what was read before it counts no
        more."""
        path = self._paths.get(at)
        if self.fenced or path is None or path.leaves:
            return []
        if at.lun not in self.keyless:
            return self.look(at)
        return self._begin(at, path, self._enter(at.lun))

    def conflict(self, at: PathId) -> list[Effect]:
        """A write by this path met a reservation conflict."""
        path = self._paths.get(at)
        if self.fenced or path is None or not path.is_open:
            return []
        return self._begin(at, path, self._look_and_enter(at.lun))

    def leave(self, at: PathId) -> list[Effect]:
        """This life ends in good order: give the key back, unless the reservation hangs on it."""
        path = self._paths.get(at)
        if self.fenced or path is None:
            return [Left(at)]
        path.leaves = True
        return self._begin(at, path, self._leave(at.lun))

    def drained(self, at: PathId) -> list[Effect]:
        """No write is under way by a path that is held."""
        return self._go_on(at, _Await.DRAINED, None)

    def exhumed(self, question: Exhume, answer: int | LunError) -> list[Effect]:
        """The latest life of this member that has a tombstone on this disk, 0 for none; or why it is not known."""
        at, path = question.at, self._paths.get(question.at)
        if path is None or not any(question is one for one in path.questions):
            return []
        path.tombs[question.disk] = answer
        known = [one for one in path.tombs.values() if isinstance(one, int)]
        if len(known) >= majority(len(self._disks)):
            path.questions = ()
            return self._go_on(at, _Await.TOMBSTONES, max(known))
        failed = [f"{name}: {one}" for name, one in path.tombs.items() if isinstance(one, LunError)]
        if len(self._disks) - len(failed) < majority(len(self._disks)):
            why = LunError(f"tombstones cannot be read: {'; '.join(failed)}")
            path.questions = ()
            return self._go_on(at, _Await.TOMBSTONES, why)
        return []

    def answered(self, ask: Ask, answer: bytes | LunError) -> list[Effect]:
        """A command of a path was answered, or failed."""
        return self._go_on(ask.at, ask, answer)

    # ----------------------------------------------------------- the sequence

    def _enter(self, lun: str) -> _Steps:
        yield _Await.DRAINED
        yield from self._register(lun)

    def _register(self, lun: str) -> _Steps:
        try:
            yield from steps.register(self.key.number, aptpl=True)
        except CheckCondition as refusal:
            if not steps.is_unknown_command(refusal):
                raise
            self.keyless.add(lun)
        else:
            self.keyless.discard(lun)
        if self._disks:
            buried = yield _Await.TOMBSTONES
            assert isinstance(buried, int)
            if buried >= self.key.incarnation:
                if lun not in self.keyless:
                    yield from steps.unregister()
                raise _Over(f"incarnation {buried} has a tombstone")
        if lun in self.keyless:
            yield steps.READY
            return
        keys = yield from steps.read_keys()
        self._judge(lun, keys)
        yield from self._clear(keys)
        yield from steps.reserve(self.key.number)

    def _leave(self, lun: str) -> _Steps:
        """With the holder's registration the reservation would end, and who was fenced could write again: such
        a key stays, and is taken away by whoever comes next (PREEMPT hands the reservation on)."""
        yield _Await.DRAINED
        if lun in self.keyless:
            return
        held = yield from steps.read_reservation()
        if held is None or held.key != self.key.number:
            yield from steps.unregister()

    def _clear(self, keys: Keys) -> Generator[Sent, bytes, None]:
        """Take away what lives before this one left behind, as some arrays keep keys of sessions that ended."""
        for key in sorted(set(keys.keys) - {self.key.number}):
            if self.key.ends(key):
                with contextlib.suppress(ReservationConflict):  # another path was faster
                    yield from steps.preempt(self.key.number, key)

    def _look(self, lun: str) -> _Steps:
        if lun in self.keyless:
            yield steps.READY
            return
        self._judge(lun, (yield from steps.read_keys()))
        if (yield from steps.read_reservation()) is None:
            yield from steps.reserve(self.key.number)

    def _look_and_enter(self, lun: str) -> _Steps:
        yield _Await.DRAINED
        with contextlib.suppress(_Forgotten):  # what follows is the answer to that
            yield from self._look(lun)
        yield from self._register(lun)

    def _judge(self, lun: str, keys: Keys) -> None:
        known = self._generations.get(lun, 0)
        if self.key.number in keys.keys:
            self._generations[lun] = max(known, keys.generation)
            return
        if keys.generation < known:
            raise _Forgotten
        raise _Over(f"{lun}: its key was taken away (generation {keys.generation})")

    # ---------------------------------------------------------------- the frame

    def _begin(self, at: PathId, path: _Path, running: _Steps) -> list[Effect]:
        """Hold a path, then go on there with something else."""
        path.running, path.is_open, path.awaits, path.questions = running, False, None, ()
        return [Hold(at), *self._advance(at, path, None)]

    def _go_on(self, at: PathId, awaited: object, answer: object) -> list[Effect]:
        path = self._paths.get(at)
        if self.fenced or path is None or path.running is None or path.awaits is not awaited:
            return []
        path.awaits = None
        return self._advance(at, path, answer)

    def _advance(self, at: PathId, path: _Path, answer: Any) -> list[Effect]:
        running = path.running
        assert running is not None
        try:
            failed = isinstance(answer, LunError)
            wanted = running.throw(answer) if failed else running.send(answer)
        except StopIteration:
            path.running = None
            if path.leaves:
                return [Left(at)]
            was_open, path.is_open = path.is_open, True
            return [] if was_open else [Open(at)]
        except LunError as error:
            return self._shut(at, path, error)
        except _Forgotten:
            return self._enter_all(at.lun)
        except _Over as over:
            return self._over(str(over))
        if isinstance(wanted, Sent):
            path.awaits = ask = Ask(at, wanted)
            return [ask]
        path.awaits = wanted
        if wanted == _Await.DRAINED:
            return []
        path.tombs = {}
        path.questions = tuple(Exhume(at, disk) for disk in self._disks)
        return list(path.questions)

    def _shut(self, at: PathId, path: _Path, error: LunError) -> list[Effect]:
        path.running = None
        if path.leaves:
            return [Left(at)]
        if path.is_open and at.lun in self.keyless and isinstance(error, ReservationConflict):
            path.is_open = False
            return [Hold(at), Shut(at, str(error))]
        if path.is_open:
            return []  # a look that failed: the next one, or a lost session, tells
        return [Shut(at, str(error))]

    def _enter_all(self, lun: str) -> list[Effect]:
        self._generations.pop(lun, None)
        effects: list[Effect] = []
        for at, path in self._paths.items():
            if at.lun == lun and not path.leaves:
                effects += self._begin(at, path, self._enter(lun))
        return effects

    def _over(self, why: str) -> list[Effect]:
        self.fenced = why
        held: list[Effect] = []
        for at, path in self._paths.items():
            path.running = None
            if path.is_open:
                path.is_open = False
                held.append(Hold(at))
        return [*held, Fenced(why)]
