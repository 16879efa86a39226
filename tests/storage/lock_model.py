"""A LUN without persistent reservations, a fencer that takes it and its victim: everything may come late or never.

The LUN is our array's own; the fencer's sequence and the victim's are the real ones. What comes next is drawn, so that
a seed is a story.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from clufs.errors import CheckCondition, LunError, NotSupported, PathLost, ReservationConflict
from clufs.storage import commands as c
from clufs.storage import entering
from clufs.storage.carrier import Management
from clufs.storage.certificate import MemberKey
from clufs.storage.entering import Entrance
from clufs.storage.fencing import Ask, PathId
from clufs.storage.lock_disk import Effect, LockCertificate, Manage, Reserve, Taking
from clufs.storage.sense import SenseKey, Status
from tests.array.defects import Defect
from tests.array.faults import Fault, Faults
from tests.array.medium import BLOCK_BYTES, Medium
from tests.array.nexus import Nexus
from tests.array.ports import Ports
from tests.array.unit import Done, Running, Unit

FENCER, VICTIM = MemberKey(7, 1, 3), MemberKey(7, 2, 9)
DISK, LUN = "disk", "lun"
STEPS_MAX = 500
DELAYS = (1, 1, 1, 4, 20)
BLOCK = b"v" * BLOCK_BYTES


@dataclass(frozen=True)
class Shape:
    """clears: the array has CLEAR TASK SET. trouble: the chance that, before the certificate, a stranger resets the LUN
    or the fencer's session breaks. lapses: the reservation is lost after it."""

    paths: int = 2
    clears: bool = True
    trouble: float = 0.3
    lapses: bool = False
    defects: frozenset[Defect] = frozenset()
    writes: int = 25


@dataclass(eq=False)
class Session:
    """heard: it has been told of a reset since the fencer's."""

    nexus: Nexus
    alive: bool = True
    heard: bool = False
    under_way: int = 0


class World:
    """One story. broken says what a certificate promised and was not so."""

    def __init__(
        self,
        seed: int,
        shape: Shape = Shape(),
        taking_of: type[Taking] = Taking,
        entrance_of: type[Entrance] = Entrance,
        resends: bool = False,
    ) -> None:
        self.luck, self.shape, self.resends = random.Random(seed), shape, resends
        self.step, self.now, self.count = 0, 0.0, 0
        self.pending: list[tuple[float, int, Callable[[], None]]] = []
        defects = shape.defects | {Defect.NO_PERSISTENT_RESERVE}
        faults = Faults(seed, {Fault.LATE: 0.5})
        self.unit = Unit(
            0, "iqn.t", "1", Medium(64), Ports(shape.paths), (0,), faults, defects=defects
        )
        self.places = [PathId(LUN, f"path{n}") for n in range(1, shape.paths + 1)]
        self.sessions: dict[tuple[str, PathId], Session] = {}
        self.resets: dict[str, int] = {at.path: 0 for at in self.places}
        self.buried = False
        self.was_reset = False
        self.began = self.certified = self.served = self.disturbed = -1
        self.stands = False
        self.broken = ""
        self.written = 0
        self.left = shape.writes
        self.entrance_of = entrance_of
        self.entrance = entrance_of(VICTIM, [DISK])
        names = [at.path for at in self.places]
        self.taking = taking_of(FENCER, VICTIM, [DISK], LUN, names, lambda: self.step)
        for at in self.places:
            self.connect("fencer", at)
            self.later(lambda at=at: self.enter(at))  # type: ignore[misc]
        self.after(self.luck.choice((0, 5, 20)), self.bury)

    def connect(self, who: str, at: PathId) -> Session:
        """A new session ends the one before, and what was under way there."""
        before = self.sessions.get((who, at))
        nexus = Nexus(who, 1, int(at.path.removeprefix("path")))
        if before is not None:
            before.alive = False
            self.unit.leave(nexus)
        self.unit.attend(nexus)
        self.sessions[who, at] = Session(nexus, heard=self.was_reset)
        return self.sessions[who, at]

    # ---------------------------------------------------------------- time

    def later(self, what: Callable[[], None]) -> None:
        """Most things come soon, some very late."""
        self.count += 1
        due = self.now + self.luck.random() * self.luck.choice(DELAYS)
        heapq.heappush(self.pending, (due, self.count, what))

    def after(self, turns: int, what: Callable[[], None]) -> None:
        """After so many delays."""
        self.later(what if not turns else lambda: self.after(turns - 1, what))

    def run(self) -> World:
        while self.pending and self.step < STEPS_MAX and not self.broken:
            self.step += 1
            self.now, _, what = heapq.heappop(self.pending)
            what()
        return self

    # ------------------------------------------------------------- commands

    def send(
        self,
        session: Session,
        command: c.Command,
        tell: Callable[[object], None],
        attend: Callable[[], None],
    ) -> None:
        """As `carrier.Lun` does: a unit attention is told, and the command sent again, writes aside."""
        sent_knowing, life = session.heard, self.entrance.key
        session.under_way += 1

        def arrive() -> None:
            if session.alive:
                done = self.unit.execute(session.nexus, command, BLOCK)
                if session.nexus.name == "fencer":
                    self.served = self.step
                if session.nexus.name == "victim" and life == VICTIM:
                    self.let_in(command, done, sent_knowing)
                if done.land is None:
                    self.later(lambda: come(done))
                else:
                    self.land_later(session, done, come, life)

        def come(done: Done) -> None:
            if not session.alive:
                return
            session.under_way -= 1
            sense = done.sense
            if sense is not None and sense.key == SenseKey.UNIT_ATTENTION:
                session.heard = self.was_reset
                attend()
                if isinstance(command, c.Write16) and not self.resends:
                    tell(PathLost("not written"))
                else:
                    self.send(session, command, tell, attend)
            else:
                tell(_outcome(done))

        self.later(arrive)

    def land_later(
        self, session: Session, done: Done, come: Callable[[Done], None], life: MemberKey
    ) -> None:
        """A write that was let in reaches the medium, unless it is ended."""
        running, since = Running(session.nexus, 0, lambda: None), self.step
        self.unit.running.add(running)

        def land() -> None:
            if running in self.unit.running:
                self.unit.running.discard(running)
                if life == VICTIM:
                    self.landed(since)
                come(done)

        self.after(self.luck.choice((0, 0, 8)), land)

    def let_in(self, command: c.Command, done: Done, knowing: bool) -> None:
        if not isinstance(command, c.Write16) or done.status != Status.GOOD:
            return
        if self.certified >= 0 and self.stands:
            self.broken = "a write was let in while the reservation stood"
        elif self.certified >= 0 and knowing:
            self.broken = "who had heard of the reset wrote all the same"
        elif done.land is None:
            self.landed(self.step)

    def landed(self, since: int) -> None:
        """since: it was let in then."""
        self.written += 1
        end = self.taking.end
        if isinstance(end, LockCertificate) and end.cleared and self.stands:
            self.broken = "a write landed though commands had been ended"
        elif self.certified >= 0 and since < self.began:
            self.broken = "a write landed that had been let in before the fencing began"

    # ----------------------------------------------------------- the fencer

    def bury(self) -> None:
        self.buried, self.began = True, self.step
        self.fence(self.taking.buried(DISK, None))

    def fence(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self.luck.random() < self.shape.trouble:
                self.after(1, self.disturb)
            match effect:
                case Manage():
                    self.later(lambda effect=effect: self.manage(effect))  # type: ignore[misc]
                case Reserve():
                    self.reserve(effect)
                case _:
                    self.later(lambda effect=effect: self.witness(effect))  # type: ignore[misc]
        end = self.taking.end
        if isinstance(end, LockCertificate) and self.certified < 0:
            self.certified = self.step
            # What has happened at the LUN since it gave its last answer is no matter of the certificate.
            at = PathId(LUN, end.path)
            self.stands = self.unit.reserved == self.sessions["fencer", at].nexus
            if not self.stands and self.disturbed < self.served:
                self.broken = "it was certified and not reserved"
            if self.shape.lapses:
                self.after(2, self.lapse)

    def manage(self, effect: Manage) -> None:
        answer: object = None
        self.served = self.step
        if effect.what == Management.RESET:
            self.was_reset = True
            self.unit.reset()
        elif self.shape.clears:
            self.unit.abort(lambda one: True)
        else:
            answer = NotSupported("no such function")
        self.later(lambda: self.fence(self.taking.answered(effect, answer)))

    def reserve(self, effect: Reserve) -> None:
        at = PathId(LUN, effect.path)

        def attend() -> None:
            self.resets[effect.path] += 1

        def tell(answer: object) -> None:
            said = answer if isinstance(answer, LunError) else self.resets[effect.path]
            self.fence(self.taking.answered(effect, said))

        self.send(self.sessions["fencer", at], c.Reserve6(), tell, attend)

    def witness(self, effect: Effect) -> None:
        self.served = self.step
        nexus = Nexus("witness", 1, int(effect.path.removeprefix("path")))
        done = self.unit.execute(nexus, c.Write16(0, 0), b"")
        refused = done.status == Status.RESERVATION_CONFLICT
        self.later(lambda: self.fence(self.taking.answered(effect, refused)))

    def disturb(self) -> None:
        """Before the certificate: a stranger's reset, and perhaps somebody reserves the LUN then: the stranger, or what
        holds it for the fencer already; or the fencer's session breaks and is made anew."""
        if self.certified >= 0:
            return
        self.disturbed = self.step
        at = self.luck.choice(self.places)
        if self.luck.random() < 0.6:
            self.unit.reset()
            holders = (None, Nexus("stranger", 1, 1), self.sessions["fencer", self.places[0]].nexus)
            who = self.luck.choice(holders)
            if who is not None:
                self.later(lambda: self.take(who))
            return
        self.connect("fencer", at)
        self.resets[at.path] += 1
        awaited = self.taking._awaits
        if isinstance(awaited, Reserve) and awaited.path == at.path:
            lost = PathLost("the session broke")
            self.later(lambda: self.fence(self.taking.answered(awaited, lost)))

    def take(self, who: Nexus) -> None:
        """Somebody else's RESERVE(6)."""
        if self.certified < 0 and self.unit.reserved is None:
            self.disturbed, self.unit.reserved = self.step, who

    def lapse(self) -> None:
        """The fencer dies: nobody holds the LUN."""
        self.stands = False
        for at in self.places:
            self.unit.leave(self.sessions["fencer", at].nexus)

    # ----------------------------------------------------------- the victim

    def enter(self, at: PathId) -> None:
        self.connect("victim", at)
        self.do(self.entrance.lost(at))
        self.do(self.entrance.connected(at))

    def do(self, effects: list[entering.Effect]) -> None:
        for effect in effects:
            match effect:
                case entering.Hold():
                    self.drain(effect.at)
                case Ask():
                    self.ask(effect)
                case entering.Exhume():
                    self.later(lambda one=effect: self.exhume(one))  # type: ignore[misc]
                case entering.Open():
                    self.later(lambda at=effect.at: self.write(at))  # type: ignore[misc]
                case entering.Fenced():
                    self.later(self.live_again)
                case entering.Shut():
                    self.after(2, lambda at=effect.at: self.try_again(at))  # type: ignore[misc]

    def try_again(self, at: PathId) -> None:
        if not self.entrance.is_open(at):
            self.do(self.entrance.connected(at))

    def live_again(self) -> None:
        key = replace(self.entrance.key, incarnation=self.entrance.key.incarnation + 1)
        self.entrance = self.entrance_of(key, [DISK])

    def drain(self, at: PathId) -> None:
        session = self.sessions["victim", at]
        if session.alive and session.under_way and self.luck.random() < 0.9:
            self.later(lambda: self.drain(at))
        elif session.under_way:
            self.enter(
                at
            )  # what was ended is never answered: it is given up, and the session with it
        else:
            self.do(self.entrance.drained(at))

    def ask(self, ask: Ask) -> None:
        entrance = self.entrance

        def tell(answer: object) -> None:
            self.do(entrance.answered(ask, answer))  # type: ignore[arg-type]

        self.send(self.sessions["victim", ask.at], ask.sent.command, tell, self.attends(ask.at))

    def attends(self, at: PathId) -> Callable[[], None]:
        return lambda: self.do(self.entrance.reset(at))

    def exhume(self, question: entering.Exhume) -> None:
        found = VICTIM.incarnation if self.buried else -1
        self.later(lambda: self.do(self.entrance.exhumed(question, found)))

    def write(self, at: PathId) -> None:
        """Several at once, and on and on while that is allowed."""
        if not self.entrance.is_open(at) or not self.left:
            return
        self.left -= 1
        session = self.sessions["victim", at]

        def tell(answer: object) -> None:
            if isinstance(answer, ReservationConflict):
                self.do(self.entrance.conflict(at))

        self.send(session, c.Write16(3, 1), tell, self.attends(at))
        for _ in range(self.luck.choice((1, 1, 2))):
            self.later(lambda: self.write(at))
        if self.luck.random() < 0.1:
            self.later(lambda: self.enter(at))


def _outcome(done: Done) -> object:
    """What `carrier.Lun` makes of it."""
    if done.status == Status.RESERVATION_CONFLICT:
        return ReservationConflict("reserved")
    sense = done.sense
    if sense is not None:
        return CheckCondition(str(sense), sense.key, sense.asc, sense.ascq)
    return b""
