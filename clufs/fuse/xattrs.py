"""Extended attributes of lock files, ready for `getfattr -d` (contract 2.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clufs.fuse.lock_handle import LockHandle
from clufs.member.facts import BlockFacts, facts_of
from clufs.tree.items import Caller, Item
from clufs.tree.lock_tree import LockFile
from clufs.tree.status import sequencer

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.fuse.lock_service import LockService

PREFIX = b"user.clu."
"""All attributes here begin so."""


_OF_BLOCK: dict[bytes, Callable[[BlockFacts], object]] = {
    b"grantmode": lambda facts: facts.group_mode,
    b"valid": lambda facts: int(facts.valid),
    b"valseq": lambda facts: facts.valseq,
    b"granted": lambda facts: facts.granted,
    b"converting": lambda facts: facts.converting,
    b"waiting": lambda facts: facts.waiting,
    b"quorum": lambda facts: facts.quorum,
    b"master": lambda facts: facts.master,
}

_OF_LOCK: dict[bytes, Callable[[Lock], str]] = {
    b"mode": lambda lock: lock.granted.name if lock.granted is not None else "",
    b"sequencer": sequencer,
}


class Xattrs:
    """Answers getxattr(2) and listxattr(2)."""

    def __init__(self, service: LockService) -> None:
        self.service = service

    def must_ask(self, item: Item, name: bytes) -> bool:
        """Whether another member must be asked: only the value is known wherever a lock is held."""
        key = name[len(PREFIX) :]
        if not isinstance(item, LockFile) or key in _OF_LOCK:
            return False
        elsewhere = item.directory.tree.elsewhere
        if key == b"value":
            return not elsewhere.knows(item.key)
        return elsewhere.shared and key in _OF_BLOCK and item.key not in self.service.node.blocks

    async def ask(self, item: Item, name: bytes) -> bytes | None:
        """Such an attribute. Raises HostDown."""
        assert isinstance(item, LockFile)
        facts = await item.directory.tree.elsewhere.facts(item.key)
        return self._of_block(name[len(PREFIX) :], facts)

    def _of_block(self, key: bytes, facts: BlockFacts | None) -> bytes:
        if facts is None:
            facts = BlockFacts(b"", True, 0, 0.0, "-", 0, 0, 0, self.service.node.member, 1)
        return facts.value if key == b"value" else str(_OF_BLOCK[key](facts)).encode()

    def get(self, item: Item, handle: object, caller: Caller, name: bytes) -> bytes | None:
        """The attribute's bytes; None where there is no such attribute."""
        if not name.startswith(PREFIX) or not isinstance(item, LockFile):
            return None
        key = name[len(PREFIX) :]
        if key == b"value" or key in _OF_BLOCK:
            tree = item.directory.tree
            block = self.service.node.find(item.key)
            quorum = tree.elsewhere.quorum
            facts = None
            if block is not None:
                facts = facts_of(block, self.service.node.member, quorum, tree.wall_s)
            return self._of_block(key, facts)
        if key in _OF_LOCK:
            lock = self._lock(item, handle, caller)
            if lock is not None and lock.granted is not None:
                return _OF_LOCK[key](lock).encode()
        return None

    def names(self, item: Item, handle: object, caller: Caller) -> list[bytes]:
        """The attributes that `item` has for `caller`."""
        if not isinstance(item, LockFile):
            return []
        keys = [b"value", *_OF_BLOCK]
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
