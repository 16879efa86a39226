"""Lock namespaces: directories whose owner, group and mode are the DLM's user, group and public ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from clufs.errors import InvalidRequest

PUBLIC = b"public"
RESERVED = b".caa"
"""The namespace of the locks that clufs asks for itself: nobody else uses it, root alone sees it."""
INODES = b".lockfiles"
"""The namespace of the locks that flock(2) and fcntl(2) take on files of /clu/lockfiles."""
HIDDEN = (RESERVED, INODES)
"""Namespaces that are not in /clu/locks, so that nobody asks for a lock of them by name."""
MODES = (0o700, 0o770, 0o777)


@dataclass(slots=True)
class Namespace:
    """A namespace. mode is 0700 (its user), 0770 (its group) or 0777 (public)."""

    name: bytes
    uid: int
    gid: int
    mode: int


class Store(Protocol):
    """Where namespaces are kept (registry/). A change has outlived every fault that clufs outlives
    when its call returns; it raises a ClufsError, NoQuorum among them, when nothing is changed.

    `LocksRoot.namespace_put` and `namespace_dropped` are called on each member for each change, in
    the one order of all changes; for one's own before its call returns. That call may return when
    later changes have been made.
    """

    def namespaces(self) -> list[tuple[bytes, int, int, int]]:
        """All of them: name, uid, gid, mode."""

    async def put_namespace(
        self, name: bytes, uid: int, gid: int, mode: int, *, new: bool = False
    ) -> None:
        """Keep one. Raises NameExists if it is to be new and is there already."""

    async def drop_namespace(self, name: bytes) -> None:
        """Keep it no longer."""


def mode_made(mode: int) -> int:
    """The namespace mode for a mkdir: what the umask left of it says who may write."""
    if mode & 0o002:
        return 0o777
    return 0o770 if mode & 0o020 else 0o700


def check_mode(mode: int) -> int:
    """The mode of a chmod. Raises InvalidRequest for any but the three."""
    if mode & 0o7777 not in MODES:
        raise InvalidRequest(
            "a namespace has mode 0700 (its user), 0770 (its group) or 0777 (public)"
        )
    return mode & 0o7777
