"""Files whose texts are drafts until a close: against a model, and what comes while a close is under way."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing

from clufs.errors import FileTooLarge, NoQuorum
from clufs.limits import FILE_MAX_BYTES
from clufs.registry.commands import Command, error_of
from clufs.registry.state import State
from clufs.tree.files import EditableFile, FilesDirectory
from clufs.tree.items import Caller

ROOT = Caller(1, 0, 0)


class Kept:
    """A registry of one member. slow: each change waits for `go`."""

    def __init__(self) -> None:
        self.state = State()
        self.quorum = True
        self.go = trio.Event()
        self.go.set()

    async def propose(self, command: Command) -> None:
        if not self.quorum:
            raise NoQuorum("this member waits for a view")
        await self.go.wait()
        refusal = self.state.apply(command)
        if refusal is not None:
            raise error_of(command, refusal)


@pytest.fixture
def registry() -> Kept:
    return Kept()


@pytest.fixture
def directory(registry: Kept) -> FilesDirectory:
    return FilesDirectory(b"templates", registry)


def text(registry: Kept, name: bytes = b"f") -> bytes:
    """What every member has."""
    return registry.state.files[b"templates/" + name].data


async def made(directory: FilesDirectory, data: bytes = b"") -> EditableFile:
    """A file with a text, open for writing."""
    file = await directory.make(b"f", 0o644, ROOT)
    file.opened()
    if data:
        file.write(0, data)
        await file.commit()
    return file


@pytest.mark.parametrize("seed", range(50))
async def test_a_file_is_what_was_written(
    registry: Kept, directory: FilesDirectory, seed: int
) -> None:
    """One who writes sees the own writes at once, everybody else what was closed, without a hole."""
    random = Random(seed)
    file, model, closed = await made(directory), bytearray(), b""
    for turn in range(60):
        act = random.randrange(5)
        if act < 2:
            offset = random.choice([None, random.randrange(40)])
            data = bytes([65 + turn % 26]) * random.randrange(1, 9)
            file.write(offset, data)
            begin = len(model) if offset is None else offset
            model += bytes(max(0, begin - len(model)))
            model[begin : begin + len(data)] = data
        elif act == 2:
            size = random.randrange(40)
            file.truncate(size)
            model = model[:size] + bytes(max(0, size - len(model)))
        else:
            await file.commit()
            closed = bytes(model) or closed
        assert file.read(0, 100, writer=True) == bytes(model)
        assert file.attributes(ROOT).size == len(model)
        assert text(registry) == closed
    file.writers -= 1
    await file.commit()
    await file.finish()
    assert text(registry) == bytes(model) and file.draft is None


async def test_what_is_written_while_a_close_is_under_way_is_not_lost(
    registry: Kept, directory: FilesDirectory
) -> None:
    file = await made(directory)
    registry.go = trio.Event()
    file.write(None, b"one ")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.commit)
        await trio.testing.wait_all_tasks_blocked()
        file.write(None, b"two")
        registry.go.set()
    assert text(registry) == b"one "
    assert file.read(0, 100, writer=True) == b"one two"
    await file.commit()
    assert text(registry) == b"one two"


async def test_a_close_without_quorum_fails_and_the_next_one_may_succeed(
    registry: Kept, directory: FilesDirectory
) -> None:
    file = await made(directory, b"old")
    file.write(0, b"new")
    registry.quorum = False
    with pytest.raises(NoQuorum):
        await file.commit()
    assert text(registry) == b"old"
    registry.quorum = True
    await file.commit()
    assert text(registry) == b"new"


async def test_a_text_whose_close_failed_goes_with_its_last_writer(
    registry: Kept, directory: FilesDirectory
) -> None:
    file = await made(directory, b"old")
    file.write(0, b"new")
    file.writers -= 1
    await file.finish()
    assert (text(registry), file.read(0, 9, writer=False)) == (b"old", b"old")


async def test_a_rename_by_another_member_is_followed(
    registry: Kept, directory: FilesDirectory
) -> None:
    file = await made(directory, b"text")
    number = directory.find(b"f").number  # type: ignore[union-attr]
    await directory.move(b"f", b"g", noreplace=False)
    file.write(None, b" and more")
    await file.commit()
    assert text(registry, b"g") == b"text and more"
    assert directory.find(b"f") is None
    assert directory.find(b"g").number == number  # type: ignore[union-attr]


async def test_a_text_for_a_file_that_is_gone_goes_nowhere(
    registry: Kept, directory: FilesDirectory
) -> None:
    file = await made(directory, b"text")
    await directory.remove(b"f")
    file.write(0, b"other")
    await file.commit()
    assert registry.state.files == {}
    assert file.attributes(ROOT).nlink == 0


async def test_what_is_too_large_changes_nothing(directory: FilesDirectory) -> None:
    file = await made(directory, b"text")
    for work in (
        lambda: file.write(FILE_MAX_BYTES, b"x"),
        lambda: file.truncate(FILE_MAX_BYTES + 1),
    ):
        with pytest.raises(FileTooLarge):
            work()
    assert file.read(0, 100, writer=True) == b"text"


async def test_items_of_files_that_are_gone_are_forgotten(
    registry: Kept, directory: FilesDirectory
) -> None:
    for at in range(600):
        name = b"f%d" % at
        await directory.make(name, 0o644, ROOT)
        await directory.remove(name)
    assert list(directory.names()) == []
    assert len(directory._items) < 300
