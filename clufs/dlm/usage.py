"""Who does the work on the names that are mastered here: is another member the better master?"""

from __future__ import annotations

from collections import OrderedDict

from clufs.limits import IDLE_NAMES_KEPT, REMASTER_AFTER


class Usage:
    """How many requests in a row on a name came from one other member; of as many names as stay idle."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def asked(self, root: bytes, member: str) -> bool:
        """Another member has asked for something; whether it alone has, for long enough to be the master."""
        before, count = self._rows.pop(root, (member, 0))
        count = count + 1 if before == member else 1
        self._rows[root] = (member, count)
        if len(self._rows) > IDLE_NAMES_KEPT:
            self._rows.popitem(last=False)
        return count >= REMASTER_AFTER

    def used_here(self, root: bytes) -> None:
        """This member has used the name itself."""
        if self._rows:
            self._rows.pop(root, None)

    def forget(self, root: bytes) -> None:
        """The name is no longer mastered here."""
        self._rows.pop(root, None)
