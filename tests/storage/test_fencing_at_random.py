"""A member that writes through both its paths, and never stops, is fenced at a random moment: the array's own log
says what reached the medium after the certificate."""

from __future__ import annotations

import random

import pytest
import trio

from clufs.errors import LunError, PathLost, ReservationConflict
from clufs.storage import commands as c
from clufs.storage import reservations as r
from clufs.storage.carrier import Lun
from clufs.storage.iscsi import iscsi_lun
from tests.array.array import Array, Shape
from tests.array.defects import Defect
from tests.array.faults import LATE_S, Fault
from tests.array.medium import Written

VICTIM, FENCER = "iqn.2026-01.org.clufs:victim", "iqn.2026-01.org.clufs:fencer"
VICTIM_KEY, FENCER_KEY = r.MemberKey(1, 1, 1).number, r.MemberKey(1, 2, 1).number
WRITERS = 4
PATIENCE_S = LATE_S[1] + 0.1
"""An aborted command is never answered (TAS is 0): the victim gives up after this, and tries again."""


class Story:
    """One array, a victim with two paths, a fencer with two."""

    def __init__(self, seed: int, *defects: Defect) -> None:
        self.luck = random.Random(seed)
        self.array = Array(Shape(portals=2, seed=seed, defects=frozenset(defects)))
        self.conflicts = 0

    async def victim(self, portal: int, ready: trio.Event) -> None:
        """Write for ever; a session that broke is made anew, and nothing registered again."""
        registered = False
        while True:
            try:
                async with iscsi_lun(self.array.url(portal=portal), VICTIM, portal + 1) as carrier:
                    lun = Lun(carrier)
                    if not registered:
                        await r.register(lun, VICTIM_KEY)
                        registered = True
                        ready.set()
                    async with trio.open_nursery() as nursery:
                        for _ in range(WRITERS):
                            nursery.start_soon(self.write, lun, nursery.cancel_scope)
            except PathLost:
                continue

    async def write(self, lun: Lun, scope: trio.CancelScope) -> None:
        """One of several writers on one path."""
        while True:
            lba = self.luck.randrange(1000)
            try:
                await lun.run(c.Write16(lba, 4, fua=True), bytes(2048), timeout_s=PATIENCE_S)
            except ReservationConflict:
                self.conflicts += 1
                await trio.sleep(0.001)
            except LunError:
                scope.cancel()
                return

    async def fence(self) -> tuple[r.FenceCertificate, int]:
        """The certificate, and how long the log was when it was given."""
        first, second = (self.array.url(portal=portal) for portal in (0, 1))
        async with iscsi_lun(first, FENCER, 1) as one, iscsi_lun(second, FENCER, 2) as two:
            paths = [Lun(one), Lun(two)]
            for path in paths:
                await r.register(path, FENCER_KEY)
            await r.reserve(paths[0], FENCER_KEY)
            await trio.sleep(self.luck.uniform(0, 0.1))
            proof = await r.fence("lun0", paths, FENCER_KEY, VICTIM_KEY)
            return proof, len(self.array.units[0].medium.log)

    async def run(self) -> tuple[r.FenceCertificate, int, int]:
        """Certificate, and how many writes of the victim reached the medium before it and after it."""
        log = self.array.units[0].medium.log
        async with self.array.serving(), trio.open_nursery() as nursery:
            events = [trio.Event(), trio.Event()]
            for portal, ready in enumerate(events):
                nursery.start_soon(self.victim, portal, ready)
            for ready in events:
                await ready.wait()
            proof, length = await self.fence()
            before = self.conflicts
            # By then every late write has landed, and the victim has tried again.
            await trio.sleep(2 * PATIENCE_S)
            with trio.fail_after(30):
                while self.conflicts == before:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        written = [
            at for at, one in enumerate(log) if isinstance(one, Written) and one.who == VICTIM
        ]
        return proof, sum(at < length for at in written), sum(at >= length for at in written)


@pytest.mark.parametrize("seed", range(6))
async def test_no_write_of_a_fenced_member_reaches_the_medium(seed: int) -> None:
    story = Story(seed)
    for fault, chance in ((Fault.LATE, 0.2), (Fault.SESSION_LOST, 0.01), (Fault.ANSWER_LOST, 0.01)):
        story.array.rate(0, fault, chance)
    proof, before, after = await story.run()
    assert proof.aborted and not proof.unproven
    assert before > 0
    assert after == 0


async def test_without_abort_a_write_that_was_let_in_lands_later_and_the_certificate_says_so() -> (
    None
):
    story = Story(1, Defect.NO_PREEMPT_AND_ABORT)
    story.array.rate(0, Fault.LATE, 1.0)
    proof, _, after = await story.run()
    assert not proof.aborted
    assert 0 < after <= 2 * WRITERS


async def test_an_array_that_does_not_abort_breaks_the_promise_and_this_test_would_see_it() -> None:
    story = Story(1, Defect.DOES_NOT_ABORT)
    story.array.rate(0, Fault.LATE, 1.0)
    proof, _, after = await story.run()
    assert proof.aborted
    assert after > 0
