"""What follows from the lock manager's effects: who is answered, woken, signalled, recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

from clufs.dlm.interface import (
    BlockEnded,
    Cycle,
    Done,
    Effect,
    Event,
    FoundCycle,
    Grant,
    Left,
    Notify,
    Recovered,
    Refuse,
    Released,
    Send,
)
from clufs.dlm.modes import Mode
from clufs.errors import Cancelled, ClufsError, Deadlock, Interrupted
from clufs.fuse import processes
from clufs.fuse.asks import Ask, Deed, Parked, Through
from clufs.fuse.internal import InternalLock
from clufs.fuse.owners import LockOwner, MemberOwner, ProcessOwner

if TYPE_CHECKING:
    from clufs.dlm.lock import Lock
    from clufs.dlm.messages import Message
    from clufs.dlm.node import Node
    from clufs.fuse.lock_handle import LockHandle
    from clufs.fuse.lowlevel import Request
    from clufs.fuse.owner_record import OwnerRecord
    from clufs.tree.lock_tree import LockTree
    from clufs.tree.member import Journals


class Telling:
    """Carries out effects. parked: the system calls that wait to be told.

    send, flush: hand a message to the stream to a member; let go what was handed over.
    recovered, left: told when recovery is complete here, and when nothing is mastered here any more.
    """

    parked: Parked
    send: Callable[[str, Message], None]
    flush: Callable[[], None]
    recovered: Callable[[Recovered], None]
    left: Callable[[], None]

    def __init__(self, node: Node, tree: LockTree, record: OwnerRecord, journals: Journals) -> None:
        self.node = node
        self.tree = tree
        self.record = record
        self.journals = journals
        self.metrics = journals.metrics
        self._step = node.step
        self._sent = False
        self._member_owners: dict[int, MemberOwner] = {}
        self._lost: dict[Lock, tuple[int, ProcessOwner, int]] = {}
        self._pollers: dict[bytes, dict[LockHandle, None]] = {}
        self._deeds: dict[type, Callable[[float, object], None]] = {
            Grant: self._granted,
            Refuse: self._refused,
            Notify: self._notify,
            Released: self._released,
            BlockEnded: self._block_ended,
            Cycle: self._cycle,
            FoundCycle: self._found_cycle,
            Done: self._done,
            Send: self._send,
            Recovered: self._recovered,
            Left: self._left,
        }

    def run(self, event: Event) -> None:
        """Let an event happen that nobody here asked for, and carry out what follows."""
        now = monotonic()
        self._carry_out(now, self._step(now, event))

    def _carry_out(self, now: float, effects: Iterable[Effect]) -> None:
        deeds = self._deeds
        for effect in effects:
            deed = deeds.get(type(effect))
            if deed is not None:
                deed(now, effect)
        self.flush_sent()

    def flush_sent(self) -> None:
        """Let go what was sent, without waiting for the loop's next round."""
        if self._sent:
            self._sent = False
            self.flush()

    def _send(self, now: float, effect: object) -> None:
        assert isinstance(effect, Send)
        self.send(effect.member, effect.message)
        self._sent = True

    def _recovered(self, now: float, effect: object) -> None:
        assert isinstance(effect, Recovered)
        self.recovered(effect)

    def _left(self, now: float, effect: object) -> None:
        self.left()

    def _done(self, now: float, effect: object) -> None:
        assert isinstance(effect, Done)
        if isinstance(effect.client, Ask):
            self._decided(effect.client, None)
        elif isinstance(effect.client, Deed):
            effect.client.over(None)

    def _granted(self, now: float, effect: object) -> None:
        assert isinstance(effect, Grant)
        lock = effect.lock
        ask: Ask | InternalLock | Deed = lock.client
        if not isinstance(ask, Ask):
            self.metrics.grants += 1
            if isinstance(ask, Deed):
                ask.over(None)
            else:
                ask.was_granted(lock)
            return
        ask.owner.put_on(self.record)
        self.metrics.granted_after(now - ask.since)
        self._decided(ask, None)

    def _refused(self, now: float, effect: object) -> None:
        assert isinstance(effect, Refuse)
        ask = effect.client
        self.metrics.refused(effect.error)
        if isinstance(ask, Ask):
            self._decided(ask, effect.error)
        elif isinstance(ask, InternalLock):
            ask.was_refused(effect.error)
        elif isinstance(ask, Deed):
            ask.over(effect.error)

    def _notify(self, now: float, effect: object) -> None:
        assert isinstance(effect, Notify)
        lock = effect.lock
        ask = lock.client
        self.metrics.notifications += 1
        if isinstance(ask, Ask) and ask.line.signal and ask.process is not None:
            send_signal(ask.process, ask.uid, ask.line.signal, effect.hint)
        elif isinstance(ask, InternalLock):
            ask.on_blocks()
        self._wake(lock.rsb.name, lock.owner)

    def _released(self, now: float, effect: object) -> None:
        assert isinstance(effect, Released)
        lock = effect.lock
        owner = lock.owner
        assert isinstance(owner, LockOwner)
        if effect.mode is not None:
            self.metrics.held_for(now - lock.since)
        elif isinstance(lock.client, Ask):
            self._decided(lock.client, Cancelled("the owner of the request has ended"))
        if not owner.locks:
            owner.take_off(self.record)
        if self._lost:
            self._lost.pop(lock, None)
        wrote = effect.mode in (Mode.PW, Mode.EX) and lock.ranges is None
        if effect.abnormal and wrote and lock.rsb.name in self.node.blocks:
            self.journals.abnormal_release(lock)

    def _block_ended(self, now: float, effect: object) -> None:
        assert isinstance(effect, BlockEnded)
        self.tree.block_ended(effect.name)

    def _cycle(self, now: float, effect: object) -> None:
        assert isinstance(effect, Cycle)
        self.journals.deadlock(effect)

    def _found_cycle(self, now: float, effect: object) -> None:
        assert isinstance(effect, FoundCycle)
        self.journals.found_deadlock(effect)

    def _decided(self, ask: Ask, error: ClufsError | None) -> None:
        """Tell everybody who waits what became of an ask."""
        if type(error) is Deadlock and ask.on_deadlock is not None:
            on_deadlock, ask.on_deadlock = ask.on_deadlock, None
            on_deadlock(error)
            return
        ask.stop_timer()
        if ask.on_decided is not None:
            ask.on_decided(error)
        request, ask.request = ask.request, None
        if request is not None:
            self._answer(request, ask.handle, len(ask.data), error)
        elif ask.awaits:
            for waiter in ask.awaits:
                self._answer(waiter.request, waiter.handle, len(waiter.data), error)
            ask.awaits = None
        elif ask.line.is_async:
            if ask.owner.outcomes is None:
                ask.owner.outcomes = {}
            ask.owner.outcomes[ask.handle.key] = error
        self._wake(ask.handle.key, ask.owner)

    def _answer(
        self, request: Request, handle: Through, size: int, error: ClufsError | None
    ) -> None:
        self.parked.remove(request)
        if error is None:
            request.reply_write(size)
        else:
            request.reply_err(-self.refuse(handle, request, error))

    def refuse(self, handle: Through, request: Request, error: ClufsError) -> int:
        if not isinstance(error, Interrupted):
            self.journals.refusals.add(request.uid, request.pid, handle.file.path, error)
        return -error.errno

    def wants_news(self, handle: LockHandle) -> None:
        """poll(2) waits on the handle: wake it when something about its lock changes."""
        self._pollers.setdefault(handle.key, {})[handle] = None

    def _wake(self, key: bytes, owner: object = None) -> None:
        pollers = self._pollers.get(key)
        if pollers is not None:
            for handle in [h for h in pollers if owner is None or h.locker is owner]:
                handle.wake()

    def forget_poller(self, handle: LockHandle) -> None:
        """Nobody polls the handle any more."""
        pollers = self._pollers.get(handle.key)
        if pollers is not None and pollers.pop(handle, self) is None and not pollers:
            del self._pollers[handle.key]


def send_signal(process: ProcessOwner, uid: int, number: int, value: int) -> None:
    """Signal exactly that process, if it still is of that user."""
    if process.is_alive and processes.uid_of(process.pid) == uid:
        processes.send_signal(process.pidfd, number, value)
