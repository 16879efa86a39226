"""What a seed says: how large the cluster is, what is asked of it, what befalls it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from tests.sim.clients import Habits

NAMES = ("provolone", "polishham", "pepicelli", *(f"m{at}" for at in range(4, 65)))

SIZES = ((3, 10), (1, 1), (2, 2), (4, 2), (5, 4), (7, 1), (9, 1), (16, 1))
"""How many members, and how often."""

MODE_TASTES = {
    "all modes": (2, 2, 2, 3, 2, 4),
    "writers": (1, 0, 0, 0, 0, 9),
    "readers": (0, 1, 0, 8, 0, 2),
    "values": (3, 3, 0, 2, 4, 6),
    "concurrent": (1, 3, 6, 3, 1, 1),
}

FAULTS = (
    "crash", "pause", "cut", "cut one way", "isolate", "slow link", "power cut", "leave", "ring again",
    "blink",
)  # fmt: skip
WHOLE_FAULTS = (
    "off", "freeze", "engine killed", "slow disk", "full disk", "dead path",
)  # fmt: skip


DISK_FAULTS = ("disk away", "disk gone", "slow LUNs")

PAIRWISE = ("cut", "cut one way", "isolate", "slow link", "dead path")


@dataclass(frozen=True, slots=True)
class Story:
    """One run. whole: of whole members, not of their lock managers alone.

    events: how many, until the faults end. faults: what may befall, with weights.
    torn_s: how long a connection below the streams lasts, about; 0: the streams are ideal.
    step_locks: RECOVERY_STEP_LOCKS. turn_s: how long others are served between two such steps, about.
    eager: after so many requests of one other member a name moves, with its locks; 0: as in life.
    busy_s: for so long one member does nearly all the work, then the next; 0: all are alike.
    disk_votes: of a quorum disk; 0: there is none. lun_s: what a command to it takes, about.
    """

    whole: bool
    members: tuple[str, ...]
    clients: int
    habits: Habits
    taste: str
    events: int
    latency: float
    jitter: float
    idle_names: int
    faults: dict[str, int]
    fault_every: float
    fence_s: float
    fence_fails: float
    detect_s: float
    disk_s: float
    has_agent: bool
    clerk_s: float
    torn_s: float
    step_locks: int
    turn_s: float
    eager: int
    busy_s: float
    disk_votes: int = 0
    lun_s: float = 0.001

    def __str__(self) -> str:
        count = len(self.members)
        troubles = ", ".join(self.faults) if self.faults else "no faults"
        members = f"{count} {'whole ' * self.whole}member{'s'[: count > 1]}"
        names = f"{self.taste} on {len(self.habits.hot)} hot names{', ranges' * bool(self.habits.ranged)}"
        moves = f"; moves after {self.eager}" if self.eager else ""
        moves += "; one does the work" if self.busy_s else ""
        if self.disk_votes:
            members += f" and a disk of {self.disk_votes}"
        return f"{members} with {self.clients} clients each, {names}; {troubles}{moves}"


def with_disk(seed: int) -> Story:
    """The story of this seed as it is with a quorum disk, and with what may befall one."""
    random = Random(f"disk {seed}")
    story = story_of(seed, whole=True)
    size = random.choice((2, 2, 2, 3, 3, 4))
    kinds = FAULTS + WHOLE_FAULTS
    chosen = random.sample(kinds, random.choice((0, 1, 2, 3)))
    chosen += random.sample(DISK_FAULTS, random.choice((0, 0, 1, 2)))
    return replace(
        story,
        members=NAMES[:size],
        faults={fault: random.choice((1, 3)) for fault in chosen},
        disk_votes=random.choice((1, 1, size - 1)),
        lun_s=random.choice((0.0005, 0.005, 0.05)),
        disk_s=random.choice((0.001, 0.01)),
    )


def story_of(seed: int, whole: bool | None = None) -> Story:
    """The story of this seed. whole: of whole members or not; None: as the seed has it."""
    random = Random(f"story {seed}")
    if whole is None:
        whole = random.random() < 0.5
    pick = random.random
    sizes, weights = zip(*SIZES, strict=True)
    size = random.choices(sizes, weights)[0]
    taste = random.choice(list(MODE_TASTES))
    think = random.choice((0.02, 0.1, 0.4) if whole else (0.002, 0.01, 0.05))
    latency = random.choice((0.0005, 0.002, 0.01) if whole else (0.00005, 0.0005, 0.005))

    def often(share: float, *values: float) -> float:
        return random.choice(values) if pick() < share else 0.0

    habits = Habits(
        think=think,
        patience=think * random.choice((3, 20, 100)),
        hot=tuple(b"db/%d" % at for at in range(random.choice((1, 1, 2, 4, 12)))),
        private=random.choice((1, 3, 20)),
        share_hot=random.choice((0.5, 0.9, 1.0)),
        modes=MODE_TASTES[taste],
        counter=random.choice((0.2, 0.8)),
        nowait=often(0.6, 0.05, 0.5),
        quecvt=often(0.4, 0.2),
        invalidate=often(0.4, 0.1),
        notify=often(0.5, 0.3, 1.0),
        nodeadlock=often(0.2, 0.2),
        several=often(0.5, 0.2, 0.8),
        sublocks=often(0.4, 0.05, 0.3),
        cancel=often(0.6, 0.1, 0.5),
        exits=often(0.7, 0.005, 0.05),
        abnormal=random.choice((0.2, 0.8)),
        shared=often(0.2, 0.3),
        groups=pick() < 0.2,
        ranged=Random(f"ranges {seed}").choice((0.0, 0.0, 0.3, 0.9)),
    )
    kinds = FAULTS + WHOLE_FAULTS if whole else FAULTS
    chosen = random.sample(kinds, random.choice((1, 1, 2, 3))) if pick() < 0.9 else []
    if size == 1:
        chosen = [fault for fault in chosen if fault not in PAIRWISE]
    span = 5.0 if whole else max(think * 40, latency * 60)
    return Story(
        whole=whole,
        members=NAMES[:size],
        clients=random.choice((1, 2, 4)) if size > 5 else random.choice((1, 3, 8)),
        habits=habits,
        taste=taste,
        events=random.choice((800, 1500, 3000)) * (2 if whole else 1),
        latency=latency,
        jitter=latency * random.choice((0, 1, 5)),
        idle_names=random.choice((0, 1, 10_000)),
        faults={fault: random.choice((1, 3)) for fault in chosen},
        fault_every=span * random.choice((0.3, 1, 3)),
        fence_s=span * random.choice((0.1, 1.0)),
        fence_fails=often(0.3, 0.5),
        detect_s=span * random.choice((0.02, 0.2)),
        disk_s=random.choice((0.001, 0.01, 0.1)),
        has_agent=pick() < 0.7,
        clerk_s=random.choice((0.3, 3.0)),
        torn_s=random.choice((0.0, 0.0, 0.5, 10.0)) if whole else 0.0,
        step_locks=random.choice((1, 1, 2, 5, 500)),
        turn_s=latency * random.choice((0.1, 1.0, 10.0)),
        eager=random.choice((0, 1, 3, 10)),
        busy_s=think * random.choice((0, 0, 20, 100)),
    )
