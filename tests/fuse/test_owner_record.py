"""The record of lock owners: what a daemon that was killed leaves for the next one."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from clufs.errors import StateError
from clufs.fuse import owner_record
from clufs.fuse.owner_record import OwnerRecord, left_behind
from clufs.fuse.owners import ProcessOwner


def process(pid: int, start_time: int = 5) -> ProcessOwner:
    """As much of a process as the record looks at."""
    return cast(ProcessOwner, SimpleNamespace(pid=pid, start_time=start_time, slot=-1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "owners"


def recorded(record: OwnerRecord, *processes: ProcessOwner) -> None:
    for one in processes:
        record.expect(1)
        record.set(one)


def test_owners_are_found_after_the_daemon_was_killed(path: Path) -> None:
    record = OwnerRecord(path)
    recorded(record, process(10, 111), process(11, 2**40))
    assert left_behind(path) == ([(10, 111), (11, 2**40)], False)


def test_who_holds_nothing_more_is_not_on_record(path: Path) -> None:
    record = OwnerRecord(path)
    first, second = process(10), process(11)
    recorded(record, first, second)
    record.clear(first)
    record.clear(first)
    assert left_behind(path) == ([(11, 5)], False)


def test_descriptors_are_counted(path: Path) -> None:
    record = OwnerRecord(path)
    record.count_descriptors(1)
    assert left_behind(path) == ([], True)
    record.count_descriptors(-1)
    assert left_behind(path) == ([], False)


def test_the_record_grows_with_its_owners(path: Path) -> None:
    record = OwnerRecord(path)
    recorded(record, *(process(pid) for pid in range(1, 5001)))
    owners, _ = left_behind(path)
    assert sorted(pid for pid, _ in owners) == list(range(1, 5001))


def test_a_full_disk_is_told_before_anything_is_granted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = OwnerRecord(path)
    room = 0

    def full(fd: int, begin: int, size: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StateError, match="No space left"):
        while True:
            record.expect(1)
            room += 1
    owners = [process(pid) for pid in range(1, room + 1)]
    for one in owners:
        record.set(one)
    assert len(left_behind(path)[0]) == room
    record.clear(owners[0])
    record.expect(-1)
    record.expect(1)
    record.set(process(77_777))


def test_a_daemon_that_ends_in_order_leaves_no_record(path: Path) -> None:
    record = OwnerRecord(path)
    recorded(record, process(10))
    record.close()
    assert not path.exists()
    assert left_behind(path) == ([], False)


def test_owners_of_another_boot_are_gone_anyway(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(OwnerRecord(path), process(10))
    monkeypatch.setattr(owner_record, "boot_id", lambda: b"another boot")
    assert left_behind(path) == ([], False)


@pytest.mark.parametrize("raw", [b"", b"\0" * 16512])
def test_a_daemon_killed_before_its_first_line_left_nothing(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    assert left_behind(path) == ([], False)


@pytest.mark.parametrize("raw", [b"x", b"a poem\n" * 100, b"clufs owners 1\n\0"])
def test_what_is_not_a_record_is_refused_by_name(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    with pytest.raises(StateError, match=f"{path} is not an owner record"):
        left_behind(path)


def test_a_record_that_cannot_be_read_or_made_is_refused_by_name(tmp_path: Path) -> None:
    for act in (left_behind, OwnerRecord):
        with pytest.raises(StateError, match=f"{tmp_path}: Is a directory"):
            act(tmp_path)
