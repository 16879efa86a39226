"""One life of one member: its lock manager, its edge and its clients."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clufs.dlm.interface import (
    BlockEnded,
    Cycle,
    Done,
    FoundCycle,
    Grant,
    Left,
    Life,
    Notify,
    Queue,
    Received,
    Recovered,
    Refuse,
    Released,
    Send,
    Ticked,
    TurnCame,
    Verb,
)
from clufs.dlm.moves import Moved
from clufs.dlm.node import Node
from clufs.errors import Cancelled
from clufs.timeouts import TICK_S
from tests.sim.claims import Op, gives_up
from tests.sim.clients import SUB, Client
from tests.sim.clock import Violation

if TYPE_CHECKING:
    from tests.sim.world import World


class Host(abc.ABC):
    """paused: it gets no CPU; its holders still rely on what they were told, others wait for it.

    peers: the lives of the view installed here, by member, this one included. behind: lives that
        were left behind. view: the view installed here, None while there is none.
    crash_in: the machine stops dead after so many more effects.
    """

    def __init__(self, world: World, life: Life, node: Node) -> None:
        self.world = world
        self.life = life
        self.node = node
        self.peers: dict[str, Life] = {}
        self.behind: set[Life] = set()
        self.clients: list[Client] = []
        self.paused = self.dead = False
        self.paused_at = 0.0
        self.crash_in: int | None = None
        self.deferred: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.view: Any = None
        self.outs_told = 0
        self.leaving = False
        self.group: int | None = None
        self.recovered = 0
        self.turn_is_due = False
        world.clock.after(world.clock.random.random() * TICK_S, self._pass_time)
        self._tell = {
            Grant: self._grant,
            Refuse: self._refuse,
            Done: self._done,
            Queue: self._queue,
            Released: self._released,
            Notify: self._notify,
            BlockEnded: lambda effect: None,
            Cycle: self._cycle,
            FoundCycle: self._found_cycle,
            Recovered: self._recovered,
            Left: self._left,
        }

    def absent(self) -> bool:
        """It does nothing now."""
        return self.dead or self.paused

    # ------------------------------------------------------------ steps

    def _pass_time(self) -> None:
        if not self.absent() and self.node.wants_tick():
            self.step(Ticked())
        if not self.dead:
            self.world.clock.after(TICK_S, self._pass_time)

    def install(self, members: tuple[Life, ...]) -> list[Life]:
        """A view is installed; whom it leaves behind, no message comes from or goes to any more."""
        gone = [life for life in self.peers.values() if life not in members]
        self.behind.update(gone)
        self.peers = {life.member: life for life in members}
        return gone

    @abc.abstractmethod
    def wakes(self, slept: float) -> None:
        """It has got no CPU for so long, and goes on."""

    def awaited(self) -> str:
        """What it waits for, as far as it knows."""
        return self.node.waits_for()

    def listens_to(self, sender: Life) -> bool:
        """Whether its streams take anything of that life now; what they do not take waits."""
        return True

    def arrives(self, sender: Life, message: Any) -> None:
        if self.dead or sender in self.behind:
            return
        self.world.clock.note("recv", self.life.member, "from", sender.member, message)
        self.step(Received(sender.member, message))

    def step(self, event: Any) -> None:
        if self.dead:
            return
        now = self.world.clock.now
        for effect in self.node.step(now, event):
            if self.crashes_now():
                return
            if type(effect) is Send:
                self._send(effect)
            else:
                self.carry_out(effect)
        self._turn_later()

    def _turn_later(self) -> None:
        """Others come first: whatever has arrived by then."""
        if self.node.wants_turn() and not self.turn_is_due and not self.dead:
            self.turn_is_due = True
            clock = self.world.clock
            delay = clock.about(self.world.story.turn_s)
            clock.after(delay, self.world.when_awake, self, self._turn)

    def _turn(self) -> None:
        self.turn_is_due = False
        if self.node.wants_turn():
            self.step(TurnCame())

    def crashes_now(self) -> bool:
        """Whether this is the effect before which it was to crash."""
        if self.crash_in is None or self.dead:
            return self.dead
        self.crash_in -= 1
        if self.crash_in >= 0:
            return False
        self.world.crash(self)
        return True

    def carry_out(self, effect: Any) -> None:
        self._tell[type(effect)](effect)

    def _send(self, effect: Send) -> None:
        receiver = self.peers.get(effect.member)
        message = effect.message
        if type(message) is Moved and message.master == effect.member:
            self.world.moves += 1
        if receiver is None:
            self.unsent(effect)
            return
        self.world.streams.send(self.life, receiver, effect.message)

    def unsent(self, effect: Send) -> None:
        """Whom it is for is not among those that the streams serve."""
        raise Violation(f"{self.life} sends to {effect.member}, which is in no view: {effect}")

    # ------------------------------------------------------------ the edge

    def _grant(self, effect: Grant) -> None:
        lock = effect.lock
        op: Op = lock.client
        client = self._answer(op, "granted", lock.granted, hex(lock.number))
        if op.request.mode is not lock.granted:
            raise Violation(f"{op} is granted as {lock.granted}")
        if self.view is None and not gives_up(op):
            raise Violation(f"{op} is granted, and there is no view")
        claim = self.world.claims.granted(self.life, client.name, op, lock)
        client.claims[op.name] = claim

    def _answer(self, op: Op, *what: Any) -> Client:
        if op.done:
            raise Violation(f"{op} is answered twice or after it was given up: {what}")
        op.done = True
        client: Client = op.client
        if client.ops.get(op.name) is op:
            del client.ops[op.name]
        self.world.clock.note("tell", op, *what)
        return client

    def _refuse(self, effect: Refuse) -> None:
        op: Op = effect.client
        why = type(effect.error).__name__
        if op.client.ended:
            return  # the caller is answered, if somebody still calls
        self._answer(op, "refused", why)
        self.world.claims.refused(op, why == Cancelled.__name__)
        self.world.refusals[why] += 1

    def _done(self, effect: Done) -> None:
        op: Op = effect.client
        client = self._answer(op, "done")
        self.world.claims.done(op)
        if op.request.verb is Verb.UNLOCK:
            self._over(client, op.name)
        elif op.request.verb is Verb.UNLOCK_ALL:
            for name in [name for name in client.claims if name.startswith(op.name + SUB)]:
                self._over(client, name)

    def _over(self, client: Client, name: bytes) -> None:
        claim = client.claims.pop(name, None)
        if claim is not None:
            self.world.claims.released(claim)

    def _queue(self, effect: Queue) -> None:
        op: Op = effect.lock.client
        if op.done and effect.lock.wanted is not None:  # else it was refused in the same step
            raise Violation(f"{op} is queued after it was answered")
        op.queued = True
        if effect.lock.place and self.view is not None:
            self.world.claims.queued(op)

    def _released(self, effect: Released) -> None:
        lock = effect.lock
        client = lock.owner
        name = lock.rsb.name
        self._over(client, name)
        self.world.clock.note("gone", client, name.decode())

    def _notify(self, effect: Notify) -> None:
        self.world.notified += 1
        if effect.lock.granted is None:
            raise Violation(f"{effect.lock} is notified and not granted")

    def _cycle(self, effect: Cycle) -> None:
        self.world.cycles += 1

    def _found_cycle(self, effect: FoundCycle) -> None:
        """Every member hears of it; the victim's counts it."""
        victim = next(lock for lock in effect.locks if lock.is_victim)
        self.world.cycles += victim.member == self.life.member

    def _recovered(self, effect: Recovered) -> None:
        self.recovered += 1
        self.world.clock.note("recovered", self.life, effect.view, effect.blocks, effect.locks)

    def _left(self, effect: Left) -> None:
        self.world.clock.note("left", self.life)
        self.left()

    @abc.abstractmethod
    def left(self) -> None:
        """All that was mastered here is in other hands: say goodbye."""
