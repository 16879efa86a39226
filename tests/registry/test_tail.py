"""The registry's tail: one flush for a command, and what a crash at any moment leaves of it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from clufs.errors import StateError
from clufs.limits import TAIL_BYTES
from clufs.registry.log import Snapshot, Stored, Write
from clufs.registry.store import RegistryStore
from tests.registry.test_store import entry, state

SECTOR_BYTES = 512


def crash(store: RegistryStore) -> None:
    """The process is gone: nothing is put in order."""
    store._file.close()
    store._tail.close()
    store._stamp.close()
    os.close(store._lock)


def add(store: RegistryStore, count: int, size: int = 10) -> None:
    """Commands as they come in a view, one write for each."""
    for _ in range(count):
        last = store.stored.last
        new = (entry(last + 1, 1, b"x" * size),)
        store.write(Write(last, 1, 0, last, new, last, None, b"origin"))


def begun(directory: Path) -> RegistryStore:
    """In view 1, with a first entry in the database."""
    store = RegistryStore(directory)
    store.write(Write(1, 1, 0, 0, (entry(1),), 0, None, b"origin"))
    return store


def opened(directory: Path) -> tuple[Stored, int, int]:
    """What a daemon that starts finds."""
    store = RegistryStore(directory)
    found = store.stored, store.view, store.incarnation
    crash(store)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_whatever_was_written_is_there_after_a_crash(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    store = RegistryStore(tmp_path)
    expected, view, life = store.stored, 0, 0
    for ticket in range(1, 60):
        base, keep, snapshot = expected.base, expected.last, None
        if random.random() < 0.1:
            base = random.randint(expected.base, expected.last)
            snapshot = Snapshot(keep, state(ticket))
        elif random.random() < 0.1:
            keep = random.randint(expected.base, expected.last)
        sizes = [random.choice((10, 100, 20_000)) for _ in range(random.randint(0, 3))]
        last = max(base, keep)
        new = tuple(entry(last + at, 1, b"x" * size) for at, size in enumerate(sizes, 1))
        adopted = ticket if random.random() < 0.1 else expected.adopted
        write = Write(ticket, adopted, base, keep, new, last, snapshot, b"origin")
        store.write(write)
        expected = expected.after(write)
        if random.random() < 0.2:
            view += 1
            store.keep_view(view)
        if random.random() < 0.1:
            life = store.next_incarnation()
        if random.random() < 0.2:
            crash(store) if random.random() < 0.5 else store.close()
            store = RegistryStore(tmp_path)
        assert (store.stored, store.view, store.incarnation) == (expected, view, life)
    crash(store)
    assert opened(tmp_path) == (expected, view, life)


def test_a_record_torn_at_any_byte_is_not_there_and_all_before_it_are(tmp_path: Path) -> None:
    store = begun(tmp_path)
    add(store, 3)
    before = store.stored
    begin = store._tail._at
    add(store, 1, 600)
    end, path = store._tail._at, tmp_path / "registry.tail"
    after = store.stored
    crash(store)
    whole = path.read_bytes()
    written = len(whole[begin:end].rstrip(b"\0"))
    (tmp_path / "registry.stamp").write_bytes(b"")  # a power cut took it, too
    for kept in range(0, end - begin + 1, 13):
        path.write_bytes(whole[: begin + kept] + bytes(TAIL_BYTES - begin - kept))
        (tmp_path / "registry.stamp").write_bytes(b"")
        assert opened(tmp_path)[0] == (after if kept >= written else before), kept


def test_a_record_damaged_before_others_is_found(tmp_path: Path) -> None:
    store = begun(tmp_path)
    add(store, 5)
    end, path = store._tail._at, tmp_path / "registry.tail"
    crash(store)
    whole = path.read_bytes()
    for at in range(0, end - SECTOR_BYTES, 61):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        is_padding = not whole[at : (at // SECTOR_BYTES + 1) * SECTOR_BYTES].strip(b"\0")
        if is_padding:
            opened(tmp_path)
        else:
            with pytest.raises(StateError, match=r"registry\.tail lacks what came before"):
                RegistryStore(tmp_path)


def test_a_tail_that_is_lost_is_found(tmp_path: Path) -> None:
    store = begun(tmp_path)
    add(store, 5)
    crash(store)
    (tmp_path / "registry.tail").unlink()
    with pytest.raises(StateError, match="older than it was: generation 2 of 7"):
        RegistryStore(tmp_path)


def test_what_does_not_fit_goes_into_the_database(tmp_path: Path) -> None:
    store = begun(tmp_path)
    add(store, 2 * TAIL_BYTES // SECTOR_BYTES)
    assert (tmp_path / "registry.tail").stat().st_size == TAIL_BYTES
    add(store, 1, TAIL_BYTES)
    add(store, 3)
    stored = store.stored
    crash(store)
    assert opened(tmp_path)[0] == stored


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A state directory on a file system of its own."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_a_full_disk_takes_entries_while_there_is_room_and_numbers_beyond(
    small_disk: Path,
) -> None:
    store = begun(small_disk)
    add(store, 3)
    with open(small_disk / "fill", "wb", buffering=0) as fill, pytest.raises(OSError):
        while True:
            fill.write(bytes(4096))
    with pytest.raises(StateError) as refusal:
        add(store, 1000, 2000)
    assert refusal.value.errno == errno.ENOSPC
    stored = store.stored
    for number in (100, 101):
        store.keep_view(number)
        life = store.next_incarnation()
    crash(store)
    assert opened(small_disk) == (stored, 101, life)
    (small_disk / "fill").unlink()
    store = RegistryStore(small_disk)
    add(store, 1, 50_000)
    store.close()
