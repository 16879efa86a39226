"""What members write on a LUN comes back as it was written, or is recognised as what it is not."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clufs.errors import BadBlock, LunError
from clufs.limits import DISK_LOG_BLOCKS_MIN, DISK_SLOTS_MAX
from clufs.storage.disk_header import DiskHeader, Geometry, cluster_number, read_header
from clufs.storage.layout import places
from clufs.storage.records import Eviction, LunMessage, MemberRecord, Record, Word, bitmap
from clufs.storage.sealing import BLOCK_BYTES, SEALED_BYTES, Flaw, Kind, Place, seal
from clufs.storage.slots import LunMap, Pair, next_write, read_pair

UUID_1, UUID_2 = UUID(int=1), UUID(int=2)
GEOMETRY = Geometry(2000, 16)
HEADER = DiskHeader(UUID_1, GEOMETRY, "lab", 10_000, 60_000)
OURS = HEADER.cluster


def any_record(kind: type[Record]) -> st.SearchStrategy[Record]:
    """Every field anything that fits in it."""
    sizes = dict(places(kind))
    numbers = {name: st.integers(0, (1 << place.bits) - 1) for name, place in sizes.items()}
    booleans = {name: st.booleans() for name, place in sizes.items() if place.bits == 1}
    return st.builds(kind, **{**numbers, **booleans, "cluster": st.just(OURS)})


RECORDS = st.one_of([any_record(kind) for kind in (MemberRecord, Eviction, LunMessage)])
SEQUENCES = st.integers(1, 2**64 - 3)
PLACES = st.builds(Place, st.uuids(), st.integers(0, 2**63))


def flaw_of(place: Place, block: bytes, cluster: int = OURS) -> str:
    with pytest.raises(BadBlock) as caught:
        MemberRecord.decode(place, block, cluster)
    return caught.value.flaw


@given(RECORDS, SEQUENCES, PLACES)
def test_a_record_comes_back_as_it_was_written(record: Record, sequence: int, place: Place) -> None:
    block = record.encode(place, sequence)
    assert len(block) == BLOCK_BYTES
    assert not any(block[SEALED_BYTES:])
    assert type(record).decode(place, block, OURS) == (sequence, record)


def test_each_way_of_being_wrong_has_its_words() -> None:
    place = Place(UUID_1, 7)
    block = MemberRecord(OURS, 3, 12).encode(place, 1)
    assert flaw_of(place, bytes(BLOCK_BYTES)) == Flaw.EMPTY
    assert flaw_of(place, b"\xeb\x3c\x90mkfs.fat".ljust(BLOCK_BYTES, b"\0")) == Flaw.FOREIGN
    assert flaw_of(place, block[:8] + b"\0\2" + block[10:]) == Flaw.VERSION
    assert flaw_of(place, block[:70] + b"!" + block[71:]) == Flaw.TORN
    assert flaw_of(place, block[:100]) == Flaw.TORN
    assert flaw_of(Place(UUID_2, 7), block) == Flaw.OTHER_LUN
    assert flaw_of(Place(UUID_1, 8), block) == Flaw.MISDIRECTED
    assert flaw_of(place, seal(place, Kind.BALLOT, 1, b"")) == Flaw.OTHER_KIND
    assert flaw_of(place, block, OURS + 1) == Flaw.OTHER_CLUSTER


@given(st.data(), SEQUENCES, st.integers(0, SEALED_BYTES))
def test_a_torn_write_leaves_the_old_record_or_the_new_one(
    data: st.DataObject, sequence: int, torn_at: int
) -> None:
    """Whatever part of a block reaches the disk, from either end of it."""
    kind = data.draw(st.sampled_from((MemberRecord, Eviction, LunMessage)))
    older, old, new = (data.draw(any_record(kind)) for _ in range(3))
    place, disk = Place(UUID_1, 40), bytearray(2 * BLOCK_BYTES)
    for at, (record, before) in enumerate(((older, sequence - 1), (old, sequence))):
        if at or before:
            put(disk, place, next_write(place, record, before))
    lba, block = next_write(place, new, sequence + 1)
    start = (lba - place.lba) * BLOCK_BYTES
    was = bytes(disk[start : start + BLOCK_BYTES])
    cut = data.draw(
        st.sampled_from((block[:torn_at] + was[torn_at:], was[:torn_at] + block[torn_at:]))
    )
    put(disk, place, (lba, cut))
    found = read_pair(kind, place, bytes(disk), OURS)
    assert (found.sequence, found.record) in ((sequence + 1, old), (sequence + 2, new))
    if cut not in (was, block) and cut[:SEALED_BYTES] not in (
        was[:SEALED_BYTES],
        block[:SEALED_BYTES],
    ):
        assert found.record == old


def put(disk: bytearray, place: Place, write: tuple[int, bytes]) -> None:
    lba, block = write
    disk[(lba - place.lba) * BLOCK_BYTES : (lba - place.lba + 1) * BLOCK_BYTES] = block


def test_a_pair_is_written_in_turn() -> None:
    place, disk = Place(UUID_1, 40), bytearray(2 * BLOCK_BYTES)
    assert read_pair(MemberRecord, place, bytes(disk), OURS) == Pair(0, None)
    for sequence in range(5):
        record = MemberRecord(OURS, 3, 1, view=sequence)
        lba, block = next_write(place, record, sequence)
        assert lba == 40 + (sequence + 1) % 2
        put(disk, place, (lba, block))
        found = read_pair(MemberRecord, place, bytes(disk), OURS)
        assert (found.sequence, found.record, found.flaws) == (sequence + 1, record, ())
        assert (found.older.view if found.older else -1) == sequence - 1


def test_a_slot_with_the_record_of_another_member_is_refused() -> None:
    """Its place and checksum fit: somebody has taken a nodeid that is not his."""
    lun = LunMap(HEADER)
    lba, count = lun.slots_extent(3)
    disk = bytearray(count * BLOCK_BYTES)
    place = Place(UUID_1, GEOMETRY.record(2))
    target, block = next_write(place, MemberRecord(OURS, 3, 1), 4)
    put(disk, Place(UUID_1, lba), (target, block))
    slots = dict(lun.read_slots(bytes(disk)))
    assert slots[2].record == Pair(0, None, (Flaw.OTHER_MEMBER,))
    assert slots[1].record == slots[3].record == Pair(0, None)


def test_one_read_of_the_slots_has_records_and_messages() -> None:
    lun = LunMap(HEADER)
    lba, count = lun.slots_extent(5)
    start, disk = Place(UUID_1, lba), bytearray(count * BLOCK_BYTES)
    beats = {n: MemberRecord(OURS, n, 10 + n, heard=bitmap({1, n})) for n in (1, 5)}
    poison = LunMessage(OURS, 5, 15, Word.STOP, writer=1)
    for record in beats.values():
        put(disk, start, lun.write_record(record, 8))
    put(disk, start, lun.write_message(poison, 0))
    slots = dict(lun.read_slots(bytes(disk)))
    assert {n: slot.record.record for n, slot in slots.items() if slot.record.record} == beats
    assert beats[5].hears == {1, 5}
    assert slots[5].message.record == poison
    assert poison.stops(15) and poison.stops(3) and not poison.stops(16)


def test_the_tombstones_of_a_victim_are_one_read() -> None:
    lun = LunMap(HEADER)
    lba, count = lun.evictions_extent(2)
    start, disk = Place(UUID_1, lba), bytearray(count * BLOCK_BYTES)
    assert lun.evicted(2, bytes(disk)) == -1
    put(disk, start, lun.write_eviction(Eviction(OURS, 1, 7, 2, 30, view=9), 0))
    put(disk, start, lun.write_eviction(Eviction(OURS, 16, 4, 2, 28, view=5), 0))
    assert lun.evicted(2, bytes(disk)) == 30
    own_lba, own_count = lun.eviction_extent(16, 2)
    part = bytes(disk[(own_lba - lba) * BLOCK_BYTES :][: own_count * BLOCK_BYTES])
    mine = lun.read_eviction(16, 2, part)
    assert mine.record is not None and (mine.sequence, mine.record.incarnation) == (1, 28)
    put(disk, start, lun.write_eviction(Eviction(OURS, 16, 4, 2, 31), mine.sequence))
    assert lun.evicted(2, bytes(disk)) == 31


@given(st.integers(1, DISK_SLOTS_MAX), st.integers(0, 5000))
def test_no_two_things_lie_in_one_place(slots: int, more: int) -> None:
    geometry = Geometry(Geometry.least_blocks(slots) + more, slots)
    everybody = range(1, slots + 1)
    pairs = [place(n) for n in everybody for place in (geometry.record, geometry.message)]
    pairs += [geometry.eviction(w, v) for v in everybody for w in everybody]
    pairs += [geometry.ballot(n) for n in everybody]
    assert pairs == sorted(pairs)
    taken = [0, *(lba + half for lba in pairs for half in (0, 1))]
    assert len(set(taken)) == len(taken)
    assert max(taken) < geometry.log(1)
    assert geometry.log_blocks >= DISK_LOG_BLOCKS_MIN
    assert geometry.log(slots) + geometry.log_blocks <= geometry.last_lba


@pytest.mark.parametrize(("blocks", "slots"), [(600, 16), (2000, 0), (2000, 65)])
def test_a_lun_that_is_too_small_is_refused(blocks: int, slots: int) -> None:
    with pytest.raises(LunError, match=r"too small for 16 members|room for"):
        Geometry(blocks, slots)


def test_a_nodeid_beyond_the_slots_is_refused() -> None:
    with pytest.raises(LunError, match="nodeid 17 has no place on this LUN"):
        LunMap(HEADER).slots_extent(17)


# ------------------------------------------------------------------ the header


def test_the_header_stands_at_both_ends() -> None:
    last = GEOMETRY.last_lba
    ends = HEADER.encode(0), HEADER.encode(last)
    assert read_header(*ends, last) == HEADER
    assert read_header(*ends, last, "lab") == HEADER
    nothing = b"mkfs".ljust(BLOCK_BYTES, b"\0")
    assert read_header(nothing, ends[1], last) == HEADER
    assert read_header(ends[0], nothing, last) == HEADER
    with pytest.raises(BadBlock, match="not written by clufs"):
        read_header(nothing, nothing, last)
    with pytest.raises(BadBlock, match="of another cluster: it belongs to lab"):
        read_header(*ends, last, "other")


def test_of_two_headers_the_later_one_counts() -> None:
    last = GEOMETRY.last_lba
    later = DiskHeader(UUID_1, GEOMETRY, "lab", 5_000, 60_000, generation=2)
    assert read_header(HEADER.encode(0), later.encode(last), last) == later
    other = DiskHeader(UUID_2, GEOMETRY, "lab", 5_000, 60_000, generation=9)
    assert read_header(HEADER.encode(0), other.encode(last), last) == HEADER


def test_a_header_moved_elsewhere_is_none() -> None:
    last = GEOMETRY.last_lba
    with pytest.raises(BadBlock, match="another place"):
        read_header(HEADER.encode(last), bytes(BLOCK_BYTES), last)


def test_a_cluster_has_its_number_from_its_name() -> None:
    assert cluster_number("lab") == cluster_number("lab") != cluster_number("lab2")
    assert {cluster_number(f"c{n}") for n in range(2000)} <= set(range(1, 65536))
