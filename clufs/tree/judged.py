"""Directories in which certain names are kept for texts that make sense: profiles, templates."""

from __future__ import annotations

import abc
from collections.abc import Mapping

from clufs.caa import templates
from clufs.errors import ProfileRefused
from clufs.registry.files import DropFile, FileRecord, PutFile
from clufs.tree.files import Draft, EditableFile, FilesDirectory, Registry

TEMPLATES = b"templates"
REFUSED = b".refused"


class JudgedDirectory(FilesDirectory):
    """Judges each text that is to have such a name; one that is refused is kept as NAME.refused."""

    __slots__ = ()

    @abc.abstractmethod
    def is_judged(self, name: bytes) -> bool:
        """Whether a text must be whole to have this name."""

    @abc.abstractmethod
    def judge(self, name: bytes, text: bytes) -> None:
        """Raises ProfileRefused for a text that must not have this name."""

    async def save(self, file: EditableFile, data: bytes, mtime_ns: int) -> None:
        judged = self.is_judged(file.name)
        if judged:
            await self._judge(file.name, data, file.look(), mtime_ns)
        await file.put(data, mtime_ns)
        if judged:
            await self._forget_refused(file.name)

    async def check_move(self, record: FileRecord, to: bytes) -> None:
        if self.is_judged(to):
            await self._judge(to, record.data, record, record.mtime_ns)

    async def moved(self, to: bytes) -> None:
        if self.is_judged(to):
            await self._forget_refused(to)

    async def left(self, file: EditableFile, draft: Draft) -> None:
        """The text before stays; where there was none, none is left."""
        if not self.is_judged(file.name):
            await super().left(file, draft)
        elif draft.refusal is not None and not file.look().data and not file.writers:
            file.is_withdrawn = True
            await self.registry.propose(DropFile(file.path, file.record.number))

    async def _judge(self, name: bytes, text: bytes, like: FileRecord, mtime_ns: int) -> None:
        """Keeps what it refuses as NAME.refused. Raises ProfileRefused, NoQuorum, NoRoom."""
        try:
            self.judge(name, text)
        except ProfileRefused:
            owner = like.uid, like.gid, like.mode
            path = self._path(name + REFUSED)
            await self.registry.propose(PutFile(path, text, *owner, mtime_ns, new=False))
            raise

    async def _forget_refused(self, name: bytes) -> None:
        path = self._path(name + REFUSED)
        if path in self.registry.state.files:
            await self.registry.propose(DropFile(path))


class TemplatesDirectory(JudgedDirectory):
    """/clu/templates: a bad TYPE_*.cap or application.tdf would refuse every profile after it."""

    __slots__ = ()

    def __init__(self, registry: Registry, built_in: Mapping[bytes, FileRecord]) -> None:
        super().__init__(TEMPLATES, registry, built_in)

    def is_judged(self, name: bytes) -> bool:
        return name in self.built_in and name != templates.SCRIPT.encode()

    def judge(self, name: bytes, text: bytes) -> None:
        templates.judge(name.decode(), text)
