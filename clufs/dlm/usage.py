"""Who does the work on the names that are mastered here: is another member the better master?"""

from __future__ import annotations

from collections import OrderedDict

from clufs.limits import IDLE_NAMES_KEPT, REMASTER_OTHERS_COUNT


class Usage:
    """How much more one other member asks for a name than all others; of as many names as stay idle."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def asked(self, root: bytes, member: str) -> int:
        """Another member has asked for something: by how much it is ahead of all others.

        A request of anybody else takes away REMASTER_OTHERS_COUNT of its own.
        """
        before, count = self.rows.pop(root, (member, 0))
        if before == member:
            count += 1
        else:
            count -= REMASTER_OTHERS_COUNT
            if count < 1:
                before, count = member, 1
        self.rows[root] = (before, count)
        if len(self.rows) > IDLE_NAMES_KEPT:
            self.rows.popitem(last=False)
        return count if before == member else 0

    def used_here(self, root: bytes) -> None:
        """This member has used the name itself."""
        before, count = self.rows.pop(root, ("", 0))
        if count > REMASTER_OTHERS_COUNT:
            self.rows[root] = (before, count - REMASTER_OTHERS_COUNT)

    def forget(self, root: bytes) -> None:
        """The name is no longer mastered here, or is not to move for a while."""
        self.rows.pop(root, None)
