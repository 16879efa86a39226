"""A world in which everything may come late, out of order or never: LUNs, the LUNs of clufs, a fencer and its victim.

One step is one thing that happens: a command arrives, an answer comes, a session breaks, a write lands.
Which of them is next is drawn, so that a seed is a story. Both machines are the real ones.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from clufs.errors import LunTimedOut, PathLost, ReservationConflict
from clufs.storage import commands as c
from clufs.storage import entering, steps
from clufs.storage.certificate import FenceCertificate, MemberKey
from clufs.storage.entering import Entrance
from clufs.storage.fencing import Ask, Bury, Fencing, PathId, Target
from clufs.storage.outcome import Refusal
from tests.array.defects import Defect, unknown_action
from tests.array.nexus import Conflict, Nexus, Refused, illegal
from tests.array.reservations import Reservations

FENCER, VICTIM, OLD, LEAVER = (
    MemberKey(7, member, life) for member, life in ((1, 3), (2, 9), (2, 8), (3, 1))
)
STEPS_MAX = 600
DELAYS = (1, 1, 1, 4, 20)
PATIENCE = (0, 5, 20, 40)


@dataclass(frozen=True)
class Shape:
    """by_session: a registration ends with its session, and its key stays in the list, as in tgtd.
    loss: the chance that an answer never comes. leaves: that the holder
    of the reservation is a third member, and gives its key back, as ours do not."""

    luns: int = 1
    paths: int = 2
    disks: int = 1
    by_session: bool = False
    defects: frozenset[Defect] = frozenset()
    loss: float = 0.05
    writes: int = 12
    leaves: float = 0.0


@dataclass
class Writing:
    """A write that was let in. ended: landed or aborted."""

    nexus: Nexus
    give_up: Callable[[], None]
    ended: bool = False


@dataclass
class Lun:
    """A data LUN. let_in, landed: when (steps) it was so for writes of the victim."""

    reservations: Reservations
    writing: list[Writing] = field(default_factory=list)
    let_in: list[int] = field(default_factory=list)
    landed: list[int] = field(default_factory=list)
    certified: int | None = None


@dataclass
class Session:
    """An initiator's session at a path; what was sent in it arrives until there is a newer one."""

    nexus: Nexus
    alive: bool = True
    replaced: bool = False
    under_way: int = 0


class World:
    """One story. `run` returns when nothing more can happen."""

    def __init__(
        self,
        seed: int,
        shape: Shape = Shape(),
        fencing_of: type[Fencing] = Fencing,
        entrance_of: type[Entrance] = Entrance,
        drains: bool = True,
    ) -> None:
        self.luck = random.Random(seed)
        self.shape = shape
        self.drains = drains
        self.step = 0
        self.now = 0.0
        self.count = 0
        self.pending: list[tuple[float, int, Callable[[], None]]] = []
        ports = tuple(range(1, shape.paths + 1))
        self.luns = {f"lun{n}": Lun(Reservations(ports, shape.defects)) for n in range(shape.luns)}
        self.disks = {f"disk{n}": 0 for n in range(shape.disks)}
        self.places = [PathId(lun, f"path{port}") for lun in self.luns for port in ports]
        self.sessions: dict[tuple[str, PathId], Session] = {}
        self.entrance_of = entrance_of
        self.entrance = entrance_of(VICTIM, tuple(self.disks))
        self.writes_left = shape.writes
        self.numbers = itertools.count(1)
        targets = {
            name: Target(tuple(at.path for at in self.places if at.lun == name))
            for name in self.luns
        }
        self.fencing = fencing_of(FENCER, VICTIM, tuple(self.disks), targets, lambda: self.step)
        self._set_the_stage()

    # ------------------------------------------------------------ the stage

    def _set_the_stage(self) -> None:
        """The fencer is registered; another may hold the reservation, and leave; an older life left keys."""
        leaver = self.luck.random() < 0.4
        for at in self.places:
            keys = self.luns[at.lun].reservations.keys
            keys[self.connect("fencer", at).nexus] = FENCER.number
            if self.luck.random() < 0.2:
                keys[Nexus("before", 99, self.port(at))] = OLD.number
            if leaver:
                keys[self.connect("leaver", at).nexus] = LEAVER.number
            self.later(lambda at=at: self.enter(at))  # type: ignore[misc]
        for name, lun in self.luns.items():
            if leaver:
                self.hold(lun, "leaver", name)
                if self.luck.random() < self.shape.leaves:
                    self.leave(lun, self.luck.choice(PATIENCE))
            elif self.luck.random() < 0.8:
                self.hold(lun, "fencer", name)
        self.begin(self.luck.choice(PATIENCE))

    def hold(self, lun: Lun, who: str, name: str) -> None:
        at = next(at for at in self.places if at.lun == name)
        lun.reservations._hold(self.sessions[who, at].nexus, steps.TYPE)

    def leave(self, lun: Lun, patience: int) -> None:
        """The holder gives its key back: the LUN is reserved no more."""
        if patience:
            self.later(lambda: self.leave(lun, patience - 1))
            return
        for nexus in [one for one, key in lun.reservations.keys.items() if key == LEAVER.number]:
            message = next(steps.unregister())
            lun.reservations.change(nexus, message.command, message.data)  # type: ignore[arg-type]

    def port(self, at: PathId) -> int:
        return int(at.path.removeprefix("path"))

    def connect(self, who: str, at: PathId) -> Session:
        """A new session ends the one before: what was under way there never arrives, or is ended."""
        before = self.sessions.get((who, at))
        if before is not None:
            before.alive, before.replaced = False, True
            for one in self.luns[at.lun].writing:
                one.ended |= one.nexus == before.nexus
        isid = next(self.numbers) if self.shape.by_session else 1
        session = self.sessions[who, at] = Session(Nexus(who, isid, self.port(at)))
        return session

    # ---------------------------------------------------------------- time

    def later(self, what: Callable[[], None]) -> None:
        """Most things come soon, some very late."""
        self.count += 1
        due = self.now + self.luck.random() * self.luck.choice(DELAYS)
        heapq.heappush(self.pending, (due, self.count, what))

    def run(self) -> World:
        while self.pending and self.step < STEPS_MAX:
            self.step += 1
            self.now, _, what = heapq.heappop(self.pending)
            what()
        return self

    # ------------------------------------------------------------- the LUNs

    def send(
        self, session: Session, at: PathId, sent: steps.Sent, tell: Callable[[object], None]
    ) -> None:
        """A command goes; its answer comes while the session lives, or never."""

        answered: list[bool] = []

        def arrive() -> None:
            if session.replaced:
                return
            answer: object = self.execute(session.nexus, at, sent)
            self.later(lambda: come(answer))

        def come(answer: object) -> None:
            if session.alive:
                answered.append(True)
                tell(answer)
            elif session.nexus.name == "fencer" and not answered:
                tell(PathLost("the session is gone"))

        self.later(arrive)
        if self.luck.random() < self.shape.loss:

            def give_up() -> None:
                if session.alive and not answered:
                    answered.append(True)
                    session.alive = False
                    tell(LunTimedOut("no answer"))

            self.later(give_up)

    def execute(self, nexus: Nexus, at: PathId, sent: steps.Sent) -> object:
        lun = self.luns[at.lun]
        if isinstance(sent.command, c.PersistentReserveIn):
            return lun.reservations.read(sent.command.action)
        assert isinstance(sent.command, c.PersistentReserveOut)
        if unknown_action(self.shape.defects, sent.command):
            return Refusal("it does not know that", illegal(0x24).sense)
        try:
            change = lun.reservations.change(nexus, sent.command, sent.data)
        except Conflict:
            return ReservationConflict("conflict")
        except Refused as refusal:
            return Refusal("refused", refusal.sense)
        for one in lun.writing:
            if one.nexus in change.aborted and not one.ended:
                one.ended = True
                self.later(one.give_up)  # nobody ever answers it
        return b""

    # ----------------------------------------------------------- the fencer

    def begin(self, patience: int) -> None:
        """Fence, sooner or later."""
        if patience:
            self.later(lambda: self.begin(patience - 1))
        else:
            self.fence(self.fencing.begin())

    def fence(self, effects: list[Bury | Ask]) -> None:
        for effect in effects:
            if isinstance(effect, Bury):
                self.bury(effect.disk)
            else:
                self.ask(effect)
        for end in self.fencing.certificates:
            lun = self.luns[end.lun]
            lun.certified = self.step if lun.certified is None else lun.certified

    def ask(self, ask: Ask) -> None:
        session = self.sessions["fencer", ask.at]
        self.send(
            session,
            ask.at,
            ask.sent,
            lambda answer: self.fence(self.fencing.answered(ask, answer)),  # type: ignore[arg-type]
        )

    def bury(self, disk: str) -> None:
        """A write to a LUN of clufs; one without an answer may be done later all the same."""
        told: list[bool] = []

        def tell(error: LunTimedOut | None) -> None:
            if not told:
                told.append(True)
                self.fence(self.fencing.buried(disk, error))

        def write() -> None:
            self.disks[disk] = VICTIM.incarnation
            self.later(lambda: tell(None))

        self.later(write)
        if self.luck.random() < self.shape.loss:
            self.later(lambda: tell(LunTimedOut("no answer")))

    # ----------------------------------------------------------- the victim

    def enter(self, at: PathId) -> None:
        """Connect, again if need be, and write whenever that is allowed."""
        self.connect("victim", at)
        self.do(self.entrance.lost(at))
        self.do(self.entrance.connected(at))

    def do(self, effects: list[entering.Effect]) -> None:
        for effect in effects:
            match effect:
                case entering.Hold():
                    self.drain(effect.at)
                case Ask():
                    self.victim_asks(effect)
                case entering.Exhume():
                    self.exhume(effect)
                case entering.Open():
                    self.later(lambda at=effect.at: self.write(at))  # type: ignore[misc]
                case entering.Fenced():
                    self.later(self.live_again)
                case entering.Shut():
                    self.later(lambda at=effect.at: self.enter(at))  # type: ignore[misc]

    def live_again(self) -> None:
        """As a new incarnation, in the same sessions."""
        key = replace(self.entrance.key, incarnation=self.entrance.key.incarnation + 1)
        self.entrance = self.entrance_of(key, tuple(self.disks))
        for at in self.places:
            session = self.sessions.get(("victim", at))
            if session is not None and session.alive:
                self.do(self.entrance.connected(at))
            elif session is not None:
                self.later(lambda at=at: self.enter(at))  # type: ignore[misc]

    def drain(self, at: PathId) -> None:
        session = self.sessions["victim", at]
        if session.under_way and session.alive and self.drains:
            self.later(lambda: self.drain(at))
        elif session.alive:
            self.do(self.entrance.drained(at))

    def victim_asks(self, ask: Ask) -> None:
        session = self.sessions["victim", ask.at]
        session.under_way += 1

        def tell(answer: object) -> None:
            session.under_way -= 1
            if not session.alive:
                self.later(lambda: self.enter(ask.at))
            else:
                self.do(self.entrance.answered(ask, answer))  # type: ignore[arg-type]

        self.send(session, ask.at, ask.sent, tell)

    def exhume(self, question: entering.Exhume) -> None:
        def read() -> None:
            found = self.disks[question.disk]
            self.later(lambda: self.do(self.entrance.exhumed(question, found)))

        if self.luck.random() < self.shape.loss:
            lost = LunTimedOut("no answer")
            self.later(lambda: self.do(self.entrance.exhumed(question, lost)))
        else:
            self.later(read)

    def write(self, at: PathId) -> None:
        """Write by an open path, and go on with that; now and then look, or lose the session."""
        session = self.sessions["victim", at]
        if not self.entrance.is_open(at) or not self.writes_left:
            return
        self.writes_left -= 1
        self.send_write(session, at)
        self.later(lambda: self.write(at))
        luck = self.luck.random()
        if luck < 0.1:
            self.do(self.entrance.look(at))
        elif luck < 0.2:
            self.give_up(at)

    def look(self) -> None:
        """Later on the victim looks after its keys, and what follows happens."""
        self.step = 0
        for at in self.places:
            self.do(self.entrance.look(at))
        self.run()

    def give_up(self, at: PathId) -> None:
        """A write was not answered in time."""
        session = self.sessions["victim", at]
        if session.alive:
            session.alive = False
            self.do(self.entrance.lost(at))
            self.later(lambda: self.enter(at))

    def send_write(self, session: Session, at: PathId) -> None:
        lun = self.luns[at.lun]
        life = self.entrance.key
        session.under_way += 1

        def answer(conflict: bool) -> None:
            session.under_way -= 1
            if conflict and session.alive:
                self.do(self.entrance.conflict(at))

        def land() -> None:
            if not writing.ended:
                writing.ended = True
                if life == VICTIM:
                    lun.landed.append(self.step)
                self.later(lambda: answer(False))

        def arrive() -> None:
            if session.replaced:
                return
            if lun.reservations.bars(session.nexus, write=True):
                self.later(lambda: answer(True))
                return
            if life == VICTIM:
                lun.let_in.append(self.step)
            lun.writing.append(writing)
            self.later(land)

        writing = Writing(session.nexus, lambda: self.give_up(at))
        self.later(arrive)

    # ------------------------------------------------------------ the verdict

    def broken(self) -> str:
        """What a certificate promised and was not so; empty if all was."""
        ends: dict[str, FenceCertificate] = {one.lun: one for one in self.fencing.certificates}
        for name, lun in self.luns.items():
            if lun.certified is None:
                continue
            if any(at > lun.certified for at in lun.let_in):
                return f"{name} let a write in after its certificate"
            if ends[name].aborted and any(at > lun.certified for at in lun.landed):
                return f"a write landed on {name} after its certificate"
        return ""
