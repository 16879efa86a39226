"""The far edges of applications: locks of one cluster, and a machine on which scripts seem to run."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

import trio
import trio.lowlevel

from clufs.actions.interface import ActionResult, ActionSpec, MonitorKind, OnLine, Tell
from clufs.fuse.internal import InternalLock

SAID = "said so"


class _Granted:
    def __init__(self, number: int) -> None:
        self.number = number


class LockSpace:
    """EX locks by name, first come first, as all members of a cluster share them."""

    def __init__(self) -> None:
        self.number = 0
        self.queues: dict[bytes, deque[InternalLock]] = defaultdict(deque)
        self.frozen: set[InternalLock] = set()
        """Locks of lost lives that are not fenced: they stand in the way, and nobody releases them."""

    def grant(self, name: bytes) -> None:
        queue = self.queues[name]
        if queue and queue[0] not in self.frozen and not queue[0].held:
            self.number += 1
            queue[0].was_granted(_Granted(self.number))  # type: ignore[arg-type]

    def drop(self, lock: InternalLock) -> None:
        if lock in self.queues[lock.name]:
            self.queues[lock.name].remove(lock)
        self.frozen.discard(lock)
        self.grant(lock.name)


class MemberLocks:
    """The locks of one life of a member. is_cut: nobody hears what it asks for and gives up."""

    def __init__(self, space: LockSpace) -> None:
        self.space = space
        self.is_cut = False
        self.mine: list[InternalLock] = []

    def ask(self, name: bytes) -> InternalLock:
        lock = InternalLock(name)
        if self.is_cut:
            return lock
        self.mine.append(lock)
        self.space.queues[name].append(lock)
        self.space.grant(name)
        return lock

    def release(self, lock: InternalLock) -> None:
        if lock in self.mine and self.is_cut:
            self.space.frozen.add(lock)
        elif lock in self.mine:
            self.mine.remove(lock)
            self.space.drop(lock)
        lock.ended("it was released")

    def cut(self) -> None:
        """From now on nobody hears this member; what it waits for nobody grants."""
        self.is_cut = True
        for lock in [lock for lock in self.mine if not lock.held]:
            self.mine.remove(lock)
            self.space.drop(lock)

    def lose(self) -> Callable[[], None]:
        """The life is over, and not fenced yet; what fences it."""
        lost, self.mine = self.mine, []
        for lock in lost:
            if lock.held or lock in self.space.frozen:
                self.space.frozen.add(lock)
            else:
                self.space.drop(lock)
            lock.all_lost()
        return lambda: [self.space.drop(lock) for lock in lost] and None


class Script:
    """What an application's entries do: `fails` are entries that fail, `takes_s` how long each takes.

    keeper_dies: entries during which it does.
    """

    def __init__(self) -> None:
        self.fails: set[str] = set()
        self.keeper_dies: set[str] = set()
        self.takes_s: dict[str, float] = {}
        self.prints: list[str] = []


class Machine:
    """Runs actions in its mind; implements ActionRunner. log: who did what where, of all members.

    left: the applications of which something is left here.
    """

    def __init__(
        self, member: str, log: list[tuple[str, str, str]], scripts: dict[str, Script]
    ) -> None:
        self.member = member
        self.log = log
        self.scripts = scripts
        self.left: set[str] = set()

    @property
    def is_clean(self) -> bool:
        return not self.left

    async def serve(self) -> None:
        await trio.sleep_forever()

    async def run(self, spec: ActionSpec, on_line: OnLine | None = None) -> ActionResult:
        script = self.scripts.setdefault(spec.resource, Script())
        self.log.append((self.member, spec.entry, spec.resource))
        if spec.entry == "start":
            self.left.add(spec.resource)
        with trio.move_on_after(spec.timeout_s) as patience:
            await trio.sleep(script.takes_s.get(spec.entry, 0.0))
        if on_line is not None:
            for line in script.prints:
                on_line(line)
        failed = spec.entry in script.fails or patience.cancelled_caught
        if spec.entry == "check":
            failed = failed or spec.resource not in self.left
        if spec.entry == "stop" and not failed:
            self.left.discard(spec.resource)
        if spec.entry in script.keeper_dies:
            return ActionResult(False, SAID, None, False, b"", keeper_died=True)
        return ActionResult(not failed, SAID, int(failed), patience.cancelled_caught, b"")

    async def end(self, resource: str) -> None:
        await trio.lowlevel.checkpoint()
        if resource in self.left:
            self.log.append((self.member, "killed", resource))
        self.left.discard(resource)

    async def is_empty(self, resource: str) -> bool:
        return resource not in self.left

    async def running(self) -> list[str]:
        return sorted(self.left)

    def output(self, resource: str) -> bytes:
        return b""

    def forget(self, resource: str) -> None:
        self.left.discard(resource)


class Plugs:
    """Networks and devices of a member, plugged in and out by the test; implements Monitors."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.watched: dict[str, str] = {}
        self.online: set[str] = set()

    async def serve(self) -> None:
        await trio.sleep_forever()

    def watch(self, resource: str, kind: MonitorKind, where: str) -> None:
        self.watched[resource] = where
        self.tell(resource, resource in self.online)

    def unwatch(self, resource: str) -> None:
        del self.watched[resource]

    def plug(self, resource: str, is_in: bool = True) -> None:
        (self.online.add if is_in else self.online.discard)(resource)
        if resource in self.watched:
            self.tell(resource, is_in)


async def until(condition: Callable[[], bool], patience_s: float = 5.0) -> None:
    """Wait for it, on the clock of the test."""
    with trio.move_on_after(patience_s) as patience:
        while not condition():  # noqa: ASYNC110 - anything may bring it about
            await trio.sleep(0.1)
    assert not patience.cancelled_caught or condition(), "it did not come to be"
