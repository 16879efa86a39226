"""Extended attributes of lock files, ready for `getfattr -d` (contract 2.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clufs.dlm.rsb import ResourceBlock
from clufs.fuse.lock_handle import LockHandle
from clufs.tree.items import Caller, Item
from clufs.tree.lock_tree import LockFile
from clufs.tree.status import sequencer

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.dlm.node import Node
    from clufs.fuse.lock_service import LockService

PREFIX = b"user.clu."
"""All attributes here begin so."""


def _grantmode(block: ResourceBlock | None) -> str:
    mode = block.group_mode() if block is not None else None
    return mode.name if mode is not None else "-"


_OF_BLOCK: dict[bytes, Callable[[ResourceBlock | None], object]] = {
    b"grantmode": _grantmode,
    b"valid": lambda block: int(block.valid) if block is not None else 1,
    b"valseq": lambda block: block.valseq if block is not None else 0,
    b"granted": lambda block: len(block.granted) if block is not None else 0,
    b"converting": lambda block: len(block.converting) if block is not None else 0,
    b"waiting": lambda block: len(block.waiting) if block is not None else 0,
    b"quorum": lambda block: 1,
}

_OF_LOCK: dict[bytes, Callable[[Lock], str]] = {
    b"mode": lambda lock: lock.granted.name if lock.granted is not None else "",
    b"sequencer": sequencer,
}


class Xattrs:
    """Answers getxattr(2) and listxattr(2)."""

    def __init__(self, service: LockService, node: Node) -> None:
        self.service = service
        self.node = node

    def get(self, item: Item, handle: object, caller: Caller, name: bytes) -> bytes | None:
        """The attribute's bytes; None where there is no such attribute."""
        if not name.startswith(PREFIX) or not isinstance(item, LockFile):
            return None
        key = name[len(PREFIX) :]
        block = self.node.blocks.get(item.key)
        if key == b"value":
            return block.value if block is not None else b""
        if key == b"master":
            return self.node.member.encode()
        if key in _OF_BLOCK:
            return str(_OF_BLOCK[key](block)).encode()
        if key in _OF_LOCK:
            lock = self._lock(item, handle, caller)
            if lock is not None and lock.granted is not None:
                return _OF_LOCK[key](lock).encode()
        return None

    def names(self, item: Item, handle: object, caller: Caller) -> list[bytes]:
        """The attributes that `item` has for `caller`."""
        if not isinstance(item, LockFile):
            return []
        keys = [b"value", b"master", *_OF_BLOCK]
        lock = self._lock(item, handle, caller)
        if lock is not None and lock.granted is not None:
            keys += _OF_LOCK
        return [PREFIX + key for key in sorted(keys)]

    def _lock(self, file: LockFile, handle: object, caller: Caller) -> Lock | None:
        """The descriptor's lock where there is one, else what the caller or an ancestor holds."""
        if isinstance(handle, LockHandle) and handle.owner is not None:
            lock = handle.owner.locks.get(file.key)
            if lock is not None:
                return lock
        return self.service.held_by(caller, file.key)
