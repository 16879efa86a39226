"""clufsd with switches, since a member that is alone never loses its quorum by itself.

SIGUSR1: quorum is gone. SIGUSR2: it is back. SIGHUP: the member is expelled and comes back.
"""

from __future__ import annotations

import signal
import sys

import trio

from clufs import daemon
from clufs.cli import clufsd
from clufs.dlm.node import Node
from clufs.tree.elsewhere import Nobody


class Others(Nobody):
    """They are there or not."""

    def __init__(self) -> None:
        self.quorum = 1


class Switched(daemon.Daemon):
    """A member whose cluster is in the test's hands."""

    async def _watch_exits(self) -> None:
        self.others = self.locks.elsewhere = Others()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super()._watch_exits)
            with trio.open_signal_receiver(
                signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP
            ) as signals:
                async for number in signals:
                    await self._switch(number)

    async def _switch(self, number: int) -> None:
        service = self.service
        if number == signal.SIGUSR1:
            self.others.quorum = 0
            service.quorum_lost()
        elif number == signal.SIGUSR2:
            self.others.quorum = 1
            service.quorum_back()
        else:
            await service.expelled(self.operations.lock_handles())
            service.new_node(Node(self.membership.name, service.node.view + 1))
            service.quorum_back()


if __name__ == "__main__":
    daemon.Daemon = Switched  # type: ignore[misc]
    sys.exit(clufsd.main())
