"""The quorum disk's journal: a member's disk as records, and a checkpoint that is all of it."""

from __future__ import annotations

import pytest

from clufs.registry import journal
from clufs.registry.commands import CommandId, Entry, PutNamespace
from clufs.registry.journal import Image, Numbered, load, written
from clufs.registry.log import Snapshot, Stored, Write
from clufs.registry.state import State

ROUND = ((1, 4), ((1, 100), (2, 101)), 0)
LIVES = ((1, 7), (2, 9))


def entries(first: int, last: int) -> tuple[Entry, ...]:
    return tuple(
        Entry(at, 3, CommandId(1, 1, at), PutNamespace(b"n%d" % at, 1, 1, 0o700, new=True))
        for at in range(first, last + 1)
    )


def state(upto: int) -> Snapshot:
    found = State()
    for entry in entries(1, upto):
        found.take(entry.id, entry.command)
    return Snapshot(upto, found.snapshot())


WRITES = (
    Write(1, 3, 0, 0, entries(1, 4), 0, None, b"origin"),
    Write(2, 3, 0, 4, entries(5, 6), 4, None, b"origin"),
    Write(3, 5, 2, 5, entries(6, 9), 6, state(5), b"origin"),
)


def stored_by(writes: tuple[Write, ...]) -> Stored:
    found = Stored()
    for write in writes:
        found = found.after(write)
    return found


@pytest.mark.parametrize("upto", range(len(WRITES) + 1))
@pytest.mark.parametrize("folded", range(len(WRITES) + 1))
def test_what_was_journalled_is_what_a_disk_would_have(upto: int, folded: int) -> None:
    image = Image()
    for write in WRITES[:folded]:
        image = image.after(written(write))
    checkpoint = image.checkpoint() if folded else b""
    records = tuple(journal.encode(written(write)) for write in WRITES[folded:upto])
    assert load(checkpoint, records).stored == stored_by(WRITES[: max(upto, folded)])


def test_the_last_number_counts_and_its_round_comes_back_as_it_was() -> None:
    numbered = Numbered(7, ROUND, LIVES)
    image = load(b"", (journal.encode(Numbered(3, ROUND, LIVES)), journal.encode(numbered)))
    assert image.number == 7
    assert load(image.checkpoint(), ()).numbered == numbered
    assert load(b"", ()).number == 0


def test_a_shorter_checkpoint_says_the_same_and_what_follows_it_fits() -> None:
    """Whoever writes on does not know that the beginning of the log was left out."""
    image = Image()
    for write in WRITES[:2]:
        image = image.after(written(write))
    short = image.shorter(state(4))
    assert (short.stored.base, len(short.stored.entries)) == (4, 2)
    assert len(short.checkpoint()) < len(image.checkpoint())
    record = journal.encode(written(Write(3, 5, 0, 6, entries(7, 9), 6, None, b"origin")))
    later = load(short.checkpoint(), (record,)).stored
    assert (later.base, later.last, later.snapshot) == (4, 9, state(4))
    assert later.entries == entries(5, 9)
    older = journal.encode(written(Write(4, 5, 2, 9, (), 9, state(3), b"origin")))
    assert load(short.checkpoint(), (record, older)).stored.snapshot == state(4)


def test_nothing_is_left_out_that_may_still_change() -> None:
    image = Image().after(written(WRITES[0]))
    assert image.shorter(state(2)) is image


@pytest.mark.parametrize("garbage", [b"\xc1", b"", journal.encode(["write", 1])])
def test_what_is_not_understood_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match="does not understand"):
        load(b"", (garbage,))
    with pytest.raises(ValueError, match="does not understand"):
        load(garbage or b"\xc1", ())
