"""Who counts as fenced by time alone: silence on a majority, for long enough, of one whose watchdog is hardware.

A model of whole machines puts the rule against clocks that drift, beats that come late, LUNs that fail on either
side, and writes that lie in queues: no write of a life lands after time has certified its end. Each part of the rule
is left out once, to see that it is needed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from clufs.errors import NotFenced
from clufs.storage import time_rule
from clufs.storage.certificate import MemberKey
from clufs.storage.lease import DiskWatch, Lease, OnDisk
from clufs.storage.lease_wire import Seen
from clufs.storage.records import LeaseState, MemberRecord
from clufs.storage.slots import Pair, Slot
from clufs.storage.time_rule import NotYet, TimeCertificate, silence
from clufs.timeouts.lease import CLOCK_DRIFT, QUEUED_WRITE_S, LeaseTimeline

VICTIM = MemberKey(7, 2, 9)
LINE = LeaseTimeline(1.0, 6.0)
NOW_S = 1000.0


def seen(silent_s: float, **other: object) -> Seen:
    """A record of the victim that stands still."""
    record = Seen(
        2, OnDisk.DEAD, LeaseState.IN, 0, True, 1, 9, 55, 4, 0, NOW_S - silent_s, silent_s
    )
    record = replace(record, io_timeout_ms=1000, watchdog_ms=6000)
    return replace(record, **other)  # type: ignore[arg-type]


LONG = LINE.takeover_s + 0.5


def test_a_silence_of_the_takeover_time_on_the_one_lun_is_proof() -> None:
    (proof,) = silence(VICTIM, {"disk": seen(LONG)}, NOW_S)
    assert (proof.sequence, proof.needed_s) == (55, pytest.approx(14 * 1.01 + 30))
    line = TimeCertificate("lun", VICTIM.number, 1, 5, (proof,)).line()
    assert "HOW=its hardware watchdog has fired, if it works: silent for 44.1 s and more" in line
    assert line.endswith("DISK=disk SEQUENCE=55 SILENT_S=44.6")


def test_a_goodbye_is_as_good_after_the_life_of_a_queued_write_whoever_guards() -> None:
    ended = {"on_disk": OnDisk.ENDED, "guarded": False}
    (proof,) = silence(VICTIM, {"disk": seen(QUEUED_WRITE_S, **ended)}, NOW_S)
    line = TimeCertificate("lun", VICTIM.number, 1, 5, (proof,)).line()
    assert "HOW=it has said goodbye: silent for 30.0 s and more" in line
    assert line.endswith("SEQUENCE=55 STATE=ENDED SILENT_S=30.0")
    with pytest.raises(NotYet):
        silence(VICTIM, {"disk": seen(QUEUED_WRITE_S - 1, **ended)}, NOW_S)
    both = {"a": seen(LONG), "b": seen(QUEUED_WRITE_S, **ended), "c": None}
    assert len(silence(VICTIM, both, NOW_S)) == 2


def test_before_that_it_is_said_how_long_it_takes() -> None:
    with pytest.raises(NotYet, match=r"4\.0 s are left") as early:
        silence(VICTIM, {"disk": seen(LINE.takeover_s - 4)}, NOW_S)
    assert early.value.left_s == pytest.approx(4)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"guarded": False}, "no hardware watchdog guards it"),
        ({"flaws": 1}, "something is wrong with its slot"),
        ({"on_disk": OnDisk.ABSENT}, "no record of it"),
        ({"incarnation": 8}, "of incarnation 8"),
        ({"incarnation": 10}, "incarnation 10 of it has been seen"),
    ],
)
def test_a_record_that_proves_nothing_leaves_it_to_a_person(
    other: dict[str, object], why: str
) -> None:
    with pytest.raises(NotFenced, match=why) as refusal:
        silence(VICTIM, {"disk": seen(LONG, **other)}, NOW_S)
    assert not isinstance(refusal.value, NotYet)


def test_nothing_is_proved_without_luns_of_clufs_or_without_a_look() -> None:
    for disks in ({}, {"disk": None}, {"a": seen(LONG), "b": None, "c": None}):
        with pytest.raises(NotFenced, match="time proves nothing"):
            silence(VICTIM, disks, NOW_S)


def test_two_of_three_luns_are_enough_unless_it_lives_on_the_third() -> None:
    two = {"a": seen(LONG), "b": seen(LONG)}
    assert len(silence(VICTIM, {**two, "c": None}, NOW_S)) == 2
    # Ours to the third LUN broke long ago: what it showed then is no sign of life now.
    old = seen(1.0, changed_s=NOW_S - LONG)
    with pytest.raises(NotYet):
        silence(VICTIM, {**two, "c": old}, NOW_S)
    for alive in (seen(1.0), seen(1.0, flaws=1), seen(1.0, guarded=False)):
        with pytest.raises(NotYet):
            silence(VICTIM, {**two, "c": alive}, NOW_S)


# ----------------------------------------------------------------- whole machines


@dataclass
class Machine:
    """The victim on its own clock: beats, a lease, a watchdog, and writes that lie in queues.

    landed_s, in true time: its last write reached a data LUN then.
    """

    rate: float
    luns: int
    lease: Lease
    sequences: list[int]
    petted_s: float | None = None
    off: bool = False
    landed_s: float = 0.0


@dataclass
class Story:
    """One run in true time, by small steps; what a story draws is in its seed.

    guarded: the watchdog is real, and the record says so.
    """

    seed: int
    luns: int = 3
    guarded: bool = True
    says_guarded: bool = True
    rule: Callable[..., object] = silence
    queued_s: float = QUEUED_WRITE_S
    certified_s: float = 0.0
    luck: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.luck = random.Random(self.seed)

    def run(self) -> Story:
        luck, line = self.luck, LINE
        drift = CLOCK_DRIFT / 2
        theirs = Machine(
            1 + luck.uniform(-drift, drift), self.luns, Lease(self.luns, line), [0] * self.luns
        )
        ours = 1 + luck.uniform(-drift, drift)
        watches = [DiskWatch() for _ in range(self.luns)]
        cut_s = [luck.uniform(5, 30) if luck.random() < 0.8 else 1e9 for _ in range(self.luns)]
        blind = luck.randrange(self.luns) if luck.random() < 0.4 and self.luns > 1 else -1
        stops_s = luck.uniform(10, 60) if luck.random() < 0.7 else 1e9
        next_beat, next_look, next_rule = [0.0] * self.luns, [0.0] * self.luns, 0.0
        now_s = 0.0
        while now_s < 200 and not self.certified_s:
            now_s += 0.25
            self._victim(theirs, now_s, cut_s, stops_s, next_beat)
            for number, watch in enumerate(watches):
                if number != blind and now_s >= next_look[number]:
                    next_look[number] = now_s + line.renew_s + luck.choice((0, 0, 0, 1, 7))
                    self._look(watch, theirs.sequences[number], now_s * ours)
            if now_s >= next_rule:
                next_rule = now_s + luck.uniform(0, 5)
                self._judge(watches, now_s, now_s * ours)
        self._later(theirs, now_s, cut_s, stops_s, next_beat)
        self.landed_s = theirs.landed_s
        return self

    def _later(self, theirs: Machine, now_s: float, *rest: object) -> None:
        """What the victim still does once it is certified."""
        for step in range(600):
            self._victim(theirs, now_s + step / 4, *rest)  # type: ignore[arg-type]

    def _victim(
        self,
        machine: Machine,
        now_s: float,
        cut_s: list[float],
        stops_s: float,
        next_beat: list[float],
    ) -> None:
        clock_s = now_s * machine.rate
        if machine.off:
            return
        fires_s = machine.petted_s is not None and clock_s >= machine.petted_s + LINE.watchdog_s
        if fires_s and self.guarded:
            machine.off = True
            return
        # What it hands over now may land as late as the kernel lets it.
        machine.landed_s = max(machine.landed_s, now_s + self.luck.uniform(0, self.queued_s))
        if now_s >= stops_s:
            return  # it stands still, and what it has handed over goes on
        for number in range(machine.luns):
            if clock_s >= next_beat[number] and now_s < cut_s[number]:
                next_beat[number] = clock_s + LINE.renew_s
                machine.sequences[number] += 1
                machine.lease.renewed(number, clock_s)
        if machine.lease.may_pet(clock_s):
            machine.petted_s = clock_s

    def _look(self, watch: DiskWatch, sequence: int, clock_s: float) -> None:
        if not sequence:
            return
        record = MemberRecord(
            7,
            2,
            9,
            io_timeout_ms=1000,
            watchdog_ms=6000,
            state=LeaseState.IN,
            guarded=self.says_guarded,
        )
        slot = Slot(Pair(sequence, record), Pair(0, None))
        watch.looked(clock_s, clock_s + 0.01, [(2, slot)])

    def _judge(self, watches: list[DiskWatch], now_s: float, clock_s: float) -> None:
        disks = {
            str(number): Seen.of(2, watch.sights[2]) if 2 in watch.sights else None
            for number, watch in enumerate(watches)
        }
        try:
            self.rule(VICTIM, disks, clock_s)
        except NotFenced:
            return
        self.certified_s = now_s

    @property
    def broken(self) -> bool:
        return bool(self.certified_s) and self.landed_s > self.certified_s

    landed_s: float = 0.0


STORIES, SEARCHED = 120, 1500


def broken(**shape: object) -> bool:
    """Does one of many stories show what is wrong?"""
    return any(Story(seed, **shape).run().broken for seed in range(SEARCHED))  # type: ignore[arg-type]


@pytest.mark.parametrize("luns", [1, 3])
def test_no_write_lands_after_time_has_certified_the_end_of_a_life(luns: int) -> None:
    certified = 0
    for seed in range(STORIES):
        story = Story(seed, luns).run()
        assert not story.broken, f"seed {seed}"
        certified += bool(story.certified_s)
    assert certified > STORIES / 3


def test_nobody_is_certified_whose_record_names_no_hardware_watchdog() -> None:
    assert not any(Story(seed, says_guarded=False).run().certified_s for seed in range(STORIES))


def test_a_watchdog_that_does_not_fire_breaks_the_promise() -> None:
    assert broken(guarded=False)


def test_a_write_that_lies_longer_in_a_queue_than_the_kernel_lets_it_breaks_the_promise() -> None:
    assert broken(queued_s=2 * QUEUED_WRITE_S)


def test_to_count_one_lun_of_three_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(victim: MemberKey, disks: dict[str, Seen | None], now_s: float) -> object:
        for disk, one in disks.items():
            try:
                return silence(victim, {disk: one}, now_s)
            except NotFenced:
                continue
        raise NotFenced("none")

    assert broken(rule=careless)


def test_to_take_over_when_the_watchdog_fires_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the life of a queued write."""
    monkeypatch.setattr(LeaseTimeline, "takeover_s", property(lambda line: line.dead_s))
    assert broken()


def test_to_count_from_the_end_of_the_lease_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the watchdog's own time."""
    taken = property(lambda line: line.fail_s * (1 + CLOCK_DRIFT) + QUEUED_WRITE_S)
    monkeypatch.setattr(LeaseTimeline, "takeover_s", taken)
    assert broken()


def test_to_count_what_was_not_looked_at_is_found() -> None:
    """The age of the last change, where nobody has read the LUN since."""

    def careless(victim: MemberKey, disks: dict[str, Seen | None], now_s: float) -> object:
        aged = {
            disk: replace(one, silent_s=now_s - one.changed_s) if one is not None else None
            for disk, one in disks.items()
        }
        return silence(victim, aged, now_s)

    class Blind(Story):
        def _look(self, watch: DiskWatch, sequence: int, clock_s: float) -> None:
            if clock_s < 4:
                super()._look(watch, sequence, clock_s)

    assert any(Blind(seed, rule=careless).run().broken for seed in range(SEARCHED))
    assert not any(Blind(seed).run().certified_s for seed in range(40))


def test_the_majority_is_that_of_the_tombstones() -> None:
    assert time_rule.majority(3) == 2
