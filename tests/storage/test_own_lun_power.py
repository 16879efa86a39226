"""Power fails at any write to a LUN of clufs' own: what was acknowledged is there when it comes back.

Every prefix of what the array has written is looked at, also with the next write torn, and without some of those
that nobody had promised.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import trio

from clufs.errors import LunError
from clufs.storage.own_lun import OwnLun, Wish, format_own, open_own
from clufs.storage.paths import initiator_name, open_path
from clufs.storage.records import Eviction, LunMessage, MemberRecord, Word
from tests.array.array import Array, Shape
from tests.array.medium import BLOCK_BYTES, Medium, Written

MEMBERS = 3
LAB = Wish("lab", MEMBERS, 0.5, 2)
BLOCKS = 4096
TURNS = 12
TORN_BYTES = (100, BLOCK_BYTES)
"""How far the write came that power interrupted: into its first sector, which is garbled, or to its end."""
LIFE = 7
"""Whom messages tell to stop: of two that are sent at once one may be lost, which is none if they say the same."""


class Image:
    """A disk as it was when power failed. torn: the first sectors of the next write, and where they went."""

    block_bytes, blocks = BLOCK_BYTES, BLOCKS

    def __init__(self, data: bytes, torn: tuple[int, bytes] = (0, b"")) -> None:
        self._data = data
        self._at, self._torn = torn[0] * BLOCK_BYTES, torn[1]

    async def read(self, lba: int, count: int) -> bytes:
        begin, end = lba * BLOCK_BYTES, (lba + count) * BLOCK_BYTES
        found = bytearray(self._data[begin:end])
        first, last = max(begin, self._at), min(end, self._at + len(self._torn))
        if first < last:
            found[first - begin : last - begin] = self._torn[first - self._at : last - self._at]
        return bytes(found)

    async def write(self, lba: int, data: bytes) -> None:
        raise LunError("nothing is written here")

    async def compare_and_write(self, lba: int, expected: bytes, data: bytes) -> bool:
        raise LunError("nothing is written here")

    async def close(self) -> None:
        pass


@dataclass
class Story:
    """What members were told is safe, each with how much the array had written then."""

    medium: Medium
    dice: random.Random
    records: list[tuple[int, int, int]] = field(default_factory=list)
    tombstones: list[tuple[int, int, int]] = field(default_factory=list)
    messages: list[tuple[int, int, int]] = field(default_factory=list)

    async def member(self, number: int, url: str) -> None:
        """Beats, and declares others out, and tells them to stop."""
        async with open_path(url, initiator_name(f"m{number}")) as path:
            own = await open_own(path.device, "lab")
            for turn in range(TURNS):
                record = MemberRecord(own.header.cluster, number, 1, view=turn)
                await own.write_record(record, turn)
                self.records.append((len(self.medium.log), number, turn + 1))
                victim, life = self.dice.randrange(1, MEMBERS + 1), self.dice.randrange(1, 9)
                if self.dice.random() < 0.5:
                    await own.evict(Eviction(own.header.cluster, number, 1, victim, life))
                    self.tombstones.append((len(self.medium.log), victim, life))
                else:
                    poison = LunMessage(own.header.cluster, victim, LIFE, Word.STOP, number)
                    await own.tell(poison)
                    self.messages.append((len(self.medium.log), victim, LIFE))

    async def look(self, own: OwnLun, count: int) -> None:
        """All that was safe after so many writes is there."""
        slots = dict(await own.read_slots(MEMBERS))
        for written, number, sequence in self.records:
            if written <= count:
                found = slots[number].record
                assert found.record is not None and found.sequence >= sequence
                assert found.record.view == found.sequence - 1
        for written, victim, life in self.tombstones:
            assert written > count or await own.evicted(victim) >= life
        for written, victim, life in self.messages:
            said = slots[victim].message.record
            assert written > count or (said is not None and said.stops(life))


@pytest.mark.parametrize("seed", range(2))
async def test_what_was_acknowledged_outlives_power(seed: int) -> None:
    async with Array(Shape(blocks=(BLOCKS,), seed=seed, cached=True)).serving() as array:
        medium = array.units[0].medium
        async with open_path(array.url(), initiator_name("maker")) as path:
            await format_own(path.device, LAB)
        formatted, story = len(medium.log), Story(medium, random.Random(seed))
        async with trio.open_nursery() as nursery:
            for number in range(1, MEMBERS + 1):
                nursery.start_soon(story.member, number, array.url())
    assert len(medium.log) > formatted + MEMBERS * TURNS
    assert story.tombstones and story.messages
    for count in range(formatted, len(medium.log) + 1):
        image = medium.prefix(count)
        some_lost = medium.prefix(count, random.Random(count))
        for disk in (Image(image), Image(some_lost), *torn(medium, count, image)):
            await story.look(await open_own(disk, "lab"), count)


def torn(medium: Medium, count: int, image: bytes) -> Iterator[Image]:
    """The disk with the next write done in part."""
    one = medium.log[count] if count < len(medium.log) else None
    if isinstance(one, Written):
        for length in TORN_BYTES:
            yield Image(image, (one.lba, one.data[:length]))
