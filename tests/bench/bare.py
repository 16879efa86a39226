"""A bare pyfuse3 file system, as pyfuse3 comes: `python -m tests.bench.bare MOUNTPOINT`.

Every name in its one directory is a file that takes any write and reads as one line. Like /clu
it lets the kernel cache no entry. Runs in the foreground until unmounted.
"""

from __future__ import annotations

import errno
import stat
import sys
from collections.abc import Sequence
from typing import Any

import pyfuse3
import trio

_TEXT = b"hello\n"


class Bare(pyfuse3.Operations):
    """Answers what `echo EX > f` asks; flush and release are pyfuse3's own."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[bytes, int] = {}

    def _entry(self, node: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = node
        entry.st_mode = stat.S_IFDIR | 0o755 if node == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o666
        entry.entry_timeout = entry.attr_timeout = 0
        return entry

    async def lookup(self, parent_inode: Any, name: Any, ctx: Any) -> pyfuse3.EntryAttributes:
        if name not in self._nodes:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._entry(self._nodes[name])

    async def forget(self, inode_list: Sequence[tuple[Any, int]]) -> None:
        return None

    async def getattr(self, inode: Any, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._entry(inode)

    async def setattr(
        self, inode: Any, attr: Any, fields: Any, fh: Any, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        return self._entry(inode)

    async def open(self, inode: Any, flags: Any, ctx: Any) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def create(
        self, parent_inode: Any, name: Any, mode: Any, flags: Any, ctx: Any
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        node = self._nodes.setdefault(name, len(self._nodes) + pyfuse3.ROOT_INODE + 1)
        return pyfuse3.FileInfo(fh=node, direct_io=True), self._entry(node)

    async def write(self, fh: Any, off: int, buf: bytes) -> int:
        return len(buf)

    async def read(self, fh: Any, off: int, size: int) -> bytes:
        return _TEXT[off : off + size]


def main() -> None:
    """Serve until unmounted."""
    pyfuse3.init(Bare(), sys.argv[1], {"fsname=bare", "allow_other"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()
