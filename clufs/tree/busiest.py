"""Which locks are asked for most through this member: /clu/status/busiest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clufs.limits import BUSIEST_COUNTED, BUSIEST_SHOWN
from clufs.tree.items import Caller
from clufs.tree.names import shown_word

if TYPE_CHECKING:
    from clufs.tree.lock_tree import LockTree
    from clufs.tree.namespaces import Namespace


class Busiest:
    """Counts requests by resource block: those of this member's processes since it started.

    Of many blocks only the busy ones stay: where one too many is counted, all counts are halved, and
    those that come to nothing go. So the counts of names that others were counted with stay in proportion.
    """

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}

    def count(self, name: bytes) -> None:
        """One more request."""
        counts = self._counts
        counts[name] = counts.get(name, 0) + 1
        if len(counts) > BUSIEST_COUNTED:
            self._halve()

    def _halve(self) -> None:
        self._counts = {name: count // 2 for name, count in self._counts.items() if count > 1}

    def counts(self) -> list[tuple[bytes, int]]:
        """Names and their counts, the busiest first."""
        return sorted(self._counts.items(), key=lambda one: (-one[1], one[0]))

    def show(self, tree: LockTree, caller: Caller) -> bytes:
        """`REQUESTS NAME`, the busiest first, of the namespaces that `caller` may use."""
        lines = []
        for name, count in self.counts():
            space = tree.directories.get(name.partition(b"/")[0])
            if space is not None and _may_use(space.namespace, caller):
                lines.append(f"{count} {shown_word(name)}\n")
            if len(lines) == BUSIEST_SHOWN:
                break
        return "".join(lines).encode()


def _may_use(space: Namespace, caller: Caller) -> bool:
    """As the kernel judges, but for the groups that a caller has besides its own: it does not tell them."""
    if caller.uid in (0, space.uid):
        return True
    return bool(space.mode & (0o070 if caller.gid == space.gid else 0o007))
