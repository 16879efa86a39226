"""What writers put into the sectors of a LUN, and the judge who reads the array's own log of it. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

SECTOR_BYTES = 512
SECTORS = 64
AREAS = ("quick", "slow")
"""Each is a lock, and the sectors that its holder alone may write."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """One sector. sequencer: of the lock under which it is written. writer: a process and its way to the LUN."""

    area: str
    sequencer: int
    member: str
    incarnation: int
    writer: str
    count: int

    def encode(self) -> bytes:
        """A sector."""
        words = (self.sequencer, self.member, self.incarnation, self.writer, self.count)
        return f"{self.area} {' '.join(map(str, words))}\n".encode().ljust(SECTOR_BYTES, b"\0")

    @classmethod
    def decode(cls, sector: bytes) -> Stamp:
        """Raises ValueError for what is no stamp."""
        area, sequencer, member, incarnation, writer, count = sector.rstrip(b"\0").decode().split()
        return cls(area, int(sequencer), member, int(incarnation), writer, int(count))

    def __str__(self) -> str:
        return (
            f"{self.area} by {self.writer} on {self.member} {self.incarnation}"
            f" under {self.sequencer}, its {self.count}."
        )


def first_of(area: str) -> int:
    """The first sector of an area."""
    return AREAS.index(area) * SECTORS


class Judge:
    """Takes each write in the array's order. violations: sentences. members, ways: how many stamps of whom.

    holders: of each area, the member that wrote last. holds: all that were seen, by area and sequencer.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.members: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self.holders: dict[str, str] = {}
        self.holds: dict[tuple[str, int], tuple[str, int, str]] = {}
        self._latest: dict[int, tuple[int, Stamp]] = {}
        self._lives: dict[str, dict[int, tuple[int, Stamp]]] = {}
        self._fenced: dict[str, dict[int, int]] = {}

    def wrote(self, time_ns: int, lba: int, data: bytes) -> None:
        """Sectors from `lba` on were written."""
        for at in range(0, len(data), SECTOR_BYTES):
            sector = lba + at // SECTOR_BYTES
            if sector < SECTORS * len(AREAS):
                self._wrote(time_ns, sector, data[at : at + SECTOR_BYTES])

    def _wrote(self, time_ns: int, sector: int, data: bytes) -> None:
        try:
            stamp = Stamp.decode(data)
        except ValueError:
            self._found(f"sector {sector} has no stamp: {data[:64]!r}")
            return
        self.members[stamp.member] += 1
        self.ways[stamp.writer.partition(":")[0]] += 1
        self.holders[stamp.area] = stamp.member
        self._judge_sector(time_ns, sector, stamp)
        who = (stamp.member, stamp.incarnation, stamp.writer)
        known = self.holds.setdefault((stamp.area, stamp.sequencer), who)
        if known != who:
            self._found(f"{stamp.area}: two hold it under {stamp.sequencer}: {known} and {who}")
        self._lives.setdefault(stamp.member, {})[stamp.incarnation] = (time_ns, stamp)
        for incarnation, fenced_ns in self._fenced.get(stamp.member, {}).items():
            if stamp.incarnation <= incarnation and time_ns > fenced_ns:
                self._found_late(stamp, time_ns, incarnation, fenced_ns)

    def _judge_sector(self, time_ns: int, sector: int, stamp: Stamp) -> None:
        before = self._latest.get(sector)
        if stamp.area != AREAS[sector // SECTORS]:
            self._found(f"sector {sector} is not of the area of {stamp}")
        elif before is not None and stamp.sequencer < before[1].sequencer:
            late_s = (time_ns - before[0]) / 1e9
            self._found(f"sector {sector}: {stamp} came {late_s:.3f} s after {before[1]}")
            return
        self._latest[sector] = (time_ns, stamp)

    def certified(self, member: str, incarnation: int, time_ns: int) -> None:
        """A certificate says that nothing of this life of the member, or of one before it, is written any more."""
        known = self._fenced.setdefault(member, {})
        if known.get(incarnation, time_ns) <= time_ns and incarnation in known:
            return
        known[incarnation] = time_ns
        for life, (wrote_ns, stamp) in self._lives.get(member, {}).items():
            if life <= incarnation and wrote_ns > time_ns:
                self._found_late(stamp, wrote_ns, incarnation, time_ns)

    def _found_late(self, stamp: Stamp, wrote_ns: int, incarnation: int, time_ns: int) -> None:
        late_s = (wrote_ns - time_ns) / 1e9
        self._found(f"{stamp} came {late_s:.3f} s after the certificate about {incarnation}")

    @property
    def certificates(self) -> int:
        """How many lives were fenced by the LUN."""
        return sum(len(lives) for lives in self._fenced.values())

    def _found(self, sentence: str) -> None:
        self.violations.append(sentence)
