"""Every data LUN is tried out once, when this member has entered it first: see `probe`.

By sessions of our own beside those in use, and by writes of no blocks. Kernel devices have no second session, so
that their reservations are believed until the first fencing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from clufs.errors import LunError
from clufs.storage.certificate import MemberKey
from clufs.storage.inventory import SharedLun
from clufs.storage.iscsi import iscsi_lun
from clufs.storage.paths import ISCSI, isid_of
from clufs.storage.probe import Report, probe

log = logging.getLogger("clufsd")

_USERS = ("probe", "probed")


class Trials:
    """reports: of the LUNs that were tried out. initiator: this member's iSCSI name. tell: hears of each report."""

    def __init__(self, initiator: str, tell: Callable[[str, Report], None]) -> None:
        self.reports: dict[str, Report] = {}
        self._initiator = initiator
        self._tell = tell
        self._begun: set[str] = set()

    async def try_out(self, lun: SharedLun, key: MemberKey) -> None:
        """Try a LUN out, unless that was done; one that fails meanwhile is tried out when it is entered again."""
        url = next((path.url for path in lun.usable() if path.url.startswith(ISCSI)), None)
        if url is None or lun.wwid in self._begun:
            return
        self._begun.add(lun.wwid)
        try:
            report = await self._probe(url, _keys(key))
        except LunError as error:
            self._begun.discard(lun.wwid)
            log.info("%s could not be tried out: %s", lun.wwid, error)
            return
        self.reports[lun.wwid] = report
        self._tell(lun.wwid, report)

    async def _probe(self, url: str, keys: tuple[int, int]) -> Report:
        async with contextlib.AsyncExitStack() as stack:
            fencer, victim = [
                await stack.enter_async_context(iscsi_lun(url, self._initiator, isid_of(url, user)))
                for user in _USERS
            ]
            return await probe(fencer, victim, keys, 0, b"")


def _keys(key: MemberKey) -> tuple[int, int]:
    """Two keys that are nobody's: without a cluster's number they are no keys of clufs."""
    number = key.member << 32 | key.incarnation
    return number << 1, number << 1 | 1
