"""How the quorum disk is taken, held and lost: the protocol of Disk Paxos (Gafni, Lamport), with a journal. Pure.

What a member does are rounds: on each LUN the same steps, and an end as soon as enough LUNs have done
them. A round that matters writes something of ours on a LUN and then reads there what the others say.

A take begins a ballot above all others (`promised`), reads the journal of the highest ballot under which
there is one, writes it into this member's own share, says so (`accepted`), and has it if nobody has begun a
higher ballot. An append counts if afterwards nobody has begun a higher one. Why nothing is lost, and two
never both write:

- Let K append and T take later, by a higher ballot. Some LUN has both the record, written before K read the
  ballots there, and T's promise, written before T read the journal there. Either K's read came first:
  then T reads the record. Or K has seen the promise: then the append has failed, and K is out for ever.
- `accepted` is written only after the journal is on a majority, and what T reads of K's share it reads only
  where its promise stands. So T finds K's journal, or that of somebody between, who had all of K's.
- A member's own journal of before stays readable until the next one is accepted: see `journal`. It carries
  its last `accepted` on with its next promise, as a majority has it; so what a later promise of a member
  does not say any more, was held by nobody.
- Which LUNs the journal is on is said with it, by their UUIDs. A LUN that was formatted anew has another
  one and is no witness of anything: it counts from the journal on that was written to it as well, when a
  majority of the LUNs of before and one of those of now have it. In between both are needed. Only while no
  LUN says anything, all of them are needed: what is not there cannot have said something else.
- What is known to be safe is counted in the ballot: whoever finds less knows that a LUN has forgotten.

By time, no two members believe at once that they hold it: a holder believes for QUORUM_DISK_SURE_S from the
beginning of a round that succeeded. Who takes it has seen no change for QUORUM_DISK_DEAD_S, and sees again
after its own promise that there was none; a round of the holder after that sees the promise.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

from clufs.errors import LunError, QuorumDiskHeld, QuorumDiskLost, ShareFull
from clufs.limits import QUORUM_SLICE_FRAMES
from clufs.storage.ballots import (
    BallotRecord,
    Ballots,
    LunSet,
    Table,
    majorities,
    next_ballot,
)
from clufs.storage.disk_header import PAIR_BLOCKS
from clufs.storage.journal import Frame, Journal, Name, Scan, frames_of, share_of
from clufs.storage.quorum import Sight
from clufs.storage.sealing import BLOCK_BYTES
from clufs.storage.shelf import Lane, Shelf, Steps
from clufs.timeouts import QUORUM_DISK_DEAD_S, QUORUM_DISK_SURE_S

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Round:
    """Carry `steps` on every LUN, one lane at a time, until `enough` of them are done or all have ended.

    luns: on these only. What came back by then is the round's answer; LUNs that fail are not in it. Where
    there was not enough, the LunError that says so is thrown in instead.
    """

    lane: Lane
    steps: Callable[[Shelf], Steps[Any]]
    enough: Callable[[Mapping[UUID, Any]], bool]
    luns: LunSet | None = None


Rounds = Generator[Round, dict[UUID, Any], T]


@dataclass(frozen=True, slots=True)
class Life:
    """Whose the ballots are. cluster: `cluster_number` of its name. luns: how many LUNs there shall be."""

    cluster: int
    member: int
    incarnation: int
    luns: int


class Candidate:
    """One member in one life.

    shelves: of the LUNs that answer now, kept by who carries the rounds. clock: CLOCK_BOOTTIME in seconds.
    """

    def __init__(self, life: Life, clock: Callable[[], float]) -> None:
        self.life = life
        self.clock = clock
        self.shelves: dict[UUID, Shelf] = {}
        self.record: BallotRecord | None = None
        self._tenure: Tenure | None = None
        self._seen: dict[int, tuple[BallotRecord, float]] = {}
        self._highest = 0

    # ------------------------------------------------------------ looking

    def look(self) -> Rounds[Sight]:
        """See `QuorumDisk.look`. Raises nothing."""
        return (yield from self._look())[0]

    def _look(self) -> Rounds[tuple[Sight, Ballots]]:
        began_s = self.clock()
        try:
            tables = yield Round(Lane.LOOKING, Shelf.read, self._witnesses)
        except LunError as error:
            return Sight(False, str(error)), Ballots({})
        ballots = Ballots(tables)
        ended_s = self.clock()
        for member, record in ballots.latest.items():
            before = self._seen.get(member)
            if before is None or before[0] != record:
                self._seen[member] = record, ended_s
        return self._sight(ballots, began_s), ballots

    def _witnesses(self, tables: Mapping[UUID, Table]) -> bool:
        """Whether these LUNs surely have seen all that counts."""
        sets = Ballots(tables).sets
        return majorities(sets, tables) if sets else len(tables) == self.life.luns

    def _sight(self, ballots: Ballots, began_s: float) -> Sight:
        """Of who stands in the way, or else of who was the last."""
        found = Sight(True)
        for record in (ballots.top, ballots.base):
            if record is None:
                continue
            is_holder = record is ballots.top or record.may_hold
            silent_s = began_s - self._seen[record.member][1]
            alive = is_holder and silent_s < QUORUM_DISK_DEAD_S
            one = Sight(True, "", record.member, record.incarnation, alive, record.free)
            if not found.holder or not one.may_take(self.life.member):
                found = one
        return found

    # ------------------------------------------------------------ taking

    def take(self) -> Rounds[Tenure]:
        """See `QuorumDisk.take`."""
        if self._tenure is not None:
            self._tenure.end("it was taken anew")
        sight, before = yield from self._look()
        if not sight.readable:
            raise LunError(sight.why)
        if not sight.may_take(self.life.member):
            raise QuorumDiskHeld(f"member {sight.holder} holds it")
        try:
            return (yield from self._take(before))
        except LunError as error:
            if self._tenure is not None:
                self._tenure.end(str(error))
            yield from self.withdraw()
            raise

    def _take(self, before: Ballots) -> Rounds[Tenure]:
        ballot = next_ballot(max(before.highest, self._highest), self.life.member)
        self._highest = ballot
        mine = before.latest.get(self.life.member)
        mine = mine or BallotRecord(self.life.cluster, self.life.member, 0)
        self.record = replace(
            mine, incarnation=self.life.incarnation, promised=ballot, beat=0, free=False
        )
        tables = yield Round(
            Lane.BALLOTS, lambda shelf: shelf.say(self.own, PAIR_BLOCKS), self._witnesses
        )
        now = Ballots(tables)
        self._check_rivals(before, now, ballot)
        frames = yield from self._load(now)
        self._tenure = Tenure(self, ballot, frames)
        yield from self._tenure.begin(now)
        return self._tenure

    def own(self) -> BallotRecord:
        """What this member says now."""
        assert self.record is not None
        return self.record

    def target(self, luns: LunSet) -> LunSet:
        """The LUNs that a journal shall be on that was on these: other ones only when all of them are here."""
        here = frozenset(self.shelves)
        return here if len(here) == self.life.luns else luns

    def _check_rivals(self, before: Ballots, now: Ballots, ballot: int) -> None:
        """Raise QuorumDiskHeld where somebody is above us, or lived after we had judged it dead."""
        if now.highest > ballot:
            raise QuorumDiskHeld("another member is taking it")
        for member, record in now.latest.items():
            changed = record != before.latest.get(member)
            if member != self.life.member and changed and record.may_hold:
                raise QuorumDiskHeld(f"member {member} holds it and is back")

    def _load(self, ballots: Ballots) -> Rounds[list[Frame]]:
        """The journal, from those LUNs that have our promise. Raises LunError where what was safe is not there."""
        base = ballots.base
        if base is None:
            return list(frames_of(b""))
        safe = ballots.safe(base)

        def read(found: Mapping[UUID, Scan]) -> dict[UUID, Scan]:
            """Those to their end, if they are enough."""
            ended = {uuid: scan for uuid, scan in found.items() if scan.ended}
            whole = any(one.is_whole and len(one.frames) >= safe for one in ended.values())
            return ended if whole and majorities(base.sets, ended) else {}

        def enough(found: Mapping[UUID, Scan]) -> bool:
            more = not all(scan.ended for scan in found.values())
            return bool(read(found)) or (more and majorities(base.sets, found))

        begun: dict[UUID, Scan] = {}
        while True:
            try:
                found = yield Round(
                    Lane.LOOKING, lambda shelf: shelf.load(base, begun), enough, ballots.luns
                )
            except LunError as error:
                why = f"the journal of member {base.member} is not whole: {error}"
                raise LunError(why) from error
            if scans := read(found):
                return self._longest(scans)
            yield from self._still_here()

    def _still_here(self) -> Rounds[None]:
        """What takes long is no sign of death."""
        self.record = replace(self.own(), beat=self.own().beat + 1)
        tables = yield Round(Lane.BALLOTS, lambda shelf: shelf.say(self.own), self._witnesses)
        if Ballots(tables).highest > self.own().promised:
            raise QuorumDiskHeld("another member is taking it")

    @staticmethod
    def _longest(scans: Mapping[UUID, Scan]) -> list[Frame]:
        longest = max(scans.values(), key=lambda one: len(one.frames))
        if any(one.frames != longest.frames[: len(one.frames)] for one in scans.values()):
            raise LunError("the LUNs have different journals under one name")
        return longest.found

    def withdraw(self) -> Rounds[None]:
        """Say that nobody need wait for us; who does not hear it waits."""
        if self.record is None:
            return
        self.record = replace(self.record, free=True)
        with suppress(LunError):
            yield Round(
                Lane.BALLOTS,
                lambda shelf: shelf.say(self.own),
                lambda found: 2 * len(found) > self.life.luns,
            )


class Tenure:
    """The disk in this member's hands; see `Held` for what its methods, here as rounds, promise."""

    def __init__(self, candidate: Candidate, ballot: int, frames: list[Frame]) -> None:
        self.ballot = ballot
        self.data = share_of(frames)
        self.sure_until_s = 0.0
        self._candidate = candidate
        self._over = ""
        self._luns: LunSet = frozenset()
        self._journal = Journal(Name(ballot, candidate.own().generation + 1), frames)
        self._done = 0

    @property
    def luns(self) -> LunSet:
        """Those that the journal is on."""
        return self._luns

    def end(self, why: str) -> None:
        """It is over."""
        self._over = self._over or why
        self._journal.over = True

    def _look_alive(self) -> None:
        if self._over:
            raise QuorumDiskLost(self._over)

    def _judge(self, tables: Mapping[UUID, Table]) -> None:
        """Raise QuorumDiskLost if anybody has begun a higher ballot."""
        highest = Ballots(tables).highest
        if highest > self.ballot:
            self.end(f"member {highest & 0xFFFF} took it")
        self._look_alive()

    # ------------------------------------------------------------ its journal

    def begin(self, ballots: Ballots) -> Rounds[None]:
        """Install what was found as our own journal; for `Candidate.take`, which has found these ballots."""
        sets = ballots.sets
        luns = sets[-1] if sets else ballots.luns
        if len(sets) == 1:
            luns = self._candidate.target(luns)
        yield from self._install(self._journal, sets, luns)

    def _install(self, journal: Journal, old: tuple[LunSet, ...], luns: LunSet) -> Rounds[None]:
        """Have a journal accepted, in the place of the one before, which was on majorities of `old`."""
        candidate = self._candidate
        self._check_room(journal.blocks, luns)
        sets, frames = (*old, luns), len(journal.frames)
        for end in range(QUORUM_SLICE_FRAMES, frames, QUORUM_SLICE_FRAMES):
            yield from self._ship(journal, end, sets)
            yield from self._say(sets)
        yield from self._ship(journal, frames, sets)
        before = next((one for one in old if one != luns), frozenset())
        self._record(accepted=self.ballot, generation=journal.name.generation, safe=frames)
        candidate.record = candidate.own().on(luns, before)
        yield from self._say(sets, PAIR_BLOCKS)
        self._journal, self._luns, self._done = journal, luns, frames
        if before:
            candidate.record = candidate.own().on(luns)
            yield from self._say((luns,), PAIR_BLOCKS)

    def _record(self, **changes: Any) -> None:
        self._candidate.record = replace(self._candidate.own(), **changes)

    def _ship(self, journal: Journal, end: int, sets: tuple[LunSet, ...]) -> Rounds[None]:
        yield Round(
            Lane.JOURNAL,
            lambda shelf: shelf.ship(journal, end),
            lambda found: majorities(sets, found),
        )

    def _say(self, sets: tuple[LunSet, ...], times: int = 1) -> Rounds[None]:
        """Our ballot as it is now, on a majority; and nobody is above us."""
        candidate = self._candidate
        self._record(beat=candidate.own().beat + 1)
        began_s = candidate.clock()
        tables = yield Round(
            Lane.BALLOTS,
            lambda shelf: shelf.say(candidate.own, times),
            lambda found: majorities(sets, found),
        )
        self._judge(tables)
        self.sure_until_s = max(self.sure_until_s, began_s + QUORUM_DISK_SURE_S)

    def _check_room(self, blocks: int, luns: LunSet) -> None:
        """Raise LunError naming the sizes where an area of one of the LUNs is too small."""
        for shelf in self._small(blocks, luns):
            have, want = (n * BLOCK_BYTES // 1024 for n in (shelf.area_blocks, blocks))
            least_mib = -(-shelf.needs_bytes(blocks) // 2**20)
            raise LunError(
                f"a LUN of the quorum disk is too small: {want} KiB are to be journalled and a member has"
                f" room for {have} KiB; it takes {least_mib} MiB, or one formatted for fewer members"
            )

    def _small(self, blocks: int, luns: LunSet) -> list[Shelf]:
        shelves = self._candidate.shelves.values()
        return [one for one in shelves if one.uuid in luns and blocks > one.area_blocks]

    # ------------------------------------------------------------ while held

    def append(self, record: bytes) -> Rounds[None]:
        """See `Held`."""
        self._look_alive()
        journal = self._journal
        frames = list(frames_of(record))
        if self._small(journal.blocks + sum(one.blocks for one in frames), self._luns):
            raise ShareFull("the quorum disk's journal is full")
        journal.add(frames)
        yield from self._all_or_over(self._append(journal, len(journal.frames)))

    def _append(self, journal: Journal, end: int) -> Rounds[None]:
        tables = yield Round(
            Lane.JOURNAL,
            lambda shelf: shelf.append(journal, end),
            lambda found: majorities((self._luns,), found),
        )
        self._judge(tables)
        self._done = max(self._done, end)
        self._record(safe=self._done)

    def checkpoint(self, data: bytes) -> Rounds[None]:
        """See `Held`."""
        self._look_alive()
        before = self._journal
        journal = Journal(Name(self.ballot, before.name.generation + 1), frames_of(data))
        luns = self._candidate.target(self._luns)
        self._check_room(journal.blocks, luns)
        try:
            yield from self._all_or_over(self._install(journal, (self._luns,), luns))
        finally:
            journal.over = bool(self._over)
            before.over = True

    def _all_or_over(self, rounds: Rounds[None]) -> Rounds[None]:
        """What ended in the midst may have been done or not: on top of that nothing can be built."""
        why = "it was left in the midst of a write"
        try:
            yield from rounds
            why = ""
        except LunError as error:
            why = str(error)
            raise
        finally:
            if why:
                self.end(why)

    def beat(self) -> Rounds[None]:
        """See `Held`."""
        self._look_alive()
        yield from self._say((self._luns,))

    def behind(self) -> LunSet:
        """LUNs that answer and lack something of the journal."""
        journal = self._journal
        return frozenset(
            uuid
            for uuid in self._luns & self._candidate.shelves.keys()
            if self._candidate.shelves[uuid].position(journal.name) < self._done
        )

    def level(self) -> Rounds[None]:
        """Write to the LUNs that lack something what they lack."""
        behind, journal, end = self.behind(), self._journal, self._done
        self._look_alive()
        yield Round(
            Lane.JOURNAL,
            lambda shelf: shelf.ship(journal, end),
            lambda found: behind <= found.keys(),
            behind,
        )

    def let_go(self) -> Rounds[None]:
        """See `Held`."""
        self._look_alive()
        self.end("we let it go")
        yield from self._candidate.withdraw()
