"""Ordinary small files that every member has: profiles, action scripts, templates.

Names, owners and modes change at once and everywhere. A text does when a close ends the writing of
it: until then it is a draft of this member, which its processes see as they would anywhere else.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from clufs.errors import FileTooLarge, InvalidRequest, NameExists, NoSuchName, NotPermitted
from clufs.limits import FILE_MAX_BYTES
from clufs.registry.commands import Command
from clufs.registry.files import ChangeFile, DropFile, FileRecord, MoveFile, PutFile, WriteFile
from clufs.registry.state import State
from clufs.tree.items import Attributes, Caller, Directory, Item
from clufs.tree.names import shown

_MODE = 0o777
_ITEMS_BEYOND_FILES = 256


class Registry(Protocol):
    """The registry as the tree uses it."""

    @property
    def state(self) -> State:
        """What is committed, as far as this member knows. To be read only."""

    async def propose(self, command: Command) -> None:
        """Have a command applied; it is on disk at a quorum, and applied here, when this returns.

        Raises what its refusal means, NoQuorum at once without one, TimedOut, StateError.
        """


class Draft:
    """A text that is being written on this member. count: of its changes.

    judged: the count at which it was committed or refused; refusal: why. mtime_ns: set by hand.
    """

    __slots__ = ("changed_ns", "count", "data", "judged", "mtime_ns", "refusal")

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.count = 0
        self.judged = 0
        self.mtime_ns: int | None = None
        self.changed_ns = time.time_ns()
        self.refusal: InvalidRequest | None = None

    @property
    def is_new(self) -> bool:
        """Whether it changed since it was committed or refused."""
        return self.count != self.judged

    def touch(self) -> None:
        """It has just changed."""
        self.count += 1
        self.mtime_ns, self.changed_ns = None, time.time_ns()
        self.refusal = None


class EditableFile(Item):
    """A file of the registry. record: as last seen, also when the file is gone.

    writers: opens for writing. draft: of theirs, None while nothing is written.
    is_withdrawn: clufs took its name away, as it never had a text; a text that comes gives it back.
    """

    __slots__ = ("directory", "draft", "is_withdrawn", "record", "writers")

    def __init__(self, directory: FilesDirectory, path: bytes, record: FileRecord) -> None:
        super().__init__(path)
        self.directory = directory
        self.record = record
        self.draft: Draft | None = None
        self.writers = 0
        self.is_withdrawn = False

    @property
    def name(self) -> bytes:
        """The last part of its path."""
        return self.path.rpartition(b"/")[2]

    def look(self) -> FileRecord:
        """The record as it is now, or as it was when the file went."""
        self.directory.follow(self)
        return self.record

    @property
    def is_gone(self) -> bool:
        """Whether it has no name any more."""
        self.look()
        return self.record.number != 0 and (
            self.directory.registry.state.file_table.path(self.record.number) is None
        )

    def attributes(self, caller: Caller) -> Attributes:
        record = self.look()
        size, mtime_ns = len(record.data), record.mtime_ns
        draft = self._shown_draft(False)
        if draft is not None:
            size = len(draft.data)
            mtime_ns = draft.mtime_ns or draft.changed_ns
        mode = stat.S_IFREG | record.mode
        links = 0 if self.is_gone else 1
        return Attributes(mode, record.uid, record.gid, size, mtime_ns, links)

    @property
    def saved_early(self) -> bool:
        """Whether fsync(2) keeps its text, also when it may be half of one."""
        return not self.directory.is_judged(self.name)

    # ------------------------------------------------- the draft

    def _shown_draft(self, writer: bool) -> Draft | None:
        """The draft for whoever looks: of a refused one only its writers know any more."""
        draft = self.draft
        return draft if draft is not None and (writer or draft.refusal is None) else None

    def read(self, offset: int, size: int, writer: bool) -> bytes:
        """A part of the text as it is on this member."""
        draft = self._shown_draft(writer)
        data = self.look().data if draft is None else draft.data
        return bytes(data[offset : offset + size])

    def write(self, offset: int | None, data: bytes) -> None:
        """Put bytes there, or at the end for None. Raises FileTooLarge."""
        draft = self._begun()
        begin = len(draft.data) if offset is None else offset
        self._check_size(begin + len(data))
        if begin > len(draft.data):
            draft.data += bytes(begin - len(draft.data))
        draft.data[begin : begin + len(data)] = data
        draft.touch()

    def truncate(self, size: int) -> None:
        """Make the text so long. Raises FileTooLarge."""
        self._check_size(size)
        draft = self._begun()
        del draft.data[size:]
        draft.data += bytes(size - len(draft.data))
        draft.touch()

    def opened(self) -> None:
        """Somebody opens it for writing, and begins with the text that everybody has.

        Only a truncation that is about to be kept counts already, though nobody has it open any more.
        """
        draft = self.draft
        is_left = draft is not None and not self.writers
        if is_left and (self.draft_has_text or self.directory.is_judged(self.name)):
            self.draft = None
        self.writers += 1

    @property
    def draft_has_text(self) -> bool:
        """Whether anything but a truncation is being written."""
        return self.draft is not None and bool(self.draft.data)

    def _begun(self) -> Draft:
        if self.draft is None:
            self.draft = Draft(self.look().data)
        return self.draft

    def _check_size(self, size: int) -> None:
        if size > FILE_MAX_BYTES:
            raise FileTooLarge(f"a file here has at most {FILE_MAX_BYTES} bytes, not {size}")

    async def commit(self) -> None:
        """A writer closes it: the text is everywhere and on disk at a quorum when this returns.

        An empty one is left for later: a redirection closes once before its first byte. A draft that
        was refused stays, and is refused again, until it changes. Raises what refuses it.
        """
        draft = self.draft
        if draft is None or (self.is_gone and not self.is_withdrawn):
            return
        if draft.refusal is not None:
            raise draft.refusal
        if draft.is_new and draft.data:
            await self._commit(draft)

    async def finish(self) -> None:
        """The last writer has closed it: what is still a draft is an empty text, or a refused one."""
        draft = self.draft
        if draft is None:
            return
        try:
            if not self.is_gone:
                await self.directory.left(self, draft)
        finally:
            if self.draft is draft and not self.writers:
                self.draft = None

    async def _commit(self, draft: Draft) -> None:
        count, data = draft.count, bytes(draft.data)
        try:
            await self.directory.save(self, data, draft.mtime_ns or draft.changed_ns)
        except InvalidRequest as error:
            if draft.count == count:
                draft.judged, draft.refusal = count, error
            raise
        if draft.count == count and self.draft is draft:
            self.draft = None

    async def put(self, data: bytes, mtime_ns: int) -> None:
        """Keep a text in the registry, under whatever name the file has. Raises NoRoom, NoQuorum."""
        registry = self.directory.registry
        if self.look().number and not self.is_gone:
            try:
                await registry.propose(WriteFile(self.record.number, data, mtime_ns))
                return
            except NoSuchName:
                if not self.is_withdrawn:
                    raise
        record = self.record
        owner = record.uid, record.gid, record.mode
        await registry.propose(PutFile(self.path, data, *owner, mtime_ns, new=False))
        self.directory.adopt(self)

    # ------------------------------------------------- beside the text

    async def change(
        self, mode: int | None, uid: int | None, gid: int | None, mtime_ns: int | None
    ) -> None:
        """chmod, chown, utimens. Raises NotPermitted, NoQuorum."""
        if self.draft is not None and self.draft.is_new and mtime_ns is not None:
            self.draft.mtime_ns, mtime_ns = mtime_ns, None
        if mode is not None:
            mode &= _MODE
        record = self.look()
        self.directory.check_change(self, mode, uid)
        if mode is uid is gid is mtime_ns is None or self.is_gone:
            return
        if not record.number:
            await self.put(record.data, record.mtime_ns)
        await self.directory.registry.propose(
            ChangeFile(self.look().number, uid, gid, mode, mtime_ns)
        )


class FilesDirectory(Directory):
    """A directory of files in the registry, and perhaps of other things that `others` knows.

    built_in: files that are shown as long as the registry has none of their name.
    """

    __slots__ = ("_items", "built_in", "registry")

    def __init__(
        self, path: bytes, registry: Registry, built_in: Mapping[bytes, FileRecord] | None = None
    ) -> None:
        super().__init__(path)
        self.registry = registry
        self.built_in = dict(built_in or {})
        self._items: dict[int | bytes, EditableFile] = {}

    def attributes(self, caller: Caller) -> Attributes:
        return Attributes(stat.S_IFDIR | 0o755, nlink=2)

    def record(self, name: bytes) -> FileRecord | None:
        """The file of that name as every member knows it."""
        known = self.registry.state.files.get(self._path(name))
        return known if known is not None else self.built_in.get(name)

    def _path(self, name: bytes) -> bytes:
        return self.path + b"/" + name

    def follow(self, file: EditableFile) -> None:
        """Bring an item up to date with the registry, where it may have another name by now."""
        state = self.registry.state
        number = file.record.number
        if not number:
            record = self.record(file.name)
            if record is not None and record.number:
                self._items.pop(file.name, None)
                self._items.setdefault(record.number, file)
                file.record = record
            return
        path = state.file_table.path(number)
        if path is not None:
            file.path, file.record = path, state.files[path]

    def adopt(self, file: EditableFile) -> None:
        """A file was put under its path: from now on it is this one."""
        record = self.registry.state.files.get(file.path)
        if record is not None:
            file.record, file.is_withdrawn = record, False
            self._items[record.number] = file

    # ------------------------------------------------- looking

    def find(self, name: bytes) -> Item | None:
        record = self.record(name)
        return self._item(name, record) if record is not None else None

    def names(self) -> Iterator[tuple[bytes, Item]]:
        prefix = self._path(b"")
        files = self.registry.state.files
        found = {path[len(prefix) :]: files[path] for path in files if path.startswith(prefix)}
        self._forget_items(len(found))
        for name, record in sorted({**self.built_in, **found}.items()):
            yield name, self._item(name, record)

    def _item(self, name: bytes, record: FileRecord) -> EditableFile:
        key: int | bytes = record.number or name
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = EditableFile(self, self._path(name), record)
        else:
            item.path, item.record = self._path(name), record
        return item

    def _forget_items(self, files: int) -> None:
        """Items keep their st_ino as long as their file; what is over is forgotten now and then."""
        if len(self._items) > 2 * files + _ITEMS_BEYOND_FILES:
            self._items = {
                key: item
                for key, item in self._items.items()
                if item.lookups or item.writers or not item.is_gone
            }

    # ------------------------------------------------- what is allowed here

    def check_name(self, name: bytes) -> None:
        """Raises InvalidRequest or NameTooLong for a name that no file can have here."""

    def is_judged(self, name: bytes) -> bool:
        """Whether a text must be whole to have this name."""
        return False

    def mode_made(self, mode: int) -> int:
        """The mode of a new file."""
        return mode & _MODE

    def check_change(self, file: EditableFile, mode: int | None, uid: int | None) -> None:
        """Raises NotPermitted for a mode or an owner that no file can have here."""

    async def save(self, file: EditableFile, data: bytes, mtime_ns: int) -> None:
        """Keep a text that was closed. Raises InvalidRequest for one that must not be here."""
        await file.put(data, mtime_ns)

    async def left(self, file: EditableFile, draft: Draft) -> None:
        """A text was made empty, or refused, and all its writers have gone."""
        if draft.is_new and not draft.data:
            await file.put(b"", draft.mtime_ns or draft.changed_ns)

    async def check_move(self, record: FileRecord, to: bytes) -> None:
        """A file is about to get this name. Raises InvalidRequest for a text that must not have it."""

    async def moved(self, to: bytes) -> None:
        """A file has got this name."""

    # ------------------------------------------------- changing names

    async def make(self, name: bytes, mode: int, caller: Caller) -> EditableFile:
        """Make an empty file, on all members at once. Raises NameExists, NoRoom, NoQuorum."""
        self.check_name(name)
        if self.find(name) is not None:
            raise NameExists(f"'{shown(name)}' is there already")
        owner = caller.uid, caller.gid, self.mode_made(mode)
        await self.registry.propose(
            PutFile(self._path(name), b"", *owner, time.time_ns(), new=True)
        )
        item = self.find(name)
        if not isinstance(item, EditableFile):
            raise NoSuchName(f"'{shown(name)}' was removed at the same moment")
        return item

    async def remove(self, name: bytes) -> None:
        """Remove a file. Raises NoSuchName, NotPermitted, NoQuorum."""
        record = self.record(name)
        if record is None:
            raise NoSuchName(f"'{shown(name)}' is not there")
        if not record.number:
            raise NotPermitted(f"'{shown(name)}' is part of clufs and stays; write another text")
        await self.registry.propose(DropFile(self._path(name), record.number))

    async def move(self, name: bytes, to: bytes, noreplace: bool) -> None:
        """Rename a file, in the place of another unless `noreplace`. Raises what `check_move` does,
        NoSuchName, NameExists, NoQuorum."""
        self.check_name(to)
        record = self.record(name)
        if record is None:
            raise NoSuchName(f"'{shown(name)}' is not there")
        if to == name:
            return
        if self.find(to) is not None and noreplace:
            raise NameExists(f"'{shown(to)}' is there already")
        await self.check_move(record, to)
        if record.number:
            move = MoveFile(self._path(name), self._path(to), noreplace, record.version)
            await self.registry.propose(move)
        else:
            facts = record.data, record.uid, record.gid, record.mode, record.mtime_ns
            await self.registry.propose(PutFile(self._path(to), *facts, new=noreplace))
        await self.moved(to)


class ScriptsDirectory(FilesDirectory):
    """/clu/scripts: what CAA runs as root is written by root only."""

    __slots__ = ()

    def mode_made(self, mode: int) -> int:
        return super().mode_made(mode) & ~0o022

    def check_change(self, file: EditableFile, mode: int | None, uid: int | None) -> None:
        if (mode is not None and mode & 0o022) or uid not in (None, 0):
            raise NotPermitted(
                "action scripts are root's and writable by root only: CAA runs them as root"
            )
