"""A member's edge towards the quorum disk: looks, beats, and one write after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clufs.member import disk_keeper as k
from clufs.storage.quorum import Share, Sight
from clufs.timeouts import QUORUM_DISK_DEAD_S, QUORUM_DISK_LOOK_S, QUORUM_DISK_SURE_S
from tests.sim.quorum_disk import MEMBERS, QuorumDisk

if TYPE_CHECKING:
    from tests.sim.platform import Member


class DiskEdge:
    """sure_until: as long as this member may believe to hold the disk."""

    def __init__(self, member: Member, disk: QuorumDisk) -> None:
        self.member, self.disk, self.clock = member, disk, disk.clock
        self.id = member.machine.peer.id
        self.ballot = 0
        self.sure_until = 0.0
        self._seen: tuple[int, int] = (0, 0)
        self._seen_at = 0.0
        self._queue: deque[k.DiskWrite] = deque()
        self.deeds: dict[type, Callable[[Any], None]] = {
            k.TakeDisk: self._take,
            k.DropDisk: self._drop,
            k.DiskWrite: self._write,
            k.Vote: self._vote,
        }
        self.clock.after(self.clock.random.random() * QUORUM_DISK_LOOK_S, self._look)

    # ------------------------------------------------------------ time

    def _look(self) -> None:
        if self.member.dead:
            return
        if not self.member.paused:
            if self.ballot:
                self._end_unsure()
            if self.ballot:
                ballot, start = self.ballot, self.clock.now
                self.disk.beat(self.id, ballot, lambda *found: self._beat(ballot, start, *found))
            self._tell_sight()
        self.clock.after(QUORUM_DISK_LOOK_S, self._look)

    def _tell_sight(self) -> None:
        now = self.clock.now
        ballot, beat, free = self.disk.look()
        if (ballot, beat) != self._seen:
            self._seen, self._seen_at = (ballot, beat), now
        alive = now - self._seen_at < QUORUM_DISK_DEAD_S
        sight = Sight(self.id not in self.disk.away, "", ballot % MEMBERS, 0, alive, free)
        self._tell(self.member.core.keeper.seen(now, sight))

    def wakes(self) -> None:
        """It stood still: first of all it looks at its clock."""
        self._end_unsure()

    def _end_unsure(self) -> None:
        if self.ballot and self.clock.now >= self.sure_until:
            self._lost(self.ballot, "not sure any more")

    def _beat(self, ballot: int, start: float, reached: bool, held: bool) -> None:
        self._hears(self._beaten, ballot, start, reached, held)

    def _beaten(self, ballot: int, start: float, reached: bool, held: bool) -> None:
        if ballot != self.ballot or not reached:
            return
        if held:
            self.sure_until = start + QUORUM_DISK_SURE_S
        else:
            self._lost(ballot, "another took it")

    # ------------------------------------------------------------ deeds

    def _take(self, _effect: k.TakeDisk) -> None:
        start = self.clock.now
        self.disk.take(
            self.id,
            lambda ballot, share: self._hears(self._taken, start, ballot, share),
            lambda: self._hears(self._refused),
        )

    def _refused(self) -> None:
        self._tell(self.member.core.keeper.refused())

    def _taken(self, start: float, ballot: int, share: Share) -> None:
        self.ballot, self.sure_until = ballot, start + QUORUM_DISK_SURE_S
        self._queue.clear()
        self._tell(self.member.core.keeper.taken(ballot, share))

    def _drop(self, effect: k.DropDisk) -> None:
        if effect.ballot == self.ballot:
            self.ballot = 0
        self.disk.let_go(self.id, effect.ballot)

    def _lost(self, ballot: int, why: str) -> None:
        self.ballot = 0
        self._queue.clear()
        self._tell(self.member.core.keeper.lost(ballot, why))

    def _write(self, effect: k.DiskWrite) -> None:
        if effect.ballot != self.ballot:
            return
        self._queue.append(effect)
        if len(self._queue) == 1:
            self._begin()

    def _begin(self) -> None:
        effect = self._queue[0]
        data, is_whole = effect.record, self.disk.is_full(self.id)
        if is_whole:
            whole = self.member.core.keeper.whole(effect.ballot, effect.ticket)
            assert whole is not None
            data = whole
        self.disk.write(
            self.id,
            effect.ballot,
            lambda ok: self._hears(self._written, effect, ok),
            data,
            is_whole,
        )

    def _written(self, effect: k.DiskWrite, ok: bool) -> None:
        if effect.ballot != self.ballot:
            return
        if not ok:
            self._lost(effect.ballot, "a write failed")
            return
        self._queue.popleft()
        if self._queue:
            self._begin()
        self._tell(self.member.core.keeper.written(effect.ballot, effect.ticket))

    def _vote(self, effect: k.Vote) -> None:
        self.member.platform.engine.vote(self.id, self.member.pid, effect.ring, effect.cast)

    # ------------------------------------------------------------ back and forth

    def _hears(self, action: Callable[..., None], *words: Any) -> None:
        """What the disk answered reaches the member when it is awake, if it still lives."""
        member = self.member

        def hear() -> None:
            if not member.dead:
                action(*words)

        member.world.when_awake(member, hear)

    def _tell(self, found: list[k.Effect]) -> None:
        self.member.carry(self.member.core.keep(found))
