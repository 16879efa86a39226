"""Members, LUNs and all that goes wrong with them, from a seed: what was acknowledged is never lost."""

from __future__ import annotations

import random

import pytest

from clufs.storage.sealing import BLOCK_BYTES
from clufs.storage.shelf import Write
from clufs.timeouts import QUORUM_DISK_DEAD_S
from clufs.timeouts.lease import QUEUED_WRITE_S
from tests.storage.quorum_model import MEMBERS, Ledger, Medium, Member, Violation

STEPS = 1500
PACES_S = (0.0, 0.0, 0.001, 0.01, 0.01, 0.05)


class Story:
    """A run of the model. replaced: how many LUNs may be replaced by one that is empty."""

    def __init__(self, seed: int, luns: int, faults: float = 0.03) -> None:
        self.luck = random.Random(seed)
        self.now_s = 1000.0
        self.media = [Medium(number + 1) for number in range(luns)]
        self.ledger = Ledger(lambda: self.now_s)
        self.faults = faults
        self.replaced = 0
        self.members = [
            Member(number + 1, self.media, self.ledger, lambda: self.now_s)
            for number in range(MEMBERS)
        ]
        self.paused: dict[int, int] = {}

    def run(self, steps: int = STEPS) -> None:
        for _ in range(steps):
            self.step()
        self.finish()

    def finish(self) -> None:
        """All is well again: then the disk is there for whoever is."""
        for medium in self.media:
            medium.online = True
        for member in self.members:
            member.crash(self.luck)
        self.now_s += 2 * QUEUED_WRITE_S
        self.land()
        last = self.luck.choice(self.members)
        for _ in range(2):
            last.look()
            last.run()
            self.now_s += 2 * QUORUM_DISK_DEAD_S
        last.take()
        last.run()
        if last.tenure is None:
            raise Violation(f"the disk cannot be had any more: {last.errors[-1]}")

    def awake(self) -> None:
        """A holder that was silent for too long goes on just as another takes the disk."""
        holder, other = self.luck.sample(self.members, 2)
        if holder.tenure is None or holder.works or other.works:
            return
        other.look()
        other.run()
        self.now_s += QUORUM_DISK_DEAD_S + 0.01
        other.take()
        if not other.works or holder.tenure is None:
            return
        getattr(holder, self.luck.choice(("beat", "append", "checkpoint")))()

    def step(self) -> None:
        luck = self.luck
        self.now_s += luck.choice(PACES_S) if luck.random() < 0.99 else luck.uniform(0.5, 2.5)
        self.ledger.check_times()
        self.land()
        if luck.random() < self.faults:
            self.fault()
        member = luck.choice(self.members)
        if self.paused.get(member.number, 0) > 0:
            self.paused[member.number] -= 1
            return
        if not member.works or luck.random() < 0.1:
            self.begin(member)
        for _ in self.media:
            if member.due:
                self.advance(member)

    def begin(self, member: Member) -> None:
        luck = self.luck
        if luck.random() < 0.1:
            member.reopen()
        if member.tenure is None:
            if not member.works:
                (member.take if luck.random() < 0.3 else member.look)()
            return
        if luck.random() < 0.5:
            member.beat()
        elif not member.works:
            what = luck.choices(("append", "checkpoint", "level", "let_go"), (12, 3, 3, 0.5))[0]
            getattr(member, what)()

    def advance(self, member: Member) -> None:
        luck = self.luck
        key = luck.choice(member.due)
        if luck.random() >= self.faults:
            member.advance(key)
            return
        io = member.lanes[key].io
        if isinstance(io, Write):
            how = luck.choice(("lost", "landed", "late", "torn"))
            member.advance(key, how, luck.randint(0, len(io.data) // BLOCK_BYTES))
        else:
            member.advance(key, "lost")

    def land(self) -> None:
        for medium in self.media:
            for late in list(medium.late):
                if late.until_s <= self.now_s or self.luck.random() < 0.01:
                    medium.late.remove(late)
                    if self.luck.random() < 0.8 and late.until_s > self.now_s:
                        medium.do(late.write)

    def fault(self) -> None:
        luck = self.luck
        what = luck.choices(("crash", "pause", "awake", "lun", "replace"), (3, 3, 4, 3, 0.5))[0]
        member, medium = luck.choice(self.members), luck.choice(self.media)
        if what == "crash":
            member.crash(luck)
        elif what == "pause":
            self.paused[member.number] = luck.randint(1, 60)
        elif what == "awake":
            self.awake()
        elif what == "lun":
            medium.online = not medium.online
            if luck.random() < 0.5:
                for one in self.media:
                    one.online = True
        elif self.replaced < len(self.media) // 2:
            self.replaced += 1
            at = self.media.index(medium)
            self.media[at] = Medium(100 + self.replaced)
            for one in self.members:
                one.luns = self.media


def tell(seed: int, luns: int) -> Ledger:
    story = Story(seed, luns)
    story.run()
    return story.ledger


@pytest.mark.parametrize("luns", [1, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_nothing_acknowledged_is_lost(seed: int, luns: int) -> None:
    ledger = tell(seed, luns)
    assert ledger.took > 3 and len(ledger.sure) > 20
