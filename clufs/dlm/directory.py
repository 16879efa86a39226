"""Which member knows the master of a name, and what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32


def root_of(name: bytes) -> bytes:
    """The name at the root of a sublock tree: `ns/a` of `ns/a.sub/b`. A tree has one master."""
    if b".sub/" not in name:
        return name
    end = name.find(b".sub/", name.find(b"/") + 1)
    return name if end < 0 else name[:end]


def directory_member(root: bytes, members: Sequence[str]) -> str:
    """The member that knows the master of this name: the same on every member of a view."""
    return members[crc32(root) % len(members)]


class Directory:
    """The names whose directory this member is, and their masters."""

    __slots__ = ("masters",)

    def __init__(self) -> None:
        self.masters: dict[bytes, str] = {}

    def master_of(self, root: bytes, asker: str) -> str:
        """The master of this name; the first member to ask becomes it."""
        return self.masters.setdefault(root, asker)

    def look(self, name: bytes) -> str | None:
        """The master of this name, None if it has none; looking makes nobody its master."""
        return self.masters.get(root_of(name))

    def dropped(self, root: bytes, member: str) -> None:
        """This member masters the name no more."""
        if self.masters.get(root) == member:
            del self.masters[root]
