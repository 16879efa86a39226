"""When quorum is gone, and when this member has been given up by the others.

Without quorum the locks stand: who polls is told (POLLERR), and with `on_lost_quorum = "kill"`
the holders are killed before `quorum_kill_ms` is over. An expelled member has lost its locks:
who asked for it is told, every holder is killed and seen gone, and only then may the member
come back, with a lock manager that knows of nothing before.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

from clufs.dlm.interface import Event, OwnerEnded, PartyChanged, Suspended
from clufs.errors import NoQuorum
from clufs.fuse import holders
from clufs.fuse.asks import Ask
from clufs.fuse.owners import LockOwner, Processes, ProcessOwner
from clufs.fuse.telling import Telling, send_signal
from clufs.timeouts import KILL_AGAIN_S, LOST_GRACE_S, killing_begins_s

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.dlm.node import Node
    from clufs.fuse.groups import Groups
    from clufs.fuse.lock_handle import LockHandle
    from clufs.fuse.open_files import Device
    from clufs.fuse.owner_record import OwnerRecord
    from clufs.fuse.timers import Timer, Timers
    from clufs.tree.elsewhere import Elsewhere
    from clufs.tree.lock_tree import LockTree
    from clufs.tree.member import Journals

log = logging.getLogger("clufsd")

EXPELLED = "this member was expelled: it comes back as a new incarnation; ask again"


class Minority(Telling):
    """quorate: whether this member has quorum. is_expelled: from expelled() to new_node().

    kill_within_s: after the loss of quorum the holders are dead by then; None: they are kept.
    device: of the file system, known once it is mounted. makers: the processes whose files end with
    them, as locks do. probe: asks whether the view still holds.
    lease_until_s: a grant after this time needs a probe first.
    """

    device: Device = (0, 0)
    probe: Callable[[], None]
    makers: Callable[[], list[ProcessOwner]]
    maker_ended: Callable[[ProcessOwner], None]

    processes: Processes

    def __init__(
        self,
        node: Node,
        tree: LockTree,
        record: OwnerRecord,
        journals: Journals,
        timers: Timers,
        groups: Groups,
        kill_within_s: float | None,
    ) -> None:
        super().__init__(node, tree, record, journals)
        self.timers = timers
        self.groups = groups
        self.kill_within_s = kill_within_s
        self.makers = list
        self.maker_ended = lambda process: None
        self.quorate = True
        self.is_expelled = False
        self.lease_until_s = math.inf
        self._kill_timer: Timer | None = None
        self._killed: set[int] = set()
        self._left_behind: set[bytes] = set()

    def run(self, event: Event) -> None:
        """Let an event happen; a lock manager whose member was expelled hears of nothing more."""
        now = monotonic()
        if now > self.lease_until_s:
            self.end_lease()
        if not self.is_expelled:
            self._carry_out(now, self._step(now, event))

    def end_lease(self) -> None:
        """This member stood still, others may hold what it held: nothing is granted until it is known
        that its view still holds (design: bet 7)."""
        self.lease_until_s = math.inf
        if not self.is_expelled and not self.node.suspended:
            super().run(Suspended())
            self.probe()

    def own_locks(self) -> list[Lock]:
        """All locks of this member, granted or waiting, wherever they are mastered."""
        node = self.node
        return [
            lock
            for blocks in (node.blocks, node.copies)
            for block in blocks.values()
            for lock in (*block.granted, *block.queued())
            if isinstance(lock.owner, LockOwner)
        ]

    def holding(self) -> list[Lock]:
        """Those of them that are granted."""
        return [lock for lock in self.own_locks() if lock.granted is not None]

    @property
    def is_held(self) -> bool:
        """Whether anybody here holds a lock, or has made a file that stands for one."""
        return bool(self.holding() or self.makers())

    def _behind(self, locks: list[Lock]) -> dict[int, int]:
        return holders.behind(locks, self.device, self.makers())

    async def end_holders(self) -> None:
        """The member leaves: who still holds a lock is killed and seen gone, and every lock released.

        These releases are abnormal, those of `persistent` locks too (contract 3).
        """
        for pid in await holders.end(lambda: self._behind(self.holding())):
            self._owner_killed(pid, "this member leaves")
        for owner in {lock.owner for lock in self.own_locks()}:
            self.run(OwnerEnded(owner, abnormal=True))

    # ------------------------------------------------------------ quorum

    def quorum_lost(self) -> None:
        """Quorum is gone: POLLERR for those who hold, and the time to their end begins to run."""
        if not self.quorate:
            return
        self.quorate = False
        self.journals.events.add("quorum-lost")
        self._wake_all()
        within_s = self.kill_within_s
        if within_s is not None:
            begin_s = monotonic() + killing_begins_s(within_s)
            self._kill_timer = self.timers.at(begin_s, self._kill_holders)

    def quorum_back(self) -> None:
        """Quorum is there again: who still lives keeps what it holds."""
        if self.quorate:
            return
        self.quorate = True
        self.journals.events.add("quorum-back")
        self._stop_killing()
        self._wake_all()

    def _stop_killing(self) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None
        self._killed.clear()

    def _kill_holders(self) -> None:
        """Look again until nobody is left: a process may have forked while we looked."""
        found = self._behind(self.holding())
        holders.kill(found.values())
        for pid, pidfd in found.items():
            os.close(pidfd)
            if pid not in self._killed:
                self._killed.add(pid)
                self._owner_killed(pid, "quorum is gone")
        self._kill_timer = None
        if found:
            self._kill_timer = self.timers.at(monotonic() + KILL_AGAIN_S, self._kill_holders)

    def _owner_killed(self, pid: int, why: str) -> None:
        log.warning("killed process %d: it held a lock, and %s", pid, why)
        self.journals.events.add("owner-killed", pid=pid)

    def _wake_all(self) -> None:
        for key in list(self._pollers):
            self._wake(key)

    # ---------------------------------------------------------- expulsion

    async def expelled(self, handles: Iterable[LockHandle]) -> None:
        """All locks of this member are lost. Returns when no process that held one is left.

        handles: all open lock files. Requests that wait end with EHOSTDOWN, now and until new_node();
        who asked for a signal or polls has LOST_GRACE_S to end by itself. Until all are gone they
        stay on record for a daemon that comes after this one.
        """
        self.is_expelled = True
        self.quorate = False
        self._stop_killing()
        lost = self.holding()
        heard = self._tell_lost(handles)
        owners = self._let_go()

        def find() -> dict[int, int]:
            return self._behind(lost)

        if heard:
            await holders.leave(find, LOST_GRACE_S)
        killed = await holders.end(find)
        for pid in killed:
            self._owner_killed(pid, "this member was expelled")
        for owner in owners:
            owner.take_off(self.record)
        self.journals.events.add("expelled", locks=len(lost), killed=len(killed))

    def _tell_lost(self, handles: Iterable[LockHandle]) -> bool:
        """Signals and POLLHUP; whether anybody listens."""
        heard = False
        for lock, (number, process, uid) in self._lost.items():
            if lock.granted is not None:
                send_signal(process, uid, number, 0)
                heard = True
        self._lost.clear()
        for handle in handles:
            held = handle.lock
            if held is not None and held.granted is not None:
                handle.lost = True
                heard = heard or handle.poll_handle is not None
        return heard

    def _let_go(self) -> set[LockOwner]:
        """Nobody owns or awaits anything any more; who did."""
        error = NoQuorum(EXPELLED)
        owners: set[LockOwner] = set()
        for lock in self.own_locks():
            owner = lock.owner
            assert isinstance(owner, LockOwner)
            owners.add(owner)
            self._left_behind.add(lock.rsb.name)
            if lock.wanted is not None and isinstance(lock.client, Ask):
                self.metrics.refused(error)
                self._decided(lock.client, error)
        for _, waiter in self.parked.all():  # such as a release that its master has not confirmed
            self._decided(waiter if isinstance(waiter, Ask) else waiter.ask, error)
        for owner in owners:
            owner.locks.clear()
            owner.withdrawn = None
            owner.all_lost()
        self._wake_all()
        return owners

    def new_node(self, node: Node, elsewhere: Elsewhere | None = None) -> None:
        """Go on with another lock manager, after expelled(): the one before is referred to nowhere.

        elsewhere: whom the tree asks from now on; the same as before where it is left out.
        """
        self.node = self.tree.node = node
        if elsewhere is not None:
            self.tree.elsewhere = elsewhere
        self._step = node.step
        self.is_expelled = False
        for name in self._left_behind:
            self.tree.block_ended(name)
        self._left_behind.clear()
        for directory in self.groups.by_name.values():
            group = directory.group
            if group.members:
                self.run(PartyChanged(group, frozenset(group.members.values())))
