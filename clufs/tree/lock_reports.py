"""Reports of resource blocks: /clu/status/locks mirrors /clu/locks (contract 2.4)."""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from clufs.dlm.guests import Guest
from clufs.dlm.ranges import LAST_BYTE, Spans
from clufs.errors import HostDown, NoSuchName
from clufs.limits import REPORTS_REMEMBERED
from clufs.tree.items import Attributes, Caller, Directory, File, Item
from clufs.tree.lock_tree import LockDirectory, LockFile
from clufs.tree.names import file_of, ranges_of, shown, shown_word

if TYPE_CHECKING:
    from clufs.dlm.interface import CycleLock
    from clufs.dlm.lock import Lock
    from clufs.dlm.modes import Mode
    from clufs.dlm.rsb import ResourceBlock
    from clufs.tree.lock_tree import LockTree

PRESENCE = "fcntl"
"""The command, of no process, of the lock that keeps a file listed while ranges of it are locked."""

_QUEUES = (b"GRANTED ", b"CONVERTING ", b"WAITING ")


def lock_line(lock: Lock, member: str, now: float) -> str:
    """One lock: queue, granted mode, wanted mode, member, pid, command, age in seconds, and the bytes
    that it is on if it is not on the whole."""
    line = f"{_state(lock.granted, lock.wanted)} {_who(lock, member)} {now - lock.since:.3f}"
    return line if lock.ranges is None else f"{line} bytes={bytes_line(lock.ranges.spans)}"


def bytes_line(spans: Spans) -> str:
    """Ranges of bytes as `0-99,200-`: the last one goes on to the end of the file."""
    return ",".join(f"{first}-{'' if last == LAST_BYTE else last}" for first, last in spans)


def cycle_line(lock: CycleLock) -> str:
    """One lock of a deadlock as it was found: file, queue, modes, member, pid, command."""
    who = f"{lock.member} {lock.pid} {shown_word(lock.command.encode())}"
    line = f"locks/{shown_word(file_of(lock.name))} {_state(lock.granted, lock.wanted)} {who}"
    return f"{line} VICTIM" if lock.is_victim else line


def _state(granted: Mode | None, wanted: Mode | None) -> str:
    queue = "GRANTED" if wanted is None else "WAITING" if granted is None else "CONVERTING"
    return " ".join((queue, *("-" if mode is None else mode.name for mode in (granted, wanted))))


def _member(lock: Lock, here: str) -> str:
    """The member where the owner of the lock is."""
    return lock.owner.member if isinstance(lock.owner, Guest) else here


def _who(lock: Lock, here: str) -> str:
    owner = lock.owner
    return f"{_member(lock, here)} {owner.pid} {shown_word(owner.command.encode())}"


def why_waiting(lock: Lock, member: str) -> str:
    """Why a lock waits: who and which mode stands in its way."""
    ways = lock.rsb.why(lock)
    if not ways:
        return ""
    other = ways[0]
    owner = other.owner
    where = _member(other, member)
    who = f"{owner.pid} ({shown(owner.command.encode())}) on {where}"
    held = other.granted is not None
    mode = other.granted if other.granted is not None else other.wanted
    assert mode is not None
    text = f"waits for {mode.name} {'held by' if held else 'asked before by'} {who}"
    if len(ways) > 1:
        text += f" and {len(ways) - 1} more"
    if held and _member(lock, member) == where and owner.is_above(lock.owner):
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
    lines += _lock_lines(block, member, now)
    return "\n".join(lines).encode(errors="surrogateescape") + b"\n"


def _lock_lines(block: ResourceBlock, member: str, now: float) -> list[str]:
    lines = [lock_line(lock, member, now) for lock in block.granted]
    lines += [
        f"{lock_line(lock, member, now)} {why_waiting(lock, member)}" for lock in block.queued()
    ]
    return lines


class Testimony:
    """What this member tells other members of the blocks that it masters (member.queries.Witness)."""

    def __init__(self, tree: LockTree, member: str) -> None:
        self._tree = tree
        self._member = member
        self.names = tree.names_in
        self.wall_s = tree.wall_s

    def report(self, block: ResourceBlock) -> bytes:
        """The report of a block that is mastered here; ages are by this member's clock."""
        return report(block, self._member, self._tree.now())


class BlockReport(File):
    """/clu/status/locks/<ns>/<name>: readable to those who may use the namespace."""

    __slots__ = ("directory", "file", "show_block")

    def __init__(self, directory: MirroredDirectory, file: LockFile) -> None:
        super().__init__(b"status/" + file.path)
        self.directory = directory
        self.file = file
        self.show_block = directory.show_block

    @property
    def elsewhere(self) -> bool:
        tree = self.file.directory.tree
        blocks = tree.node.blocks
        block = blocks.get(self.file.key)
        if not tree.elsewhere.shared:
            return False
        return block is None or (ranges_of(self.file.key) not in blocks and _has_ranges(block))

    def attributes(self, caller: Caller) -> Attributes:
        """Of a report that another member makes the size is not known here."""
        size = 0 if self.elsewhere else len(self.show(caller))
        return self._attributes(self.file.attributes(caller), size)

    async def ask_attributes(self, caller: Caller) -> Attributes:
        text = await self.ask_show(caller)
        return self._attributes(self.file.attributes(caller), len(text))

    def _attributes(self, file: Attributes, size: int) -> Attributes:
        mode = stat.S_IFREG | (self.file.directory.namespace.mode & 0o444)
        return file._replace(mode=mode, size=size)

    def show(self, caller: Caller) -> bytes:
        """Raises NoSuchName when the block has gone since the look-up."""
        blocks = self.file.directory.tree.node.blocks
        block, ranges = blocks.get(self.file.key), blocks.get(ranges_of(self.file.key))
        if block is None:
            raise _gone()
        text = self.show_block(block)
        return text if ranges is None else text + _locks_in(self.show_block(ranges))

    async def ask_show(self, caller: Caller) -> bytes:
        """Locks on ranges may be with another master; while that does not answer they are left out."""
        elsewhere = self.file.directory.tree.elsewhere
        text = await elsewhere.report(self.file.key)
        if text is None:
            raise _gone()
        if _PRESENT not in text:
            return text
        try:
            return text + _locks_in(await elsewhere.report(ranges_of(self.file.key)) or b"")
        except HostDown:
            return text

    def forgotten(self) -> None:
        """One that was only listed leaves alone the one that the kernel has."""
        reports = self.directory.reports
        if reports.get(self.file, self) is self:
            reports.pop(self.file, None)
            self.directory.remember(self)
            self.file.forgotten()


_PRESENT = f" 0 {PRESENCE} ".encode()


def _has_ranges(block: ResourceBlock) -> bool:
    """Whether some member says that it holds ranges of the file."""
    return any(lock.owner.pid == 0 and lock.owner.command == PRESENCE for lock in block.holders())


def _locks_in(report: bytes) -> bytes:
    """The locks alone, of a report."""
    lines = report.splitlines(keepends=True)
    return b"".join(line for line in lines if line.startswith(_QUEUES))


def _gone() -> NoSuchName:
    return NoSuchName("nothing is held or awaited under that name any more")


class MirroredDirectory(Directory):
    """A directory of reports that has the names of a directory of locks.

    reports: those that the kernel has. It forgets one between two system calls, and `cp` leaves out what has
    another st_ino then: the numbers of those forgotten last are kept.
    """

    __slots__ = ("_numbers", "below", "mirrored", "reports", "show_block")

    def __init__(self, mirrored: Directory, show: Callable[[ResourceBlock], bytes]) -> None:
        super().__init__(b"status/" + mirrored.path)
        self.mirrored = mirrored
        self.show_block = show
        self.below: dict[Item, MirroredDirectory] = {}
        self.reports: dict[LockFile, BlockReport] = {}
        self._numbers: OrderedDict[bytes, int] = OrderedDict()

    def attributes(self, caller: Caller) -> Attributes:
        real = self.mirrored.attributes(caller)
        return real._replace(mode=real.mode & ~0o1222)

    @property
    def shared(self) -> bool:
        return self.mirrored.shared

    def _mirror(self, item: Item | None) -> Item | None:
        if isinstance(item, LockDirectory):
            kept = self.below.get(item)
            if kept is None:
                self.below = {real: own for real, own in self.below.items() if own.lookups}
                kept = self.below[item] = MirroredDirectory(item, self.show_block)
            return kept
        if isinstance(item, LockFile):
            return self.reports.get(item) or self._report(item)
        return None

    def _report(self, file: LockFile) -> BlockReport:
        report = BlockReport(self, file)
        report.number = self._numbers.pop(file.name, report.number)
        return report

    def remember(self, report: BlockReport) -> None:
        """Give the next report of that name the same st_ino."""
        self._numbers[report.file.name] = report.number
        if len(self._numbers) > REPORTS_REMEMBERED:
            self._numbers.popitem(last=False)

    def _kept(self, found: Item | None) -> Item | None:
        if isinstance(found, BlockReport):
            self.reports[found.file] = found
        return found

    def find(self, name: bytes) -> Item | None:
        item = self.mirrored.find(name)
        if isinstance(item, LockFile) and not item.is_locked:
            return None
        return self._kept(self._mirror(item))

    async def seek(self, name: bytes, caller: Caller) -> Item | None:
        item = await self.mirrored.seek(name, caller)
        if isinstance(item, LockFile) and not (item.is_locked or item.elsewhere):
            return None
        return self._kept(self._mirror(item))

    def names(self) -> Iterator[tuple[bytes, Item]]:
        """A name that is only open has nothing to report."""
        for name, item in self.mirrored.names():
            if not isinstance(item, LockFile) or item.is_locked:
                yield from self._mirrored(name, item)

    async def ask_names(self) -> list[tuple[bytes, Item]]:
        if isinstance(self.mirrored, LockDirectory):
            found = await self.mirrored.ask_locked()
        else:
            found = await self.mirrored.ask_names()
        return [entry for name, item in found for entry in self._mirrored(name, item)]

    def _mirrored(self, name: bytes, item: Item) -> Iterator[tuple[bytes, Item]]:
        mirrored = self._mirror(item)
        if mirrored is not None:
            yield name, mirrored
