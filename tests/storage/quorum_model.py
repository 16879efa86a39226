"""The quorum disk's protocol on modelled LUNs, one I/O after the other in whatever order a test wants.

Members are carried as `quorum_disk` carries them; what they are told is compared with what was ever
acknowledged to anybody (`Ledger`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple
from uuid import UUID

from clufs.errors import LunError, LunTimedOut, QuorumDiskLost, ShareFull
from clufs.storage.arbitration import Candidate, Life, Round, Tenure
from clufs.storage.disk_header import DiskHeader, Geometry, cluster_number
from clufs.storage.quorum import Share
from clufs.storage.sealing import BLOCK_BYTES
from clufs.storage.shelf import Io, Lane, Read, Shelf, Write
from clufs.timeouts.lease import QUEUED_WRITE_S

MEMBERS = 2
CLUSTER = "lab"
GEOMETRY = Geometry(Geometry.least_blocks(MEMBERS) + MEMBERS * 24, MEMBERS)
_EMPTY = bytes(BLOCK_BYTES)


class Violation(Exception):
    """What may never be."""


class Late(NamedTuple):
    """Whose write it was, and until when it may be done."""

    member: int
    incarnation: int
    lane: Lane
    write: Write
    until_s: float


class Medium:
    """One LUN. late: writes that failed and may still be done."""

    def __init__(self, number: int) -> None:
        self.header = DiskHeader(UUID(int=number), GEOMETRY, CLUSTER, 500, 2000)
        self.blocks: dict[int, bytes] = {}
        self.online = True
        self.late: list[Late] = []

    def do(self, io: Io, blocks: int | None = None) -> bytes:
        """blocks: only so many of a write's."""
        if isinstance(io, Read):
            found = (self.blocks.get(io.lba + at, _EMPTY) for at in range(io.count))
            return b"".join(found)
        count = len(io.data) // BLOCK_BYTES
        for at in range(count if blocks is None else blocks):
            self.blocks[io.lba + at] = io.data[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
        return b""

    def copy(self) -> Medium:
        """As it is now, for a test that goes on from here in several ways."""
        found = Medium(0)
        found.header, found.blocks = self.header, dict(self.blocks)
        return found


class Ledger:
    """What was acknowledged: the operations that everybody who takes the disk must find, in order."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.sure: list[int] = []
        self.asked = 0
        self.highest = 0
        self.took = 0
        self._clock = clock
        self._tenures: list[tuple[Member, Tenure]] = []

    def next(self) -> int:
        """The number of an operation that nobody has asked for yet."""
        self.asked += 1
        return self.asked

    def taken(self, member: Member, tenure: Tenure) -> list[int]:
        """What a member has found is what must be found from now on."""
        found = decoded(tenure.data)
        if found[: len(self.sure)] != self.sure:
            raise Violation(f"acknowledged {self.sure}, and found {found}")
        if len(found) > len(self.sure) + 1:
            raise Violation(f"at most one can be under way: {self.sure}, and found {found}")
        if tenure.ballot <= self.highest:
            raise Violation("a lower ballot was held later")
        self.sure, self.highest = found, tenure.ballot
        self.took += 1
        self._tenures.append((member, tenure))
        self.check_times()
        return list(found)

    def acknowledged(self, tenure: Tenure, operation: int) -> None:
        """An append has returned."""
        if operation in self.sure:
            return  # whoever took the disk meanwhile has found it
        if tenure.ballot < self.highest:
            raise Violation(f"{operation} was acknowledged to who had lost the disk")
        self.sure.append(operation)

    def check_times(self) -> None:
        """No two members believe at one time that it is theirs."""
        now_s = self._clock()
        believing = {
            member.number
            for member, tenure in self._tenures
            if member.tenure is tenure and tenure.sure_until_s > now_s
        }
        if len(believing) > 1:
            raise Violation("two members cast the disk's votes at one time")


def encoded(operations: list[int]) -> bytes:
    """A checkpoint, of more than one block where it has many."""
    return b"".join(b"%d," % one for one in operations) + b"." * 30 * len(operations)


def decoded(share: Share) -> list[int]:
    """The operations in what was found."""
    at_checkpoint = share.checkpoint.rstrip(b".").split(b",")[:-1]
    return [int(one) for one in (*at_checkpoint, *share.records)]


class _UnderWay:
    """A round, as `quorum_disk` has it."""

    def __init__(self, round: Round) -> None:
        self.round = round
        self.found: dict[UUID, Any] = {}
        self.left = 0
        self.lost: LunError | None = None
        self.troubles: list[str] = []
        self.over = False

    def ended(self) -> None:
        self.left -= 1
        self.over = bool(self.over or self.lost or self.left <= 0 or self.round.enough(self.found))


class _Lane:
    """What one member does on one LUN in one lane. io: its next one."""

    def __init__(self) -> None:
        self.waiting: deque[_UnderWay] = deque()
        self.now: _UnderWay | None = None
        self.steps: Generator[Io, bytes, Any] | None = None
        self.io: Io | None = None


class _Work:
    """Rounds that a member carries."""

    def __init__(self, rounds: Any, done: Callable[[Any], None], holds: bool) -> None:
        self.rounds, self.done, self.holds = rounds, done, holds
        self.under_way: _UnderWay | None = None


class Member:
    """One life after the other of one member."""

    def __init__(self, number: int, luns: list[Medium], ledger: Ledger, clock: Any) -> None:
        self.number, self.luns, self.ledger, self.clock = number, luns, ledger, clock
        self.incarnation = 0
        self.errors: list[str] = []
        self.full = False
        self.begin()

    def begin(self) -> None:
        """A new life."""
        self.incarnation += 1
        life = Life(cluster_number(CLUSTER), self.number, self.incarnation, len(self.luns))
        self.candidate = Candidate(life, self.clock)
        self.tenure: Tenure | None = None
        self.known: list[int] = []
        self.works: list[_Work] = []
        self.lanes: dict[tuple[UUID, Lane], _Lane] = {}
        self._shelves: dict[UUID, Shelf] = {}
        self.reopen()

    def reopen(self) -> None:
        """See which LUNs are there."""
        self.candidate.shelves.clear()
        for lun in self.luns:
            if lun.online:
                uuid = lun.header.uuid
                if uuid not in self._shelves:
                    self._shelves[uuid] = Shelf(
                        lun.header, self.number, self.incarnation, self.clock
                    )
                self.candidate.shelves[uuid] = self._shelves[uuid]

    def medium(self, uuid: UUID) -> Medium | None:
        """The LUN, if it is still the same one and answers."""
        return next((one for one in self.luns if one.header.uuid == uuid and one.online), None)

    # ------------------------------------------------------------ what it does

    def work(
        self, rounds: Any, done: Callable[[Any], None] = lambda _: None, holds: bool = True
    ) -> None:
        """Carry rounds. holds: an error of theirs is the end of what is held."""
        work = _Work(rounds, done, holds)
        self.works.append(work)
        self._next(work, lambda: next(rounds))

    def take(self) -> None:
        def done(tenure: Tenure) -> None:
            self.tenure = tenure
            self.known = self.ledger.taken(self, tenure)

        self.tenure = None
        self.work(self.candidate.take(), done)

    def append(self) -> None:
        tenure, operation = self.tenure, self.ledger.next()
        assert tenure is not None

        def done(_: None) -> None:
            self.ledger.acknowledged(tenure, operation)
            self.known.append(operation)

        self.work(tenure.append(b"%d" % operation), done)
        if self.full:
            self.full = False
            self.checkpoint()

    def checkpoint(self) -> None:
        assert self.tenure is not None
        self.work(self.tenure.checkpoint(encoded(self.known)))

    def beat(self) -> None:
        assert self.tenure is not None
        self.work(self.tenure.beat(), lambda _: self.ledger.check_times(), holds=False)

    def let_go(self) -> None:
        assert self.tenure is not None
        tenure, self.tenure = self.tenure, None
        self.work(tenure.let_go())

    def look(self) -> None:
        self.work(self.candidate.look())

    def level(self) -> None:
        assert self.tenure is not None
        if self.tenure.behind():
            self.work(self.tenure.level(), holds=False)

    # ------------------------------------------------------------ how it is carried

    def _next(self, work: _Work, step: Callable[[], Round]) -> None:
        """Go on until LUNs are asked, or to the end."""
        while True:
            try:
                under_way = _UnderWay(step())
            except StopIteration as ended:
                self.works.remove(work)
                work.done(ended.value)
                return
            except LunError as error:
                self.works.remove(work)
                self.errors.append(str(error))
                self.full = isinstance(error, ShareFull)
                if self.full:
                    return
                if work.holds or isinstance(error, QuorumDiskLost):
                    self.tenure = None
                return
            work.under_way = under_way
            self._begin(under_way)
            if under_way.left:
                return
            step = self._answer(work)

    def _begin(self, under_way: _UnderWay) -> None:
        luns = under_way.round.luns
        uuids = [one for one in self.candidate.shelves if luns is None or one in luns]
        under_way.left = len(uuids)
        for uuid in uuids:
            lane = self.lanes.setdefault((uuid, under_way.round.lane), _Lane())
            lane.waiting = deque(one for one in lane.waiting if not one.over)
            lane.waiting.append(under_way)
        for uuid in uuids:
            self._pick(uuid, self.lanes[uuid, under_way.round.lane])

    def _pick(self, uuid: UUID, lane: _Lane) -> None:
        """Begin what waits in a lane that is free."""
        while lane.now is None and lane.waiting:
            under_way = lane.waiting.popleft()
            if not under_way.over:
                lane.now = under_way
                lane.steps = under_way.round.steps(self._shelves[uuid])
                self._step(uuid, lane, lambda: next(lane.steps))  # type: ignore[arg-type]

    def _step(self, uuid: UUID, lane: _Lane, step: Callable[[], Io]) -> None:
        under_way = lane.now
        assert under_way is not None
        try:
            lane.io = step()
            return
        except StopIteration as ended:
            under_way.found[uuid] = ended.value
        except LunError as error:
            under_way.troubles.append(str(error))
            if isinstance(error, QuorumDiskLost):
                under_way.lost = error
        lane.now = lane.steps = lane.io = None
        under_way.ended()

    def _answer(self, work: _Work) -> Callable[[], Round]:
        under_way = work.under_way
        assert under_way is not None
        under_way.over = True
        failure = under_way.lost
        if failure is None and not under_way.round.enough(under_way.found):
            failure = LunError("; ".join(under_way.troubles) or "not enough")
        if failure is not None:
            error = failure
            return lambda: work.rounds.throw(error)
        found = dict(under_way.found)
        return lambda: work.rounds.send(found)

    @property
    def due(self) -> list[tuple[UUID, Lane]]:
        """Where an I/O is to be done."""
        return [key for key, lane in self.lanes.items() if lane.io is not None]

    def advance(self, key: tuple[UUID, Lane], how: str = "done", blocks: int = 0) -> None:
        """Do one I/O, and all that follows from it without another.

        how: done; or it failed: lost (not done), landed (done all the same), late (still to be done), torn (done
        for the first `blocks`).
        """
        uuid, name = key
        lane = self.lanes[key]
        io, medium = lane.io, self.medium(uuid)
        assert io is not None and lane.steps is not None
        steps = lane.steps
        lane.io = None
        if medium is None:
            how = "lost"
        elif how == "late" and any(self._is_of_before(one) for one in medium.late):
            how = "landed"
        if medium is not None and how in ("done", "landed", "torn"):
            data = medium.do(io, blocks if how == "torn" else None)
        if how == "done":
            self._step(uuid, lane, lambda: steps.send(data))
        else:
            if medium is not None and how == "late" and isinstance(io, Write):
                medium.late.append(self._late(name, io))
            self._step(uuid, lane, lambda: steps.throw(LunTimedOut(how)))
        self._settle(uuid, lane)

    def _settle(self, uuid: UUID, lane: _Lane) -> None:
        self._pick(uuid, lane)
        for work in list(self.works):
            if work.under_way is not None and work.under_way.over:
                self._next(work, self._answer(work))

    def _late(self, lane: Lane, io: Write) -> Late:
        return Late(self.number, self.incarnation, lane, io, self.clock() + QUEUED_WRITE_S)

    def _is_of_before(self, late: Late) -> bool:
        return late.member == self.number and late.incarnation < self.incarnation

    def crash(self, choose: random.Random) -> None:
        """The life ends between two I/Os, or in the midst of some.

        What it was writing is over when the next one begins, but for one ballot on each LUN: see `shelf`.
        """
        for (uuid, name), lane in self.lanes.items():
            medium = self.medium(uuid)
            if medium is None or not isinstance(lane.io, Write):
                continue
            how = choose.choice(("lost", "landed", "torn", "late"))
            if how == "late" and name == Lane.BALLOTS:
                medium.late.append(self._late(name, lane.io))
            elif how != "lost":
                count = len(lane.io.data) // BLOCK_BYTES
                medium.do(lane.io, choose.randint(0, count) if how == "torn" else None)
        for medium in self.luns:
            mine = [one for one in medium.late if one.member == self.number]
            ballots = [one for one in mine if one.lane == Lane.BALLOTS]
            for one in mine:
                if one not in ballots[:1]:
                    medium.late.remove(one)
                    if choose.random() < 0.5:
                        medium.do(one.write)
        self.begin()

    def run(self) -> None:
        """Carry all that is begun, in order, without a fault."""
        while self.due:
            self.advance(self.due[0])
