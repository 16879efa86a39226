"""/clu/lockfiles in a daemon: its registry, whoever made its files, and what is told of it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import trio

from clufs.errors import NoQuorum
from clufs.fuse.ephemeral import Ephemerals
from clufs.timeouts import VIEW_GRACE_S
from clufs.tree.lockfiles import Lockfiles

if TYPE_CHECKING:
    from clufs.daemon.membership import Membership
    from clufs.fuse.lock_service import LockService
    from clufs.registry.commands import Command
    from clufs.registry.inodes import InodeTable
    from clufs.tree.items import StaticDirectory
    from clufs.tree.metrics import Metrics


class LockfilesAccess:
    """Implements the tree's `InodeRegistry` on the present life of this member.

    The table is current as a grant is: in a view that holds, and within the lease.
    """

    def __init__(self, membership: Membership, service: LockService) -> None:
        self._membership = membership
        self._service = service

    @property
    def table(self) -> InodeTable:
        """What is committed, as far as this member knows."""
        return self._membership.runtime.core.replica.state.inode_table

    @property
    def is_current(self) -> bool:
        """Whether the table shows all that any member was answered."""
        service = self._service
        stands = not service.is_expelled and self._membership.runtime.core.standing
        awake = not service.node.suspended and monotonic() <= service.lease_until_s
        return stands and awake

    async def current(self) -> None:
        """Wait until it is, for as long as quorum is not yet called gone. Raises NoQuorum."""
        service = self._service
        with trio.move_on_after(VIEW_GRACE_S):
            while not self.is_current and service.quorate and not service.is_expelled:
                if monotonic() > service.lease_until_s:
                    service.end_lease()
                await self._membership.runtime.news()
        if not self.is_current:
            waits_for = self._membership.runtime.core.waits_for() or "its view to be confirmed"
            raise NoQuorum(f"this member waits for {waits_for}")

    async def propose(self, command: Command) -> int:
        """Have a command applied and shown by all. Raises what its refusal means, NoQuorum, TimedOut."""
        await self.current()
        return await self._membership.runtime.propose(command)


def furnish(
    root: StaticDirectory, membership: Membership, service: LockService, metrics: Metrics
) -> Ephemerals:
    """Add /clu/lockfiles to the tree."""
    access = LockfilesAccess(membership, service)
    root.add(Lockfiles(access).root)
    metrics.gauges["lockfiles_names"] = (
        "Names in /clu/lockfiles",
        lambda: access.table.usage[0],
    )
    metrics.gauges["lockfiles_bytes"] = (
        "Bytes in the files of /clu/lockfiles",
        lambda: access.table.usage[1],
    )
    return Ephemerals(
        service, access, lambda: (membership.name, membership.runtime.core.life.incarnation)
    )
