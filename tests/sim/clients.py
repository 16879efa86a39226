"""Those who use the locks: processes that ask, wait, lose patience, are killed."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

from clufs.dlm.interface import Asked, Owner, OwnerEnded, Request, Verb, Withdrew
from clufs.dlm.lock import Lock
from clufs.dlm.modes import PROTECTED_WRITE_OR_MORE, QUECVT_LEGAL, VALUE_EFFECT, Mode
from clufs.dlm.ranges import Ranges, union, without
from tests.sim.claims import Claim, Op

if TYPE_CHECKING:
    from tests.sim.host import Host

MODES = tuple(Mode)
SUB = b".sub/"
RANGED = b"rng/"
"""Names whose locks are on ranges of them begin so."""

_BYTES = 8
_RANGED_NAMES = 2


@dataclass(frozen=True, slots=True)
class Habits:
    """What the clients of a run like to do: probabilities, and mean times in seconds."""

    think: float
    patience: float
    hot: tuple[bytes, ...]
    private: int
    share_hot: float
    modes: tuple[int, ...]
    counter: float
    nowait: float
    quecvt: float
    invalidate: float
    notify: float
    nodeadlock: float
    several: float
    sublocks: float
    cancel: float
    exits: float
    abnormal: float
    shared: float
    groups: bool
    ranged: float


class Client(Owner):
    """One owner of locks in one life. It remembers what it was told, by name.

    ops: its requests that are not answered. claims: what it holds, as it was told.
    party: a number, as the order of sets of them does not change from process to process.
    """

    __slots__ = ("claims", "ended", "host", "name", "ops", "party", "places")

    def __init__(self, host: Host, name: str, party: int) -> None:
        super().__init__()
        self.host = host
        self.name = name
        self.party = party
        self.ops: dict[bytes, Op] = {}
        self.claims: dict[bytes, Claim] = {}
        self.places: dict[bytes, int] = {}
        self.ended = False

    @property
    def side(self) -> str:
        """Two of a member are one side: they never exclude each other."""
        return f"{self.host.life.member}.{self.host.life.incarnation}.{self.party // 2}"

    def __repr__(self) -> str:
        return f"{self.name}@{self.host.life.member}.{self.host.life.incarnation}"

    # ------------------------------------------------------------ asking

    def ask(
        self, name: bytes, request: Request, write: int = 0, parent: Lock | None = None
    ) -> None:
        world = self.host.world
        op = Op(self, name, request)
        op.write = write
        self.ops[name] = op
        world.claims.asks(op, self.claims.get(name))
        world.clock.note("ask", op)
        place = self.places.pop(name, None)
        op.comes_back = place is not None
        self.host.step(self._asked(name, request, op, parent, place))
        if not op.done and request.verb is Verb.LOCK and not op.gives_up_bytes:
            patience = world.clock.about(world.habits.patience)
            world.clock.after(patience, self.give_up, op)

    def _asked(
        self,
        name: bytes,
        request: Request,
        op: Op,
        parent: Lock | None = None,
        place: int | None = None,
    ) -> Asked:
        """For itself, or sometimes for its group: then it is stuck, and all of the group can help."""
        world = self.host.world
        group = self.host.group
        if group is None or world.clock.random.random() < 0.5:
            return Asked(self, name, request, self.party, op, parent, place)
        return Asked(self, name, request, group, op, parent, place, self.party)

    def give_up(self, op: Op) -> None:
        """It has waited long enough, or a signal came; some ask again at once for their place."""
        if op.done or self.ended or self.host.absent():
            return
        lock = self.locks.get(op.name)
        if lock is None or lock.wanted is None or self.ops.get(op.name) is not op:
            return
        world = self.host.world
        world.clock.note("withdraw", op)
        place = lock.place
        op.done = True
        del self.ops[op.name]
        world.claims.withdrew(op)
        self.host.step(Withdrew(lock))
        if place and not self.ended and world.clock.random.random() < 0.2:
            self.places[op.name] = place

    def exit(self, abnormal: bool) -> None:
        """The process ends, with everything that it holds or awaits."""
        world = self.host.world
        world.clock.note("exit", self, "abnormal" if abnormal else "clean")
        self.ended = True
        for name in self.locks:
            if abnormal:
                # A request that waits may be granted just before its end is known.
                claim = self.claims.get(name)
                certain = claim is not None and claim.modes == 1 << (claim.told or 0)
                world.claims.excuse(name, 0.0 if certain else inf)
        for op in self.ops.values():
            op.done = True
        self.ops.clear()
        self.host.step(OwnerEnded(self, abnormal))
        for claim in self.claims.values():
            world.claims.released(claim)
        self.claims.clear()

    # ------------------------------------------------------------ what comes next

    def act(self, habits: Habits, random: Random) -> None:
        """Do one thing, or nothing while it waits."""
        pick = random.random
        if pick() < habits.exits:
            self.exit(pick() < habits.abnormal)
            return
        if self.ops and pick() >= habits.several:
            return
        name = self._choose(habits, random)
        if name in self.ops:
            self._about_pending(name, habits, random)
        elif name in self.claims:
            self._with_lock(name, habits, random)
        elif name not in self.locks:
            self.ask(name, self._new(name, habits, random))

    def _new(self, name: bytes, habits: Habits, random: Random) -> Request:
        if not name.startswith(RANGED):
            return self._lock(self._mode(habits, random), habits, random)
        mode = random.choice((Mode.PR, Mode.EX, Mode.EX))
        spans = union(_span(random) for _ in range(random.choice((1, 1, 2))))
        return self._lock(mode, habits, random, ranges=Ranges(self.side, spans))

    def _choose(self, habits: Habits, random: Random) -> bytes:
        pick = random.random
        if self.locks and pick() < 0.7:
            return random.choice(list(self.locks))
        if habits.ranged and pick() < habits.ranged:
            return RANGED + b"%d" % random.randrange(_RANGED_NAMES)
        if pick() < habits.share_hot:
            return random.choice(habits.hot)
        return b"own/%s%d" % (self.host.life.member.encode(), random.randrange(habits.private))

    def _mode(self, habits: Habits, random: Random) -> Mode:
        return random.choices(MODES, habits.modes)[0]

    def _lock(self, mode: Mode, habits: Habits, random: Random, **more: Any) -> Request:
        pick = random.random
        return Request(
            Verb.LOCK,
            mode,
            nowait=pick() < habits.nowait,
            nodeadlock=pick() < habits.nodeadlock,
            notify=pick() < habits.notify,
            hint=random.randrange(100),
            **more,
        )

    def _about_pending(self, name: bytes, habits: Habits, random: Random) -> None:
        op = self.ops[name]
        if op.request.verb is not Verb.LOCK or random.random() >= habits.cancel:
            return
        if op.gives_up_bytes:
            return
        if random.random() < 0.5:
            self.give_up(op)
        else:
            self.side_ask(name, Request(Verb.CANCEL))

    def side_ask(self, name: bytes, request: Request) -> None:
        """A request beside the one that waits: a CANCEL or a release."""
        world = self.host.world
        op = Op(self, name, request)
        world.claims.asks(op, self.claims.get(name))
        world.clock.note("ask", op)
        self.host.step(self._asked(name, request, op))

    def _with_lock(self, name: bytes, habits: Habits, random: Random) -> None:
        claim, lock = self.claims[name], self.locks.get(name)
        if lock is None or lock.wanted is not None or not claim.held:
            return  # a withdrawal, a refusal or a release is on its way
        pick = random.random
        if claim.ranges is not None:
            self._with_ranges(name, claim.ranges, random)
            return
        if pick() < habits.sublocks and SUB not in name:
            below = name + SUB + random.choice((b"a", b"b"))
            if below not in self.locks:
                request = self._lock(self._mode(habits, random), habits, random)
                self.ask(below, request, parent=lock)
            return
        if pick() < 0.5:
            self.release(name, lock, claim, habits, random)
        else:
            self._convert(name, claim, habits, random)

    def _with_ranges(self, name: bytes, ranges: Ranges, random: Random) -> None:
        """Release them, or a part."""
        spans = without(ranges.spans, *_span(random))
        if not spans or random.random() < 0.5:
            self.ask(name, Request(Verb.UNLOCK))
            return
        mode = self.claims[name].told
        assert mode is not None
        self.ask(name, Request(Verb.LOCK, mode, ranges=Ranges(ranges.side, spans)))

    def release(
        self, name: bytes, lock: Lock, claim: Claim, habits: Habits, random: Random
    ) -> None:
        below = any(other.startswith(name + SUB) for other in self.locks)
        if below:
            if random.random() < 0.3:
                self.ask(name, Request(Verb.UNLOCK))
            elif not any(other.startswith(name + SUB) for other in self.ops):
                self._release_below(name)
            return
        sure = claim.modes == 1 << claim.told
        may_write = sure and PROTECTED_WRITE_OR_MORE >> claim.told & 1
        if may_write and random.random() < habits.counter:
            self._write(name, Verb.UNLOCK, Mode.NL)
        else:
            invalidate = bool(may_write) and random.random() < habits.invalidate
            self.ask(name, Request(Verb.UNLOCK, invalidate=invalidate))

    def _release_below(self, name: bytes) -> None:
        for other, claim in self.claims.items():
            if other.startswith(name + SUB):
                self.host.world.claims.rests(claim)
        self.ask(name, Request(Verb.UNLOCK_ALL))

    def _write(self, name: bytes, verb: Verb, mode: Mode) -> None:
        write = self.host.world.claims.next_write()
        self.ask(name, Request(verb, mode, value=b"%d" % write), write)

    def _convert(self, name: bytes, claim: Claim, habits: Habits, random: Random) -> None:
        mode = self._mode(habits, random)
        held = claim.told
        sure = claim.modes == 1 << held
        if sure and VALUE_EFFECT[held][mode] == "W" and random.random() < habits.counter:
            self._write(name, Verb.LOCK, mode)
            return
        quecvt = QUECVT_LEGAL[held][mode] and random.random() < habits.quecvt
        self.ask(name, self._lock(mode, habits, random, quecvt=quecvt))


def _span(random: Random) -> tuple[int, int]:
    first = random.randrange(_BYTES)
    return first, random.randrange(first, _BYTES)
