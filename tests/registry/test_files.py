"""The registry's files: what each command does to them, its refusals and bounds."""

from __future__ import annotations

import errno

import pytest

from clufs.limits import FILE_MAX_BYTES, FILES_MAX, FILES_MAX_BYTES
from clufs.registry import files
from clufs.registry.files import ChangeFile, DropFile, FileTable, MoveFile, PutFile, WriteFile

CAP = b"resources/web.cap"


def put(path: bytes = CAP, data: bytes = b"NAME=web\n", new: bool = True) -> PutFile:
    return PutFile(path, data, 7, 8, 0o640, 1000, new)


def after(*commands: files.FileCommand) -> FileTable:
    table = FileTable()
    for command in commands:
        assert table.apply(command) is None
    return table


def refused(table: FileTable, command: files.FileCommand, number: int) -> None:
    before = dict(table.records), table.counter
    refusal = table.apply(command)
    assert refusal is not None
    assert files.error_of(refusal).errno == number, refusal
    assert (table.records, table.counter) == before


def test_a_new_file_has_what_it_was_given() -> None:
    record = after(put()).records[CAP]
    assert record[:5] == (b"NAME=web\n", 7, 8, 0o640, 1000)


def test_a_path_that_is_taken_is_no_new_file() -> None:
    refused(after(put()), put(), errno.EEXIST)


def test_a_file_put_again_keeps_its_number_and_has_a_later_version() -> None:
    table = after(put())
    first = table.records[CAP]
    assert table.apply(put(data=b"other", new=False)) is None
    second = table.records[CAP]
    assert (second.number, second.data) == (first.number, b"other")
    assert second.version > first.version


def test_a_file_is_written_wherever_it_is() -> None:
    table = after(put(), MoveFile(CAP, b"resources/web.old", False))
    number = table.records[b"resources/web.old"].number
    assert table.path(number) == b"resources/web.old"
    assert table.apply(WriteFile(number, b"x", 2000)) is None
    record = table.records[b"resources/web.old"]
    assert (record.data, record.mtime_ns, record.mode) == (b"x", 2000, 0o640)
    assert CAP not in table.records


def test_only_what_is_said_of_a_file_changes() -> None:
    table = after(put())
    number = table.records[CAP].number
    version = table.records[CAP].version
    assert table.apply(ChangeFile(number, mode=0o600)) is None
    assert table.apply(ChangeFile(number, uid=0, mtime_ns=5)) is None
    assert table.records[CAP] == (b"NAME=web\n", 0, 8, 0o600, 5, number, version)


def test_a_file_that_is_gone() -> None:
    table = after(put(), DropFile(CAP))
    refused(table, DropFile(CAP), errno.ENOENT)
    refused(table, WriteFile(1, b"", 0), errno.ENOENT)
    refused(table, ChangeFile(1, mode=0), errno.ENOENT)
    refused(table, MoveFile(CAP, b"x", False), errno.ENOENT)
    assert table.path(1) is None


def test_only_the_file_that_was_meant_is_dropped() -> None:
    table = after(put(), DropFile(CAP), put())
    refused(table, DropFile(CAP, 1), errno.ENOENT)
    assert table.apply(DropFile(CAP, table.records[CAP].number)) is None


def test_a_rename_takes_the_place_of_a_file_unless_it_must_not() -> None:
    table = after(put(), put(b"resources/tmp", b"new"))
    temporary = table.records[b"resources/tmp"]
    refused(table, MoveFile(b"resources/tmp", CAP, True), errno.EEXIST)
    assert table.apply(MoveFile(b"resources/tmp", CAP, False)) is None
    assert list(table.records) == [CAP]
    moved = table.records[CAP]
    assert (moved.data, moved.number) == (b"new", temporary.number)
    assert moved.version > temporary.version
    assert table.path(temporary.number) == CAP


def test_a_text_that_was_judged_and_changed_since_does_not_move() -> None:
    table = after(put(b"resources/tmp"))
    judged = table.records[b"resources/tmp"]
    table.apply(WriteFile(judged.number, b"half", 0))
    refused(table, MoveFile(b"resources/tmp", CAP, False, judged.version), errno.ESTALE)


def test_a_file_renamed_to_itself_stays() -> None:
    table = after(put())
    before = table.records[CAP]
    assert table.apply(MoveFile(CAP, CAP, False)) is None
    assert table.records == {CAP: before}


def test_a_file_too_large_and_one_too_many() -> None:
    table = after(put(data=bytes(FILE_MAX_BYTES)))
    refused(table, put(b"b", bytes(FILE_MAX_BYTES + 1)), errno.ENOSPC)
    refused(table, WriteFile(1, bytes(FILE_MAX_BYTES + 1), 0), errno.ENOSPC)
    for at in range(FILES_MAX - 1):
        assert table.apply(put(b"%d" % at, b"")) is None
    refused(table, put(b"b", b""), errno.ENOSPC)
    assert table.apply(put(CAP, b"smaller", new=False)) is None


def test_all_files_together_are_bounded_and_what_makes_them_smaller_is_not_refused() -> None:
    table = FileTable()
    for at in range(FILES_MAX_BYTES // FILE_MAX_BYTES):
        assert table.apply(put(b"%d" % at, bytes(FILE_MAX_BYTES))) is None
    refused(table, put(b"b", b"x"), errno.ENOSPC)
    assert table.apply(put(b"0", b"x", new=False)) is None
    assert table.apply(put(b"b", b"x")) is None
    assert table.apply(MoveFile(b"b", b"0", False)) is None
    assert table.apply(DropFile(b"0")) is None
    assert table.apply(put(b"b", bytes(FILE_MAX_BYTES))) is None
    refused(table, put(b"c", b"x"), errno.ENOSPC)


@pytest.mark.parametrize("path", [b"x is there already", b"x is not there"])
def test_a_path_that_reads_like_a_refusal_is_none(path: bytes) -> None:
    refused(after(put(path)), put(path), errno.EEXIST)
    refused(FileTable(), DropFile(path), errno.ENOENT)
