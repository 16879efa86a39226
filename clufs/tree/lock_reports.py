"""Reports of resource blocks: /clu/status/locks mirrors /clu/locks (contract 2.4)."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from clufs.errors import NoSuchName
from clufs.tree.items import Attributes, Caller, Directory, File, Item
from clufs.tree.lock_tree import LockDirectory, LockFile
from clufs.tree.names import shown, shown_word

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.dlm.modes import Mode
    from clufs.dlm.rsb import ResourceBlock


def lock_line(lock: Lock, member: str, now: float) -> str:
    """One lock: queue, granted mode, wanted mode, member, pid, command, age in seconds."""
    return f"{_state(lock.granted, lock.wanted)} {_who(lock, member)} {now - lock.since:.3f}"


def cycle_line(lock: Lock, modes: tuple[Mode | None, Mode | None], member: str) -> str:
    """One lock of a deadlock as it was found: file, queue, modes, member, pid, command."""
    return f"locks/{shown_word(lock.rsb.name)} {_state(*modes)} {_who(lock, member)}"


def _state(granted: Mode | None, wanted: Mode | None) -> str:
    queue = "GRANTED" if wanted is None else "WAITING" if granted is None else "CONVERTING"
    return " ".join((queue, *("-" if mode is None else mode.name for mode in (granted, wanted))))


def _who(lock: Lock, member: str) -> str:
    owner = lock.owner
    return f"{member} {owner.pid} {shown_word(owner.command.encode())}"


def why_waiting(lock: Lock, member: str) -> str:
    """Why a lock waits: who and which mode stands in its way."""
    ways = lock.rsb.why(lock)
    if not ways:
        return ""
    other = ways[0]
    owner = other.owner
    who = f"{owner.pid} ({shown(owner.command.encode())}) on {member}"
    held = other.granted is not None
    mode = other.granted if other.granted is not None else other.wanted
    assert mode is not None
    text = f"waits for {mode.name} {'held by' if held else 'asked before by'} {who}"
    if len(ways) > 1:
        text += f" and {len(ways) - 1} more"
    if held and owner.is_above(lock.owner):
        text += ", its own ancestor: the process that writes owns the lock"
    return text


def report(block: ResourceBlock, member: str, now: float) -> bytes:
    """The report of one resource block."""
    namespace, _, name = block.name.partition(b"/")
    mode = block.group_mode()
    lines = [
        f"NAME={shown(name)}",
        f"NAMESPACE={shown(namespace)}",
        f"MASTER={member}",
        f"GRANTMODE={mode.name if mode is not None else '-'}",
        f"VALUE={shown(block.value)}",
        f"VALID={int(block.valid)}",
        f"VALSEQ={block.valseq}",
    ]
    lines += [lock_line(lock, member, now) for lock in block.granted]
    lines += [
        f"{lock_line(lock, member, now)} {why_waiting(lock, member)}" for lock in block.queued()
    ]
    return "\n".join(lines).encode(errors="surrogateescape") + b"\n"


class BlockReport(File):
    """/clu/status/locks/<ns>/<name>: readable to those who may use the namespace."""

    __slots__ = ("directory", "file", "show_block")

    def __init__(self, directory: MirroredDirectory, file: LockFile) -> None:
        super().__init__(b"status/" + file.path)
        self.directory = directory
        self.file = file
        self.show_block = directory.show_block

    def attributes(self, caller: Caller) -> Attributes:
        file = self.file.attributes(caller)
        mode = stat.S_IFREG | (self.file.directory.namespace.mode & 0o444)
        return file._replace(mode=mode, size=len(self.show(caller)))

    def show(self, caller: Caller) -> bytes:
        """Raises NoSuchName when the block has gone since the look-up."""
        block = self.file.directory.tree.node.blocks.get(self.file.key)
        if block is None:
            raise NoSuchName("nothing is held or awaited under that name any more")
        return self.show_block(block)

    def forgotten(self) -> None:
        self.directory.reports.pop(self.file, None)


class MirroredDirectory(Directory):
    """A directory of reports that has the names of a directory of locks."""

    __slots__ = ("below", "mirrored", "reports", "show_block")

    def __init__(self, mirrored: Directory, show: Callable[[ResourceBlock], bytes]) -> None:
        super().__init__(b"status/" + mirrored.path)
        self.mirrored = mirrored
        self.show_block = show
        self.below: dict[Item, MirroredDirectory] = {}
        self.reports: dict[LockFile, BlockReport] = {}

    def attributes(self, caller: Caller) -> Attributes:
        real = self.mirrored.attributes(caller)
        return real._replace(mode=real.mode & ~0o1222)

    def _mirror(self, item: Item | None) -> Item | None:
        if isinstance(item, LockDirectory):
            kept = self.below.get(item)
            if kept is None:
                self.below = {real: own for real, own in self.below.items() if own.lookups}
                kept = self.below[item] = MirroredDirectory(item, self.show_block)
            return kept
        if isinstance(item, LockFile) and item.key in item.directory.tree.node.blocks:
            return self.reports.get(item) or BlockReport(self, item)
        return None

    def find(self, name: bytes) -> Item | None:
        found = self._mirror(self.mirrored.find(name))
        if isinstance(found, BlockReport):
            self.reports[found.file] = found
        return found

    def names(self) -> Iterator[tuple[bytes, Item]]:
        for name, item in self.mirrored.names():
            mirrored = self._mirror(item)
            if mirrored is not None:
                yield name, mirrored
