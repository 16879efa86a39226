"""What must never happen, watched from outside: only by what the edges ask and are told.

A claim is what a holder may rely on. It begins with the grant that the edge is told, shrinks when
the holder asks to release or convert, and ends with the answer, or when its machine is surely off:
a life that is paused, cut off or crashed keeps its claims until it is fenced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clufs.dlm.interface import Life, Request, Verb
from clufs.dlm.modes import COMPATIBLE, INCOMPATIBLE_MASK, Mode, lowers
from clufs.dlm.ranges import Ranges, exclude
from tests.sim.clock import Clock, Violation

CLASH = tuple(
    tuple(
        all(not COMPATIBLE[mode][kept] for kept in Mode if modes >> kept & 1)
        for modes in range(1 << len(Mode))
    )
    for mode in Mode
)
"""CLASH[mode][modes]: a grant in `mode` hurts a claim to one of `modes`, a mask, whichever it is."""

EXCLUDES_WRITERS = (1 << Mode.CW) | (1 << Mode.PR) | (1 << Mode.PW) | (1 << Mode.EX)
"""While a lock of these modes is held, nobody else may write."""


class Op:
    """One request, from the asking to its answer. What was known of the name when it was asked
    is the floor: nothing older may be told. write: the number of the value it writes, 0 if none.
    order: of all askings. comes_back: it takes the place of an earlier request again.
    """

    __slots__ = (
        "asked_at", "before", "claim", "client", "comes_back", "done", "excused", "floor_number",
        "floor_valseq", "floor_write", "lock", "modes", "name", "order", "queued", "request", "write",
    )  # fmt: skip

    def __init__(self, client: Any, name: bytes, request: Request) -> None:
        self.client, self.name, self.request = client, name, request
        self.lock: Any = None
        self.claim: Claim | None = None
        self.done = self.queued = self.excused = self.comes_back = False
        self.write = self.before = self.modes = self.order = 0
        self.asked_at = 0.0
        self.floor_number = self.floor_valseq = self.floor_write = 0

    def __repr__(self) -> str:
        request = self.request
        words = [word for word in ("nowait", "quecvt", "invalidate") if getattr(request, word)]
        value = [] if request.value is None else [f"value={request.value[:12].decode()}"]
        head = request.mode.name if request.verb is Verb.LOCK else request.verb.value
        ranges = [] if request.ranges is None else [str(request.ranges.spans)]
        return f"{self.client} {self.name.decode()} {' '.join([head, *words, *value, *ranges])}"

    @property
    def gives_up_bytes(self) -> bool:
        """A conversion of a lock on ranges, which cannot be taken back."""
        return self.claim is not None and self.request.ranges is not None


@dataclass(slots=True, eq=False)
class Claim:
    """modes: one of these, as a mask, is what the holder relies on. held: it does rely on it.

    sure: the lock manager has it in some mode, whatever else happens. ranges: the bytes relied on.
    """

    life: Life
    owner: str
    name: bytes
    modes: int
    told: Mode | None
    number: int = 0
    held: bool = False
    sure: bool = False
    ranges: Ranges | None = None

    def __repr__(self) -> str:
        told = "-" if self.told is None else self.told.name
        return f"{self.owner}@{self.life.member}.{self.life.incarnation} {told} {self.number:#x}"


@dataclass(slots=True)
class Name:
    """What is known of one resource, for ever.

    told: for each mode the highest sequencer that a grant in it was told with.
    number, valseq: the highest told. seen: what was told with each VALSEQ.
    asked, stored: the last value that a holder asked to write; the last that is known stored.
    wiped: values up to this one may have gone with the last lock of the resource.
    doubtful: values of which it is not known which was written last.
    sure: how many locks are held for certain. excused: an invalid value has a reason,
    and the last one came up at excused_at. waiting: who was told that it waits, and how many had
    asked for anything by then. overtaken: those of them that ought to have been granted before another.
    """

    claims: dict[Claim, None] = field(default_factory=dict)
    told: list[int] = field(default_factory=lambda: [-1] * len(Mode))
    number: int = -1
    valseq: int = -1
    seen: dict[int, tuple[bytes, bool]] = field(default_factory=dict)
    asked: int = 0
    stored: int = 0
    wiped: int = 0
    doubtful: set[int] = field(default_factory=set)
    sure: int = 0
    excused: bool = False
    excused_at: float = -1.0
    waiting: dict[Op, int] = field(default_factory=dict)
    overtaken: dict[Op, Op] = field(default_factory=dict)


def gives_up(op: Op) -> bool:
    """The conversion is to a mode that stands in nobody's way who had none before."""
    claim = op.claim
    return claim is not None and claim.told is not None and lowers(claim.told, op.request.mode)


def _is_aslant(op: Op) -> bool:
    """A conversion between CW and PR: a lost master may have granted it and let others in that the
    old mode excludes. Whoever is refused it by the next master may find those in the way."""
    told, mode = op.claim.told if op.claim else None, op.request.mode
    return told is not None and not lowers(told, mode) and not lowers(mode, told)


class Claims:
    """The oracle of a run. Every method raises Violation when its rule is broken."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.names: dict[bytes, Name] = {}
        self.of_life: dict[Life, dict[Claim, None]] = {}
        self.over: set[Life] = set()
        self.doomed: set[Life] = set()
        self.somebody_was_lost = False
        self.grants = self.reads = self.invalid_reads = 0
        self._writes = self._asked = 0

    def name(self, name: bytes) -> Name:
        found = self.names.get(name)
        if found is None:
            found = self.names[name] = Name()
        return found

    # ------------------------------------------------------------ asking

    def next_write(self) -> int:
        self._writes += 1
        return self._writes

    def asks(self, op: Op, claim: Claim | None) -> None:
        """The edge passes a request on; the holder relies on less from now on."""
        known = self.name(op.name)
        op.asked_at = self.clock.now
        self._asked = op.order = self._asked + 1
        op.floor_number, op.floor_valseq, op.floor_write = known.number, known.valseq, known.stored
        op.excused = known.excused
        op.claim = claim
        request = op.request
        if request.invalidate:
            self.excuse(op.name)
        if op.write:
            op.before, known.asked = known.asked, op.write
            if not known.sure or op.client.host.life in self.doomed:
                known.wiped = op.write  # it was said to be lost, and writes all the same
        if claim is None:
            return
        op.modes = claim.modes
        if op.gives_up_bytes:
            claim.ranges = request.ranges
        if request.verb is Verb.LOCK:
            claim.modes |= 1 << request.mode
        elif request.verb is Verb.UNLOCK:
            self._rests(claim, known)
            self._unsure(claim, known)

    def _rests(self, claim: Claim, known: Name) -> None:
        """Nothing is relied on any more, unless a refusal brings it back."""
        if claim.held:
            claim.held = False
            del known.claims[claim]

    def _holds(self, claim: Claim, known: Name) -> None:
        if not claim.held:
            claim.held = True
            known.claims[claim] = None

    def _unsure(self, claim: Claim, known: Name) -> None:
        if claim.sure:
            claim.sure = False
            known.sure -= 1
            if not known.sure:
                known.wiped = known.asked

    def _sure(self, claim: Claim, known: Name) -> None:
        if not claim.sure:
            claim.sure = True
            known.sure += 1

    def rests(self, claim: Claim) -> None:
        """It is being released with the lock above it."""
        known = self.name(claim.name)
        self._rests(claim, known)
        self._unsure(claim, known)

    def excuse(self, name: bytes, until: float = 0.0) -> None:
        """From now on, at least as long, there is a reason why its value may be invalid."""
        known = self.name(name)
        known.excused, known.excused_at = True, max(self.clock.now, until, known.excused_at)

    # ------------------------------------------------------------ answers

    def queued(self, op: Op) -> None:
        """The edge is told that `op` waits at its master: no new lock that it does not go with and that is
        asked from now on comes before it (9.3.3); one that it goes with is told sooner, maybe. Ranges
        have no such order."""
        if op.request.mode is not Mode.NL and op.request.ranges is None and not op.comes_back:
            self.name(op.name).waiting.setdefault(op, self._asked)

    def _overtakes(self, known: Name, op: Op) -> None:
        """Unless those that had waited before end without a grant, too, which is not told yet."""
        for other, asked in list(known.waiting.items()):
            if other.done or other.client.host.life in self.doomed:
                del known.waiting[other]
            elif asked < op.order and not COMPATIBLE[op.request.mode][other.request.mode]:
                known.overtaken[other] = op

    def granted(self, life: Life, owner: str, op: Op, lock: Any) -> Claim:
        """The edge is told that `op` is granted."""
        if life in self.over:
            raise Violation(f"{op} is granted in {life}, which is fenced")
        known = self.name(op.name)
        mode, number = lock.granted, lock.number
        if mode is not op.request.mode:
            raise Violation(f"{op} is granted in {mode}")
        claim = op.claim
        fresh = claim is None
        if fresh and mode is not Mode.NL and not op.comes_back and life not in self.doomed:
            self._overtakes(known, op)
        if op in known.overtaken:
            raise Violation(f"{op} is granted, and before was {known.overtaken[op]}, asked later")
        if claim is None:
            claim = Claim(life, owner, op.name, 0, None, ranges=op.request.ranges)
            self.of_life.setdefault(life, {})[claim] = None
        self._check_claims(known, op, claim, mode)
        for other in known.claims:
            if other is not claim and other.number == number:
                raise Violation(f"{op} is granted as {number}, and so is {other}")
        certain = fresh or op.modes == 1 << claim.told  # or an earlier conversion was withdrawn
        self._check_number(known, op, claim, mode, number, certain and claim.told is not mode)
        claim.modes, claim.told, claim.number = 1 << mode, mode, number
        self._holds(claim, known)
        if life not in self.doomed:
            self._sure(claim, known)
        self.grants += 1
        if op.write:
            self._stored(known, op)
        excludes_writers = EXCLUDES_WRITERS >> mode & 1
        if claim.ranges is None and (life not in self.doomed or excludes_writers):
            self._read(known, op, excludes_writers, lock.rsb)
        return claim

    def _check_claims(self, known: Name, op: Op, claim: Claim, mode: Mode) -> None:
        for other in known.claims:
            clash = other is not claim and CLASH[mode][other.modes]
            if clash and exclude(claim.ranges, other.ranges):
                raise Violation(f"{op}: {mode.name} is granted, and so is {other}")

    def _check_number(
        self, known: Name, op: Op, claim: Claim, mode: Mode, number: int, changed: bool
    ) -> None:
        if claim.ranges is not None:
            return  # those of one block may be told in any order, as long as they are on other bytes
        if not changed:
            if number < claim.number:
                raise Violation(f"{op}: sequencer {number} after {claim.number}")
        else:
            # A life that is left behind and has not heard of it goes on in its old view.
            floor = max(claim.number, -1 if claim.life in self.doomed else op.floor_number)
            for other in Mode:
                if INCOMPATIBLE_MASK[mode] >> other & 1 and known.told[other] > floor:
                    # An own earlier grant may be the highest: it is below in any case.
                    floor = known.told[other]
            if number <= floor:
                raise Violation(f"{op}: sequencer {number:#x} after {floor:#x}")
        known.told[mode] = max(known.told[mode], number)
        known.number = max(known.number, number)

    def _stored(self, known: Name, op: Op) -> None:
        host = op.client.host
        if host.view is not None and host.life not in self.doomed:
            known.stored = max(known.stored, op.write)
        # else its release is told before any master has heard of it, and may be lost with the life
        if known.excused_at < op.asked_at:
            known.excused = False

    def _read(self, known: Name, op: Op, excludes_writers: int, block: Any) -> None:
        value, valid, valseq = block.value, block.valid, block.valseq
        left_behind = op.client.host.life in self.doomed
        self.reads += 1
        if valseq < op.floor_valseq and not left_behind:
            raise Violation(f"{op} reads VALSEQ {valseq:#x} after {op.floor_valseq:#x}")
        before = known.seen.setdefault(valseq, (value, valid))
        if before != (value, valid):
            raise Violation(f"{op} reads {(value, valid)} where {valseq:#x} was {before}")
        known.valseq = max(known.valseq, valseq)
        if not valid:
            self.invalid_reads += 1
            if not op.excused and known.excused_at < op.asked_at and not self.somebody_was_lost:
                raise Violation(f"{op} reads an invalid value, and nothing has happened")
            return
        if not value:
            if op.floor_write > known.wiped:
                raise Violation(f"{op} reads nothing; {op.floor_write} was stored before")
            return
        write = int(value.split()[0])
        if write < op.floor_write:
            raise Violation(f"{op} reads {write} as valid; {op.floor_write} was stored before")
        if excludes_writers:
            if write != known.asked and write not in known.doubtful:
                raise Violation(f"{op} reads {write} as valid; {known.asked} was written last")
            known.doubtful.clear()
            known.asked = write
        if not left_behind:
            known.stored = max(known.stored, write)

    def done(self, op: Op) -> None:
        """An UNLOCK, UNLOCK_ALL or CANCEL took effect."""
        if op.write:
            self._stored(self.name(op.name), op)

    def refused(self, op: Op, cancelled: bool) -> None:
        """The request changed nothing, or its lock is gone (and `released` comes).

        cancelled: it was taken back. Who wanted to give something up has it no more for certain.
        """
        claim = op.claim
        known = self.name(op.name)
        if op.write and cancelled:
            known.doubtful |= {op.before, op.write}
        elif op.write and known.asked == op.write:
            known.asked = op.before
        if claim is None or op.request.verb not in (Verb.LOCK, Verb.UNLOCK):
            return
        if not (cancelled and gives_up(op)) and not (self.somebody_was_lost and _is_aslant(op)):
            claim.modes = op.modes
        if claim in self.of_life.get(claim.life, ()):
            if claim.modes == 1 << claim.told:
                self._check_claims(known, op, claim, claim.told)
            self._holds(claim, known)
            self._sure(claim, known)

    def withdrew(self, op: Op) -> None:
        """A conversion is given up while its answer may be on its way: which of the two modes it
        has is not known to the holder, who relies on what they have in common."""
        if op.write:
            known = self.name(op.name)
            known.doubtful |= {op.before, op.write}

    def released(self, claim: Claim) -> None:
        """The lock is gone."""
        known = self.name(claim.name)
        self._rests(claim, known)
        self._unsure(claim, known)
        self.of_life.get(claim.life, {}).pop(claim, None)

    # ------------------------------------------------------------ lives

    def lost(self, life: Life) -> None:
        """Whether its locks are still held is not known any more; its claims stand."""
        self.somebody_was_lost = True
        self.doomed.add(life)
        for claim in self.of_life.get(life, ()):
            self._unsure(claim, self.name(claim.name))

    def ended(self, life: Life) -> None:
        """The life is surely over: its machine is off, or all its holders are gone."""
        self.over.add(life)
        self.lost(life)
        for claim in self.of_life.pop(life, {}):
            self._rests(claim, self.name(claim.name))
